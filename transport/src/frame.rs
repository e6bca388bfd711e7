//! Length-prefixed frames on a byte stream: the length as unsigned LEB128, then that many bytes.
//!
//! A length is at least 1 (a message begins with its kind), at most [`MAX_FRAME_BYTES`], and must be in its
//! shortest encoding, so that equal messages have equal bytes. This module does no I/O.

use crate::limits::{MAX_FRAME_BYTES, READ_CHUNK};
use bytes::{Buf, Bytes};
use kvgossip_grants::varint;

/// Maximum header length that is read, in bytes; [`MAX_FRAME_BYTES`] needs three.
const MAX_HEADER_LEN: usize = 4;

/// Error in a frame, received or to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame's length exceeds [`MAX_FRAME_BYTES`].
    #[error("a frame of {len} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge {
        /// Announced length of the frame in bytes, as far as the header has been read.
        len: u64,
    },
    /// The frame has length 0: it lacks even the message kind.
    #[error("a frame is empty")]
    Empty,
    /// The header does not encode the frame's length in the fewest bytes.
    #[error("a frame's length is not in its shortest form")]
    NotShortest,
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
}

/// Encodes the header of a frame of `len` bytes.
pub fn frame_header(len: usize) -> Result<Bytes, FrameError> {
    if len == 0 {
        return Err(FrameError::Empty);
    }
    if len > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { len: len as u64 });
    }
    Ok(Bytes::copy_from_slice(varint::encode(len as u64).as_ref()))
}

/// Incremental decoder that splits a stream into frames, for input chunks of any size.
///
/// Memory: the received part of one frame plus at most [`READ_CHUNK`]. After an error the decoder returns that
/// error for all further input.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    state: State,
}

#[derive(Debug)]
enum State {
    Header(varint::Decoder),
    Body { len: usize, body: Vec<u8> },
    Failed(FrameError),
}

impl Default for State {
    fn default() -> Self {
        Self::Header(varint::Decoder::default())
    }
}

impl FrameDecoder {
    /// Consumes bytes of `input` until a frame is complete or `input` is empty.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, FrameError> {
        self.step(input).inspect_err(|&error| self.state = State::Failed(error))
    }

    /// Returns whether the stream may end after the bytes so far: no frame is incomplete.
    pub fn at_boundary(&self) -> bool {
        matches!(&self.state, State::Header(header) if header.taken() == 0)
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, FrameError> {
        loop {
            match &mut self.state {
                State::Header(header) => {
                    if !input.has_remaining() {
                        return Ok(None);
                    }
                    if let Some(len) = header_byte(header, input.get_u8())? {
                        self.state = State::Body { len, body: Vec::new() };
                    }
                }
                State::Body { len, body } => {
                    let part = input.split_to(input.len().min(*len - body.len()));
                    append(body, &part, *len);
                    if body.len() < *len {
                        return Ok(None);
                    }
                    let frame = std::mem::take(body);
                    self.state = State::default();
                    return Ok(Some(frame.into()));
                }
                State::Failed(error) => return Err(*error),
            }
        }
    }
}

/// Adds one byte of a frame's header. Returns the frame's length once the header is complete.
fn header_byte(header: &mut varint::Decoder, byte: u8) -> Result<Option<usize>, FrameError> {
    match header.push(byte) {
        Err(_) => Err(FrameError::NotShortest),
        Ok(None) if header.taken() == MAX_HEADER_LEN => Err(FrameError::TooLarge { len: header.value() }),
        Ok(None) => Ok(None),
        Ok(Some(0)) => Err(FrameError::Empty),
        Ok(Some(len)) => match usize::try_from(len) {
            Ok(len) if len <= MAX_FRAME_BYTES => Ok(Some(len)),
            _ => Err(FrameError::TooLarge { len }),
        },
    }
}

/// Appends a part of a frame of `len` bytes, without reserving more than one chunk beyond the bytes received.
fn append(body: &mut Vec<u8>, part: &[u8], len: usize) {
    if body.capacity() - body.len() < part.len() {
        let missing = len - body.len();
        body.reserve_exact(missing.min(part.len() + READ_CHUNK));
    }
    body.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        [frame_header(body.len()).unwrap().as_ref(), body].concat()
    }

    fn decode(decoder: &mut FrameDecoder, bytes: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        let mut input = Bytes::copy_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.feed(&mut input)? {
            frames.push(frame);
        }
        assert!(input.is_empty());
        Ok(frames)
    }

    #[test]
    fn headers_are_the_shortest_leb128() {
        for (len, header) in [
            (1, &[0x01][..]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (16_384, &[0x80, 0x80, 0x01]),
            (MAX_FRAME_BYTES, &[0x80, 0xa0, 0x40]),
        ] {
            assert_eq!(frame_header(len).unwrap(), header, "{len}");
        }
        assert_eq!(frame_header(0), Err(FrameError::Empty));
        assert!(matches!(frame_header(MAX_FRAME_BYTES + 1), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn bad_headers_are_refused_and_stay_refused() {
        for (bytes, error) in [
            (&[0x00][..], FrameError::Empty),
            (&[0x81, 0x00], FrameError::NotShortest),
            (&[0x80, 0x00], FrameError::NotShortest),
            (&[0x81, 0xa0, 0x40], FrameError::TooLarge { len: MAX_FRAME_BYTES as u64 + 1 }),
            (&[0xff, 0xff, 0xff, 0x7f], FrameError::TooLarge { len: (1 << 28) - 1 }),
            (&[0xff, 0xff, 0xff, 0xff], FrameError::TooLarge { len: (1 << 28) - 1 }),
        ] {
            let mut decoder = FrameDecoder::default();
            assert_eq!(decoder.feed(&mut Bytes::from_static(bytes)), Err(error));
            assert_eq!(decoder.feed(&mut Bytes::from_static(&[1, 1])), Err(error));
            assert!(!decoder.at_boundary());
        }
    }

    #[test]
    fn the_largest_frame_passes() {
        let body = vec![7; MAX_FRAME_BYTES];
        assert_eq!(decode(&mut FrameDecoder::default(), &frame(&body)), Ok(vec![body.into()]));
    }

    /// A peer that announces a long frame and sends little of it must cost little memory.
    #[test]
    fn memory_follows_what_has_arrived() {
        let mut decoder = FrameDecoder::default();
        assert_eq!(decoder.feed(&mut frame_header(MAX_FRAME_BYTES).unwrap()), Ok(None));
        for arrived in 1..=3 * READ_CHUNK {
            assert_eq!(decoder.feed(&mut Bytes::from_static(&[9])), Ok(None));
            let State::Body { body, .. } = &decoder.state else { panic!("inside a frame") };
            assert_eq!(body.len(), arrived);
            assert!(body.capacity() <= arrived + READ_CHUNK, "{} for {arrived}", body.capacity());
        }
    }

    proptest! {
        #[test]
        fn any_chopping_gives_the_same_frames(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 0..12),
            cuts in prop::collection::vec(1usize..200, 1..40),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
            let mut decoder = FrameDecoder::default();
            let mut frames = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (part, tail) = rest.split_at(cut.min(rest.len()));
                frames.extend(decode(&mut decoder, part).unwrap());
                rest = tail;
            }
            prop_assert_eq!(frames, bodies.into_iter().map(Bytes::from).collect::<Vec<_>>());
            prop_assert!(decoder.at_boundary());
        }

        #[test]
        fn any_bytes_are_frames_or_one_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = FrameDecoder::default();
            let mut input = Bytes::from(bytes.clone());
            let mut seen = Vec::new();
            while let Ok(Some(body)) = decoder.feed(&mut input) {
                seen.extend(frame(&body));
            }
            // The decoded frames, encoded again, are a prefix of the input: the encoding is unique.
            prop_assert!(bytes.starts_with(&seen));
        }
    }
}
