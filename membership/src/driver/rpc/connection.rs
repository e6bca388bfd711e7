//! Connection of one client.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::Mutex,
    time::Instant,
};

use super::{
    ConnectionPermit, Host, Shared,
    feeds::{Asked, Feeds},
    places::Standing,
    writer::{Writer, is_deaf},
};
use crate::rpc::{Session, Step, message::ReplyHeader};

/// Maximum number of bytes read from a client at a time.
const CHUNK: usize = 4096;

pub(super) struct Connection<H> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) client: SocketAddr,
    pub(super) writer: Writer,
    pub(super) feeds: Feeds,
    pub(super) asked: Asked,
    place: ConnectionPermit<H>,
    reader: OwnedReadHalf,
    session: Session,
    /// Number of the request that started the log monitor; `None` without one. A connection has at most one.
    pub(super) monitor: Option<u64>,
    opened_at: Instant,
    /// Time when the last complete request arrived, or the connection was opened.
    heard_at: Instant,
    /// Time when the current incomplete request began; `None` if there is none.
    partial_since: Option<Instant>,
}

impl<H: Host> Connection<H> {
    pub(super) fn new(place: ConnectionPermit<H>, socket: TcpStream, client: SocketAddr) -> Self {
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

    /// Serves the client until one side ends the connection.
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
                    // A client that waited for the feed counts as active until now.
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

    /// Waits until the client closes the connection, and discards what it still sends. If the connection closed
    /// right after a reply, Serf's clients would report the closed connection instead of the reply.
    pub(super) async fn linger(&mut self) {
        let mut chunk = [0; CHUNK];
        let closed = async { while self.reader.read(&mut chunk).await.is_ok_and(|len| len > 0) {} };
        // A client that does not close is disconnected.
        let _ = tokio::time::timeout(self.shared.limits.linger, closed).await;
    }

    /// Executes all complete requests received so far. Returns `false` if the connection is to end.
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

    /// Reports the connection's activity to the table of places.
    fn stand(&self) {
        self.place.turn(match (self.session.is_open(), self.feeds.len()) {
            (false, _) => Standing::Opening,
            (true, 0) => Standing::Idle,
            (true, _) => Standing::Subscribed,
        });
    }

    /// Time by which the client must send something: the handshake, the rest of a request, or a new request.
    /// `None` without a limit.
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
