//! A stream that fails when the client does not read.

use crate::clients::Client;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream whose writes fail when they make no progress for `limit`. Reads have no timeout here; their callers limit
/// them.
pub(super) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// The client to inform when a write starts to block, and when it makes progress again; `None`: no client.
    client: Option<Arc<Client>>,
    /// The timeout of the write that blocks; `None`: no write blocks.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, limit: Duration, client: Option<Arc<Client>>) -> Self {
        Self { stream, limit, client, waiting: None }
    }

    fn bound<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            if self.waiting.take().is_some()
                && let Some(client) = &self.client
            {
                client.stalls(false);
            }
            return progress;
        }
        let (limit, client) = (self.limit, &self.client);
        let waiting = self.waiting.get_or_insert_with(|| {
            if let Some(client) = client {
                client.stalls(true);
            }
            Box::pin(sleep(limit))
        });
        waiting.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bound(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bound(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.bound(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bound(cx, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_reader_that_stalls_ends_the_stream_and_a_slow_one_does_not() {
        let limit = Duration::from_millis(1500);
        let (mut reader, stream) = tokio::io::duplex(16);
        let mut stream = Patient::new(stream, limit, None);
        let writing = tokio::spawn(async move { (stream.write_all(&[7; 64]).await, stream) });
        let mut taken = [0; 16];
        for _ in 0..3 {
            tokio::time::sleep(limit / 2).await;
            reader.read_exact(&mut taken).await.expect("what was written");
        }
        let (written, mut stream) = writing.await.expect("the task ends");
        written.expect("progress, however slow");
        let began = tokio::time::Instant::now();
        let stalled = stream.write_all(&[7; 64]).await.expect_err("nobody reads");
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= limit);
    }
}
