//! Rate limit for log lines that clients can cause at will.

use parking_lot::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between two log lines of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// Rate limit of one kind of log line.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    written: Option<Instant>,
    suppressed: u64,
}

impl Seldom {
    /// Returns the number of lines suppressed since the last written one, if a line may be written now;
    /// otherwise counts one as suppressed and returns `None`.
    pub(super) fn turn(&self) -> Option<u64> {
        let mut state = self.0.lock();
        if state.written.is_some_and(|written| written.elapsed() < PAUSE) {
            state.suppressed += 1;
            return None;
        }
        state.written = Some(Instant::now());
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_one_line_a_minute_with_its_size() {
        let seldom = Seldom::default();
        assert_eq!(seldom.turn(), Some(0));
        assert!((0..1000).all(|_| seldom.turn().is_none()));
        tokio::time::advance(PAUSE).await;
        assert_eq!((seldom.turn(), seldom.turn()), (Some(1000), None));
    }
}
