//! What can go wrong between a client and an agent.

use crate::endpoint::Endpoint;
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
        let info = Self::CODES.iter().find(|info| info.code == self.code());
        info.filter(|_| !matches!(self, Self::Refused { .. })).map(|info| info.advice)
    }

    /// The codes that [`ClientError::code`] gives of itself; others come from the agent.
    pub const CODES: &[CodeInfo] = &[
        CodeInfo {
            code: "agent.unreachable",
            meaning: "no agent answers",
            advice: "start one with `kvgossip agent`, or name another with --agent",
        },
        CodeInfo {
            code: "agent.denied",
            meaning: "the agent's socket may not be opened by this user",
            advice: "ask as the agent's user, or over TCP with --token-file",
        },
        CodeInfo {
            code: "agent.tls",
            meaning: "the agent's certificate is not accepted, or it does not speak TLS",
            advice: "give the certificate of its authority with --ca if the system does not know it, and name the agent as its certificate does",
        },
        CodeInfo {
            code: "agent.client_certificate",
            meaning: "the agent does not accept the certificate of --client-cert",
            advice: "show one that is valid and leads to the authority of the agent's --tls-client-ca",
        },
        CodeInfo {
            code: "agent.timeout",
            meaning: "the agent did not answer in time",
            advice: "it may still do what it was asked: look before trying again, or give it more time with --timeout",
        },
        CodeInfo {
            code: "agent.broken",
            meaning: "the connection broke before the answer was there",
            advice: "the agent may have done what it was asked: look before trying again",
        },
        CodeInfo {
            code: "agent.unexpected",
            meaning: "what answers is no kvgossip agent, or one of another version",
            advice: "check --agent and the agent's version",
        },
    ];
}

/// A stable code in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code.
    pub code: &'static str,
    /// What happened.
    pub meaning: &'static str,
    /// What to do.
    pub advice: &'static str,
}
