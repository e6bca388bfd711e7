//! A sync that a person asks for.

use super::target::PeerTarget;
use super::{PATIENCE, Peers, error};
use crate::metrics::SessionCause;
use crate::report::transport_error;
use kvgossip_api::{ApiError, SyncOutcome, SyncReport};
use kvgossip_engine::scheduler::First;
use kvgossip_grants::{PathPrefix, ReplicaId};
use kvgossip_transport::{Code, Connection, TransportError};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

impl Peers {
    /// Syncs with a peer now: `[ID@]ADDR:PORT`, or the beginning (8 digits or more) of a connected peer's id.
    pub async fn sync_with(&self, peer: &str, prefix: PathPrefix) -> Result<SyncReport, ApiError> {
        let (connection, is_new) = self.find(peer).await?;
        if is_new {
            // The report is of the session that was asked for: the scheduler hears of the peer only afterwards.
            let report = self.initiate(&connection, prefix, SessionCause::Request).await;
            self.serve(connection, First::Session);
            return report.map_err(|error| transport_error(&error));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let busy = match self.initiate(&connection, prefix.clone(), SessionCause::Request).await {
                Ok(report) if report.outcome != SyncOutcome::Busy => return Ok(report),
                Ok(report) => Ok(report),
                Err(error) if error.code() == Code::Busy => Err(transport_error(&error)),
                Err(error) => return Err(transport_error(&error)),
            };
            if Instant::now() >= deadline {
                return busy;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection with the peer, and whether it was made for this.
    pub(super) async fn find(&self, peer: &str) -> Result<(Connection, bool), ApiError> {
        let table = &self.inner.table;
        let is_id = peer.len() >= 8 && peer.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id {
            let begins = |connection: &Connection| connection.peer().to_string().starts_with(peer);
            let mut found = table.list().into_iter().filter(begins);
            return match (found.next(), found.next()) {
                (Some(connection), None) => Ok((connection, false)),
                (Some(_), Some(_)) => {
                    Err(error("peer.ambiguous", format!("several peers' ids begin with {peer}")))
                }
                (None, _) => {
                    Err(error("peer.not_connected", format!("no connected peer's id begins with {peer}")))
                }
            };
        }
        let target: PeerTarget = peer.parse().map_err(|why| error("peer.malformed", format!("{why}")))?;
        let found = target.address.resolve(&self.inner.resolver).await;
        let found = found.map_err(|why| error("peer.cannot_dial", format!("{}: {why}", target.address)))?;
        let fits = |connection: &Connection| {
            found.contains(&connection.address()) && target.id.is_none_or(|id| id == connection.peer())
        };
        if let Some(connection) = table.list().into_iter().find(fits) {
            return Ok((connection, false));
        }
        let connection = self.dial_any(&found, target.id).await.map_err(|why| transport_error(&why))?;
        match table.insert(connection.clone()) {
            Ok(()) => Ok((connection, true)),
            Err(TransportError::Duplicate { peer }) => {
                let found = table.get(&peer).map(|connection| (connection, false));
                found.ok_or_else(|| error("connection.lost", format!("{peer} is gone again")))
            }
            Err(why) => Err(transport_error(&why)),
        }
    }

    /// Dials one address after the other, until one answers.
    async fn dial_any(
        &self,
        addresses: &[SocketAddr],
        expected: Option<ReplicaId>,
    ) -> Result<Connection, TransportError> {
        let mut last = TransportError::NoAddress;
        for address in addresses {
            match self.inner.endpoint.connect(*address, expected).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
