//! Detection of gossip that this agent cannot read: under other keys, or another label.

use kvgossip_membership::core::Stats;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Time for which unreadable gossip counts as recent. If its cause persists, unreadable gossip recurs within less.
const COUNTS: Duration = Duration::from_secs(60);

/// Whether an event at `at` is recent at `now`: within [`COUNTS`].
pub(super) fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < COUNTS
}

#[derive(Debug, Default)]
struct State {
    refused: u64,
    understood: u64,
    /// Time when gossip was last unreadable; `None`: never, or readable gossip has arrived since.
    refused_at: Option<Instant>,
}

/// State of the detection of gossip that this agent cannot read.
#[derive(Debug, Default)]
pub(super) struct Garbled(Mutex<State>);

impl Garbled {
    /// Compares the membership layer's counters with those of the last call. Readable gossip in between shows that
    /// keys and label are right, and ends an earlier suspicion.
    pub(super) fn look(&self, stats: &Stats, now: Instant) {
        let mut state = self.0.lock();
        let refused = stats.refused.key + stats.refused.label;
        let understood = stats.merges + stats.answered_probes + stats.changes.joined;
        if refused > state.refused {
            state.refused_at = Some(now);
        }
        if understood > state.understood {
            state.refused_at = None;
        }
        // Concurrent calls may arrive out of order.
        state.refused = state.refused.max(refused);
        state.understood = state.understood.max(understood);
    }

    /// Whether unreadable gossip arrived recently, and none that was readable since.
    pub(super) fn is_now(&self, now: Instant) -> bool {
        self.0.lock().refused_at.is_some_and(|at| is_recent(at, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(key: u64, label: u64, merges: u64) -> Stats {
        let mut stats = Stats::default();
        (stats.refused.key, stats.refused.label, stats.merges) = (key, label, merges);
        stats
    }

    #[test]
    fn a_connection_that_was_closed_long_ago_says_nothing_of_keys() {
        let (start, closed) = (Instant::now(), "10.0.0.1:7946: the connection was closed");
        let cut = |why: &str, later| super::super::is_cut(&(why.to_owned(), start), start + later);
        assert!(cut(closed, Duration::from_secs(59)) && !cut(closed, Duration::from_secs(60)));
        assert!(!cut("10.0.0.1:7946: connection refused", Duration::ZERO));
    }

    #[test]
    fn refusals_count_for_a_minute_and_until_a_member_is_understood() {
        let (garbled, start) = (Garbled::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        garbled.look(&counted(0, 0, 0), at(0));
        assert!(!garbled.is_now(at(0)));
        garbled.look(&counted(3, 0, 0), at(5));
        assert!(garbled.is_now(at(5)) && garbled.is_now(at(64)));
        garbled.look(&counted(3, 0, 0), at(60));
        assert!(!garbled.is_now(at(65)), "long past: the others are merely away");
        garbled.look(&counted(3, 1, 0), at(70));
        assert!(garbled.is_now(at(70)), "a label is as good as a key");
        garbled.look(&counted(3, 1, 1), at(75));
        assert!(!garbled.is_now(at(75)), "a member was understood");
        garbled.look(&counted(4, 1, 2), at(80));
        assert!(!garbled.is_now(at(80)), "as good as understood since");
        garbled.look(&counted(5, 1, 2), at(85));
        assert!(garbled.is_now(at(85)), "it goes on");
    }
}
