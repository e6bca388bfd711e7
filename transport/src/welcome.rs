//! First application message of a connection: the dialled replica confirms that it admits the dialler.
//!
//! In TLS 1.3 a client finishes the handshake before the server has checked the client's key, so a refused
//! dialler first sees itself connected. It therefore waits for this message, one frame on a unidirectional
//! stream:
//!
//! | byte | what |
//! |---|---|
//! | 0 | kind: 1 |
//! | 1 | access of the dialler: 0 read and write, 1 read |
//! | 2–9 | the dialled side's [`Instance`], big-endian |
//!
//! The instance may be missing. Bytes that follow are reserved for later versions and ignored. The frame has at
//! most [`MAX_WELCOME_LEN`] bytes.

use crate::admission::Access;
use crate::error::TransportError;
use crate::frame::{FrameDecoder, frame_header};
use crate::instance::Instance;
use bytes::Bytes;

/// Maximum length of the welcome frame in bytes.
const MAX_WELCOME_LEN: usize = 64;
const KIND: u8 = 1;
const FULL: u8 = 0;
const PULL_ONLY: u8 = 1;

/// Contents of a welcome message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// What the dialler may do in sessions with the replica that answers.
    pub(crate) granted: Access,
    /// Instance of the answering process; `None` if it announced none.
    pub(crate) instance: Option<Instance>,
}

/// Sends the welcome with the dialler's access and this endpoint's instance.
pub(crate) async fn send(
    quic: &quinn::Connection,
    access: Access,
    instance: Instance,
) -> Result<(), TransportError> {
    let granted = match access {
        Access::Full => FULL,
        Access::PullOnly => PULL_ONLY,
    };
    let body = [&[KIND, granted][..], &instance.number().to_be_bytes()].concat();
    let mut stream = quic.open_uni().await?;
    stream.write_all(&[frame_header(body.len())?.as_ref(), &body].concat()).await?;
    // This fails only for a stream that has already ended.
    let _ = stream.finish();
    Ok(())
}

/// Waits for the welcome. It has no time limit of its own; the caller sets one.
pub(crate) async fn receive(quic: &quinn::Connection) -> Result<Welcome, TransportError> {
    let mut stream = quic.accept_uni().await?;
    let bytes = stream.read_to_end(MAX_WELCOME_LEN).await.map_err(|error| match error {
        quinn::ReadToEndError::Read(error) => error.into(),
        quinn::ReadToEndError::TooLong => TransportError::Protocol("the welcome is too long".into()),
    })?;
    parse(bytes.into())
}

fn parse(mut bytes: Bytes) -> Result<Welcome, TransportError> {
    let frame = FrameDecoder::default().feed(&mut bytes)?;
    let (granted, rest) = match frame.as_deref() {
        Some([KIND, FULL, rest @ ..]) => (Access::Full, rest),
        Some([KIND, PULL_ONLY, rest @ ..]) => (Access::PullOnly, rest),
        _ => return Err(TransportError::Protocol("its first message is no welcome".into())),
    };
    let instance = rest.first_chunk().map(|number| Instance::new(u64::from_be_bytes(*number)));
    Ok(Welcome { granted, instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_welcome_is_a_welcome() {
        let parse = |bytes: &'static [u8]| parse(Bytes::from_static(bytes)).ok();
        let welcome =
            |granted, instance: Option<u64>| Some(Welcome { granted, instance: instance.map(Instance::new) });
        assert_eq!(parse(&[2, KIND, FULL]), welcome(Access::Full, None));
        assert_eq!(parse(&[2, KIND, PULL_ONLY]), welcome(Access::PullOnly, None));
        assert_eq!(parse(&[4, KIND, FULL, 9, 9]), welcome(Access::Full, None), "no whole instance");
        let told = [10, KIND, FULL, 0, 0, 0, 0, 0, 0, 1, 2];
        assert_eq!(parse(Box::leak(Box::new(told))), welcome(Access::Full, Some(0x102)));
        let later = [12, KIND, FULL, 0, 0, 0, 0, 0, 0, 1, 2, 9, 9];
        assert_eq!(parse(Box::leak(Box::new(later))), welcome(Access::Full, Some(0x102)), "it says more");
        for bad in [&[][..], &[0], &[1, KIND], &[2, 7, FULL], &[2, KIND, 2], &[9, KIND, FULL]] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
