//! The system's clock, as facts and the scheduler use it.

use kvgossip_grants::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, by the system's clock; 1970 if that is set before it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO.saturating_add(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A clock that never goes back, in microseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonic(Instant);

impl Monotonic {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn instant(&self, us: u64) -> Instant {
        // A time that no clock reaches is as good as a very late one.
        let day = std::time::Duration::from_secs(86_400);
        self.0 + std::time::Duration::from_micros(us).min(self.0.elapsed() + day)
    }
}
