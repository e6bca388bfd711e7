//! Datagrams: several messages in one, with checksum, compression, encryption and label.

use rand::Rng;

use super::{
    Framing, WireError, compress,
    memberlist::{Compress, Message, kind},
    msgpack::DecodeError,
};

/// Maximum number of bytes that all compressed parts of a packet together may decompress to. A packet carries
/// messages of about 1,400 bytes before compression; this is the size of the largest datagram. The limit covers
/// all parts together, because compressed parts can be nested in compressed compounds: a limit per part would
/// allow 255 to the power of the nesting depth.
pub const MAX_DECOMPRESSED: usize = 64 * 1024;
/// Maximum nesting of compound, compressed and checksummed packets. Agents use three levels.
pub const MAX_NESTING: usize = 6;
/// Maximum number of messages taken from one packet.
pub const MAX_MESSAGES: usize = 1024;
/// Number of bytes that a checksum adds to a packet: its type byte and the sum.
pub const CRC_OVERHEAD: usize = 5;
/// Number of bytes of a compound before the lengths of its messages; each message takes two more for its
/// length.
pub const COMPOUND_OVERHEAD: usize = 2;
/// Maximum number of messages in one compound, whose count is a byte.
pub const MAX_COMPOUND: usize = 255;

/// Contents of a received packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Messages that could be decoded, in the order of the packet.
    pub messages: Vec<Message>,
    /// Number of parts of compounds that could not be decoded.
    pub malformed: usize,
    /// Number of parts of compounds over a limit.
    pub too_large: usize,
}

/// Decodes a packet. A part of a compound that cannot be decoded does not affect the other parts; an `Err`
/// means that the whole packet is broken or of another cluster.
pub fn decode(framing: &Framing, packet: &[u8]) -> Result<Decoded, WireError> {
    let body = strip_label(framing, packet)?;
    let mut unfolding = Unfolding { decoded: Decoded::default(), room: MAX_DECOMPRESSED };
    match &framing.keyring {
        Some(ring) => unfolding.unfold(&ring.open(body, framing.label.as_bytes())?, MAX_NESTING)?,
        None => unfolding.unfold(body, MAX_NESTING)?,
    }
    Ok(unfolding.decoded)
}

fn strip_label<'a>(framing: &Framing, packet: &'a [u8]) -> Result<&'a [u8], WireError> {
    let header = framing.label_header();
    match packet.first() {
        Some(&kind::LABEL) if header.is_empty() => Err(WireError::Label),
        _ => packet.strip_prefix(header.as_slice()).ok_or(WireError::Label),
    }
}

/// Packet being decoded: its messages so far, and the remaining limits.
struct Unfolding {
    decoded: Decoded,
    /// Number of bytes that compressed parts of the packet may still decompress to.
    room: usize,
}

impl Unfolding {
    fn unfold(&mut self, bytes: &[u8], depth: usize) -> Result<(), WireError> {
        if depth == 0 {
            return Err(WireError::TooLarge("the nesting of a packet"));
        }
        if self.decoded.messages.len() >= MAX_MESSAGES {
            return Err(WireError::TooLarge("the number of messages in a packet"));
        }
        let (first, body) = bytes.split_first().ok_or(DecodeError::Truncated { needed: 1 })?;
        match *first {
            kind::HAS_CRC => {
                let (sum, body) = body.split_at_checked(4).ok_or(WireError::Checksum)?;
                if crc32fast::hash(body).to_be_bytes() != *sum {
                    return Err(WireError::Checksum);
                }
                self.unfold(body, depth - 1)
            }
            kind::COMPRESS => {
                let inner = compress::decompress(&Compress::decode(body)?, self.room).inspect_err(|_| {
                    // A failed attempt may have cost the whole allowance.
                    self.room = 0;
                })?;
                self.room -= inner.len();
                self.unfold(&inner, depth - 1)
            }
            kind::COMPOUND => self.unfold_compound(body, depth - 1),
            _ => {
                self.decoded.messages.push(Message::decode(bytes)?);
                Ok(())
            }
        }
    }

    fn unfold_compound(&mut self, body: &[u8], depth: usize) -> Result<(), WireError> {
        let (count, rest) = body.split_first().ok_or(DecodeError::Truncated { needed: 1 })?;
        let header = usize::from(*count) * 2;
        let (lengths, mut rest) =
            rest.split_at_checked(header).ok_or(DecodeError::Truncated { needed: header })?;
        for length in lengths.chunks_exact(2) {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let Some((part, tail)) = rest.split_at_checked(length) else {
                // The datagram is truncated; the messages before this point count.
                self.decoded.malformed += 1;
                return Ok(());
            };
            rest = tail;
            match self.unfold(part, depth) {
                Ok(()) => {}
                Err(WireError::TooLarge(_) | WireError::Decode(DecodeError::TooLarge(_))) => {
                    self.decoded.too_large += 1;
                }
                Err(_) => self.decoded.malformed += 1,
            }
        }
        Ok(())
    }
}

/// Encodes messages, each with its type byte, into one packet. It takes at most [`MAX_COMPOUND`] messages of at
/// most 65,535 bytes and omits the rest, so the caller must split.
pub fn encode(
    framing: &Framing,
    messages: &[Vec<u8>],
    crc: bool,
    rng: &mut impl Rng,
) -> Result<Vec<u8>, WireError> {
    let mut body = match messages {
        [one] => one.clone(),
        many => compound(many),
    };
    if framing.compress
        && let Some(smaller) = compress::compress(&body)
    {
        body = smaller;
    }
    // Encryption authenticates the packet, so the checksum is omitted, as agents do.
    if crc && framing.keyring.is_none() {
        let sum = crc32fast::hash(&body).to_be_bytes();
        body = [&[kind::HAS_CRC], &sum[..], &body].concat();
    }
    if let Some(ring) = &framing.keyring {
        body = ring.seal(&body, framing.label.as_bytes(), rng)?;
    }
    Ok([framing.label_header(), body].concat())
}

fn compound(messages: &[Vec<u8>]) -> Vec<u8> {
    let fitting: Vec<_> =
        messages.iter().filter(|m| m.len() <= usize::from(u16::MAX)).take(MAX_COMPOUND).collect();
    let mut out = vec![kind::COMPOUND, fitting.len() as u8];
    fitting.iter().for_each(|m| out.extend_from_slice(&(m.len() as u16).to_be_bytes()));
    fitting.iter().for_each(|m| out.extend_from_slice(m));
    out
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::wire::{
        crypto::{Key, Keyring},
        memberlist::{Nack, Suspect},
    };

    fn framings() -> Vec<Framing> {
        let ring = Keyring::new(Key::new(&[5; 32]).expect("a key"));
        let mut all = Vec::new();
        for label in ["", "blue"] {
            for keyring in [None, Some(ring.clone())] {
                for compress in [false, true] {
                    all.push(Framing { label: label.to_owned(), keyring: keyring.clone(), compress });
                }
            }
        }
        all
    }

    #[test]
    fn round_trip_in_every_framing_and_refused_by_others() {
        let mut rng = StdRng::seed_from_u64(2);
        let suspect =
            Suspect { from: "a".repeat(60).into(), incarnation: 70_000, node: "b".repeat(60).into() };
        let messages = vec![Message::Suspect(suspect), Message::Nack(Nack { seq_no: 3 })];
        let encoded: Vec<_> = messages.iter().map(Message::encode).collect();
        for framing in framings() {
            for crc in [false, true] {
                let packet = encode(&framing, &encoded, crc, &mut rng).expect("encodes");
                assert!(packet.len() <= 2 + encoded.concat().len() + 4 + framing.overhead());
                let decoded = decode(&framing, &packet).expect("decodes");
                assert_eq!(decoded, Decoded { messages: messages.clone(), ..Decoded::default() });
                for other in framings() {
                    if (&other.label, &other.keyring) != (&framing.label, &framing.keyring) {
                        let foreign = decode(&other, &packet);
                        assert!(foreign.is_err(), "{other:?} read a packet of {framing:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn damage_is_noticed_and_contained() {
        let framing = Framing::default();
        let mut rng = StdRng::seed_from_u64(3);
        let nack = Message::Nack(Nack { seq_no: 3 });
        let mut packet = encode(&framing, &[nack.encode()], true, &mut rng).expect("encodes");
        *packet.last_mut().expect("bytes") ^= 1;
        assert_eq!(decode(&framing, &packet), Err(WireError::Checksum));

        let packet = compound(&[nack.encode(), vec![99, 1, 2], nack.encode()]);
        let decoded = decode(&framing, &packet).expect("decodes");
        assert_eq!(
            decoded,
            Decoded { messages: vec![nack.clone(), nack.clone()], malformed: 1, too_large: 0 }
        );
        let cut = decode(&framing, &packet[..packet.len() - 1]).expect("decodes");
        assert_eq!(cut, Decoded { messages: vec![nack], malformed: 2, too_large: 0 });
    }

    #[test]
    fn nesting_is_bounded() {
        let mut packet = Message::Nack(Nack { seq_no: 3 }).encode();
        for _ in 0..MAX_NESTING {
            packet = compound(&[packet.clone()]);
        }
        let decoded = decode(&Framing::default(), &packet).expect("the outer levels are fine");
        assert_eq!(decoded, Decoded { messages: Vec::new(), malformed: 0, too_large: 1 });
    }

    /// Compressed parts in a compound: each alone stays within the limit, but together they would decompress to
    /// megabytes, and to a power of that with every level.
    #[test]
    fn nested_bombs_share_one_limit() {
        let nonsense = compound(&vec![vec![99]; 200]);
        let part = compress::compress(&[nonsense, vec![0; 40_000]].concat()).expect("zeros shrink");
        let packet = compound(&vec![part; 100]);
        assert!(packet.len() < 65_000, "{}", packet.len());
        let decoded = decode(&Framing::default(), &packet).expect("the outermost is fine");
        assert_eq!(decoded.messages, []);
        // Every decompressed invalid message is counted; those of one part were.
        assert_eq!((decoded.malformed, decoded.too_large), (200, 99));
    }
}
