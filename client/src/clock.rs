//! The system's clock.

use kvgossip_grants::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now; 1970 if the clock is set before it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO.saturating_add(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
