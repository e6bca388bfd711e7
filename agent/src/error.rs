//! Errors of starting an agent and of writing under its identity.

use crate::committer::CommitError;
use crate::gossip::GossipError;
use crate::peers::offset_text;
use crate::readiness::FirstSync;
use axum::http::StatusCode;
use kvgossip_api::FIRST_SYNC;
use kvgossip_engine::clocks::Standing;
use kvgossip_engine::{Failure, InternalError, StorageError};
use kvgossip_grants::{Code, Verdict};
use kvgossip_transport::TransportError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The error of [`Agent::start`](crate::Agent::start).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The QUIC socket cannot be opened.
    #[error("sessions cannot be taken: {0}; if another agent runs there, stop it or give another address")]
    Transport(#[from] TransportError),
    /// The HTTP address cannot be bound.
    #[error(
        "HTTP cannot be served on {0}: {1}; if another agent runs there, stop it or give another --http address"
    )]
    Http(SocketAddr, io::Error),
    /// The Unix socket cannot be created.
    #[error("the socket {} cannot be made: {error}", path.display())]
    Socket {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Gossip cannot be started.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// The committer thread cannot be created.
    #[error("the committer thread cannot be started: {0}")]
    Thread(io::Error),
}

impl StartError {
    /// Returns the stable error code.
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

/// Converts the failure of a background task, named by `work`, to a [`Failure`]: shutdown if cancelled, internal if
/// it panicked.
pub(crate) fn unfinished(error: &tokio::task::JoinError, work: &'static str) -> Failure {
    if error.is_cancelled() {
        return Failure::ShuttingDown;
    }
    tracing::error!(%error, code = InternalError::Task(work).code(), "a task panicked: {work}");
    InternalError::Task(work).into()
}

/// Returns the HTTP status of a failure: 500 for an internal one, else 503, since a retry or another agent may
/// succeed.
pub(crate) const fn failure_status(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The error of a write under the agent's own identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The agent has no identity.
    #[error(
        "this agent has no identity to sign with: start it with --identity, or sign in the command with --identity"
    )]
    NoIdentity,
    /// The clocks of most peers contradict this agent's clock.
    #[error(
        "nothing is signed: this agent's clock is {} those of most of its {} peers; set it, or write at another agent",
        offset_text(.0.median_us.unwrap_or_default().saturating_neg()),
        .0.peers
    )]
    ClockContradicted(Standing),
    /// No grant covers the key.
    #[error("{message}")]
    NotAuthorised {
        /// Code of the first reason.
        code: Code,
        /// The reasons as text.
        message: String,
    },
    /// The entry was not accepted.
    #[error("the entry was not taken in: {}", .0.code().map_or("", Code::help))]
    Verdict(Verdict),
    /// The commit failed, or its precondition did not hold: the key shows another entry than the writer expected.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// This replica was never compared with a peer, so the key's state is not known.
    #[error(transparent)]
    FirstSync(#[from] FirstSync),
    /// The cryptographic library failed.
    #[error("signing failed")]
    Signing,
}

impl WriteError {
    /// Returns the HTTP status and the stable error code.
    pub(crate) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoIdentity => (StatusCode::CONFLICT, "agent.no_identity"),
            Self::ClockContradicted(_) => (StatusCode::SERVICE_UNAVAILABLE, "clock.contradicted"),
            Self::NotAuthorised { code, .. } => (StatusCode::FORBIDDEN, code.as_str()),
            Self::Verdict(verdict) => {
                (StatusCode::FORBIDDEN, verdict.code().unwrap_or(Code::Malformed).as_str())
            }
            Self::Commit(CommitError::Failure(error)) => (failure_status(error), error.code()),
            Self::Commit(CommitError::Conflict { .. }) => (StatusCode::PRECONDITION_FAILED, "key.conflict"),
            Self::Commit(CommitError::Unknown { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, Code::NotYet.as_str())
            }
            Self::FirstSync(_) => (StatusCode::SERVICE_UNAVAILABLE, FIRST_SYNC),
            Self::Signing => (StatusCode::INTERNAL_SERVER_ERROR, "agent.signing"),
        }
    }
}
