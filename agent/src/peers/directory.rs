//! The replicas of the cluster that members announce, with their addresses.

use arc_swap::ArcSwap;
use kvgossip_grants::ReplicaId;
use kvgossip_membership::Text;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// A member's announcement of a replica. Several members may announce one replica; the address that proves the key is
/// the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Name of the member.
    pub(crate) name: Text,
    /// Session address of the replica.
    pub(crate) address: SocketAddr,
    /// Round-trip time measured by gossip's probes.
    pub(crate) rtt: Option<Duration>,
}

/// A replica of this cluster that members announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Whether one of these members is alive; if not, all have failed recently.
    pub(crate) live: bool,
    /// The announcements, including those of recently failed members.
    pub(crate) announced: Vec<Announcement>,
}

/// Announced replicas by id.
pub(crate) type Replicas = BTreeMap<ReplicaId, Replica>;

/// The shared directory of announced replicas. Lock-free, because the TLS handshake reads it.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    replicas: ArcSwap<Replicas>,
    changes: watch::Sender<u64>,
    /// Whether all members that were to be joined have answered.
    joined: AtomicBool,
}

impl Directory {
    /// Whether a live or recently failed member announces this replica.
    pub(crate) fn vouches_for(&self, id: &ReplicaId) -> bool {
        self.replicas.load().contains_key(id)
    }

    /// Whether a live member announces this replica.
    pub(crate) fn is_live(&self, id: &ReplicaId) -> bool {
        self.replicas.load().get(id).is_some_and(|replica| replica.live)
    }

    /// Returns the announcements of a replica; empty if there are none.
    pub(crate) fn replica(&self, id: &ReplicaId) -> Replica {
        self.replicas.load().get(id).cloned().unwrap_or_default()
    }

    /// Returns the announcement of a replica by one member.
    pub(crate) fn announcement(&self, id: &ReplicaId, name: &Text) -> Option<Announcement> {
        let replicas = self.replicas.load();
        replicas.get(id)?.announced.iter().find(|announced| announced.name == *name).cloned()
    }

    /// Returns all announced replicas.
    pub(crate) fn replicas(&self) -> Arc<Replicas> {
        self.replicas.load_full()
    }

    /// Returns a receiver that is notified of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether all members that were to be joined have answered.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    pub(crate) fn set_joined(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, replicas: Replicas) {
        self.replicas.store(Arc::new(replicas));
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn clear(&self) {
        self.set(Replicas::new());
    }
}
