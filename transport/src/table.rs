//! The open connections of a replica: one for each other replica.

use crate::admission::{Access, Admission, Verdict};
use crate::code::Code;
use crate::connection::Connection;
use crate::error::TransportError;
use crate::id::ReplicaId;
use crate::limits::Limits;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// The connections by peer. Clones share it.
///
/// Of two connections with one replica, both ends keep the same:
/// - Both dialled at about the same time: the one that the smaller replica id dialled.
/// - Otherwise the newer one: a replica does not dial while it has a connection, so it has lost the older.
#[derive(Clone, Debug)]
pub struct ConnectionTable {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    connections: Mutex<BTreeMap<ReplicaId, Connection>>,
    changes: watch::Sender<u64>,
}

impl ConnectionTable {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        let changes = watch::Sender::new(0);
        Self { inner: Arc::new(Inner { limits, connections: Mutex::default(), changes }) }
    }

    /// Adds a connection, whoever dialled it. When it is not to stay it is closed, and the error says why.
    /// A connection in the table is held open; it leaves the table when it ends.
    pub fn insert(&self, new: Connection) -> Result<(), TransportError> {
        let mut connections = self.inner.lock();
        let old = connections.get(&new.peer()).filter(|old| !old.is_closed()).cloned();
        let kept = match &old {
            Some(old) if self.older_stays(old, &new) => Err(TransportError::Duplicate { peer: new.peer() }),
            Some(_) => Ok(()),
            None => self.room(&connections, new.access()),
        };
        if let Err(error) = kept {
            drop(connections);
            new.close(error.code(), &error.to_string());
            if let Some(old) = old {
                // The peer may have dialled because it has restarted and lost the older one.
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
        let crossed = old.dialled_by() != new.dialled_by() && old.age() < self.crossing_time();
        crossed && old.dialled_by() < new.dialled_by()
    }

    /// Dials that cross are both established within the time one may take, seen from either end.
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

    /// The open connection with a replica.
    pub fn get(&self, peer: &ReplicaId) -> Option<Connection> {
        self.inner.lock().get(peer).filter(|connection| !connection.is_closed()).cloned()
    }

    /// All open connections, in the order of the ids.
    pub fn list(&self) -> Vec<Connection> {
        self.inner.lock().values().filter(|connection| !connection.is_closed()).cloned().collect()
    }

    /// Signals every change of the table; the value is a mere count.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Asks the policy again about every peer, after its rules have changed: closes connections that it
    /// refuses now, and those whose access is another now, so that they come again with the new one.
    pub fn enforce(&self, admission: &dyn Admission) {
        for connection in self.list() {
            match admission.decide(&connection.peer(), connection.direction()) {
                Verdict::Admitted(access) if access == connection.access() => {}
                Verdict::Admitted(_) => connection.close(Code::Closed, "its access has changed"),
                Verdict::Refused(_) => {
                    tracing::info!(peer = %connection.peer(), "cut off: it is no longer admitted");
                    connection.close(Code::NotAdmitted, "it is no longer admitted");
                }
            }
        }
    }

    /// Closes all connections.
    pub fn close_all(&self, code: Code, reason: &str) {
        for connection in self.list() {
            connection.close(code, reason);
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

async fn forget_when_closed(table: Weak<Inner>, peer: ReplicaId, quic: quinn::Connection) {
    quic.closed().await;
    let Some(table) = table.upgrade() else { return };
    let mut connections = table.lock();
    // Another connection may stand in its place by now.
    let gone = connections.get(&peer).is_some_and(|c| c.quic().stable_id() == quic.stable_id());
    let removed = if gone { connections.remove(&peer) } else { None };
    drop(connections);
    if removed.is_some() {
        table.changed();
    }
}
