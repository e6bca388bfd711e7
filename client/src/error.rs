//! Errors between a client and an agent.

use crate::endpoint::Endpoint;
use kvgossip_api::codes;
use std::io;
use std::time::Duration;

/// Maximum length of an agent's message that is kept, in characters.
pub const MAX_MESSAGE_CHARS: usize = 4096;

/// Error of a request to an agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection could be established; no request was sent.
    #[error("cannot reach {endpoint}: {source}")]
    Unreachable {
        /// The agent's endpoint.
        endpoint: Endpoint,
        /// Error of the operating system.
        source: io::Error,
    },
    /// TLS could not be established; no request was sent.
    #[error("no TLS with {endpoint}: {reason}")]
    Tls {
        /// The agent's endpoint.
        endpoint: Endpoint,
        /// Why TLS could not be established, as text for people.
        reason: String,
    },
    /// The agent rejects the client certificate; the request had no effect.
    #[error("{endpoint} refuses the certificate that was shown: {reason}")]
    CertificateRefused {
        /// The agent's endpoint.
        endpoint: Endpoint,
        /// The agent's reason.
        reason: String,
    },
    /// No answer arrived in time. The request may have taken effect.
    #[error("the agent at {endpoint} did not answer within {} s", after.as_secs_f64())]
    Timeout {
        /// The agent's endpoint.
        endpoint: Endpoint,
        /// Time limit of the request, which ran out.
        after: Duration,
    },
    /// The connection broke. The request may have taken effect.
    #[error("the connection to {endpoint} broke: {reason}")]
    Broken {
        /// The agent's endpoint.
        endpoint: Endpoint,
        /// How the connection broke, as text for people.
        reason: String,
    },
    /// The agent refused the request.
    #[error("{message}")]
    Refused {
        /// HTTP status of the agent's answer.
        status: u16,
        /// Stable code of the error, as in the agent's answer.
        code: String,
        /// The agent's message: what happened and what to do.
        message: String,
    },
    /// The server is not a kvgossip agent, or one of another version.
    #[error("what answers at {endpoint} does not speak as a kvgossip agent: {reason}")]
    NotAnAgent {
        /// Endpoint that was asked.
        endpoint: Endpoint,
        /// The unexpected part of the answer.
        reason: String,
    },
}

impl ClientError {
    /// Returns the stable code of the error, such as `agent.unreachable`; for [`ClientError::Refused`] it is
    /// the agent's.
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

    /// Returns what to do; `None` if the agent's own message says it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Refused { .. } => None,
            _ => codes::advice(self.code()),
        }
    }
}
