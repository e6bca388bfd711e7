//! What is known of the others' roots, and since when they lag behind. For people and metrics; nothing is decided by
//! it.

use kvgossip_grants::{Digest, ReplicaId, Timestamp};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

/// How many of this replica's own former roots are remembered.
const MAX_FORMER: usize = 4096;
/// How many roots of others are remembered, of each replica one for each source.
const MAX_HEARD: usize = 16_384;

/// How a root was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// In a session: the replica has proved its key.
    Session,
    /// A member of the gossip says so, and anybody can say so who can send gossip.
    Gossip,
}

/// A replica's root, as last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownRoot {
    /// The root.
    pub(crate) root: Digest,
    /// When it was heard.
    pub(crate) at: Timestamp,
    /// Since when this replica holds something else that the other is not known to hold, in microseconds; 0 if both
    /// hold the same; none if they were never known to.
    pub(crate) lag_us: Option<u64>,
    /// Since when the two are known to hold the same, or to differ.
    pub(crate) since: Timestamp,
}

impl KnownRoot {
    /// Whether both hold the same, as far as is known.
    pub(crate) fn is_same(&self) -> bool {
        self.lag_us == Some(0)
    }
}

/// What was heard of a replica.
#[derive(Clone, Copy, Debug)]
struct Heard {
    root: Digest,
    at: Timestamp,
    /// Since when it is known to differ from this replica, if it was heard to hold several roots in a row that do.
    differs_since: Timestamp,
    /// Since when it is known to hold this root.
    held_since: Timestamp,
}

#[derive(Debug)]
struct State {
    own: Digest,
    own_since: Timestamp,
    /// Former roots, and until when they were held.
    former: VecDeque<(Digest, Timestamp)>,
    heard: BTreeMap<(ReplicaId, Source), Heard>,
}

impl State {
    /// When this replica went on from a root that it held.
    fn left(&self, root: &Digest) -> Option<Timestamp> {
        self.former.iter().rev().find(|(former, _)| former == root).map(|(_, until)| *until)
    }

    /// Since when the two are known to differ; `None` if they hold the same.
    fn differs_since(&self, heard: &Heard) -> Option<Timestamp> {
        if heard.root == self.own {
            return None;
        }
        let left = self.left(&heard.root);
        Some(left.map_or(heard.differs_since, |left| left.max(heard.differs_since)))
    }
}

/// The roots of this replica and of others.
#[derive(Debug)]
pub(super) struct Roots(Mutex<State>);

impl Roots {
    pub(super) fn new(own: Digest) -> Self {
        let (former, heard) = (VecDeque::new(), BTreeMap::new());
        Self(Mutex::new(State { own, own_since: Timestamp::ZERO, former, heard }))
    }

    /// This replica holds `root` now.
    pub(super) fn own_changed(&self, root: Digest, now: Timestamp) {
        let mut state = self.0.lock();
        if state.own != root {
            let before = std::mem::replace(&mut state.own, root);
            state.own_since = now;
            state.former.push_back((before, now));
            if state.former.len() > MAX_FORMER {
                state.former.pop_front();
            }
        }
    }

    /// A replica holds `root`, or so it is said.
    pub(super) fn heard(&self, replica: ReplicaId, source: Source, root: Digest, now: Timestamp) {
        let whose = (replica, source);
        let mut state = self.0.lock();
        if state.heard.len() >= MAX_HEARD && !state.heard.contains_key(&whose) {
            state.heard.pop_first();
        }
        let before = state.heard.get(&whose).copied();
        let differed = before.as_ref().and_then(|before| state.differs_since(before));
        let held_since = before.filter(|before| before.root == root).map_or(now, |before| before.held_since);
        let differs_since = differed.filter(|_| root != state.own).unwrap_or(now);
        state.heard.insert(whose, Heard { root, at: now, differs_since, held_since });
    }

    pub(super) fn known(&self, replica: &ReplicaId, source: Source, now: Timestamp) -> Option<KnownRoot> {
        let state = self.0.lock();
        let heard = state.heard.get(&(*replica, source))?;
        let Heard { root, at, held_since, .. } = *heard;
        let (lag_us, since) = match state.differs_since(heard) {
            None => (Some(0), held_since.max(state.own_since)),
            Some(since) => {
                let lag_us = |left: Timestamp| now.as_micros().saturating_sub(left.as_micros());
                // It held what this replica has gone on from, however short ago.
                (state.left(&root).map(|left| lag_us(left).max(1)), since)
            }
        };
        Some(KnownRoot { root, at, lag_us, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(us: u64) -> Timestamp {
        Timestamp::ZERO.saturating_add(us)
    }

    #[test]
    fn lag_counts_from_when_this_replica_went_on() {
        let (a, b, c) = (Digest([1; 32]), Digest([2; 32]), Digest([3; 32]));
        let peer = ReplicaId([9; 32]);
        let roots = Roots::new(a);
        let lag = |now| roots.known(&peer, Source::Session, time(now)).map(|known| known.lag_us);
        assert_eq!(lag(0), None);
        roots.heard(peer, Source::Session, a, time(5));
        assert_eq!(lag(100), Some(Some(0)));
        roots.own_changed(b, time(150));
        roots.own_changed(b, time(160));
        assert_eq!(lag(200), Some(Some(50)));
        roots.own_changed(c, time(170));
        assert_eq!(lag(200), Some(Some(50)));
        roots.heard(peer, Source::Session, b, time(200));
        assert_eq!(lag(200), Some(Some(30)));
        roots.heard(peer, Source::Session, Digest([7; 32]), time(200));
        assert_eq!(lag(200), Some(None), "what was never held here is no lag of known length");
    }

    #[test]
    fn since_when_two_hold_the_same_or_differ() {
        let (a, b, c, x) = (Digest([1; 32]), Digest([2; 32]), Digest([3; 32]), Digest([9; 32]));
        let peer = ReplicaId([9; 32]);
        let roots = Roots::new(a);
        let known =
            || roots.known(&peer, Source::Session, time(1000)).map(|known| (known.is_same(), known.since));
        assert_eq!(known(), None, "nothing was heard");
        roots.heard(peer, Source::Session, a, time(10));
        roots.heard(peer, Source::Session, a, time(20));
        assert_eq!(known(), Some((true, time(10))));
        roots.own_changed(b, time(30));
        assert_eq!(known(), Some((false, time(30))), "this replica has gone on");
        roots.heard(peer, Source::Session, x, time(40));
        roots.own_changed(c, time(50));
        roots.heard(peer, Source::Session, x, time(60));
        assert_eq!(known(), Some((false, time(30))), "they have differed all the while");
        roots.heard(peer, Source::Session, c, time(70));
        assert_eq!(known(), Some((true, time(70))));
        roots.heard(peer, Source::Session, x, time(80));
        assert_eq!(known(), Some((false, time(80))), "the other one has gone on");
    }
}
