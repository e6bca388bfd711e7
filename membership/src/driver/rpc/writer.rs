//! Writing to one client, within limits of time.

use std::{io, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt, net::tcp::OwnedWriteHalf, sync::Mutex};

/// Duration of a blocked write after which the client's place can be given to another client.
const STALLED: Duration = Duration::from_secs(1);

/// Error of a connection that is closed because the client does not read.
#[derive(Debug, thiserror::Error)]
#[error("the client does not read")]
struct Deaf;

/// Writer of whole replies and records to one client, one at a time: callers wait for each other, and nothing
/// is queued.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) half: Arc<Mutex<OwnedWriteHalf>>,
    /// Time limit for writing one whole reply or record.
    pub(super) timeout: Duration,
    /// Time limit for writing at least one further byte.
    pub(super) stall_timeout: Duration,
    /// Called when the socket becomes blocked (`true`), and when it accepts bytes again (`false`).
    pub(super) stalled: Arc<dyn Fn(bool) + Send + Sync>,
}

impl Writer {
    /// Writes all bytes. After an error, or if the future was dropped early, the connection cannot be used any
    /// more.
    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut half = self.half.lock().await;
        tokio::time::timeout(self.timeout, self.write(&mut half, bytes)).await.map_err(|_| deaf())?
    }

    async fn write(&self, half: &mut OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let shown = STALLED.min(self.stall_timeout);
            let len = match tokio::time::timeout(shown, half.write(bytes)).await {
                Ok(len) => len?,
                Err(_) => {
                    (self.stalled)(true);
                    let rest = self.stall_timeout.saturating_sub(shown);
                    let len = tokio::time::timeout(rest, half.write(bytes)).await.map_err(|_| deaf())??;
                    (self.stalled)(false);
                    len
                }
            };
            match bytes.get(len..) {
                Some(rest) if len > 0 => bytes = rest,
                _ => return Err(io::ErrorKind::WriteZero.into()),
            }
        }
        Ok(())
    }
}

fn deaf() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Deaf)
}

/// Returns whether a connection ended because the client read nothing, detected by this side or by the system.
pub(super) fn is_deaf(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Deaf>())
        || error.raw_os_error() == Some(rustix::io::Errno::TIMEDOUT.raw_os_error())
}
