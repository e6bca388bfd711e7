//! What can go wrong between a client and an agent.

use crate::endpoint::Endpoint;
use kvgossip_api::codes;
use std::io;
use std::time::Duration;

/// Longest message of an agent that is kept, in characters.
pub const MAX_MESSAGE_CHARS: usize = 4096;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection came about. Nothing was asked.
    #[error("cannot reach {endpoint}: {source}")]
    Unreachable {
        /// The agent.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// TLS did not come about: nothing was asked.
    #[error("no TLS with {endpoint}: {reason}")]
    Tls {
        /// The agent.
        endpoint: Endpoint,
        /// What did not fit.
        reason: String,
    },
    /// The agent does not accept the certificate that was shown. Nothing was done.
    #[error("{endpoint} refuses the certificate that was shown: {reason}")]
    CertificateRefused {
        /// The agent.
        endpoint: Endpoint,
        /// What the agent said of it.
        reason: String,
    },
    /// Nothing was heard in time. The agent may have done what it was asked.
    #[error("the agent at {endpoint} did not answer within {} s", after.as_secs_f64())]
    Timeout {
        /// The agent.
        endpoint: Endpoint,
        /// The limit.
        after: Duration,
    },
    /// The connection broke. The agent may have done what it was asked.
    #[error("the connection to {endpoint} broke: {reason}")]
    Broken {
        /// The agent.
        endpoint: Endpoint,
        /// How.
        reason: String,
    },
    /// The agent said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// What happened and what to do, in the agent's words.
        message: String,
    },
    /// What answers is no agent, or one of another version.
    #[error("what answers at {endpoint} does not speak as a kvgossip agent: {reason}")]
    NotAnAgent {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// What was unexpected.
        reason: String,
    },
}

impl ClientError {
    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "agent.denied"
            }
            Self::Unreachable { .. } => "agent.unreachable",
            Self::Tls { .. } => "agent.tls",
            Self::CertificateRefused { .. } => "agent.client_certificate",
            Self::Timeout { .. } => "agent.timeout",
            Self::Broken { .. } => "agent.broken",
            Self::Refused { code, .. } => code,
            Self::NotAnAgent { .. } => "agent.unexpected",
        }
    }

    /// What to do; `None` where the agent's own message says it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Refused { .. } => None,
            _ => codes::advice(self.code()),
        }
    }
}
