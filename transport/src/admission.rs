//! Admission policy: which replicas may connect, and with which access.
//!
//! Integrity does not depend on admission, because every fact is verified wherever it comes from. Admission
//! limits who can read.

use crate::allow_list::AllowList;
use arc_swap::ArcSwap;
use kvgossip_grants::ReplicaId;
use std::fmt;
use std::sync::Arc;

/// Side that dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer dialled this replica.
    Inbound,
    /// This replica dialled the peer.
    Outbound {
        /// Replica id that the dial requires; `None` accepts any admitted replica. The endpoint checks it
        /// before it calls [`Admission::decide`].
        expected: Option<ReplicaId>,
    },
}

/// What an admitted peer may do in sessions with this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The peer may send facts to this replica and receive facts.
    Full,
    /// The peer may only receive facts; facts that it sends are not accepted.
    PullOnly,
}

/// Decision of an [`Admission`] about one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The peer may connect, with this access to this replica.
    Admitted(Access),
    /// The peer may not connect. The text goes to the local log; the peer receives only the code.
    Refused(String),
}

/// Admission policy. It is called inside the TLS handshake, after the peer has proved possession of its key, on
/// a worker thread of the runtime, so it must not block.
pub trait Admission: Send + Sync {
    /// Decides whether the replica `peer`, which has proved its key, may connect.
    fn decide(&self, peer: &ReplicaId, direction: Direction) -> Decision;
}

/// Callback that returns whether another layer vouches for a replica, such as a live member that announces its
/// id.
pub type Vouch = dyn Fn(&ReplicaId) -> bool + Send + Sync;

/// Admission policy of an agent.
///
/// A replica has full access if it is listed, if the dial named its id, or if the `vouch` hook accepts it. With
/// `open_read`, any other replica that dials in may read.
pub struct Policy {
    allowed: ArcSwap<AllowList>,
    vouch: Option<Box<Vouch>>,
    open_read: bool,
}

impl Policy {
    /// Creates a policy that admits with full access the listed replicas and those that a dial names by id.
    pub fn new(allowed: AllowList) -> Self {
        Self { allowed: ArcSwap::from_pointee(allowed), vouch: None, open_read: false }
    }

    /// Also admits replicas that `vouch` accepts at the time of the handshake.
    #[must_use]
    pub fn vouched_by(mut self, vouch: impl Fn(&ReplicaId) -> bool + Send + Sync + 'static) -> Self {
        self.vouch = Some(Box::new(vouch));
        self
    }

    /// Sets whether replicas that are neither listed nor vouched for may dial in with [`Access::PullOnly`].
    #[must_use]
    pub fn open_read(mut self, open_read: bool) -> Self {
        self.open_read = open_read;
        self
    }

    /// Replaces the list of admitted replicas. Open connections stay until [`crate::ConnectionTable::enforce`]
    /// is called.
    pub fn set_allowed(&self, allowed: AllowList) {
        self.allowed.store(Arc::new(allowed));
    }

    /// Returns the current list of admitted replicas.
    pub fn allowed(&self) -> Arc<AllowList> {
        self.allowed.load_full()
    }
}

impl Admission for Policy {
    fn decide(&self, peer: &ReplicaId, direction: Direction) -> Decision {
        let named = direction == Direction::Outbound { expected: Some(*peer) };
        if named || self.allowed.load().contains(peer) || self.vouch.as_ref().is_some_and(|vouch| vouch(peer))
        {
            return Decision::Admitted(Access::Full);
        }
        if self.open_read && direction == Direction::Inbound {
            return Decision::Admitted(Access::PullOnly);
        }
        Decision::Refused("its key is not listed, and no live member announces it".into())
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
            Decision::Admitted(access) => Some(access),
            Decision::Refused(_) => None,
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
