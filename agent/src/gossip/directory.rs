//! Which replicas of the cluster members announce, and where.

use arc_swap::ArcSwap;
use kvgossip_grants::ReplicaId;
use kvgossip_membership::Text;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What one member says of a replica. Several may speak of one; who is right shows when one of the addresses proves the
/// key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// The member's name in gossip.
    pub(crate) name: Text,
    /// Where the replica takes sessions.
    pub(crate) address: SocketAddr,
    /// The round trip of gossip's probes, once measured.
    pub(crate) rtt: Option<Duration>,
}

/// A replica of this cluster that members announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Whether one of them is alive; else all have failed a short while ago.
    pub(crate) live: bool,
    /// By whom and where; those of members that have failed lately are among them.
    pub(crate) announced: Vec<Announcement>,
}

/// The announced replicas by id.
pub(crate) type Replicas = BTreeMap<ReplicaId, Replica>;

/// The announced replicas. Read from the TLS handshake, hence without locks.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    replicas: ArcSwap<Replicas>,
    changes: watch::Sender<u64>,
    /// Whether all members that this replica was told to join have answered.
    joined: AtomicBool,
}

impl Directory {
    /// Whether a member that is alive, or was until a short while ago, announces this replica.
    pub(crate) fn vouches_for(&self, id: &ReplicaId) -> bool {
        self.replicas.load().contains_key(id)
    }

    /// Whether a member that is alive announces it.
    pub(crate) fn is_live(&self, id: &ReplicaId) -> bool {
        self.replicas.load().get(id).is_some_and(|replica| replica.live)
    }

    /// What members say of it; nothing if it is not announced.
    pub(crate) fn replica(&self, id: &ReplicaId) -> Replica {
        self.replicas.load().get(id).cloned().unwrap_or_default()
    }

    /// What this member announces of this replica.
    pub(crate) fn announcement(&self, id: &ReplicaId, name: &Text) -> Option<Announcement> {
        let replicas = self.replicas.load();
        replicas.get(id)?.announced.iter().find(|announced| announced.name == *name).cloned()
    }

    /// All of them.
    pub(crate) fn replicas(&self) -> Arc<Replicas> {
        self.replicas.load_full()
    }

    /// Signals every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether all members that this replica was told to join have answered.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    pub(super) fn set_joined(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    pub(super) fn set(&self, replicas: Replicas) {
        self.replicas.store(Arc::new(replicas));
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn clear(&self) {
        self.set(Replicas::new());
    }
}
