//! The bytes of memberlist and Serf: codecs without I/O.
//!
//! Layers, from the outside: label, encryption, CRC, compression, compound, message; see [`packet`] for
//! datagrams and [`stream`] for TCP.
//!
//! One bad part does not spoil the others. Left out and counted, while all else is used, are: a message in a compound
//! packet, a member in a push/pull, a field, a member, an event or a list of events in Serf's part of a push/pull, a tag.
//! Names, tags and events are bytes, and none is bad for not being UTF-8: see [`text`].
//!
//! A whole packet or stream ends with its frame: label, key, checksum, compression, the lengths of a compound, limits on
//! all of it. A message ends with its msgpack: a marker that nothing begins with, a value that goes on behind the end,
//! nesting deeper than [`msgpack::MAX_DEPTH`] in what is skipped, more than [`msgpack::MAX_ELEMENTS`] elements, something
//! else than a map where it begins. In a compound that is one part; Serf's part of a push/pull is a message of its own, and
//! the members count without it. A push/pull ends, too, with a header that cannot be read or announces more than
//! [`stream::MAX_NODES`] members, and with a member whose msgpack does not hold: nobody knows what follows.

pub mod compress;
pub mod crypto;
pub mod field;
pub mod memberlist;
pub mod msgpack;
pub mod packet;
pub mod serf;
pub mod stream;
pub mod text;

#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod fixture_v2_tests;
#[cfg(test)]
pub(crate) mod fuzz_tests;

use crypto::Keyring;

pub use text::Text;

/// Longest label, in bytes: memberlist's own limit.
pub const MAX_LABEL_LEN: usize = 255;

/// Why bytes from the network are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes are not what the protocol has at this place.
    #[error(transparent)]
    Decode(#[from] msgpack::DecodeError),
    /// The sender belongs to another cluster, or to none.
    #[error("the label is not this cluster's")]
    Label,
    /// No key of the keyring opens it, or it is in clear although a keyring is set.
    #[error("not encrypted with a key of the keyring")]
    Decrypt,
    /// The checksum does not match.
    #[error("checksum mismatch")]
    Checksum,
    /// The compressed bytes are damaged, or of an unknown algorithm.
    #[error("cannot be decompressed")]
    Decompress,
    /// A named limit is exceeded.
    #[error("{0} is over its limit")]
    TooLarge(&'static str),
    /// The stream ended in the middle of a message.
    #[error("the stream ended too early")]
    Ended,
}

/// How many parts of a message were left out because they could not be used. The other parts were used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Parts that could not be understood.
    pub malformed: usize,
    /// Parts over a limit.
    pub too_large: usize,
}

impl Skipped {
    pub(crate) fn note(&mut self, error: &msgpack::DecodeError) {
        use msgpack::DecodeError::{TooDeep, TooLarge};
        match error {
            TooLarge(_) | TooDeep => self.too_large += 1,
            _ => self.malformed += 1,
        }
    }
}

/// How packets and streams are framed in this cluster.
#[derive(Debug, Clone, Default)]
pub struct Framing {
    /// A name in clear in front of everything, which keeps clusters apart; empty for none.
    pub label: String,
    /// Keys for encryption; without, everything is in clear.
    pub keyring: Option<Keyring>,
    /// Whether what is sent is compressed when that makes it smaller.
    pub compress: bool,
}

impl Framing {
    /// The label's bytes as they stand in front of a packet or stream.
    fn label_header(&self) -> Vec<u8> {
        let label = self.label.as_bytes();
        match u8::try_from(label.len()) {
            Ok(len) if len > 0 => [&[memberlist::kind::LABEL, len], label].concat(),
            _ => Vec::new(),
        }
    }

    /// Bytes that framing adds to the messages of a packet, at most.
    pub fn overhead(&self) -> usize {
        let crypto = if self.keyring.is_some() { crypto::OVERHEAD } else { 0 };
        self.label_header().len() + crypto + packet::CRC_OVERHEAD + packet::COMPOUND_OVERHEAD
    }
}
