//! How long a suspect has to defend itself: Lifeguard's rule. Who is suspected by one member only has
//! long; each further member that suspects it shortens the time, down to a minimum that grows with the
//! cluster. Source: memberlist's `suspicion.go`, after "Lifeguard: SWIM-ing with Situational Awareness".

use std::time::Duration;

use super::Timing;
use crate::wire::Text;

/// A running suspicion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspicion {
    started: Duration,
    min: Duration,
    max: Duration,
    /// How many confirmations bring the timeout down to `min`.
    wanted: usize,
    /// Who suspects it: the first, then those that confirmed.
    from: Vec<Text>,
}

impl Suspicion {
    /// `members` counts all that are not down, this one and the suspect included.
    pub(super) fn new(timing: &Timing, members: usize, now: Duration, from: Text) -> Self {
        let wanted = timing.suspicion_mult.saturating_sub(2) as usize;
        // Too few members to expect that many confirmations: then none are waited for.
        let wanted = if members.saturating_sub(2) < wanted { 0 } else { wanted };
        let min = min_timeout(timing, members);
        let max = min * timing.suspicion_max_mult.max(1);
        Self { started: now, min, max, wanted, from: vec![from] }
    }

    /// Counts another member's suspicion; true when it is news worth passing on.
    pub(super) fn confirm(&mut self, from: &Text) -> bool {
        if self.from.len() > self.wanted || self.from.contains(from) {
            return false;
        }
        self.from.push(from.clone());
        true
    }

    /// When the suspect is to be declared dead.
    pub(super) fn deadline(&self) -> Duration {
        if self.wanted == 0 {
            return self.started + self.min;
        }
        let confirmations = (self.from.len() - 1) as f64;
        let share = (confirmations + 1.0).ln() / (self.wanted as f64 + 1.0).ln();
        let timeout = self.max.as_secs_f64() - share * (self.max - self.min).as_secs_f64();
        self.started + Duration::from_secs_f64(timeout.max(0.0)).max(self.min)
    }
}

/// The least time a suspect has in a cluster of `members`.
pub(super) fn min_timeout(timing: &Timing, members: usize) -> Duration {
    let scale = (members.max(1) as f64).log10().max(1.0);
    timing.probe_interval.mul_f64(f64::from(timing.suspicion_mult) * scale)
}

/// How often a broadcast is sent in a cluster of `members`: rounded up, as memberlist does it.
pub(super) fn transmissions(timing: &Timing, members: usize) -> u8 {
    let scale = (members as f64 + 1.0).log10().ceil().max(1.0) as u32;
    u8::try_from(timing.retransmit_mult.saturating_mul(scale)).unwrap_or(u8::MAX).max(1)
}

/// How often states are compared in a cluster of `members`: the interval grows above 32.
pub(super) fn push_pull_interval(timing: &Timing, members: usize) -> Duration {
    if members <= 32 {
        return timing.push_pull_interval;
    }
    let steps = ((members as f64).log2() - 5.0).ceil() as u32 + 1;
    timing.push_pull_interval * steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_shorten_the_timeout() {
        let timing = Timing::lan();
        let start = Duration::from_secs(100);
        let mut suspicion = Suspicion::new(&timing, 60, start, "a".into());
        let min = min_timeout(&timing, 60);
        assert!((min.as_secs_f64() - 7.11).abs() < 0.01, "4 * log10(60) seconds, not {min:?}");
        assert_eq!(suspicion.deadline(), start + min * 6);
        assert!(!suspicion.confirm(&"a".into()), "the same member again is no confirmation");
        assert!(suspicion.confirm(&"b".into()));
        let between = suspicion.deadline();
        assert!(between < start + min * 6 && between > start + min);
        assert!(suspicion.confirm(&"c".into()));
        assert!(suspicion.deadline().abs_diff(start + min) < Duration::from_millis(1));
        assert!(!suspicion.confirm(&"d".into()), "more are not passed on");
    }

    #[test]
    fn small_clusters_expect_no_confirmation() {
        let suspicion = Suspicion::new(&Timing::lan(), 3, Duration::ZERO, "a".into());
        assert_eq!(suspicion.deadline(), Duration::from_secs(4));
    }

    #[test]
    fn figures_follow_the_size() {
        let timing = Timing::lan();
        let sizes = [1, 2, 9, 10, 60, 99, 100, 10_000].map(|n| transmissions(&timing, n));
        assert_eq!(sizes, [4, 4, 4, 8, 8, 8, 12, 20]);
        let intervals = [1, 32, 33, 64, 65, 128].map(|n| push_pull_interval(&timing, n).as_secs());
        assert_eq!(intervals, [30, 30, 60, 60, 90, 90]);
    }
}
