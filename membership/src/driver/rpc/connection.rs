//! One client.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
    time::Instant,
};

use super::{
    Host, Place, Shared,
    feeds::{Asked, Feeds},
    places::Standing,
};
use crate::rpc::{Session, Step, message::ReplyHeader};

/// Bytes that are read at a time.
const CHUNK: usize = 4096;

/// A write that waits for so long is held against the client when its place is wanted.
const STALLED: Duration = Duration::from_secs(1);

/// Why a client that does not read is disconnected.
#[derive(Debug, thiserror::Error)]
#[error("the client does not read")]
struct Deaf;

/// Replies and records go out one at a time and whole: whoever writes waits for the others, nothing is queued here.
#[derive(Clone)]
pub(super) struct Writer {
    half: Arc<Mutex<OwnedWriteHalf>>,
    /// For all of what is written at once.
    timeout: Duration,
    /// For the next byte of it.
    stall_timeout: Duration,
    /// Hears whether the socket takes nothing.
    stalled: Arc<dyn Fn(bool) + Send + Sync>,
}

impl Writer {
    /// After an error, or if it was dropped before its end, the connection is of no use.
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

/// Whether a connection ended because nothing of what was written was taken: this side says so, or the system.
fn is_deaf(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Deaf>())
        || error.raw_os_error() == Some(rustix::io::Errno::TIMEDOUT.raw_os_error())
}

pub(super) struct Connection<H> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) client: SocketAddr,
    pub(super) writer: Writer,
    pub(super) feeds: Feeds,
    pub(super) asked: Asked,
    place: Place<H>,
    reader: OwnedReadHalf,
    session: Session,
    /// The number of the request that began the monitor, of which there is one.
    pub(super) monitor: Option<u64>,
    opened_at: Instant,
    /// When the last complete request came.
    heard_at: Instant,
    /// When a request began that is not complete.
    partial_since: Option<Instant>,
}

impl<H: Host> Connection<H> {
    pub(super) fn new(place: Place<H>, socket: TcpStream, client: SocketAddr) -> Self {
        let (reader, half) = socket.into_split();
        let shared = place.shared.clone();
        let limits = &shared.limits;
        let now = Instant::now();
        Self {
            writer: Writer {
                half: Arc::new(Mutex::new(half)),
                timeout: limits.write_timeout,
                stall_timeout: limits.stall_timeout,
                stalled: place.on_stall(),
            },
            feeds: Feeds::new(),
            asked: Asked::new(limits.asked),
            session: Session::new(limits, shared.auth.clone()),
            shared,
            client,
            place,
            reader,
            monitor: None,
            opened_at: now,
            heard_at: now,
            partial_since: None,
        }
    }

    /// Until one of both ends it.
    pub(super) async fn serve(mut self) {
        tracing::debug!(client = %self.client, "an RPC client is there");
        match self.exchange().await {
            Ok(()) => tracing::debug!(client = %self.client, "an RPC client is gone"),
            Err(error) if is_deaf(&error) => {
                if let Some(suppressed) = self.shared.deaf.turn() {
                    tracing::warn!(client = %self.client, suppressed, "an RPC client was disconnected: it does not read");
                }
            }
            Err(error) => tracing::debug!(client = %self.client, "an RPC connection ended: {error}"),
        }
    }

    async fn exchange(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let deadline = self.deadline();
            let len = tokio::select! {
                len = self.reader.read(&mut chunk) => len?,
                ended = self.feeds.ended() => {
                    ended?;
                    // A client that waited for it is not idle since its request.
                    self.heard_at = Instant::now();
                    self.stand();
                    continue;
                }
                () = until(deadline) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the client was silent for too long"));
                }
            };
            if len == 0 {
                return Ok(());
            }
            self.session.push(chunk.get(..len).unwrap_or_default());
            if !self.take_requests().await? {
                self.linger().await;
                return Ok(());
            }
        }
    }

    /// Waits for the client to close the connection; what it still sends is thrown away. Serf's clients say that the
    /// connection is gone, and not what they were told, when the end comes right behind it.
    pub(super) async fn linger(&mut self) {
        let mut chunk = [0; CHUNK];
        let closed = async { while self.reader.read(&mut chunk).await.is_ok_and(|len| len > 0) {} };
        // Whoever does not is cut off.
        let _ = tokio::time::timeout(self.shared.limits.linger, closed).await;
    }

    /// Does what is complete; false if that was the end.
    async fn take_requests(&mut self) -> io::Result<bool> {
        let mut heard = false;
        while let Some(step) = self.session.poll().map_err(io::Error::other)? {
            heard = true;
            match step {
                Step::Reply(bytes) => self.writer.send(&bytes).await?,
                Step::Last(bytes) => {
                    let reason = ReplyHeader::decode(&bytes).map(|header| header.error).unwrap_or_default();
                    if let Some(suppressed) = self.shared.refusals.turn() {
                        tracing::warn!(client = %self.client, reason = reason.to_string(), suppressed, "an RPC client was refused");
                    }
                    self.writer.send(&bytes).await?;
                    return Ok(false);
                }
                Step::Request { seq, request } => {
                    self.place.turn(Standing::Busy);
                    if !self.execute(seq, request).await? {
                        return Ok(false);
                    }
                }
            }
        }
        let now = Instant::now();
        if heard {
            self.heard_at = now;
        }
        self.stand();
        self.partial_since = match self.partial_since {
            _ if !self.session.is_partial() => None,
            Some(since) if !heard => Some(since),
            _ => Some(now),
        };
        Ok(true)
    }

    /// Says what the connection does, for whoever wants its place.
    fn stand(&self) {
        self.place.turn(match (self.session.is_open(), self.feeds.len()) {
            (false, _) => Standing::Opening,
            (true, 0) => Standing::Idle,
            (true, _) => Standing::Subscribed,
        });
    }

    /// Until when something has to come.
    fn deadline(&self) -> Option<Instant> {
        let limits = &self.shared.limits;
        if !self.session.is_open() {
            return Some(self.opened_at + limits.open_timeout);
        }
        match self.partial_since {
            Some(since) => Some(since + limits.request_timeout),
            None if self.feeds.len() > 0 => None,
            None => Some(self.heard_at + limits.idle_timeout),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
