//! Why an agent does not start, or does not write.

use crate::committer::CommitError;
use crate::gossip::GossipError;
use axum::http::StatusCode;
use kvgossip_engine::StorageError;
use kvgossip_grants::{Code, Verdict};
use kvgossip_transport::TransportError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The QUIC socket.
    #[error(
        "sessions cannot be taken: {0}; if another agent runs there, stop it or give another --sync address"
    )]
    Transport(#[from] TransportError),
    /// The HTTP address.
    #[error(
        "HTTP cannot be served on {0}: {1}; if another agent runs there, stop it or give another --http address"
    )]
    Http(SocketAddr, io::Error),
    /// The Unix socket.
    #[error("the socket {} cannot be made: {error}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Membership.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// The system refuses a thread.
    #[error("the committer thread cannot be started: {0}")]
    Thread(io::Error),
}

impl StartError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Storage(error) => error.code(),
            Self::Transport(_) | Self::Http(..) => "agent.address",
            Self::Socket { .. } => "agent.socket",
            Self::Gossip(error) => error.code(),
            Self::Thread(_) => "internal",
        }
    }
}

/// Why work that was handed to another thread came to no end.
pub(crate) fn unfinished(error: &tokio::task::JoinError) -> StorageError {
    let why = if error.is_panic() {
        "a fault of the program, as the log says"
    } else {
        "the agent is shutting down"
    };
    StorageError::Stopped(why.into())
}

/// Why a write under the agent's own identity failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The agent has no identity.
    #[error(
        "this agent has no identity to sign with: start it with --identity, or sign in the command with --identity"
    )]
    NoIdentity,
    /// No grant covers the key.
    #[error("{message}")]
    NotAuthorised {
        /// The first reason.
        code: Code,
        /// The same for people.
        message: String,
    },
    /// What came of the fact.
    #[error("the entry was not taken in: {}", .0.code().map_or("", Code::help))]
    Verdict(Verdict),
    /// The store failed, or the key does not hold what was expected.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The cryptographic library failed.
    #[error("signing failed")]
    Signing,
}

impl WriteError {
    /// The HTTP status and the stable code.
    pub(crate) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoIdentity => (StatusCode::CONFLICT, "agent.no_identity"),
            Self::NotAuthorised { code, .. } => (StatusCode::FORBIDDEN, code.as_str()),
            Self::Verdict(verdict) => {
                (StatusCode::FORBIDDEN, verdict.code().unwrap_or(Code::Malformed).as_str())
            }
            Self::Commit(CommitError::Storage(error)) => (StatusCode::SERVICE_UNAVAILABLE, error.code()),
            Self::Commit(CommitError::Conflict { .. }) => (StatusCode::PRECONDITION_FAILED, "key.conflict"),
            Self::Signing => (StatusCode::INTERNAL_SERVER_ERROR, "agent.signing"),
        }
    }
}
