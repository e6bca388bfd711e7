//! Log lines that strangers can cause must not become a flood of their own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Lines in a row before the limit holds.
const BURST: u32 = 20;
/// After a burst one more line each.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct State {
    lines: u32,
    refilled: Instant,
    suppressed: u64,
}

/// A bucket of lines.
#[derive(Debug)]
pub(crate) struct LogLimit {
    state: Mutex<State>,
}

impl LogLimit {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { lines: BURST, refilled: Instant::now(), suppressed: 0 }) }
    }

    /// Whether a line may be written now; if so, how many were not since the last one.
    pub(crate) fn allow(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = state.refilled.elapsed().as_millis() / INTERVAL.as_millis();
        if earned > 0 {
            state.lines = BURST.min(state.lines.saturating_add(u32::try_from(earned).unwrap_or(BURST)));
            state.refilled = Instant::now();
        }
        if state.lines == 0 {
            state.suppressed += 1;
            return None;
        }
        state.lines -= 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_becomes_a_trickle_that_tells_its_size() {
        let limit = LogLimit::new();
        assert_eq!((0..1000).filter(|_| limit.allow().is_some()).count(), BURST as usize);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limit.allow(), Some(1000 - u64::from(BURST)));
        assert_eq!(limit.allow(), None);
        tokio::time::advance(INTERVAL * 1000).await;
        assert_eq!((0..1000).filter(|_| limit.allow().is_some()).count(), BURST as usize);
    }
}
