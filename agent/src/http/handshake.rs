//! The start of a TLS connection: the handshake, and a readable error for a client that speaks plain HTTP.

use crate::tls::ServerTls;
use rustls::ServerConnection;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Time for which a rejected connection is still read, so that the client receives the error.
const LINGER: Duration = Duration::from_secs(2);
/// Maximum number of bytes read from a rejected connection.
const LINGER_BYTES: usize = 64 << 10;
/// Body of the error response to a client that sends plain HTTP to a port that serves HTTPS.
const IN_CLEAR: &str =
    r#"{"code":"http.tls","message":"this port speaks HTTPS alone: write https:// in place of http://"}"#;

/// A stream whose first byte was read; reading it starts with that byte again.
pub(super) struct Begun<S> {
    first: Option<u8>,
    stream: S,
}

/// The result of the TLS handshake.
pub(super) enum Shaken<S> {
    /// TLS is established on this stream.
    Secure(Box<TlsStream<Begun<S>>>),
    /// The handshake failed. A client that sent plain HTTP got an error response, and the connection is closed.
    Over(io::Error),
}

/// Performs the TLS handshake; answers a plain HTTP request with an error response.
pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, tls: &ServerTls) -> Shaken<S> {
    let first = match stream.read_u8().await {
        Ok(first) => first,
        Err(error) => return Shaken::Over(error),
    };
    // HTTP methods start with a capital letter, TLS records do not.
    if first.is_ascii_uppercase() {
        let error = io::Error::new(io::ErrorKind::InvalidData, "a request in clear");
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n";
        let answer = format!("{head}content-length: {}\r\n\r\n{IN_CLEAR}", IN_CLEAR.len());
        if stream.write_all(answer.as_bytes()).await.is_ok() {
            linger(stream).await;
        }
        return Shaken::Over(error);
    }
    let begun = Begun { first: Some(first), stream };
    match TlsAcceptor::from(tls.config()).accept(begun).into_fallible().await {
        Ok(stream) => Shaken::Secure(Box::new(stream)),
        Err((error, stream)) => {
            linger(stream).await;
            Shaken::Over(error)
        }
    }
}

/// Whether the client presented a certificate; the TLS handshake has verified it.
pub(super) fn showed_certificate<S>(stream: &TlsStream<Begun<S>>) -> bool {
    let connection: &ServerConnection = stream.get_ref().1;
    connection.peer_certificates().is_some()
}

/// Closes a connection after its last bytes. Closed with unread input, it would be reset, and the client might lose
/// those bytes.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let read = async {
        stream.shutdown().await?;
        let (mut buffer, mut left) = ([0; 4096], LINGER_BYTES);
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, io::Error>(())
    };
    // The error was sent; the outcome does not matter.
    let _ = timeout(LINGER, read).await;
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
