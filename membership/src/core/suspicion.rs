//! Suspicion timeouts, by Lifeguard's rule. A member suspected by one other member has a long time to refute;
//! each further member that suspects it shortens the time, down to a minimum that grows with the cluster.
//! Source: memberlist's `suspicion.go`, after "Lifeguard: SWIM-ing with Situational Awareness".

use std::time::Duration;

use super::Timing;
use crate::wire::Text;

/// Running suspicion that one member has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspicion {
    started: Duration,
    min: Duration,
    max: Duration,
    /// Number of members, besides the first, whose suspicion reduces the timeout to `min`.
    wanted: usize,
    /// Names of the members that suspect the member, in the order of their suspicions.
    from: Vec<Text>,
}

impl Suspicion {
    /// Starts a suspicion by the member `from`. `members` counts all members that are not down, including this
    /// one and the suspect.
    pub(super) fn new(timing: &Timing, members: usize, now: Duration, from: Text) -> Self {
        let wanted = timing.suspicion_mult.saturating_sub(2) as usize;
        // With too few members for that many confirmations, none are expected.
        let wanted = if members.saturating_sub(2) < wanted { 0 } else { wanted };
        let min = min_timeout(timing, members);
        let max = min * timing.suspicion_max_mult.max(1);
        Self { started: now, min, max, wanted, from: vec![from] }
    }

    /// Adds the suspicion by a further member. Returns whether to pass it on: the member is new, and not enough
    /// are known.
    pub(super) fn confirm(&mut self, from: &Text) -> bool {
        if self.from.len() > self.wanted || self.from.contains(from) {
            return false;
        }
        self.from.push(from.clone());
        true
    }

    /// Time when the suspect is declared dead.
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

/// Minimum suspicion timeout in a cluster of `members` members.
pub(super) fn min_timeout(timing: &Timing, members: usize) -> Duration {
    let scale = (members.max(1) as f64).log10().max(1.0);
    timing.probe_interval.mul_f64(f64::from(timing.suspicion_mult) * scale)
}

/// Number of transmissions of a broadcast in a cluster of `members` members; rounded up, as in memberlist.
pub(super) fn transmissions(timing: &Timing, members: usize) -> u8 {
    let scale = (members as f64 + 1.0).log10().ceil().max(1.0) as u32;
    u8::try_from(timing.retransmit_mult.saturating_mul(scale)).unwrap_or(u8::MAX).max(1)
}

/// Interval between periodic state exchanges in a cluster of `members` members; it grows above 32.
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
