//! Which log lines that peers cause are written: each peer has a few, and the same one again is no news.
//!
//! A machine without a clock: times are durations since any fixed moment.

use crate::bucket::Bucket;
use kvgossip_grants::ReplicaId;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Lines of one peer in a row before the limit holds.
const BURST: u32 = 8;
/// After a burst, a peer has one more line each.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same line is no news for so long.
const QUIET: Duration = Duration::from_secs(60);
/// How many different lines of one peer, and of this replica itself, are remembered; the oldest goes first.
const MAX_TOLD: usize = 16;
/// How many peers are remembered; the one that caused a line longest ago is forgotten first.
const MAX_PEERS: usize = 1024;

/// Whose lines they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// What is wrong with this replica itself shows in sessions with all peers.
    Own,
    /// What one peer does.
    Peer(ReplicaId),
}

#[derive(Debug)]
struct Told {
    what: String,
    at: Duration,
    suppressed: u64,
}

#[derive(Debug)]
struct Of {
    bucket: Bucket,
    last: Duration,
    told: VecDeque<Told>,
}

/// What was told of whom. See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<Whose, Of>);

impl Lines {
    /// Whether a line `what` may be written now; if so, how many were not since the last one like it.
    pub(super) fn allow(&mut self, whose: Whose, what: &str, now: Duration) -> Option<u64> {
        self.of(whose, now).allow(what, now)
    }

    /// The same for a line that is news however often it comes.
    pub(super) fn allow_news(&mut self, whose: Whose, now: Duration) -> Option<u64> {
        self.of(whose, now).bucket.take(now)
    }

    fn of(&mut self, whose: Whose, now: Duration) -> &mut Of {
        if !self.0.contains_key(&whose) && self.0.len() >= MAX_PEERS {
            let oldest = self.0.iter().min_by_key(|(_, of)| of.last).map(|(whose, _)| *whose);
            oldest.and_then(|whose| self.0.remove(&whose));
        }
        let fresh = || Of { bucket: Bucket::new(BURST, INTERVAL, now), last: now, told: VecDeque::new() };
        let of = self.0.entry(whose).or_insert_with(fresh);
        of.last = now;
        of
    }
}

impl Of {
    fn allow(&mut self, what: &str, now: Duration) -> Option<u64> {
        if let Some(told) = self.told.iter_mut().find(|told| told.what == what)
            && now.saturating_sub(told.at) < QUIET
        {
            told.suppressed += 1;
            return None;
        }
        let others = self.bucket.take(now)?;
        let before = self.told.iter().position(|told| told.what == what).and_then(|at| self.told.remove(at));
        if self.told.len() >= MAX_TOLD {
            self.told.pop_front();
        }
        self.told.push_back(Told { what: what.to_owned(), at: now, suppressed: 0 });
        Some(before.map_or(0, |told| told.suppressed) + others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> Whose {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Whose::Peer(ReplicaId(id))
    }

    /// How many of so many tries in a minute are written.
    fn written(lines: &mut Lines, whose: Whose, what: impl Fn(u64) -> String, tries: u64) -> usize {
        let time = |number| Duration::from_millis(60_000 * number / tries);
        (0..tries).filter(|number| lines.allow(whose, &what(*number), time(*number)).is_some()).count()
    }

    #[test]
    fn retries_that_fail_alike_are_one_line_a_minute() {
        let mut lines = Lines::default();
        assert_eq!(written(&mut lines, Whose::Own, |_| "store.no_room".into(), 480), 1);
        assert_eq!(lines.allow(Whose::Own, "store.no_room", Duration::from_secs(61)), Some(479));
    }

    /// The code of a peer that says why it ends a session is the peer's to choose.
    #[test]
    fn a_peer_with_ever_new_words_has_few_lines_and_takes_none_of_others() {
        let mut lines = Lines::default();
        let flood = written(&mut lines, peer(1), |number| format!("code.{number}"), 10_000);
        assert!(flood <= BURST as usize + 6, "{flood}");
        assert_eq!(lines.allow(peer(2), "session.protocol", Duration::ZERO), Some(0));
        for number in 0..3 * MAX_PEERS as u32 {
            lines.allow(peer(number), "x", Duration::ZERO);
        }
        assert!(lines.0.len() <= MAX_PEERS && lines.0.values().all(|of| of.told.len() <= MAX_TOLD));
    }
}
