//! The open connections of a replica: one for each other replica.

use crate::admission::{Access, Admission, Verdict};
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

/// A process that dials several addresses of one peer takes the first connection that is made, and gives up the others. Those
/// that are made within this time all the same do not displace the first.
const RACE: Duration = Duration::from_secs(2);
/// What both processes hear that use one key.
const CLONED_WORDS: &str = "another process uses the same replica key";

/// The connections by peer. Clones share it.
///
/// Of two connections with one replica, both ends keep the same:
/// - Both dialled at about the same time: the one that the smaller replica id dialled.
/// - One process dialled several addresses at about the same time: the first one.
/// - Otherwise the newer one: a replica does not dial while it has a connection, so it has lost the older.
/// - But where two running processes have the replica's key, the older one: they would displace each other for ever.
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
    /// When this replica last heard of another process with its own key.
    own_cloned_at: Mutex<Option<Instant>>,
}

impl ConnectionTable {
    /// An empty table.
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

    /// Adds a connection, whoever dialled it. When it is not to stay it is closed, and the error says why.
    /// A connection in the table is held open; it leaves the table when it ends.
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
        let raced = old.dialled_by() == new.dialled_by()
            && old.instance().is_some()
            && old.instance() == new.instance()
            && old.age() < RACE;
        let crossed = old.dialled_by() != new.dialled_by() && old.age() < self.crossing_time();
        raced || (crossed && old.dialled_by() < new.dialled_by())
    }

    /// Whether the newer connection takes the older one's place, as far as the processes behind them tell.
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

    /// The replicas whose key two running processes use, as their connections have shown within [`CLONE_SHOWN`].
    pub fn clones(&self) -> Vec<ReplicaId> {
        let clones = self.inner.clones.lock();
        clones.list(self.inner.began.elapsed())
    }

    /// Whether a peer has told within [`CLONE_SHOWN`] that another process uses this replica's own key, or one was met.
    pub fn own_key_is_cloned(&self) -> bool {
        let at = *self.inner.own_cloned_at.lock();
        at.is_some_and(|at| at.elapsed() < CLONE_SHOWN)
    }

    /// Another process uses this replica's own key.
    pub(crate) fn note_own_clone(&self, told_by: impl std::fmt::Display) {
        if !self.own_key_is_cloned() {
            tracing::warn!(
                %told_by, code = %Code::Cloned,
                "another running process uses this replica's key: was the data directory copied? Give each its own"
            );
        }
        *self.inner.own_cloned_at.lock() = Some(Instant::now());
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
        self.inner.connections.lock().get(peer).filter(|connection| !connection.is_closed()).cloned()
    }

    /// All open connections, in the order of the ids.
    pub fn list(&self) -> Vec<Connection> {
        self.inner.connections.lock().values().filter(|connection| !connection.is_closed()).cloned().collect()
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
    // Another connection may stand in its place by now.
    let gone = connections.get(&peer).is_some_and(|c| c.quic().stable_id() == quic.stable_id());
    let removed = if gone { connections.remove(&peer) } else { None };
    drop(connections);
    if removed.is_some() {
        table.changed();
    }
}
