//! Table of the open connections of a replica, one per peer.

use crate::admission::{Access, Admission, Decision};
use crate::clones::{CLONE_SHOWN, Clones, Ruling};
use crate::code::Code;
use crate::connection::Connection;
use crate::error::TransportError;
use crate::limits::Limits;
use kvgossip_grants::ReplicaId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Time within which parallel dials to several addresses of one peer may succeed. The dialler keeps the first
/// connection; another one made by the same process within this time does not displace it.
const RACE: Duration = Duration::from_secs(2);
/// Close reason sent to both processes that use one key.
const CLONED_WORDS: &str = "another process uses the same replica key";

/// Open connections by peer. Clones share the table.
///
/// If two connections with one replica exist, both ends keep one and close the other, chosen by these rules:
/// - Both sides dialled at about the same time: the one dialled by the smaller replica id.
/// - One process dialled several addresses at about the same time: the first one.
/// - Two running processes use the replica's key: the older one, so that they do not displace each other endlessly.
/// - Otherwise the newer one: a replica does not dial while it has a connection, so it has lost the older one.
#[derive(Clone, Debug)]
pub struct ConnectionTable {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    connections: Mutex<BTreeMap<ReplicaId, Connection>>,
    changes: watch::Sender<u64>,
    began: Instant,
    clones: Mutex<Clones>,
    /// Time of the last report of another process with this replica's own key; `None` if there was none.
    own_cloned_at: Mutex<Option<Instant>>,
}

impl ConnectionTable {
    /// Creates an empty table.
    pub fn new(limits: Limits) -> Self {
        let changes = watch::Sender::new(0);
        let inner = Inner {
            limits,
            connections: Mutex::default(),
            changes,
            began: Instant::now(),
            clones: Mutex::default(),
            own_cloned_at: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a connection, whichever side dialled it. If it is not kept, it is closed and the error gives the
    /// reason. The table holds its connections open and removes each when it ends.
    pub fn insert(&self, new: Connection) -> Result<(), TransportError> {
        let mut connections = self.inner.connections.lock();
        let old = connections.get(&new.peer()).filter(|old| !old.is_closed()).cloned();
        let kept = match &old {
            Some(old) if self.older_stays(old, &new) => Err(TransportError::Duplicate { peer: new.peer() }),
            Some(old) => self.check_clone(old, &new),
            None => self.room(&connections, new.access()),
        };
        if let Err(error) = kept {
            drop(connections);
            new.close(error.code(), &error.to_string());
            if let Some(old) = old {
                // The peer may have dialled because it restarted and lost the older connection.
                old.probe();
            }
            return Err(error);
        }
        connections.insert(new.peer(), new.clone());
        drop(connections);
        if let Some(old) = old {
            old.close(Code::Duplicate, "a newer connection takes its place");
        }
        self.inner.changed();
        tokio::spawn(forget_when_closed(Arc::downgrade(&self.inner), new.peer(), new.quic().clone()));
        Ok(())
    }

    fn older_stays(&self, old: &Connection, new: &Connection) -> bool {
        let raced = old.dialled_by() == new.dialled_by()
            && old.instance().is_some()
            && old.instance() == new.instance()
            && old.age() < RACE;
        let crossed = old.dialled_by() != new.dialled_by() && old.age() < self.crossing_time();
        raced || (crossed && old.dialled_by() < new.dialled_by())
    }

    /// Returns an error if the newer connection must not replace the older one, judged by their instances.
    fn check_clone(&self, old: &Connection, new: &Connection) -> Result<(), TransportError> {
        let (Some(older), Some(newer)) = (old.instance(), new.instance()) else { return Ok(()) };
        if older == newer {
            return Ok(());
        }
        let peer = new.peer();
        let mut clones = self.inner.clones.lock();
        match clones.meet(peer, older, newer, self.inner.began.elapsed()) {
            Ruling::Takes => return Ok(()),
            Ruling::OlderStays => {}
            Ruling::NeitherStays => {
                tracing::warn!(
                    %peer, code = %Code::Cloned, one = %old.address(), other = %new.address(),
                    "two running processes use one replica key: was a data directory copied? Give each its own"
                );
                old.close(Code::Cloned, CLONED_WORDS);
            }
        }
        Err(TransportError::Cloned { peer })
    }

    /// Lists the replica ids that two running processes were found to use within the last [`CLONE_SHOWN`].
    pub fn clones(&self) -> Vec<ReplicaId> {
        let clones = self.inner.clones.lock();
        clones.list(self.inner.began.elapsed())
    }

    /// Returns whether another process with this replica's own key was reported or met within the last
    /// [`CLONE_SHOWN`].
    pub fn own_key_is_cloned(&self) -> bool {
        let at = *self.inner.own_cloned_at.lock();
        at.is_some_and(|at| at.elapsed() < CLONE_SHOWN)
    }

    /// Records that another process uses this replica's own key.
    pub(crate) fn note_own_clone(&self, told_by: impl std::fmt::Display) {
        if !self.own_key_is_cloned() {
            tracing::warn!(
                %told_by, code = %Code::Cloned,
                "another running process uses this replica's key: was the data directory copied? Give each its own"
            );
        }
        *self.inner.own_cloned_at.lock() = Some(Instant::now());
    }

    /// Maximum age of an older connection at which the two sides' dials count as crossing: each dial takes at
    /// most the handshake timeout, as seen from either end.
    fn crossing_time(&self) -> Duration {
        self.inner.limits.handshake_timeout * 2
    }

    fn room(
        &self,
        connections: &BTreeMap<ReplicaId, Connection>,
        access: Access,
    ) -> Result<(), TransportError> {
        let limit = self.inner.limits.max_connections;
        if connections.len() >= limit {
            return Err(TransportError::Full { limit });
        }
        let limit = self.inner.limits.max_pull_only_connections;
        let strangers = || connections.values().filter(|c| c.access() == Access::PullOnly).count();
        if access == Access::PullOnly && strangers() >= limit {
            return Err(TransportError::Full { limit });
        }
        Ok(())
    }

    /// Returns the open connection with a replica; `None` if there is none.
    pub fn get(&self, peer: &ReplicaId) -> Option<Connection> {
        self.inner.connections.lock().get(peer).filter(|connection| !connection.is_closed()).cloned()
    }

    /// Lists all open connections in order of the replica ids.
    pub fn list(&self) -> Vec<Connection> {
        self.inner.connections.lock().values().filter(|connection| !connection.is_closed()).cloned().collect()
    }

    /// Returns a receiver that is notified of every change of the table; its value is only a counter.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Applies changed admission rules: closes the connections of peers that are now refused, and of peers
    /// whose access has changed, so that these reconnect with the new access.
    pub fn enforce(&self, admission: &dyn Admission) {
        for connection in self.list() {
            match admission.decide(&connection.peer(), connection.direction()) {
                Decision::Admitted(access) if access == connection.access() => {}
                Decision::Admitted(_) => connection.close(Code::Closed, "its access has changed"),
                Decision::Refused(_) => {
                    tracing::info!(peer = %connection.peer(), "cut off: it is no longer admitted");
                    connection.close(Code::NotAdmitted, "it is no longer admitted");
                }
            }
        }
    }

    /// Closes all connections of the table with this code and reason.
    pub fn close_all(&self, code: Code, reason: &str) {
        for connection in self.list() {
            connection.close(code, reason);
        }
    }
}

impl Inner {
    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

async fn forget_when_closed(table: Weak<Inner>, peer: ReplicaId, quic: quinn::Connection) {
    let end = TransportError::from(quic.closed().await);
    let Some(table) = table.upgrade() else { return };
    if matches!(end, TransportError::ByPeer { code: Code::Cloned, .. }) {
        ConnectionTable { inner: Arc::clone(&table) }.note_own_clone(peer);
    }
    let mut connections = table.connections.lock();
    // Another connection may have replaced it by now.
    let gone = connections.get(&peer).is_some_and(|c| c.quic().stable_id() == quic.stable_id());
    let removed = if gone { connections.remove(&peer) } else { None };
    drop(connections);
    if removed.is_some() {
        table.changed();
    }
}
