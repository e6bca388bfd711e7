//! Rate limit for log lines that strangers can cause.

use crate::code::Code;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Maximum number of lines in a row before the limit of one per [`INTERVAL`] applies.
const BURST: u32 = 20;
/// Time that earns one more log line after a burst.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time for which repeated failures of one address with one code are not logged again.
const QUIET: Duration = Duration::from_secs(3600);
/// Time for which a refusal is not yet a warning. A replica that has just joined may dial a moment before
/// gossip announces it here, so only a refusal that lasts longer is worth a warning.
pub(crate) const PASSING: Duration = Duration::from_secs(5);
/// Maximum number of logged failures remembered. Beyond it the oldest is forgotten, and is logged again when it
/// recurs.
const MAX_REMEMBERED: usize = 256;

#[derive(Debug)]
struct State {
    lines: u32,
    refilled: Instant,
    suppressed: u64,
    /// Failures already logged, by the dialler's address and code, oldest first.
    told: VecDeque<Told>,
}

#[derive(Debug)]
struct Told {
    who: IpAddr,
    code: Code,
    at: Instant,
    warned: bool,
}

/// Permission to write one log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Whether to log at warning level; a failure that may be temporary is not a warning at first.
    pub(crate) warning: bool,
    /// Number of lines suppressed since the last one that was written.
    pub(crate) suppressed: u64,
}

/// Token bucket for log lines.
#[derive(Debug)]
pub(crate) struct LogLimit {
    state: Mutex<State>,
}

impl LogLimit {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lines: BURST,
                refilled: Instant::now(),
                suppressed: 0,
                told: VecDeque::new(),
            }),
        }
    }

    /// Returns permission to log the failure of a dialler with this code now; `None` if such a failure of this
    /// address was logged within the last hour, or if the bucket is empty. A failure that may be temporary is
    /// logged once more, as a warning, if it lasts longer than [`PASSING`].
    pub(crate) fn allow_from(&self, address: IpAddr, code: Code) -> Option<Line> {
        let now = Instant::now();
        let passing = matches!(code, Code::NotAdmitted | Code::Closed | Code::Lost);
        let mut state = self.state.lock();
        state.told.retain(|told| now.duration_since(told.at) < QUIET);
        let known = state.told.iter().position(|told| (told.who, told.code) == (address, code));
        let is_old_news = |told: &Told| told.warned || now.duration_since(told.at) < PASSING;
        if known.and_then(|at| state.told.get(at)).is_some_and(is_old_news) {
            state.suppressed += 1;
            return None;
        }
        // A line without room in the bucket counts as not logged, so the failure is logged the next time.
        let suppressed = state.allow()?;
        let warning = known.is_some() || !passing;
        match known.and_then(|at| state.told.get_mut(at)) {
            Some(told) => told.warned = true,
            None => {
                if state.told.len() == MAX_REMEMBERED {
                    state.told.pop_front();
                }
                state.told.push_back(Told { who: address, code, at: now, warned: warning });
            }
        }
        Some(Line { warning, suppressed })
    }

    /// Takes one line from the bucket. Returns the number of lines suppressed since the last one that was
    /// written; `None` if the bucket is empty.
    pub(crate) fn allow(&self) -> Option<u64> {
        self.state.lock().allow()
    }
}

impl State {
    fn allow(&mut self) -> Option<u64> {
        let earned = self.refilled.elapsed().as_millis() / INTERVAL.as_millis();
        if earned > 0 {
            self.lines = BURST.min(self.lines.saturating_add(u32::try_from(earned).unwrap_or(BURST)));
            self.refilled = Instant::now();
        }
        if self.lines == 0 {
            self.suppressed += 1;
            return None;
        }
        self.lines -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dialler_that_keeps_failing_is_told_of_once_an_hour() {
        let limit = LogLimit::new();
        let who = |last: u8| IpAddr::from([10, 0, 0, last]);
        let lines = |times: usize| {
            (0..times).filter(|_| limit.allow_from(who(1), Code::NotAdmitted).is_some()).count()
        };
        assert_eq!(lines(100), 1);
        let line = |warning, suppressed| Some(Line { warning, suppressed });
        let news = limit.allow_from(who(1), Code::Protocol);
        assert_eq!(news, line(true, 99), "another failure is news");
        let news = limit.allow_from(who(2), Code::NotAdmitted);
        assert_eq!(news, line(false, 0), "and so is somebody else, who may be ahead of gossip");
        tokio::time::advance(PASSING).await;
        assert_eq!(limit.allow_from(who(2), Code::NotAdmitted), line(true, 0), "it goes on");
        assert_eq!(lines(100), 1, "for the other one, too");
        assert_eq!(lines(100), 0);
        tokio::time::advance(QUIET).await;
        assert_eq!(lines(100), 1);
        let state = limit.state.lock();
        assert!(state.told.len() <= MAX_REMEMBERED);
    }

    /// A flood of other lines may delay the warning, but does not suppress it for an hour.
    #[tokio::test(start_paused = true)]
    async fn what_found_no_room_is_still_news() {
        let limit = LogLimit::new();
        let who = IpAddr::from([10, 0, 0, 1]);
        assert!(limit.allow_from(who, Code::NotAdmitted).is_some_and(|line| !line.warning));
        tokio::time::advance(PASSING).await;
        while limit.allow().is_some() {}
        assert_eq!(limit.allow_from(who, Code::NotAdmitted), None);
        assert_eq!(limit.allow_from(who, Code::Protocol), None);
        tokio::time::advance(INTERVAL * 2).await;
        let warns = |code| limit.allow_from(who, code).is_some_and(|line| line.warning);
        assert!(warns(Code::NotAdmitted) && warns(Code::Protocol));
        assert_eq!(limit.allow_from(who, Code::Protocol), None);
    }

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
