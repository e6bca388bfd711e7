//! What is remembered of each peer, for people.

use kvgossip_api::{ApiError, Holds, PeerRow, SyncReport};
use kvgossip_grants::ReplicaId;
use kvgossip_transport::{Access, Connection, Direction};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::whereabouts::Listed;

/// How many peers are remembered; beyond that those that are gone are forgotten.
const MAX_REMEMBERED: usize = 4096;

#[derive(Clone, Debug, Default)]
struct Memory {
    last_sync: Option<SyncReport>,
    last_error: Option<ApiError>,
}

/// What is remembered of each peer.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<BTreeMap<ReplicaId, Memory>>);

impl Book {
    fn with(&self, peer: ReplicaId, note: impl FnOnce(&mut Memory)) {
        let mut book = self.0.lock();
        if book.len() >= MAX_REMEMBERED && !book.contains_key(&peer) {
            book.pop_first();
        }
        note(book.entry(peer).or_default());
    }

    pub(super) fn note_error(&self, peer: ReplicaId, error: ApiError) {
        self.with(peer, |memory| memory.last_error = Some(error));
    }

    pub(super) fn note_sync(&self, peer: ReplicaId, report: SyncReport, error: Option<ApiError>) {
        self.with(peer, |memory| {
            memory.last_sync = Some(report);
            memory.last_error = error;
        });
    }

    pub(super) fn last_sync(&self, peer: &ReplicaId) -> Option<SyncReport> {
        self.0.lock().get(peer).and_then(|memory| memory.last_sync.clone())
    }

    /// Listed peers first, then those that dialled this replica.
    pub(super) fn rows(
        &self,
        listed: &[Arc<Listed>],
        connections: &[Connection],
        equal: impl Fn(&ReplicaId) -> bool,
        failure: impl Fn(&Listed) -> Option<ApiError>,
    ) -> Vec<PeerRow> {
        let book = self.0.lock();
        let mut shown = Vec::new();
        let mut rows = Vec::new();
        for peer in listed {
            let connection = connections.iter().find(|connection| peer.is(connection));
            let id = connection.map(Connection::peer).or(peer.target.id);
            shown.extend(id);
            let row = row(Some(peer.target.address.to_string()), id, connection, &book, &equal);
            let dialled = if row.connected { None } else { failure(peer) };
            let last_error = dialled.or(row.last_error);
            rows.push(PeerRow { listed: true, last_error, ..row });
        }
        for connection in connections {
            if !shown.contains(&connection.peer()) {
                let dialled = !matches!(connection.direction(), Direction::Inbound);
                let address = dialled.then(|| connection.address().to_string());
                rows.push(row(address, Some(connection.peer()), Some(connection), &book, &equal));
            }
        }
        rows
    }
}

fn row(
    address: Option<String>,
    id: Option<ReplicaId>,
    connection: Option<&Connection>,
    book: &BTreeMap<ReplicaId, Memory>,
    equal: &impl Fn(&ReplicaId) -> bool,
) -> PeerRow {
    let memory = id.and_then(|id| book.get(&id)).cloned().unwrap_or_default();
    let access = connection.map(|connection| match connection.access() {
        Access::Full => "full".to_owned(),
        Access::PullOnly => "pull_only".to_owned(),
    });
    PeerRow {
        address,
        listed: false,
        id: id.map(|id| id.to_string()),
        connected: connection.is_some(),
        rtt_us: connection.map(|connection| u64::try_from(connection.rtt().as_micros()).unwrap_or(u64::MAX)),
        access,
        // Known elsewhere.
        clock_offset_us: None,
        equal: connection.is_some() && id.as_ref().is_some_and(equal),
        holds: Holds::Unknown,
        holds_since_us: None,
        last_sync: memory.last_sync,
        last_error: memory.last_error,
    }
}
