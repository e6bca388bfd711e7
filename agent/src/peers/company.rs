//! Who else there is, as far as this replica was told, and who of them does not take it.

use super::Peers;
use super::whereabouts::Listed;
use crate::readiness::short;
use kvgossip_api::{ApiError, Holds, PeerRow, SyncOutcome};
use kvgossip_engine::session::{Newcomer, ShortReplicaId};
use kvgossip_grants::ReplicaId;
use kvgossip_transport::{Access, Code, Connection, RefusedPeer};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// How many peers that refuse this replica are named.
const MAX_REFUSED: usize = 8;

/// Who else there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Others {
    /// Whether this replica was told of any: by --peer, by --join, or by members that live.
    pub(crate) expected: bool,
    /// How many that may change things here are connected.
    pub(crate) connected: usize,
    /// How many of these have failed as members: QUIC notices later that nobody is there.
    pub(crate) failed: usize,
    /// How many live members are replicas of this cluster.
    pub(crate) members: usize,
}

/// Whether the peer, or this replica, ended the attempt because it does not take the other one.
const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::NotAdmitted
            | Code::WrongId
            | Code::ForeignCluster
            | Code::BadKey
            | Code::Incompatible
            | Code::Version
            | Code::Misbehaved
    )
}

impl Peers {
    /// Who else there is.
    pub(crate) fn others(&self) -> Others {
        let is_full = |connection: &Connection| connection.access() == Access::Full;
        let connections: Vec<Connection> = self.inner.table.list().into_iter().filter(is_full).collect();
        let connected = connections.len();
        let failed = connections.iter().filter(|it| self.has_failed(&it.peer())).count();
        let members = self.inner.directory.replicas().values().filter(|replica| replica.live).count();
        let expected = self.inner.joins || members > 0 || self.targets().next().is_some();
        Others { expected, connected, failed, members }
    }

    /// Whether all members that announce a replica have failed.
    pub(super) fn has_failed(&self, peer: &ReplicaId) -> bool {
        self.inner.directory.replicas().get(peer).is_some_and(|replica| !replica.live)
    }

    /// Whether a session with a connected peer has ended without making the two equal, the peer is known to differ, and no
    /// connected peer is equal.
    pub(crate) fn differs_from_all(&self) -> bool {
        let ended_apart = [SyncOutcome::Unsettled, SyncOutcome::Failed];
        let differs = |row: &PeerRow| {
            let last = row.last_sync.as_ref();
            let apart = last.is_some_and(|last| ended_apart.contains(&last.outcome));
            row.connected && row.holds == Holds::Differs && apart
        };
        let rows = self.rows();
        rows.iter().any(differs) && !rows.iter().any(|row| row.equal)
    }

    /// Listed peers and members that do not take this replica, or that it does not take.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (SocketAddr, ApiError)> {
        let connections = self.inner.table.list();
        let is_connected = |address: &SocketAddr, id: Option<ReplicaId>| {
            connections
                .iter()
                .any(|connection| connection.address() == *address || Some(connection.peer()) == id)
        };
        let listed = self.targets().flat_map(|listed| {
            let id = listed.target.id;
            listed.last_found().unwrap_or_default().into_iter().map(move |address| (address, id))
        });
        let members = self.inner.directory.replicas();
        let members = members
            .iter()
            .flat_map(|(id, replica)| replica.announced.iter().map(|told| (told.address, Some(*id))));
        let apart = listed.chain(members).filter(|(address, id)| !is_connected(address, *id));
        let addresses: BTreeSet<SocketAddr> = apart.map(|(address, _)| address).collect();
        let refusal = |address: SocketAddr| {
            let (code, message) = self.inner.endpoint.last_failure(&address)?;
            let error = ApiError { code: code.name().to_owned(), message };
            is_refusal(code).then_some((address, error))
        };
        let refused: Vec<_> = addresses.into_iter().filter_map(refusal).take(MAX_REFUSED).collect();
        refused.into_iter()
    }

    /// Replicas that dialled in lately and are not taken here, the latest first.
    pub(crate) fn refused_here(&self) -> Vec<RefusedPeer> {
        let mut refused = self.inner.endpoint.refused();
        refused.retain(|refused| self.inner.table.get(&refused.peer).is_none());
        refused
    }

    /// Listed peers but for this replica itself, which may stand in a list that all have.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Listed> {
        let is_own = |address: &SocketAddr| {
            let failure = self.inner.endpoint.last_failure(address);
            failure.is_some_and(|(code, _)| code == Code::OwnKey)
        };
        let leads_here = move |listed: &Listed| {
            let found = listed.last_found().unwrap_or_default();
            !found.is_empty() && found.iter().all(is_own)
        };
        let listed = self.inner.listed.iter().map(|listed| &**listed);
        listed.filter(move |listed| listed.target.id != Some(self.id()) && !leads_here(listed))
    }

    /// What peers are told if this replica was never compared with anybody.
    pub(super) fn newcomer(&self) -> Option<Newcomer> {
        self.inner.standing.is_newcomer().then(|| Newcomer { others: self.all_others() })
    }

    /// All others that this replica was told of, if it knows them all: listed peers that are connected, and live members.
    pub(super) fn all_others(&self) -> Option<BTreeSet<ShortReplicaId>> {
        let connections = self.inner.table.list();
        let listed = self.targets().map(|listed| {
            connections
                .iter()
                .find(|connection| listed.is(connection))
                .map(|connection| short(&connection.peer()))
        });
        let mut others = listed.collect::<Option<BTreeSet<ShortReplicaId>>>()?;
        if self.inner.joins && !self.inner.directory.has_joined() {
            return None;
        }
        let members = self.inner.directory.replicas();
        others.extend(members.iter().filter(|(_, replica)| replica.live).map(|(id, _)| short(id)));
        (!others.is_empty()).then_some(others)
    }
}
