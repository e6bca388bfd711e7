//! The first application message: the dialled replica tells the dialler that it is admitted.
//!
//! In TLS 1.3 a client has finished before the server has seen the client's key, so a refused dialler
//! first sees "connected". It therefore waits for this message, one frame on a unidirectional stream:
//!
//! | byte | what |
//! |---|---|
//! | 0 | kind: 1 |
//! | 1 | what the dialler may do: 0 read and write, 1 read |
//!
//! Bytes that follow are for later versions and skipped; the frame has at most [`MAX_WELCOME_LEN`].

use crate::admission::Access;
use crate::error::TransportError;
use crate::frame::{FrameDecoder, frame_header};
use bytes::Bytes;

/// Most bytes of the frame.
const MAX_WELCOME_LEN: usize = 64;
const KIND: u8 = 1;
const FULL: u8 = 0;
const PULL_ONLY: u8 = 1;

/// Tells the dialler.
pub(crate) async fn send(quic: &quinn::Connection, access: Access) -> Result<(), TransportError> {
    let granted = match access {
        Access::Full => FULL,
        Access::PullOnly => PULL_ONLY,
    };
    let body = [KIND, granted];
    let mut stream = quic.open_uni().await?;
    stream.write_all(&[frame_header(body.len())?.as_ref(), &body].concat()).await?;
    // It fails only for a stream that has ended before.
    let _ = stream.finish();
    Ok(())
}

/// Waits for it; without a limit of time, which the caller has.
pub(crate) async fn receive(quic: &quinn::Connection) -> Result<Access, TransportError> {
    let mut stream = quic.accept_uni().await?;
    let bytes = stream.read_to_end(MAX_WELCOME_LEN).await.map_err(|error| match error {
        quinn::ReadToEndError::Read(error) => error.into(),
        quinn::ReadToEndError::TooLong => TransportError::Protocol("the welcome is too long".into()),
    })?;
    parse(bytes.into())
}

fn parse(mut bytes: Bytes) -> Result<Access, TransportError> {
    let frame = FrameDecoder::default().feed(&mut bytes)?;
    match frame.as_deref() {
        Some([KIND, FULL, ..]) => Ok(Access::Full),
        Some([KIND, PULL_ONLY, ..]) => Ok(Access::PullOnly),
        _ => Err(TransportError::Protocol("its first message is no welcome".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_welcome_is_a_welcome() {
        let parse = |bytes: &'static [u8]| parse(Bytes::from_static(bytes)).ok();
        assert_eq!(parse(&[2, KIND, FULL]), Some(Access::Full));
        assert_eq!(parse(&[2, KIND, PULL_ONLY]), Some(Access::PullOnly));
        assert_eq!(parse(&[4, KIND, FULL, 9, 9]), Some(Access::Full), "a later version says more");
        for bad in [&[][..], &[0], &[1, KIND], &[2, 7, FULL], &[2, KIND, 2], &[9, KIND, FULL]] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
