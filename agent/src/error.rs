//! Errors of starting an agent and of writing under its identity.

use crate::committer::CommitError;
use crate::gossip::GossipError;
use crate::peers::offset_text;
use crate::readiness::FirstSync;
use kvgossip_api::{FIRST_SYNC, codes};
use kvgossip_engine::clocks::Standing;
use kvgossip_engine::{Failure, StorageError};
use kvgossip_grants::{Code, Verdict};
use kvgossip_transport::TransportError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The error of [`Agent::start`](crate::Agent::start), with which no agent runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store cannot be loaded or used.
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
        /// The system's error at creating the socket.
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

/// Returns the message of a failure with the catalogue's advice.
pub(crate) fn advised(failure: &Failure) -> String {
    match codes::advice(failure.code()) {
        Some(advice) => format!("{failure}; {advice}"),
        None => failure.to_string(),
    }
}

/// The error of a write under the agent's own identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The agent has no identity to sign the entry with.
    #[error(
        "this agent has no identity to sign with: start it with --identity, or sign in the command with --identity"
    )]
    NoIdentity,
    /// The clocks of most peers contradict this agent's clock, so nothing is signed.
    #[error(
        "nothing is signed: this agent's clock is {} those of most of its {} peers; set it, or write at another agent",
        offset_text(.0.median_us.unwrap_or_default().saturating_neg()),
        .0.peers
    )]
    ClockContradicted(Standing),
    /// No grant to the agent's identity covers the key.
    #[error("{message}")]
    NotAuthorised {
        /// Code of the first of the reasons in `message`.
        code: Code,
        /// The reasons why no grant allows the write, as text.
        message: String,
    },
    /// The signed entry was not accepted, with this verdict.
    #[error("the entry was not taken in: {}", .0.code().map_or("", Code::help))]
    Verdict(Verdict),
    /// The entry was not committed: the commit failed; its precondition did not hold (`Conflict`); or the precondition
    /// cannot be judged, because an early entry of the key waits (`Unknown`).
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// This replica knows of others and was never compared with a peer, so the key's state is not known.
    #[error(transparent)]
    FirstSync(#[from] FirstSync),
    /// The cryptographic library failed to sign the entry.
    #[error("signing failed")]
    Signing,
}

impl WriteError {
    /// Returns the stable error code.
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
