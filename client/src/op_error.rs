//! Why a read or a write failed.

use crate::error::ClientError;
use crate::live::handles::Closed;
use kvgossip_api::FIRST_SYNC;
use kvgossip_grants::{Code, EntityId, Key, MAX_VALUE_BYTES};
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
    /// No agent that was ever compared with a peer answered in time.
    #[error("no agent told {what} within {} s: those that answer were never compared with a peer, so what they lack says nothing", after.as_secs_f64())]
    FirstSync {
        /// What was asked for.
        what: String,
        /// The limit.
        after: Duration,
    },
    /// Agents keep entries of it back until these are due by their clocks, and none answered in time that does not.
    #[error("it is not known whether {what} is set, within {} s: an entry waits until it is due by the agent's clock; see `kvgossip status` for which clock is wrong, or ask another agent", after.as_secs_f64())]
    Early {
        /// What was asked for.
        what: String,
        /// The limit.
        after: Duration,
    },
    /// No agent answered in time that this client may ask.
    #[error("no agent told {what} within {} s; {message}", after.as_secs_f64())]
    NotAllowed {
        /// What was asked for.
        what: String,
        /// The limit.
        after: Duration,
        /// The stable code of the agent that was asked last.
        code: String,
        /// The same for people.
        message: String,
    },
    /// Fewer agents than were to be asked gave an answer that verifies.
    #[error("{answered} of {known} agents gave an answer that verifies, and {wanted} were to{}", last.as_ref().map(|last| format!("; {last}")).unwrap_or_default())]
    TooFew {
        /// How many were to answer.
        wanted: usize,
        /// How many the client knows.
        known: usize,
        /// How many did.
        answered: usize,
        /// What went wrong last.
        last: Option<String>,
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
    /// The value is longer than any entry's may be.
    #[error("the value has more than {MAX_VALUE_BYTES} bytes: store it in parts or elsewhere")]
    ValueTooLarge,
    /// The agent's clock is far ahead.
    #[error(
        "the agent's clock is more than 2 minutes ahead of this machine's: nothing was signed; set the one that is wrong"
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
            Self::FirstSync { .. } => FIRST_SYNC,
            Self::Early { .. } => Code::NotYet.as_str(),
            Self::TooFew { .. } => "client.too_few",
            Self::NotAllowed { code, .. }
            | Self::NotAuthorised { code, .. }
            | Self::NotTaken { code, .. } => code,
            Self::ValueTooLarge => Code::TooLarge.as_str(),
            Self::ClockSkew => "clock.skew",
            Self::ForeignCluster => "cluster.mismatch",
            Self::Signing => "internal",
            Self::Closed(_) => "client.closed",
        }
    }
}
