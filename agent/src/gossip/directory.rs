//! Which replicas of the cluster are live members.

use arc_swap::ArcSwap;
use kvgossip_transport::ReplicaId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A live member that is a replica of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Its name in gossip.
    pub(crate) name: String,
    /// Where it takes sessions.
    pub(crate) address: SocketAddr,
    /// The round trip of gossip's probes, once measured.
    pub(crate) rtt: Option<Duration>,
}

/// The live replicas by id. Read from the TLS handshake, hence without locks.
#[derive(Debug, Default)]
pub(crate) struct Directory(ArcSwap<BTreeMap<ReplicaId, Replica>>);

impl Directory {
    /// Whether a live member announces this replica.
    pub(crate) fn vouches_for(&self, id: &ReplicaId) -> bool {
        self.0.load().contains_key(id)
    }

    /// All of them.
    pub(crate) fn replicas(&self) -> Arc<BTreeMap<ReplicaId, Replica>> {
        self.0.load_full()
    }

    pub(super) fn set(&self, replicas: BTreeMap<ReplicaId, Replica>) {
        self.0.store(Arc::new(replicas));
    }

    pub(super) fn clear(&self) {
        self.set(BTreeMap::new());
    }
}
