//! Errors between two replicas, with the side that caused each.

use crate::code::Code;
use crate::frame::FrameError;
use crate::offenders::ShutOut;
use kvgossip_grants::ReplicaId;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Maximum length of a reason received from a peer that is kept, in characters.
const MAX_REASON_LEN: usize = 200;

/// QUIC error numbers that carry TLS alerts (RFC 9001 section 4.8).
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;

/// Error of this crate. [`TransportError::code`] gives its stable code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The UDP socket could not be opened: the address is in use, or does not belong to this machine.
    #[error("cannot listen on UDP {address}: {source}")]
    Bind {
        /// Address to listen on for UDP.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// TLS or QUIC rejected this replica's own configuration.
    #[error("cannot set up QUIC: {0}")]
    Setup(String),
    /// The dial could not be started: QUIC rejected the address or the configuration, or has no connection ids
    /// left.
    #[error("cannot dial {address}: {reason}")]
    CannotDial {
        /// Address to dial.
        address: SocketAddr,
        /// Error of QUIC, as text.
        reason: String,
    },
    /// The peer did not answer, or did not finish the handshake in time.
    #[error("no handshake with {address} within {} s", limit.as_secs_f64())]
    HandshakeTimeout {
        /// Address of the peer.
        address: SocketAddr,
        /// Time limit of the handshake.
        limit: Duration,
    },
    /// This replica refuses the peer during the handshake.
    #[error("refused {}{address}: {reason}", peer.map(|id| format!("replica {id} at ")).unwrap_or_default())]
    Refused {
        /// Replica id of the peer; `None` if the peer did not prove its key.
        peer: Option<ReplicaId>,
        /// Address of the peer.
        address: SocketAddr,
        /// Code of the rule that the peer does not meet.
        code: Code,
        /// Details of the refusal, for the local log.
        reason: String,
    },
    /// The peer ended or refused the connection or the stream.
    #[error("the peer closed ({code}): {reason}")]
    ByPeer {
        /// Code that the peer gave, or that corresponds to the QUIC error that it sent.
        code: Code,
        /// Text that the peer gave, with control characters replaced, or a description of its QUIC error; may
        /// be empty.
        reason: String,
    },
    /// This side closed the connection, possibly in another task.
    #[error("the connection was closed here")]
    ClosedHere,
    /// The connection or stream was lost, for this reason: the peer fell silent or has restarted, or QUIC
    /// cannot go on.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// A session with this peer is running already on the connection.
    #[error("another session with this peer is under way")]
    Busy,
    /// The peer stalled, or was slower than the minimum rate, for too long.
    #[error("the peer made no progress worth {} s of waiting", limit.as_secs_f64())]
    TooSlow {
        /// Limit of the waiting time that bytes do not pay for;
        /// [`NO_PROGRESS_TIMEOUT`](crate::limits::NO_PROGRESS_TIMEOUT) by default.
        limit: Duration,
    },
    /// The peer kept the session going below the minimum rate, measured over the whole session.
    #[error("the peer trickled: in all its bytes left over {} s of waiting unpaid", grace.as_secs_f64())]
    Trickled {
        /// Limit of the waiting time of the whole session that its bytes do not pay for;
        /// [`SESSION_GRACE`](crate::limits::SESSION_GRACE) by default.
        grace: Duration,
    },
    /// The session was ended here in favour of a session with another peer.
    #[error("the session gave way to another peer's: it was the slowest")]
    GaveWay,
    /// The peer misbehaved and is shut out for a time.
    #[error("replica {} is shut out for {:.1} s more after its offence number {}, {}",
        .0.peer, .0.left.as_secs_f64(), .0.offences, .0.code)]
    ShutOut(ShutOut),
    /// The peer sent bytes that are not valid frames, or a frame of this side was invalid.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer broke a rule of the protocol other than those of framing.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// There is no room for another connection: the connection table, its part for pull-only peers, or the
    /// queue of accepted connections is full.
    #[error("no room for another connection: {limit} are open")]
    Full {
        /// Capacity that was reached, in connections.
        limit: usize,
    },
    /// No address of the peer is known at present.
    #[error("no address of the peer is known now")]
    NoAddress,
    /// Two running processes use this replica id's key, and the connection with the other process is kept, or
    /// neither.
    #[error("two running processes use the key of replica {peer}")]
    Cloned {
        /// Replica id that both processes use.
        peer: ReplicaId,
    },
    /// Another connection with this replica is kept instead of this one.
    #[error("another connection with replica {peer} stays")]
    Duplicate {
        /// Id of the replica at the other end.
        peer: ReplicaId,
    },
}

impl TransportError {
    /// Returns the stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Bind { .. } | Self::Setup(_) => Code::Internal,
            Self::CannotDial { .. } | Self::NoAddress => Code::CannotDial,
            Self::HandshakeTimeout { .. } => Code::HandshakeTimeout,
            Self::Refused { code, .. } | Self::ByPeer { code, .. } => *code,
            Self::ClosedHere => Code::Closed,
            Self::Lost(_) => Code::Lost,
            Self::Busy | Self::GaveWay => Code::Busy,
            Self::TooSlow { .. } | Self::Trickled { .. } => Code::TooSlow,
            Self::ShutOut(_) => Code::ShutOut,
            Self::Frame(FrameError::TooLarge { .. }) => Code::FrameTooLarge,
            Self::Frame(_) | Self::Protocol(_) => Code::Protocol,
            Self::Full { .. } => Code::Full,
            Self::Duplicate { .. } => Code::Duplicate,
            Self::Cloned { .. } => Code::Cloned,
        }
    }

    /// Returns whether the peer broke a rule or stalled, so that its connection is closed.
    pub(crate) fn is_offence(&self) -> bool {
        matches!(self, Self::TooSlow { .. }) || self.is_misbehaviour()
    }

    /// Returns whether no honest peer causes this error, so that the peer is shut out. Silence does not count:
    /// the link may be down.
    pub(crate) fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Trickled { .. } | Self::Frame(_) | Self::Protocol(_))
    }
}

impl From<quinn::ConnectionError> for TransportError {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => Self::ByPeer {
                code: Code::from_number(close.error_code.into_inner()),
                reason: printable(&close.reason),
            },
            E::ConnectionClosed(close) => {
                let number = u64::from(close.error_code);
                let code = Code::from_transport_error(number);
                // TLS describes every refusal in terms of certificates, whatever the peer's reason was.
                let reason = if TLS_ALERTS.contains(&number) {
                    code.meaning().to_owned()
                } else {
                    match code {
                        // QUIC sends no text with a refusal or an aborted handshake.
                        Code::Full => "it has too many handshakes pending, or is ending".to_owned(),
                        Code::Closed => "it gave the handshake up".to_owned(),
                        _ => printable(&close.reason),
                    }
                };
                Self::ByPeer { code, reason }
            }
            E::LocallyClosed => Self::ClosedHere,
            E::TimedOut => Self::Lost("the peer was silent for too long".into()),
            E::Reset => Self::Lost("the peer does not know the connection: it has restarted".into()),
            E::VersionMismatch => Self::ByPeer { code: Code::Incompatible, reason: "QUIC version".into() },
            E::TransportError(error) => Self::Protocol(error.to_string()),
            E::CidsExhausted => Self::Lost("connection ids are exhausted".into()),
        }
    }
}

impl From<quinn::ReadError> for TransportError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(code) => by_stream_code(code),
            quinn::ReadError::ConnectionLost(error) => error.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<quinn::WriteError> for TransportError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => by_stream_code(code),
            quinn::WriteError::ConnectionLost(error) => error.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// Returns the error for a peer that ended only the stream, with this code.
pub(crate) fn by_stream_code(number: quinn::VarInt) -> TransportError {
    match Code::from_number(number.into_inner()) {
        Code::Busy => TransportError::Busy,
        code => TransportError::ByPeer { code, reason: code.meaning().into() },
    }
}

/// Text received from a peer, limited in length and with control characters replaced for terminals and log
/// lines.
fn printable(reason: &[u8]) -> String {
    String::from_utf8_lossy(reason)
        .chars()
        .take(MAX_REASON_LEN)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_cannot_draw_on_the_terminal() {
        let words = printable(b"\x1b[31mred\nnext line\xff");
        assert!(words.chars().all(|c| !c.is_control()), "{words:?}");
        assert!(printable(&[b'x'; 5000]).len() <= MAX_REASON_LEN);
    }

    #[test]
    fn a_busy_peer_is_busy_and_no_offender() {
        assert!(matches!(by_stream_code(Code::Busy.var_int()), TransportError::Busy));
        assert!(!TransportError::Busy.is_offence());
        assert!(TransportError::from(FrameError::Empty).is_offence());
        assert_eq!(TransportError::from(FrameError::TooLarge { len: 9 }).code(), Code::FrameTooLarge);
    }
}
