//! Errors of reads and writes.

use crate::closed::Closed;
use crate::error::ClientError;
use kvgossip_api::FIRST_SYNC;
use kvgossip_grants::{Code, EntityId, Key, MAX_VALUE_BYTES};
use std::time::Duration;

/// Error of a read or a write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// No agent answered, or one refused the request: the error of the last agent that was asked.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// No verified answer arrived in time.
    #[error("no agent gave a verified answer for {what} within {} s; is one running, and of this cluster?", after.as_secs_f64())]
    NotReady {
        /// Key or filter that was requested.
        what: String,
        /// Time limit of the read, which ran out.
        after: Duration,
    },
    /// No agent that has ever been compared with a peer answered in time.
    #[error("no agent told {what} within {} s: those that answer were never compared with a peer, so what they lack says nothing", after.as_secs_f64())]
    FirstSync {
        /// Key or filter that was requested.
        what: String,
        /// Time limit of the read, which ran out.
        after: Duration,
    },
    /// The agents that answered hold back entries until they are due by their clocks, and no other answered in
    /// time.
    #[error("it is not known whether {what} is set, within {} s: an entry waits until it is due by the agent's clock; see `kvgossip status` for which clock is wrong, or ask another agent", after.as_secs_f64())]
    Early {
        /// Key or filter that was requested.
        what: String,
        /// Time limit of the read, which ran out.
        after: Duration,
    },
    /// No agent that this client may read from answered in time.
    #[error("no agent told {what} within {} s; {message}", after.as_secs_f64())]
    NotAllowed {
        /// Key or filter that was requested.
        what: String,
        /// Time limit of the read, which ran out.
        after: Duration,
        /// Stable code of the problem with the last agent that was asked.
        code: String,
        /// Problem with the last agent that was asked, as text for people.
        message: String,
    },
    /// Fewer agents than required gave an answer that verifies.
    #[error("{answered} of {known} agents gave an answer that verifies, and {wanted} were to{}", last.as_ref().map(|last| format!("; {last}")).unwrap_or_default())]
    TooFew {
        /// Number of agents required.
        wanted: usize,
        /// Number of agents that the client knows.
        known: usize,
        /// Number of agents whose answer verified; a replica that answers at two endpoints counts once.
        answered: usize,
        /// Last problem with an agent, as text for people; `None` if there was none.
        last: Option<String>,
    },
    /// The signer may not write the key.
    #[error("{entity} may not write {key}: {message}")]
    NotAuthorised {
        /// Entity that signs.
        entity: EntityId,
        /// Key to be written.
        key: Key,
        /// Stable code of why the chain of grants that gets furthest does not permit the write.
        code: String,
        /// Why the signer may not write the key, as text for people.
        message: String,
    },
    /// The agent did not accept the entry, or nothing was signed because the key needs a timestamp that is too
    /// far ahead (`entry.not_yet`).
    #[error("the agent did not take the entry: {message}")]
    NotTaken {
        /// Stable code of the agent's reason.
        code: String,
        /// The agent's reason, as text for people.
        message: String,
    },
    /// The value has more than `MAX_VALUE_BYTES` (1 MiB).
    #[error("the value has more than {MAX_VALUE_BYTES} bytes: store it in parts or elsewhere")]
    ValueTooLarge,
    /// The agent's clock is more than `MAX_AGENT_AHEAD_US` (2 minutes) ahead of this machine's. Nothing was
    /// signed.
    #[error(
        "the agent's clock is more than 2 minutes ahead of this machine's: nothing was signed; set the one that is wrong"
    )]
    ClockSkew,
    /// The agent belongs to another cluster than the client's root key. Nothing was signed.
    #[error("the agent belongs to another cluster: nothing was signed; check the endpoints and the root key")]
    ForeignCluster,
    /// The entry could not be signed: the cryptographic library failed, or the agent gave an invalid id of the
    /// grant to cite.
    #[error("signing failed")]
    Signing,
    /// The client was dropped.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl OpError {
    /// Returns the stable code of the error, such as `client.not_ready`.
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
