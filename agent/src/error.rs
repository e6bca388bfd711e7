//! Why an agent does not start, or does not write.

use crate::committer::CommitError;
use crate::gossip::GossipError;
use crate::peers::offset_text;
use crate::readiness::FirstSync;
use kvgossip_api::{FIRST_SYNC, codes};
use kvgossip_engine::clocks::Standing;
use kvgossip_engine::{Failure, InternalError, StorageError};
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
    #[error("sessions cannot be taken: {0}; if another agent runs there, stop it or give another address")]
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

/// Why work that was handed to another thread came to no end; `work` names it.
pub(crate) fn unfinished(error: &tokio::task::JoinError, work: &'static str) -> Failure {
    if error.is_cancelled() {
        return Failure::ShuttingDown;
    }
    tracing::error!(%error, code = InternalError::Task(work).code(), "a task panicked: {work}");
    InternalError::Task(work).into()
}

/// What happened and what to do, for people.
pub(crate) fn advised(failure: &Failure) -> String {
    match codes::advice(failure.code()) {
        Some(advice) => format!("{failure}; {advice}"),
        None => failure.to_string(),
    }
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
    /// Most peers say that this agent's clock is wrong.
    #[error(
        "nothing is signed: this agent's clock is {} those of most of its {} peers; set it, or write at another agent",
        offset_text(.0.median_us.unwrap_or_default().saturating_neg()),
        .0.peers
    )]
    ClockContradicted(Standing),
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
    /// The commit failed, or its condition did not hold: the key shows another entry than the writer expected.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What it depends on is not known yet.
    #[error(transparent)]
    FirstSync(#[from] FirstSync),
    /// The cryptographic library failed.
    #[error("signing failed")]
    Signing,
}

impl WriteError {
    /// The stable code.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoIdentity => "agent.no_identity",
            Self::ClockContradicted(_) => "clock.contradicted",
            Self::NotAuthorised { code, .. } => code.as_str(),
            Self::Verdict(verdict) => match verdict.code() {
                Some(code) => code.as_str(),
                None => Code::Malformed.as_str(),
            },
            Self::Commit(CommitError::Failure(error)) => error.code(),
            Self::Commit(CommitError::Conflict { .. }) => "key.conflict",
            Self::Commit(CommitError::Unknown { .. }) => Code::NotYet.as_str(),
            Self::FirstSync(_) => FIRST_SYNC,
            Self::Signing => "agent.signing",
        }
    }
}
