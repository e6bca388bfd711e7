//! What is known of the others' roots, and since when they lag behind. For people and metrics; nothing is decided by
//! it.

use kvgossip_grants::{Digest, Timestamp};
use kvgossip_transport::ReplicaId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many of this replica's own former roots are remembered.
const MAX_FORMER: usize = 4096;
/// How many replicas' roots are remembered.
const MAX_REPLICAS: usize = 16_384;

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
}

#[derive(Debug)]
struct State {
    own: Digest,
    /// Former roots, and until when they were held.
    former: VecDeque<(Digest, Timestamp)>,
    heard: BTreeMap<ReplicaId, (Digest, Timestamp)>,
}

/// The roots of this replica and of others.
#[derive(Debug)]
pub(super) struct Roots(Mutex<State>);

impl Roots {
    pub(super) fn new(own: Digest) -> Self {
        Self(Mutex::new(State { own, former: VecDeque::new(), heard: BTreeMap::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This replica holds `root` now.
    pub(super) fn own_changed(&self, root: Digest, now: Timestamp) {
        let mut state = self.lock();
        if state.own != root {
            let before = std::mem::replace(&mut state.own, root);
            state.former.push_back((before, now));
            if state.former.len() > MAX_FORMER {
                state.former.pop_front();
            }
        }
    }

    /// A replica holds `root`, or so it is said.
    pub(super) fn heard(&self, replica: ReplicaId, root: Digest, now: Timestamp) {
        let mut state = self.lock();
        if state.heard.len() >= MAX_REPLICAS && !state.heard.contains_key(&replica) {
            state.heard.pop_first();
        }
        state.heard.insert(replica, (root, now));
    }

    pub(super) fn known(&self, replica: &ReplicaId, now: Timestamp) -> Option<KnownRoot> {
        let state = self.lock();
        let (root, at) = *state.heard.get(replica)?;
        let lag_us = if root == state.own {
            Some(0)
        } else {
            let former = state.former.iter().rev().find(|(former, _)| *former == root);
            former.map(|(_, until)| now.as_micros().saturating_sub(until.as_micros()))
        };
        Some(KnownRoot { root, at, lag_us })
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
        let peer = ReplicaId::from_bytes([9; 32]);
        let roots = Roots::new(a);
        let lag = |now| roots.known(&peer, time(now)).map(|known| known.lag_us);
        assert_eq!(lag(0), None);
        roots.heard(peer, a, time(5));
        assert_eq!(lag(100), Some(Some(0)));
        roots.own_changed(b, time(150));
        roots.own_changed(b, time(160));
        assert_eq!(lag(200), Some(Some(50)));
        roots.own_changed(c, time(170));
        assert_eq!(lag(200), Some(Some(50)));
        roots.heard(peer, b, time(200));
        assert_eq!(lag(200), Some(Some(30)));
        roots.heard(peer, Digest([7; 32]), time(200));
        assert_eq!(lag(200), Some(None), "what was never held here is no lag of known length");
    }
}
