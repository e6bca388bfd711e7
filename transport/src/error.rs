//! What can go wrong between two replicas, and whose doing it was.

use crate::code::Code;
use crate::frame::FrameError;
use crate::offenders::ShutOut;
use kvgossip_grants::ReplicaId;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Longest reason of a peer that is kept, in characters.
const MAX_REASON_LEN: usize = 200;

/// QUIC's error numbers for alerts of TLS (RFC 9001, section 4.8).
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;

/// Every failure of this crate. [`TransportError::code`] names it for programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The UDP socket could not be opened: the address is in use, or not this machine's.
    #[error("cannot listen on UDP {address}: {source}")]
    Bind {
        /// Where the endpoint was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS or QUIC would not take this replica's own settings.
    #[error("cannot set up QUIC: {0}")]
    Setup(String),
    /// The dial could not even begin.
    #[error("cannot dial {address}: {reason}")]
    CannotDial {
        /// Whom it was to reach.
        address: SocketAddr,
        /// What is wrong with that.
        reason: String,
    },
    /// Nothing answered, or not to the end.
    #[error("no handshake with {address} within {} s", limit.as_secs_f64())]
    HandshakeTimeout {
        /// The peer's address.
        address: SocketAddr,
        /// The limit that was reached.
        limit: Duration,
    },
    /// This replica will not talk to that peer.
    #[error("refused {}{address}: {reason}", peer.map(|id| format!("replica {id} at ")).unwrap_or_default())]
    Refused {
        /// Who it is, where that was shown.
        peer: Option<ReplicaId>,
        /// The peer's address.
        address: SocketAddr,
        /// Which rule it failed.
        code: Code,
        /// The details.
        reason: String,
    },
    /// The peer ended the connection or the stream.
    #[error("the peer closed ({code}): {reason}")]
    ByPeer {
        /// What it gave as the reason.
        code: Code,
        /// Its words, made safe to print; it may have sent none.
        reason: String,
    },
    /// This side ended the connection, maybe in another task.
    #[error("the connection was closed here")]
    ClosedHere,
    /// The peer was not heard any more, or has restarted.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// A session with that peer is under way.
    #[error("another session with this peer is under way")]
    Busy,
    /// The peer stalled, or was slower than the minimum rate.
    #[error("the peer made no progress worth {} s of waiting", limit.as_secs_f64())]
    TooSlow {
        /// The limit that was reached.
        limit: Duration,
    },
    /// The peer kept the session going with less than the minimum rate, seen over the whole session.
    #[error("the peer trickled: in all its bytes left over {} s of waiting unpaid", grace.as_secs_f64())]
    Trickled {
        /// The limit that was reached.
        grace: Duration,
    },
    /// The session ended here to give way to another one.
    #[error("the session gave way to another peer's: it was the slowest")]
    GaveWay,
    /// The peer misbehaved, and is not talked with for a time.
    #[error("replica {} is shut out for {:.1} s more after its offence number {}, {}",
        .0.peer, .0.left.as_secs_f64(), .0.offences, .0.code)]
    ShutOut(ShutOut),
    /// The peer's bytes are no frames, or a frame of this side's was none.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer broke the protocol in another way.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The table has no room.
    #[error("no room for another connection: {limit} are open")]
    Full {
        /// The limit that was reached.
        limit: usize,
    },
    /// No address of the peer is known now.
    #[error("no address of the peer is known now")]
    NoAddress,
    /// Two running processes use the peer's key, and the connection with one of them stays.
    #[error("two running processes use the key of replica {peer}")]
    Cloned {
        /// The replica.
        peer: ReplicaId,
    },
    /// Another connection between the same replicas stays.
    #[error("another connection with replica {peer} stays")]
    Duplicate {
        /// The other replica.
        peer: ReplicaId,
    },
}

impl TransportError {
    /// The stable code of this error.
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

    /// Whether the peer broke a rule, so that its connection must go.
    pub(crate) fn is_offence(&self) -> bool {
        matches!(self, Self::TooSlow { .. }) || self.is_misbehaviour()
    }

    /// Whether no honest peer does that, so that it is shut out. Silence is none: the line may be cut.
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
                // TLS speaks of certificates, whatever it was that the peer refused.
                let reason = if TLS_ALERTS.contains(&number) {
                    code.meaning().to_owned()
                } else {
                    match code {
                        // QUIC refuses and gives up without words.
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

/// A peer that ended only the stream.
pub(crate) fn by_stream_code(number: quinn::VarInt) -> TransportError {
    match Code::from_number(number.into_inner()) {
        Code::Busy => TransportError::Busy,
        code => TransportError::ByPeer { code, reason: code.meaning().into() },
    }
}

/// Words of a peer, fit for a terminal and a log line.
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
