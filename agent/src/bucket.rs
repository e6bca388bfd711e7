//! A token bucket that limits log lines. Times are durations since any fixed moment.

use std::time::Duration;

/// A token bucket for log lines that peers or clients can cause at will. Suppressed lines are counted.
#[derive(Debug)]
pub(crate) struct Bucket {
    burst: u32,
    interval: Duration,
    left: u32,
    refilled: Duration,
    suppressed: u64,
}

impl Bucket {
    /// Creates a full bucket of `burst` lines that refills by one line per `interval`.
    pub(crate) fn new(burst: u32, interval: Duration, now: Duration) -> Self {
        Self { burst, interval, left: burst, refilled: now, suppressed: 0 }
    }

    /// Takes one line from the bucket. Returns the number of lines suppressed since the last one taken; `None`:
    /// suppress this one.
    pub(crate) fn take(&mut self, now: Duration) -> Option<u64> {
        let earned = now.saturating_sub(self.refilled).as_millis() / self.interval.as_millis().max(1);
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(self.burst)).min(self.burst);
            self.refilled = now;
        }
        if self.left == 0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_burst_and_a_line_now_and_then_with_its_size() {
        let mut bucket = Bucket::new(5, Duration::from_secs(2), Duration::ZERO);
        let written = (0..10_000).filter(|ms| bucket.take(Duration::from_millis(*ms)).is_some()).count();
        assert_eq!(written, 5 + 4);
        assert_eq!(bucket.take(Duration::from_secs(10)), Some(1999));
        assert_eq!(bucket.take(Duration::from_secs(10)), None);
    }
}
