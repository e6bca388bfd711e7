//! Messages on a TCP stream, parsed incrementally.
//!
//! An unencrypted message has no length prefix, so its end is found by parsing. Each attempt that runs out of
//! input yields the minimum number of bytes for the next one, and complete parts (the node states of a
//! push/pull) are never parsed twice.

use rand::Rng;

use super::{
    Framing, MAX_LABEL_LEN, Skipped, WireError, compress,
    field::Field,
    memberlist::{Ack, Compress, ErrMessage, NodeState, Ping, PushPull, PushPullHeader, UserHeader, kind},
    msgpack::{DecodeError, Reader},
};

/// Maximum size of one message on a stream, in bytes; memberlist's own limit.
pub const MAX_MESSAGE: usize = 20 * 1024 * 1024;
/// Maximum size in bytes to which a message on a stream may decompress.
pub const MAX_DECOMPRESSED: usize = 40 * 1024 * 1024;
/// Maximum number of members in one push/pull.
pub const MAX_NODES: u64 = 256 * 1024;

/// Message that a stream carries; a stream has one in each direction at most.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is named for the message it holds")]
pub enum StreamMessage {
    Ping(Ping),
    Ack(Ack),
    PushPull(PushPull),
    /// Encoded message of the layer above, such as Serf.
    User(Vec<u8>),
    Err(ErrMessage),
}

impl StreamMessage {
    /// Encodes the message with its type byte, before framing.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Ping(m) => tagged(&mut out, kind::PING, m),
            Self::Ack(m) => tagged(&mut out, kind::ACK, m),
            Self::PushPull(m) => return m.encode(),
            Self::User(bytes) => {
                tagged(&mut out, kind::USER, &UserHeader { user_msg_len: bytes.len() as u64 });
                out.extend_from_slice(bytes);
            }
            Self::Err(m) => tagged(&mut out, kind::ERR, m),
        }
        out
    }
}

fn tagged(out: &mut Vec<u8>, kind: u8, message: &impl Field) {
    out.push(kind);
    message.encode(out);
}

/// Frames a message that starts a stream: with the label, and compressed and encrypted as `framing` says.
pub fn encode(framing: &Framing, message: &StreamMessage, rng: &mut impl Rng) -> Result<Vec<u8>, WireError> {
    Ok([framing.label_header(), encode_reply(framing, message, rng)?].concat())
}

/// Frames a response on a stream. Only the dialling side sends the label, but encryption authenticates the
/// label in both directions.
pub fn encode_reply(
    framing: &Framing,
    message: &StreamMessage,
    rng: &mut impl Rng,
) -> Result<Vec<u8>, WireError> {
    let mut body = message.encode();
    if framing.compress
        && let Some(smaller) = compress::compress(&body)
    {
        body = smaller;
    }
    if let Some(ring) = &framing.keyring {
        let len = u32::try_from(body.len() + super::crypto::OVERHEAD)
            .map_err(|_| WireError::TooLarge("a message to encrypt"))?;
        let mut sealed = vec![kind::ENCRYPT];
        sealed.extend_from_slice(&len.to_be_bytes());
        let aad = [&sealed[..], framing.label.as_bytes()].concat();
        sealed.extend(ring.seal(&body, &aad, rng)?);
        body = sealed;
    }
    Ok(body)
}

/// Incremental decoder of the one message that a side sends on a stream.
#[derive(Debug)]
pub struct StreamDecoder {
    framing: Framing,
    buf: Vec<u8>,
    /// Minimum length of the buffer, in bytes, for the next attempt to decode.
    needed: usize,
    label_done: bool,
    plain: PlainParser,
}

impl StreamDecoder {
    /// Creates a decoder for the dialling side's message.
    pub fn new(framing: Framing) -> Self {
        Self { framing, buf: Vec::new(), needed: 1, label_done: false, plain: PlainParser::default() }
    }

    /// Creates a decoder for the accepting side's response.
    pub fn for_reply(framing: Framing) -> Self {
        let mut decoder = Self::new(framing);
        // A response carries no label.
        decoder.label_done = true;
        decoder
    }

    /// Number of bytes received for an incomplete message.
    pub fn buffered(&self) -> usize {
        self.buf.len()
    }

    /// Adds bytes from the stream. Returns `Some` when the message is complete. After that, or after an error,
    /// the decoder must not be used again.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<StreamMessage>, WireError> {
        if self.buf.len() + bytes.len() > MAX_MESSAGE {
            return Err(WireError::TooLarge("a message on a stream"));
        }
        self.buf.extend_from_slice(bytes);
        if self.buf.len() < self.needed {
            return Ok(None);
        }
        match self.attempt() {
            Err(WireError::Decode(DecodeError::Truncated { needed })) => {
                if needed > MAX_MESSAGE {
                    return Err(WireError::TooLarge("a message on a stream"));
                }
                self.needed = needed.max(self.buf.len() + 1);
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(message) => Ok(Some(message)),
        }
    }

    fn attempt(&mut self) -> Result<StreamMessage, WireError> {
        if !self.label_done {
            self.strip_label()?;
        }
        if self.framing.keyring.is_some() {
            return complete(&self.decrypt()?, true);
        }
        match self.buf.first() {
            Some(&kind::COMPRESS) => complete(&self.buf, false),
            _ => self.plain.attempt(&self.buf, MAX_MESSAGE),
        }
    }

    fn strip_label(&mut self) -> Result<(), WireError> {
        let header = self.framing.label_header();
        if header.is_empty() && self.buf.first() == Some(&kind::LABEL) {
            return Err(WireError::Label);
        }
        let have = self.buf.len().min(header.len()).min(MAX_LABEL_LEN + 2);
        if self.buf[..have] != header[..have] {
            return Err(WireError::Label);
        }
        if self.buf.len() <= header.len() {
            return Err(DecodeError::Truncated { needed: header.len() + 1 }.into());
        }
        self.buf.drain(..header.len());
        self.label_done = true;
        Ok(())
    }

    fn decrypt(&self) -> Result<Vec<u8>, WireError> {
        let mut reader = Reader::new(&self.buf);
        if reader.take(1)?.first() != Some(&kind::ENCRYPT) {
            return Err(WireError::Decrypt);
        }
        let len = reader.take(4)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        if len > MAX_MESSAGE {
            return Err(WireError::TooLarge("a message on a stream"));
        }
        let sealed = reader.take(len)?;
        let aad = [&self.buf[..5], self.framing.label.as_bytes()].concat();
        self.framing.keyring.as_ref().ok_or(WireError::Decrypt)?.open(sealed, &aad)
    }
}

/// Parses a message. With `whole`, `bytes` is complete, and a message that needs more is an error; otherwise
/// more bytes may follow.
fn complete(bytes: &[u8], whole: bool) -> Result<StreamMessage, WireError> {
    let result = match bytes.split_first() {
        Some((&kind::COMPRESS, body)) => match Compress::decode(body) {
            // Plus one byte for the type, which this decoder did not see.
            Err(DecodeError::Truncated { needed }) => {
                Err(DecodeError::Truncated { needed: needed + 1 }.into())
            }
            Err(error) => Err(error.into()),
            Ok(packed) => {
                let inner = compress::decompress(&packed, MAX_DECOMPRESSED)?;
                let message = PlainParser::default().attempt(&inner, MAX_DECOMPRESSED);
                return message.map_err(ended);
            }
        },
        _ => PlainParser::default().attempt(bytes, MAX_MESSAGE),
    };
    if whole { result.map_err(ended) } else { result }
}

fn ended(error: WireError) -> WireError {
    match error {
        WireError::Decode(DecodeError::Truncated { .. }) => WireError::Ended,
        other => other,
    }
}

/// Parser of an unencrypted message. It keeps the parsed part of a push/pull between attempts.
#[derive(Debug, Default)]
struct PlainParser {
    header: Option<PushPullHeader>,
    nodes: Vec<NodeState>,
    skipped: Skipped,
    /// Offset in the bytes up to which header and members of a push/pull are parsed.
    done: usize,
}

impl PlainParser {
    /// Parses `bytes`: all bytes from the message's type byte on, which only grow between attempts. `limit`
    /// bounds the bytes of a user message or user state.
    fn attempt(&mut self, bytes: &[u8], limit: usize) -> Result<StreamMessage, WireError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.take(1)?.first().copied().unwrap_or_default();
        Ok(match kind {
            kind::PING => StreamMessage::Ping(Field::decode(&mut reader)?),
            kind::ACK => StreamMessage::Ack(Field::decode(&mut reader)?),
            kind::ERR => StreamMessage::Err(Field::decode(&mut reader)?),
            kind::USER => {
                let header = <UserHeader as Field>::decode(&mut reader)?;
                let len = checked_len(header.user_msg_len, limit)?;
                StreamMessage::User(reader.take(len)?.to_vec())
            }
            kind::PUSH_PULL => StreamMessage::PushPull(self.push_pull(reader, bytes, limit)?),
            other => return Err(DecodeError::UnknownType(other).into()),
        })
    }

    fn push_pull(
        &mut self,
        mut reader: Reader<'_>,
        bytes: &[u8],
        limit: usize,
    ) -> Result<PushPull, WireError> {
        let header = match &self.header {
            Some(header) => header.clone(),
            None => {
                let header = <PushPullHeader as Field>::decode(&mut reader)?;
                if header.nodes > MAX_NODES {
                    return Err(WireError::TooLarge("the number of members"));
                }
                self.done = reader.position();
                self.header.insert(header).clone()
            }
        };
        while self.taken() < header.nodes {
            let mut node = Reader::new(bytes.get(self.done..).unwrap_or_default());
            match NodeState::read(&mut node).map_err(|error| shifted(error, self.done))? {
                Ok(state) => self.nodes.push(state),
                Err(error) => self.skipped.note(&error),
            }
            self.done += node.position();
        }
        let len = checked_len(header.user_state_len, limit)?;
        let mut tail = Reader::new(bytes.get(self.done..).unwrap_or_default());
        let user_state = tail.take(len).map_err(|error| shifted(error, self.done))?.to_vec();
        let nodes = std::mem::take(&mut self.nodes);
        Ok(PushPull { join: header.join, nodes, user_state, skipped: self.skipped })
    }

    /// Number of members parsed so far, including those skipped.
    fn taken(&self) -> u64 {
        (self.nodes.len() + self.skipped.malformed + self.skipped.too_large) as u64
    }
}

fn checked_len(len: u64, limit: usize) -> Result<usize, WireError> {
    usize::try_from(len)
        .ok()
        .filter(|len| *len <= limit)
        .ok_or(WireError::TooLarge("a user message on a stream"))
}

/// Adjusts the error of a reader that started at `offset`, so that it refers to the whole input.
fn shifted(error: DecodeError, offset: usize) -> WireError {
    match error {
        DecodeError::Truncated { needed } => {
            DecodeError::Truncated { needed: needed.saturating_add(offset) }.into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::wire::crypto::{Key, Keyring};

    fn push_pull(nodes: usize) -> StreamMessage {
        let nodes = (0..nodes)
            .map(|n| NodeState {
                name: format!("member-{n}").into(),
                addr: vec![127, 0, 0, 1],
                port: 7946,
                ..NodeState::default()
            })
            .collect();
        let skipped = Skipped::default();
        StreamMessage::PushPull(PushPull { join: true, nodes, user_state: vec![2; 300], skipped })
    }

    fn read(framing: &Framing, bytes: &[u8], chunk: usize) -> Result<Option<StreamMessage>, WireError> {
        let mut decoder = StreamDecoder::new(framing.clone());
        for part in bytes.chunks(chunk) {
            if let Some(message) = decoder.push(part)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    #[test]
    fn any_cut_in_any_framing() {
        let mut rng = StdRng::seed_from_u64(4);
        let ring = Keyring::new(Key::new(&[5; 24]).expect("a key"));
        let messages = [
            push_pull(40),
            push_pull(0),
            StreamMessage::Ping(Ping { node: "x".into(), seq_no: 300, ..Ping::default() }),
            StreamMessage::Ack(Ack { payload: None, seq_no: 300 }),
            StreamMessage::User(vec![4; 2000]),
            StreamMessage::Err(ErrMessage { error: "no".into() }),
        ];
        for label in ["", "blue"] {
            for keyring in [None, Some(ring.clone())] {
                for compress in [false, true] {
                    let framing = Framing { label: label.into(), keyring: keyring.clone(), compress };
                    for message in &messages {
                        let bytes = encode(&framing, message, &mut rng).expect("encodes");
                        for chunk in [1, 2, 7, 64, bytes.len()] {
                            assert_eq!(read(&framing, &bytes, chunk), Ok(Some(message.clone())));
                        }
                        assert_eq!(read(&framing, &bytes[..bytes.len() - 1], 50), Ok(None), "cut short");
                        let reply = encode_reply(&framing, message, &mut rng).expect("encodes");
                        assert_eq!(reply.len() + framing.label_header().len(), bytes.len());
                        let read = StreamDecoder::for_reply(framing.clone()).push(&reply);
                        assert_eq!(read, Ok(Some(message.clone())));
                    }
                }
            }
        }
    }

    #[test]
    fn foreign_streams_are_refused_early() {
        let keyed =
            Framing { keyring: Some(Keyring::new(Key::new(&[5; 16]).expect("a key"))), ..Framing::default() };
        let plain =
            encode(&Framing::default(), &push_pull(3), &mut StdRng::seed_from_u64(5)).expect("encodes");
        assert_eq!(read(&keyed, &plain, 1), Err(WireError::Decrypt));
        assert_eq!(read(&Framing::default(), &[kind::LABEL, 1, b'x', 0], 1), Err(WireError::Label));
        let labelled = Framing { label: "blue".into(), ..Framing::default() };
        assert_eq!(read(&labelled, &plain, 1), Err(WireError::Label));
    }

    #[test]
    fn claimed_lengths_are_not_believed() {
        let mut huge = vec![kind::PUSH_PULL];
        let header = PushPullHeader { join: false, nodes: 5, user_state_len: u64::MAX };
        Field::encode(&header, &mut huge);
        assert_eq!(read(&Framing::default(), &huge, 1), Ok(None), "nodes come first");
        let header = PushPullHeader { nodes: 0, ..header };
        let mut huge = vec![kind::PUSH_PULL];
        Field::encode(&header, &mut huge);
        assert!(matches!(read(&Framing::default(), &huge, 1), Err(WireError::TooLarge(_))));
        let long = [kind::COMPRESS, 0x82, 0xa3, b'B', b'u', b'f', 0xdb, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read(&Framing::default(), &long, 1), Err(WireError::TooLarge(_))));
    }
}
