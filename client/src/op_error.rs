//! Why a read or a write failed.

use crate::error::ClientError;
use crate::live::handles::Closed;
use kvgossip_grants::{EntityId, Key};
use std::time::Duration;

/// Why a read or a write failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// No agent could be asked, or the last one said no.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// No verified answer in time.
    #[error("no agent gave a verified answer for {what} within {} s; is one running, and of this cluster?", after.as_secs_f64())]
    NotReady {
        /// What was asked for.
        what: String,
        /// The limit.
        after: Duration,
    },
    /// The signer may not write the key.
    #[error("{entity} may not write {key}: {message}")]
    NotAuthorised {
        /// Who.
        entity: EntityId,
        /// Which key.
        key: Key,
        /// The stable code of the chain that gets furthest.
        code: String,
        /// The same for people.
        message: String,
    },
    /// The agent did not take the entry.
    #[error("the agent did not take the entry: {message}")]
    NotTaken {
        /// The stable code.
        code: String,
        /// What that means.
        message: String,
    },
    /// The agent's clock is far ahead.
    #[error(
        "the agent's clock is more than 10 minutes ahead of this machine's: nothing was signed; set the clocks"
    )]
    ClockSkew,
    /// The agent is of another cluster.
    #[error("the agent belongs to another cluster: nothing was signed; check the endpoints and the root key")]
    ForeignCluster,
    /// The cryptographic library failed.
    #[error("signing failed")]
    Signing,
    /// The client was dropped.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl OpError {
    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Agent(error) => error.code(),
            Self::NotReady { .. } => "client.not_ready",
            Self::NotAuthorised { code, .. } | Self::NotTaken { code, .. } => code,
            Self::ClockSkew => "clock.skew",
            Self::ForeignCluster => "cluster.mismatch",
            Self::Signing => "internal",
            Self::Closed(_) => "client.closed",
        }
    }
}
