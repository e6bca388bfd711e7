//! Who may connect, and what they may do.
//!
//! Integrity never depends on this: facts are verified whoever brings them. Admission decides who may read.

use crate::allow_list::AllowList;
use arc_swap::ArcSwap;
use kvgossip_grants::ReplicaId;
use std::fmt;
use std::sync::Arc;

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// They dialled us.
    Inbound,
    /// We dialled them.
    Outbound {
        /// The replica that has to be there, if the dial named one. The endpoint has made sure of it
        /// before it asks.
        expected: Option<ReplicaId>,
    },
}

/// What an admitted peer may do in sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and write.
    Full,
    /// Read; its facts are not taken.
    PullOnly,
}

/// The answer about one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may connect.
    Admitted(Access),
    /// It may not; the words are for the log of this side, the peer hears the code only.
    Refused(String),
}

/// Decides about peers. It is asked inside the TLS handshake, after the peer has proved that it has its
/// key, on a worker thread of the runtime: an answer must not block.
pub trait Admission: Send + Sync {
    /// May this replica be connected with?
    fn decide(&self, peer: &ReplicaId, direction: Direction) -> Verdict;
}

/// Tells whether another layer vouches for a replica, such as a live member that announces its id.
pub type Vouch = dyn Fn(&ReplicaId) -> bool + Send + Sync;

/// The rules of an agent.
///
/// A replica has full access when it is listed, when it was dialled by its id, or when the `vouch` hook
/// knows it. With `open_read` any other replica that dials in may pull.
pub struct Policy {
    allowed: ArcSwap<AllowList>,
    vouch: Option<Box<Vouch>>,
    open_read: bool,
}

impl Policy {
    /// Admits the listed replicas.
    pub fn new(allowed: AllowList) -> Self {
        Self { allowed: ArcSwap::from_pointee(allowed), vouch: None, open_read: false }
    }

    /// Admits also whom `vouch` knows at the moment of the handshake.
    #[must_use]
    pub fn vouched_by(mut self, vouch: impl Fn(&ReplicaId) -> bool + Send + Sync + 'static) -> Self {
        self.vouch = Some(Box::new(vouch));
        self
    }

    /// Lets strangers pull.
    #[must_use]
    pub fn open_read(mut self, open_read: bool) -> Self {
        self.open_read = open_read;
        self
    }

    /// Exchanges the list. Connections that are open stay until [`crate::ConnectionTable::enforce`].
    pub fn set_allowed(&self, allowed: AllowList) {
        self.allowed.store(Arc::new(allowed));
    }

    /// The list in force.
    pub fn allowed(&self) -> Arc<AllowList> {
        self.allowed.load_full()
    }
}

impl Admission for Policy {
    fn decide(&self, peer: &ReplicaId, direction: Direction) -> Verdict {
        let named = direction == Direction::Outbound { expected: Some(*peer) };
        if named || self.allowed.load().contains(peer) || self.vouch.as_ref().is_some_and(|vouch| vouch(peer))
        {
            return Verdict::Admitted(Access::Full);
        }
        if self.open_read && direction == Direction::Inbound {
            return Verdict::Admitted(Access::PullOnly);
        }
        Verdict::Refused("its key is not listed, and no live member announces it".into())
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("allowed", &self.allowed.load().len())
            .field("vouch", &self.vouch.is_some())
            .field("open_read", &self.open_read)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: ReplicaId = ReplicaId([1; 32]);
    const MEMBER: ReplicaId = ReplicaId([2; 32]);
    const STRANGER: ReplicaId = ReplicaId([3; 32]);
    const DIALLED: Direction = Direction::Outbound { expected: None };

    fn policy() -> Policy {
        Policy::new([LISTED].into_iter().collect()).vouched_by(|id| *id == MEMBER)
    }

    fn access(policy: &Policy, peer: ReplicaId, direction: Direction) -> Option<Access> {
        match policy.decide(&peer, direction) {
            Verdict::Admitted(access) => Some(access),
            Verdict::Refused(_) => None,
        }
    }

    #[test]
    fn listed_vouched_and_named_replicas_have_full_access() {
        let policy = policy();
        for direction in [Direction::Inbound, DIALLED] {
            assert_eq!(access(&policy, LISTED, direction), Some(Access::Full));
            assert_eq!(access(&policy, MEMBER, direction), Some(Access::Full));
            assert_eq!(access(&policy, STRANGER, direction), None);
        }
        let named = Direction::Outbound { expected: Some(STRANGER) };
        assert_eq!(access(&policy, STRANGER, named), Some(Access::Full));
        assert_eq!(access(&policy, STRANGER, Direction::Outbound { expected: Some(LISTED) }), None);
    }

    #[test]
    fn open_read_lets_strangers_in_but_is_never_followed_out() {
        let policy = policy().open_read(true);
        assert_eq!(access(&policy, STRANGER, Direction::Inbound), Some(Access::PullOnly));
        assert_eq!(access(&policy, STRANGER, DIALLED), None);
        assert_eq!(access(&policy, LISTED, Direction::Inbound), Some(Access::Full));
    }

    #[test]
    fn the_list_is_exchanged_in_place() {
        let policy = policy();
        policy.set_allowed([STRANGER].into_iter().collect());
        assert_eq!(access(&policy, LISTED, Direction::Inbound), None);
        assert_eq!(access(&policy, STRANGER, Direction::Inbound), Some(Access::Full));
        assert_eq!(policy.allowed().len(), 1);
    }
}
