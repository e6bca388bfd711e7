//! Stream of one session: frames in both directions, with byte counts and limits on how long the peer may take.

use crate::admission::Access;
use crate::code::Code;
use crate::conduct::Blame;
use crate::error::TransportError;
use crate::frame::{FrameDecoder, FrameError, frame_header};
use crate::limits::{Limits, READ_CHUNK};
use crate::progress::{Clock, Stop};
use crate::slot::SlotGuard;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

/// Maximum number of buffers handed to QUIC in one call.
const MAX_WRITE_BATCH: usize = 16;
/// Maximum length of frames that are copied together, and approximate size of the combined buffers, in bytes.
const COALESCE_LEN: usize = 16 << 10;

/// Exact number of stream bytes of a session: includes frame headers, excludes QUIC's own overhead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamBytes {
    /// Number of bytes that QUIC has accepted for sending.
    pub sent: u64,
    /// Number of bytes read from the stream.
    pub received: u64,
}

/// Framed stream of the single session with a peer.
///
/// [`SessionStream::halves`] allows concurrent reading and writing. If the peer breaks a rule (too slow,
/// oversized or invalid frame), its connection is closed at once and the error gives the reason. Dropping the
/// stream before [`SessionStream::finish`] ends it with `session.cancelled` for the peer.
#[derive(Debug)]
pub struct SessionStream {
    reader: FrameReader,
    writer: FrameWriter,
    clock: Clock,
    opened_here: bool,
    access: Access,
    finished: bool,
}

/// Properties of the connection that a stream needs.
pub(crate) struct Context<'a> {
    pub(crate) quic: &'a quinn::Connection,
    pub(crate) limits: &'a Limits,
    pub(crate) blame: &'a Blame,
    /// What the peer may do in sessions with this replica.
    pub(crate) access: Access,
    /// Whether this side opened the stream.
    pub(crate) opened_here: bool,
}

impl SessionStream {
    pub(crate) fn new(
        (send, recv): (quinn::SendStream, quinn::RecvStream),
        slot: SlotGuard,
        context: Context<'_>,
    ) -> Self {
        let Context { quic, limits, blame, access, opened_here } = context;
        let clock = Clock::new(limits);
        let side = Side {
            quic: quic.clone(),
            clock: clock.clone(),
            blame: blame.clone(),
            limit: limits.no_progress_timeout,
            grace: limits.session_grace,
        };
        let reader = FrameReader {
            side: side.clone(),
            recv,
            decoder: FrameDecoder::default(),
            unread: Bytes::new(),
            received: 0,
            slot,
        };
        let writer =
            FrameWriter { side, send, queue: VecDeque::new(), tail: BytesMut::new(), queued: 0, sent: 0 };
        Self { reader, writer, clock, opened_here, access, finished: false }
    }

    /// Returns whether this side opened the stream, and so starts the session.
    pub fn opened_here(&self) -> bool {
        self.opened_here
    }

    /// What the peer may do in sessions with this replica.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns the receiving and the sending direction, for concurrent use by one task.
    pub fn halves(&mut self) -> (&mut FrameReader, &mut FrameWriter) {
        (&mut self.reader, &mut self.writer)
    }

    /// Returns a handle that observes the session, to choose which of several sessions gives way.
    pub fn watch(&self) -> SessionWatch {
        SessionWatch { clock: self.clock.clone() }
    }

    /// Waits for the next frame of the peer; `None` when the peer has ended its direction. Cancel-safe.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.reader.recv().await
    }

    /// Sends all queued frames and then this one.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        self.writer.queue(frame)?;
        self.writer.flush().await
    }

    /// Returns the counts of the stream's bytes so far.
    pub fn bytes(&self) -> StreamBytes {
        StreamBytes { sent: self.writer.sent, received: self.reader.received }
    }

    /// Sends all queued frames, ends this direction, then waits until the peer ends its own and has
    /// acknowledged everything. A frame that arrives meanwhile is a protocol error.
    pub async fn finish(mut self) -> Result<StreamBytes, TransportError> {
        self.writer.flush().await?;
        // This fails only on a stream that was finished or reset before, which this type rules out.
        let _ = self.writer.send.finish();
        self.reader.slot.finishing();
        if let Some(frame) = self.reader.recv().await? {
            let error = TransportError::Protocol(format!("{} bytes after the end", frame.len()));
            return Err(self.reader.side.offence(error));
        }
        self.finished = true;
        match self.writer.acknowledged().await {
            // The peer had finished, and closed before its acknowledgement arrived.
            Ok(()) | Err(TransportError::ByPeer { code: Code::Closed, .. }) => Ok(self.bytes()),
            Err(error) => Err(error),
        }
    }

    /// Ends both directions of the stream at once with this code. The connection stays open.
    pub fn abort(mut self, code: Code) {
        self.reset(code);
    }

    /// Closes the connection of a peer that misbehaved, with this code and reason, and shuts the peer out for a
    /// time.
    pub(crate) fn shut_out(self, code: Code, reason: &str) {
        self.reader.side.blame.offend(code);
        self.drop_peer(code, reason);
    }

    /// Closes the whole connection with this code and reason.
    pub fn drop_peer(mut self, code: Code, reason: &str) {
        self.finished = true;
        self.reader.side.quic.close(code.var_int(), reason.as_bytes());
    }

    fn reset(&mut self, code: Code) {
        self.finished = true;
        // An error means that the direction has already ended.
        let _ = self.writer.send.reset(code.var_int());
        let _ = self.reader.recv.stop(code.var_int());
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        if !self.finished {
            self.reset(Code::Cancelled);
        }
    }
}

/// Handle that observes a running session; it may outlive the session.
#[derive(Clone, Debug)]
pub struct SessionWatch {
    clock: Clock,
}

impl SessionWatch {
    /// Returns how long the session has waited for its peer in total, less the time that its bytes account for at
    /// `Limits::min_progress_bytes_per_s`; never below 0.
    pub fn unpaid(&self) -> Duration {
        self.clock.unpaid()
    }

    /// Ends the observed session with `session.busy` as soon as it waits for the peer.
    pub fn give_way(&self) {
        self.clock.give_way();
    }
}

/// State that both directions of a stream need to enforce the rules for the peer.
#[derive(Clone, Debug)]
struct Side {
    quic: quinn::Connection,
    clock: Clock,
    blame: Blame,
    limit: Duration,
    grace: Duration,
}

impl Side {
    async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, TransportError> {
        let waited = self.clock.wait(work).await;
        waited.map_err(|stop| {
            self.offence(match stop {
                Stop::Silent => TransportError::TooSlow { limit: self.limit },
                Stop::Trickled => TransportError::Trickled { grace: self.grace },
                Stop::GaveWay => TransportError::GaveWay,
            })
        })
    }

    /// Closes the connection of a peer that broke a rule, and shuts the peer out if the error is misbehaviour.
    fn offence(&self, error: TransportError) -> TransportError {
        if error.is_misbehaviour() {
            self.blame.offend(error.code());
        }
        if error.is_offence() {
            self.quic.close(error.code().var_int(), error.to_string().as_bytes());
        }
        error
    }
}

/// Receiving direction of a [`SessionStream`].
#[derive(Debug)]
pub struct FrameReader {
    side: Side,
    recv: quinn::RecvStream,
    decoder: FrameDecoder,
    /// Bytes read from the stream and not yet decoded, at most [`READ_CHUNK`].
    unread: Bytes,
    received: u64,
    /// Slot of the connection's session, freed when the stream is dropped.
    slot: SlotGuard,
}

impl FrameReader {
    /// Waits for the next frame of the peer; `None` when the peer has ended its direction. Cancel-safe.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            match self.side.wait(self.recv.read_chunk(READ_CHUNK, true)).await?? {
                Some(chunk) => self.arrived(chunk.bytes),
                None if self.decoder.at_boundary() => return Ok(None),
                None => return Err(self.side.offence(FrameError::Truncated.into())),
            }
        }
    }

    /// Returns the next frame if all of it has already been read from the stream; otherwise `None`.
    pub fn buffered(&mut self) -> Result<Option<Bytes>, TransportError> {
        let decoded = self.decoder.feed(&mut self.unread);
        let frame = decoded.map_err(|error| self.side.offence(error.into()))?;
        if frame.is_some() {
            self.side.clock.frame_arrived();
        }
        Ok(frame)
    }

    fn arrived(&mut self, bytes: Bytes) {
        if self.received == 0 {
            self.slot.settle();
        }
        self.received += bytes.len() as u64;
        self.side.clock.bytes_moved(bytes.len());
        self.unread = bytes;
    }
}

/// Sending direction of a [`SessionStream`].
#[derive(Debug)]
pub struct FrameWriter {
    side: Side,
    send: quinn::SendStream,
    queue: VecDeque<Bytes>,
    /// Short frames at the end of the queue that are sent as one buffer, because QUIC does its bookkeeping per
    /// buffer.
    tail: BytesMut,
    queued: usize,
    sent: u64,
}

impl FrameWriter {
    /// Appends a frame to the queue. The caller keeps [`FrameWriter::queued`] near
    /// [`crate::limits::WRITE_AHEAD`] by flushing.
    pub fn queue(&mut self, frame: Bytes) -> Result<(), FrameError> {
        let header = frame_header(frame.len())?;
        self.queued += header.len() + frame.len();
        self.tail.extend_from_slice(&header);
        if frame.len() <= COALESCE_LEN {
            self.tail.extend_from_slice(&frame);
            if self.tail.len() >= COALESCE_LEN {
                self.close_tail();
            }
        } else {
            self.close_tail();
            self.queue.push_back(frame);
        }
        Ok(())
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }

    /// Number of bytes that wait for [`FrameWriter::flush`].
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Hands all queued frames to QUIC. Cancel-safe: bytes not handed over stay queued.
    pub async fn flush(&mut self) -> Result<(), TransportError> {
        self.close_tail();
        while !self.queue.is_empty() {
            let mut batch: Vec<Bytes> = self.queue.iter().take(MAX_WRITE_BATCH).cloned().collect();
            let written = self.side.wait(self.send.write_chunks(&mut batch)).await??.bytes;
            self.handed_over(written);
        }
        Ok(())
    }

    fn handed_over(&mut self, mut bytes: usize) {
        self.sent += bytes as u64;
        self.queued -= bytes;
        self.side.clock.bytes_moved(bytes);
        while let Some(front) = self.queue.front_mut() {
            if bytes < front.len() {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.queue.pop_front();
        }
    }

    /// Waits until the peer has acknowledged all bytes up to the end of the stream.
    async fn acknowledged(&mut self) -> Result<(), TransportError> {
        use quinn::StoppedError;
        match self.side.wait(self.send.stopped()).await? {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(crate::error::by_stream_code(code)),
            Err(StoppedError::ConnectionLost(error)) => Err(error.into()),
            Err(other) => Err(TransportError::Lost(other.to_string())),
        }
    }
}
