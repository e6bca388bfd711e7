//! Wire formats of memberlist and Serf: codecs without I/O.
//!
//! Layers, from the outside in: label, encryption, CRC, compression, compound, message. See [`packet`] for
//! datagrams and [`stream`] for TCP.
//!
//! One bad part does not spoil the others. These parts are skipped and counted, while the rest is used: a
//! message in a compound packet; a member in a push/pull; a field, a member, an event or an event list in
//! Serf's part of a push/pull; a tag. Names, tags and events are arbitrary bytes that need not be UTF-8: see
//! [`text`].
//!
//! A whole packet or stream is rejected if its frame is bad: label, key, checksum, compression, the lengths of
//! a compound, or a limit on the whole. A message is rejected if its msgpack is bad: an unknown marker, a value
//! that exceeds the input, nesting deeper than [`msgpack::MAX_DEPTH`] in a skipped value, more than
//! [`msgpack::MAX_ELEMENTS`] elements, or anything but a map at its start. In a compound that is one part.
//! Serf's part of a push/pull is a message of its own, and the members count without it. A push/pull is also
//! rejected if its header cannot be decoded or announces more than [`stream::MAX_NODES`] members, or if a
//! member's msgpack is broken, because the end of that member is then unknown.

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

/// Maximum length of a label in bytes; memberlist's own limit.
pub const MAX_LABEL_LEN: usize = 255;

/// Error of decoding a packet or stream from the network, or of encoding one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes are not valid messages of the protocol, or exceed a limit of its decoder.
    #[error(transparent)]
    Decode(#[from] msgpack::DecodeError),
    /// The label is another cluster's, is missing, or is there although this cluster has none.
    #[error("the label is not this cluster's")]
    Label,
    /// No key of the keyring decrypts the packet or stream, or it is not encrypted although a keyring is set.
    #[error("not encrypted with a key of the keyring")]
    Decrypt,
    /// The checksum of the packet does not match its contents.
    #[error("checksum mismatch")]
    Checksum,
    /// The compressed bytes are damaged, or use an unknown algorithm.
    #[error("cannot be decompressed")]
    Decompress,
    /// Something is larger, longer or nested deeper than allowed; the string names it, such as `a message on a
    /// stream`.
    #[error("{0} is over its limit")]
    TooLarge(&'static str),
    /// An encrypted or compressed message on a stream is complete, but its content ends too early.
    #[error("the stream ended too early")]
    Ended,
}

/// Numbers of parts of one message that were skipped because they could not be used; the message's remaining
/// parts were used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Number of parts that could not be decoded.
    pub malformed: usize,
    /// Number of parts over a limit.
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

/// Framing of all packets and streams of a cluster; its members need one label and a common key.
#[derive(Debug, Clone, Default)]
pub struct Framing {
    /// Cluster label, at most 255 bytes, sent unencrypted at the start of each packet and stream; it keeps
    /// clusters apart. Empty for none.
    pub label: String,
    /// Keys for encryption and decryption; `None` disables both.
    pub keyring: Option<Keyring>,
    /// Whether to compress sent messages if that makes them smaller. Received ones may be compressed either
    /// way.
    pub compress: bool,
}

impl Framing {
    /// Encodes the label as the header of a packet or stream; empty without a label.
    fn label_header(&self) -> Vec<u8> {
        let label = self.label.as_bytes();
        match u8::try_from(label.len()) {
            Ok(len) if len > 0 => [&[memberlist::kind::LABEL, len], label].concat(),
            _ => Vec::new(),
        }
    }

    /// Maximum number of bytes that label, encryption, checksum and compound header add to the messages of a
    /// packet.
    pub fn overhead(&self) -> usize {
        let crypto = if self.keyring.is_some() { crypto::OVERHEAD } else { 0 };
        self.label_header().len() + crypto + packet::CRC_OVERHEAD + packet::COMPOUND_OVERHEAD
    }
}
