//! Splits a stream of msgpack values into single ones, without interpreting them.

use crate::wire::msgpack::{DecodeError, Reader};

/// Number of consumed bytes in the buffer from which on it is compacted.
const SLACK: usize = 16 * 1024;

/// Splits received bytes into msgpack values. Every byte is inspected once, whatever the chunk size.
#[derive(Debug)]
pub(super) struct Decoder {
    buf: Vec<u8>,
    /// Offset in the buffer of the start of the next value.
    start: usize,
    /// Offset in the buffer up to which the next value has been inspected.
    looked: usize,
    /// Number of msgpack values, including nested ones, still needed to complete the next value.
    open: usize,
    max_bytes: usize,
    max_values: usize,
}

impl Decoder {
    pub(super) fn new(max_bytes: usize, max_values: usize) -> Self {
        Self { buf: Vec::new(), start: 0, looked: 0, open: 1, max_bytes, max_values }
    }

    /// Adds bytes that were read from the client. The caller calls [`Decoder::next`] until it returns `None`
    /// before adding more.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buf.len() || self.start >= SLACK {
            self.buf.drain(..self.start);
            self.looked -= self.start;
            self.start = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// Number of bytes kept for the next value, which is incomplete.
    pub(super) fn waiting(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Returns the bytes of the next value; `None` if it is incomplete. An error is permanent.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, DecodeError> {
        while self.open > 0 {
            let mut reader = Reader::new(self.buf.get(self.looked..).unwrap_or_default());
            let (bytes, values) = match reader.step() {
                Ok(step) => step,
                Err(DecodeError::Truncated { .. }) => return self.room_for(1),
                Err(error) => return Err(error),
            };
            if reader.take(bytes).is_err() {
                return self.room_for(reader.position().saturating_add(bytes));
            }
            self.looked += reader.position();
            self.open = (self.open - 1).saturating_add(values);
            if self.open > self.max_values {
                return Err(DecodeError::TooLarge("the number of values"));
            }
        }
        self.check(self.looked - self.start)?;
        let begin = std::mem::replace(&mut self.start, self.looked);
        self.open = 1;
        Ok(self.buf.get(begin..self.looked))
    }

    /// Fails if the next value with `more` further bytes would exceed the limit; otherwise returns `None`.
    fn room_for(&self, more: usize) -> Result<Option<&[u8]>, DecodeError> {
        self.check((self.looked - self.start).saturating_add(more))?;
        Ok(None)
    }

    fn check(&self, bytes: usize) -> Result<(), DecodeError> {
        if bytes > self.max_bytes { Err(DecodeError::TooLarge("a request")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder() -> Decoder {
        Decoder::new(32, 8)
    }

    #[test]
    fn values_are_cut_wherever_they_are_torn() {
        let values: [&[u8]; 5] = [
            &[0x81, 0xa1, b'a', 0x92, 1, 0xc0],
            &[0x05],
            &[0xc4, 3, 1, 2, 3],
            &[0xde, 0, 1, 0xa1, b'x', 0xcd, 1, 0],
            &[0x80],
        ];
        let all = values.concat();
        for size in 1..=all.len() {
            let (mut decoder, mut seen) = (decoder(), Vec::new());
            for chunk in all.chunks(size) {
                decoder.push(chunk);
                while let Some(value) = decoder.next().expect("good values") {
                    seen.push(value.to_vec());
                }
            }
            assert_eq!(seen, values, "{size}");
            assert_eq!(decoder.waiting(), 0);
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_there() {
        let refused = |bytes: &[u8]| {
            let mut decoder = decoder();
            decoder.push(bytes);
            decoder.next().is_err()
        };
        assert!(refused(&[0xdb, 0xff, 0xff, 0xff, 0xff]), "4 GiB of text are announced");
        assert!(refused(&[0xc4, 31]) && !refused(&[0xc4, 30]));
        assert!(refused(&[0xdc, 0, 9]) && !refused(&[0xdc, 0, 8]));
        assert!(refused(&[0xdf, 0xff, 0xff, 0xff, 0xff]), "or as many pairs");
        assert!(refused(&[0xc1]), "which nothing begins with");
        // Deep nesting costs no more than its bytes.
        assert!(refused(&[0x91; 64]) && !refused(&[0x91; 31]));
    }

    #[test]
    fn memory_is_bounded_while_requests_stream_through() {
        let mut decoder = decoder();
        let request = [&[0x81, 0xa1, b'a', 0xc4, 20][..], &[7; 20]].concat();
        for byte in request.iter().cycle().take(200_000) {
            decoder.push(&[*byte]);
            while decoder.next().expect("good values").is_some() {}
            assert!(decoder.waiting() <= 32 && decoder.buf.capacity() <= 2 * SLACK + 64);
        }
    }
}
