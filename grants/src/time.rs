//! Timestamps of signed facts.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Microseconds since 1970-01-01T00:00:00Z, at most the end of the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Timestamp(u64);

/// Error for a time after the end of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time lies after the end of the year 9999")]
pub struct TimeOutOfRange;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const ZERO: Self = Self(0);
    /// 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// Makes a timestamp of microseconds since 1970; fails above [`Timestamp::MAX`].
    pub const fn from_micros(micros: u64) -> Result<Self, TimeOutOfRange> {
        if micros > Self::MAX.0 { Err(TimeOutOfRange) } else { Ok(Self(micros)) }
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the time `micros` microseconds later, at most [`Timestamp::MAX`].
    pub fn saturating_add(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros).min(Self::MAX.0))
    }

    /// Returns the time `micros` microseconds earlier, at least [`Timestamp::ZERO`].
    pub fn saturating_sub(self, micros: u64) -> Self {
        Self(self.0.saturating_sub(micros))
    }
}

impl TryFrom<u64> for Timestamp {
    type Error = TimeOutOfRange;
    fn try_from(micros: u64) -> Result<Self, TimeOutOfRange> {
        Self::from_micros(micros)
    }
}

impl From<Timestamp> for u64 {
    fn from(time: Timestamp) -> u64 {
        time.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_year_9999_and_never_wrap() {
        assert!(Timestamp::from_micros(Timestamp::MAX.as_micros()).is_ok());
        assert_eq!(Timestamp::from_micros(Timestamp::MAX.as_micros() + 1), Err(TimeOutOfRange));
        assert_eq!(Timestamp::from_micros(u64::MAX), Err(TimeOutOfRange));
        assert_eq!(Timestamp::MAX.saturating_add(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.saturating_sub(1), Timestamp::ZERO);
    }
}
