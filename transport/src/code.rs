//! Stable error codes of this crate: a number for QUIC, and a name for logs, JSON and metrics.

use kvgossip_api::codes;
use std::fmt;

/// TLS alerts (RFC 8446 section 6). QUIC carries them as `0x100 + alert` (RFC 9001 section 4.8).
mod alert {
    pub(super) const HANDSHAKE_FAILURE: u8 = 40;
    pub(super) const BAD_CERTIFICATE: u8 = 42;
    pub(super) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(super) const CERTIFICATE_UNKNOWN: u8 = 46;
    pub(super) const ACCESS_DENIED: u8 = 49;
    pub(super) const DECRYPT_ERROR: u8 = 51;
    pub(super) const PROTOCOL_VERSION: u8 = 70;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
    pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

/// QUIC transport error numbers (RFC 9000 section 20.1).
mod quic {
    pub(super) const NO_ERROR: u64 = 0;
    pub(super) const INTERNAL_ERROR: u64 = 1;
    pub(super) const CONNECTION_REFUSED: u64 = 2;
    pub(super) const FLOW_CONTROL_ERROR: u64 = 3;
    /// The peer closed with an application error during the handshake: it gave up the handshake.
    pub(super) const APPLICATION_ERROR: u64 = 0xc;
    pub(super) const NO_VIABLE_PATH: u64 = 0x10;
}

macro_rules! codes {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// Reason why a connection or a session stream ended, or was never established.
        ///
        /// The numbers are QUIC application error codes, used in CONNECTION_CLOSE, RESET_STREAM and
        /// STOP_SENDING alike. The meaning of a number or name never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Code {
            /// All codes, in ascending order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Number of the code on the wire, as a QUIC application error code.
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)* }
            }

            /// Name of the code in logs, JSON, metrics and `docs/errors.md`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

codes! {
    Closed = 0x00, "connection.closed";
    Shutdown = 0x01, "shutdown";
    Internal = 0x02, "internal";
    Unknown = 0x03, "connection.unknown_code";

    NotAdmitted = 0x10, "peer.not_admitted";
    WrongId = 0x11, "peer.wrong_id";
    ForeignCluster = 0x12, "peer.foreign_cluster";
    BadKey = 0x13, "peer.bad_key";
    Incompatible = 0x14, "peer.incompatible";
    OwnKey = 0x15, "peer.own_key";
    Duplicate = 0x16, "peer.duplicate";
    Misbehaved = 0x17, "peer.misbehaved";
    Full = 0x18, "peer.full";
    HandshakeTimeout = 0x19, "peer.handshake_timeout";
    Lost = 0x1a, "connection.lost";
    CannotDial = 0x1b, "peer.cannot_dial";
    Cloned = 0x1c, "peer.cloned";
    ShutOut = 0x1d, "peer.shut_out";

    Busy = 0x20, "session.busy";
    Protocol = 0x21, "session.protocol";
    TooSlow = 0x22, "session.too_slow";
    FrameTooLarge = 0x23, "session.frame_too_large";
    Cancelled = 0x24, "session.cancelled";
    Version = 0x25, "session.version";
    Store = 0x26, "store.failed";
}

impl Code {
    /// Returns what the code means, in one sentence.
    pub fn meaning(self) -> &'static str {
        codes::find(self.name()).map_or(self.name(), |info| info.meaning)
    }

    /// Returns the code of an application error number received from a peer; [`Code::Unknown`] if this version
    /// does not know it.
    pub fn from_number(number: u64) -> Self {
        Self::ALL.iter().copied().find(|code| u64::from(code.number()) == number).unwrap_or(Self::Unknown)
    }

    /// Returns the code for a QUIC transport error number (RFC 9000 section 20.1) received from a peer.
    pub(crate) fn from_transport_error(number: u64) -> Self {
        let Some(alert) = number.checked_sub(0x100).and_then(|n| u8::try_from(n).ok()) else {
            return match number {
                quic::NO_ERROR | quic::APPLICATION_ERROR => Self::Closed,
                quic::INTERNAL_ERROR => Self::Internal,
                // The peer has too many handshakes pending.
                quic::CONNECTION_REFUSED => Self::Full,
                quic::FLOW_CONTROL_ERROR..=quic::NO_VIABLE_PATH => Self::Protocol,
                _ => Self::Incompatible,
            };
        };
        match alert {
            alert::ACCESS_DENIED => Self::NotAdmitted,
            alert::BAD_CERTIFICATE
            | alert::UNSUPPORTED_CERTIFICATE
            | alert::CERTIFICATE_UNKNOWN
            | alert::CERTIFICATE_REQUIRED
            | alert::DECRYPT_ERROR => Self::BadKey,
            alert::HANDSHAKE_FAILURE | alert::PROTOCOL_VERSION | alert::NO_APPLICATION_PROTOCOL => {
                Self::Incompatible
            }
            _ => Self::Incompatible,
        }
    }

    /// Number of the code in quinn's type.
    pub(crate) fn var_int(self) -> quinn::VarInt {
        quinn::VarInt::from_u32(self.number())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_names_are_unique_and_numbers_come_back() {
        let numbers: BTreeSet<_> = Code::ALL.iter().map(|c| c.number()).collect();
        let names: BTreeSet<_> = Code::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(numbers.len(), Code::ALL.len());
        assert_eq!(names.len(), Code::ALL.len());
        for &code in Code::ALL {
            assert_eq!(Code::from_number(code.number().into()), code);
        }
        assert_eq!(Code::from_number(0xffff), Code::Unknown);
    }

    /// Other programs match on these values, so a change here breaks them.
    #[test]
    fn the_numbers_and_names_of_the_design_stay() {
        for (code, number, name) in [
            (Code::NotAdmitted, 0x10, "peer.not_admitted"),
            (Code::WrongId, 0x11, "peer.wrong_id"),
            (Code::ForeignCluster, 0x12, "peer.foreign_cluster"),
            (Code::Busy, 0x20, "session.busy"),
            (Code::Protocol, 0x21, "session.protocol"),
            (Code::TooSlow, 0x22, "session.too_slow"),
            (Code::FrameTooLarge, 0x23, "session.frame_too_large"),
            (Code::Shutdown, 0x01, "shutdown"),
        ] {
            assert_eq!((code.number(), code.name()), (number, name));
        }
    }

    #[test]
    fn every_code_has_a_meaning() {
        for code in Code::ALL {
            assert_ne!(code.meaning(), code.name());
        }
    }

    #[test]
    fn a_refusal_by_tls_alert_has_a_name() {
        assert_eq!(Code::from_transport_error(0x131), Code::NotAdmitted);
        assert_eq!(Code::from_transport_error(0x178), Code::Incompatible);
        assert_eq!(Code::from_transport_error(0x174), Code::BadKey);
        assert_eq!(Code::from_transport_error(2), Code::Full);
        assert_eq!(
            Code::from_transport_error(0xc),
            Code::Closed,
            "a dialler that gives up is not incompatible"
        );
        assert_eq!(Code::from_transport_error(0xa), Code::Protocol);
        assert_eq!(Code::from_transport_error(u64::MAX), Code::Incompatible);
    }
}
