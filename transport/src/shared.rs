//! What dialling and being dialled have in common.

use crate::admission::Access;
use crate::code::Code;
use crate::conduct::Conduct;
use crate::config::Configs;
use crate::error::TransportError;
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::pending::Pending;
use crate::verifier::HandshakeResult;
use kvgossip_grants::ReplicaId;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

/// State of an endpoint that dialling and accepting share.
pub(crate) struct Shared {
    pub(crate) quic: quinn::Endpoint,
    pub(crate) configs: Configs,
    pub(crate) limits: Limits,
    pub(crate) pending: Arc<Pending>,
    pub(crate) conduct: Arc<Conduct>,
    pub(crate) counters: Counters,
    pub(crate) log: LogLimit,
    /// Rate limit for log lines about dials, which made-up members can cause too.
    pub(crate) dial_log: LogLimit,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) turned_away: AtomicU64,
}

impl Shared {
    /// Closes a new connection with a replica that is shut out, with [`Code::ShutOut`].
    pub(crate) fn refuse_offender(
        &self,
        quic: &quinn::Connection,
        peer: &ReplicaId,
    ) -> Result<(), TransportError> {
        let checked = self.conduct.check(peer);
        if let Err(error) = &checked {
            quic.close(Code::ShutOut.var_int(), error.to_string().as_bytes());
        }
        checked
    }
}

/// Replaces the error that TLS reports by the verifier's own reason, if the verifier refused the peer.
pub(crate) fn explain(
    error: TransportError,
    outcome: &OnceLock<HandshakeResult>,
    address: SocketAddr,
) -> TransportError {
    match outcome.get() {
        Some(HandshakeResult::Refused { peer, code, reason }) => {
            TransportError::Refused { peer: *peer, address, code: *code, reason: reason.clone() }
        }
        _ => error,
    }
}

/// Returns the peer that a finished handshake admitted. TLS never finishes a handshake without calling the
/// verifier.
pub(crate) fn admitted(
    outcome: &OnceLock<HandshakeResult>,
    address: SocketAddr,
) -> Result<(ReplicaId, Access), TransportError> {
    match outcome.get() {
        Some(HandshakeResult::Admitted { peer, access }) => Ok((*peer, *access)),
        other => Err(TransportError::Refused {
            peer: None,
            address,
            code: Code::BadKey,
            reason: format!("the handshake ended without a verified key: {other:?}"),
        }),
    }
}
