//! LZW compression, compatible with Go's `compress/lzw`: least significant bit first, eight bits.

use weezl::{BitOrder, LzwStatus, decode::Decoder, encode::Encoder};

use super::{
    WireError,
    field::Field,
    memberlist::{Compress, kind},
};

const BITS: u8 = 8;
const CHUNK: usize = 16 * 1024;

/// Compresses an encoded message. Returns it with the type byte of [`Compress`], or `None` if it would not be
/// smaller.
pub fn compress(message: &[u8]) -> Option<Vec<u8>> {
    let buf = Encoder::new(BitOrder::Lsb, BITS).encode(message).ok()?;
    let mut out = vec![kind::COMPRESS];
    Field::encode(&Compress { algo: 0, buf }, &mut out);
    (out.len() < message.len()).then_some(out)
}

/// Decompresses the body of a compressed message. Fails with [`WireError::TooLarge`] if the result exceeds
/// `limit` bytes, with [`WireError::Decompress`] if the bytes are damaged or their algorithm is unknown.
pub fn decompress(message: &Compress, limit: usize) -> Result<Vec<u8>, WireError> {
    if message.algo != 0 {
        return Err(WireError::Decompress);
    }
    let mut decoder = Decoder::new(BitOrder::Lsb, BITS);
    let mut input = message.buf.as_slice();
    let mut out = Vec::new();
    let mut chunk = vec![0; CHUNK.min(limit.saturating_add(1))];
    loop {
        let step = decoder.decode_bytes(input, &mut chunk);
        input = input.get(step.consumed_in..).unwrap_or_default();
        if out.len() + step.consumed_out > limit {
            return Err(WireError::TooLarge("a decompressed message"));
        }
        out.extend_from_slice(chunk.get(..step.consumed_out).unwrap_or_default());
        match step.status {
            Ok(LzwStatus::Done) => return Ok(out),
            Ok(LzwStatus::Ok) if step.consumed_in > 0 || step.consumed_out > 0 => {}
            Ok(LzwStatus::Ok | LzwStatus::NoProgress) | Err(_) => return Err(WireError::Decompress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_limit() {
        let text = b"the quick brown fox jumps over the lazy dog, again and again and again. ".repeat(400);
        let packed = compress(&text).expect("text shrinks");
        let message = Compress::decode(&packed[1..]).expect("own bytes decode");
        assert_eq!(decompress(&message, text.len()).as_deref(), Ok(&text[..]));
        assert!(matches!(decompress(&message, text.len() - 1), Err(WireError::TooLarge(_))));
        assert_eq!(compress(b"short"), None);
    }
}
