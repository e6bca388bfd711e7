//! Runs the engine's session over a framed stream.
//!
//! The engine says what to send and what received frames mean; this moves the bytes, hands facts to the
//! replica in batches while more arrive, and holds the peer to the limits.

use crate::admission::Access;
use crate::code::Code;
use crate::error::TransportError;
use crate::limits::{JUDGE_BATCH, JUDGE_BATCH_BYTES, MAX_JUDGED_BYTES, MAX_JUDGED_FACTS, WRITE_AHEAD};
use crate::stream::{SessionStream, StreamBytes};
use bytes::Bytes;
use kvgossip_engine::session::{Config, Differences, Outcome, Role, Session, SessionError, Tally, Ticket};
use kvgossip_engine::{Reader, StorageError, View};
use kvgossip_grants::{Digest, Fact, PathPrefix, Verdict};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// The replica that a session works for.
pub trait SessionHost: Send + Sync + 'static {
    /// The committed state. Once a fact's verdict is given, it is part of every view taken later.
    fn view(&self) -> View;

    /// Reads of the store that the view belongs to. Called from where blocking is allowed.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Checks received facts, verifies their signatures, merges them and makes them durable; gives one verdict
    /// for each, in their order. Several calls run at once. Dropping the future must be safe at any time:
    /// what was committed stays.
    fn judge(&self, facts: Vec<Fact>) -> impl Future<Output = Result<Vec<Verdict>, StorageError>> + Send;
}

/// What the caller decides about a session.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Confines the entries to a path prefix; counts on the side that opened the stream.
    pub scope: PathPrefix,
    /// Eight bytes of a cryptographic generator.
    pub nonce: [u8; 8],
    /// Whether this side takes facts in. It takes none from a peer that may only pull, whatever this says.
    pub takes_facts: bool,
}

/// How a session went.
#[derive(Debug)]
pub struct SessionReport {
    /// How it ended. After a failure, what was merged before stays.
    pub result: Result<Outcome, SessionFailure>,
    /// The root over everything that both sides hold, where they found themselves equal.
    pub agreed: Option<Digest>,
    /// Whether it only compared, so that nothing was moved.
    pub compared: bool,
    /// What it cost and did, by kind.
    pub tally: Tally,
    /// Exact bytes of the stream.
    pub bytes: StreamBytes,
    /// From the opening of the stream on this side to the end of it.
    pub time: Duration,
}

/// Why a session came to no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionFailure {
    /// The stream or the connection ended, or the peer broke a rule of the transport.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The session itself could not go on.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl SessionFailure {
    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Transport(error) => error.code().name(),
            Self::Session(error) => error.code(),
        }
    }
}

/// Runs a session to its end, and ends the stream. A peer that breaks the session's protocol, belongs to
/// another cluster or speaks another version loses its connection.
///
/// On a multi-threaded runtime call it from a spawned task: reads of the store block that worker thread only.
pub async fn run_session<H: SessionHost>(
    stream: SessionStream,
    options: SessionOptions,
    host: Arc<H>,
) -> SessionReport {
    let began = Instant::now();
    let config = Config {
        role: if stream.opened_here() { Role::Initiator } else { Role::Responder },
        scope: options.scope,
        nonce: options.nonce,
        takes_facts: options.takes_facts && stream.access() == Access::Full,
    };
    let session = heavy(|| Session::new(config, &host.view()));
    drive(stream, session, host, began).await.0
}

/// Compares with the peer and moves nothing: what differs, where the session came to its end.
pub async fn run_comparison<H: SessionHost>(
    stream: SessionStream,
    options: SessionOptions,
    host: Arc<H>,
) -> (SessionReport, Option<Differences>) {
    let began = Instant::now();
    let config =
        Config { role: Role::Initiator, scope: options.scope, nonce: options.nonce, takes_facts: false };
    let session = heavy(|| Session::comparing(config, &host.view()));
    drive(stream, session, host, began).await
}

async fn drive<H: SessionHost>(
    stream: SessionStream,
    session: Session,
    host: Arc<H>,
    began: Instant,
) -> (SessionReport, Option<Differences>) {
    let jobs = JoinSet::new();
    let gathered = Gathered::default();
    let mut driver =
        Driver { stream, session, host, jobs, gathered, judged_facts: 0, judged_bytes: 0, greeted: false };
    let result = driver.run().await;
    let (tally, agreed) = (driver.session.tally(), driver.session.agreed_root());
    let differences = driver.session.differences().cloned();
    let (result, bytes) = end(driver.stream, result).await;
    let compared = differences.is_some();
    (SessionReport { result, agreed, compared, tally, bytes, time: began.elapsed() }, differences)
}

/// Received facts that wait for company.
#[derive(Default)]
struct Gathered {
    tickets: Vec<Ticket>,
    facts: Vec<Fact>,
    bytes: usize,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.facts.len() >= JUDGE_BATCH || self.bytes >= JUDGE_BATCH_BYTES
    }
}

/// Facts on their way through the host.
struct Judged {
    tickets: Vec<Ticket>,
    verdicts: Result<Vec<Verdict>, StorageError>,
    bytes: usize,
}

struct Driver<H> {
    stream: SessionStream,
    session: Session,
    host: Arc<H>,
    jobs: JoinSet<Judged>,
    gathered: Gathered,
    /// Gathered, or with the host.
    judged_facts: usize,
    judged_bytes: usize,
    /// The peer's hello has been read.
    greeted: bool,
}

enum Event {
    Judged(Result<Judged, JoinError>),
    Flushed,
    Frame(Option<Bytes>),
}

impl<H: SessionHost> Driver<H> {
    async fn run(&mut self) -> Result<Outcome, SessionFailure> {
        loop {
            self.advance()?;
            let has_queue = self.stream.halves().1.queued() > 0;
            if self.session.is_finished() && !has_queue {
                let outcome = self.session.outcome();
                return outcome.ok_or_else(|| internal("the session ended without an outcome").into());
            }
            match self.event(has_queue).await? {
                Event::Judged(judged) => self.answer(judged)?,
                Event::Flushed => {}
                Event::Frame(Some(frame)) => self.take_frames(frame)?,
                Event::Frame(None) => {
                    return Err(TransportError::Protocol("the stream ended before the session".into()).into());
                }
            }
        }
    }

    /// Waits for whatever the session can go on with. The peer's clock runs only while we wait for the peer.
    async fn event(&mut self, has_queue: bool) -> Result<Event, SessionFailure> {
        let has_jobs = !self.jobs.is_empty();
        let may_read = self.session.is_waiting_for_peer()
            && self.judged_facts < MAX_JUDGED_FACTS
            && self.judged_bytes < MAX_JUDGED_BYTES;
        let (reader, writer) = self.stream.halves();
        tokio::select! {
            biased;
            Some(judged) = self.jobs.join_next(), if has_jobs => Ok(Event::Judged(judged)),
            flushed = writer.flush(), if has_queue => Ok(flushed.map(|()| Event::Flushed)?),
            frame = reader.recv(), if may_read => Ok(Event::Frame(frame?)),
            else => Err(internal("the session waits for nothing").into()),
        }
    }

    /// Hands received facts on and queues what is to be sent, as far as that goes without waiting.
    fn advance(&mut self) -> Result<(), SessionFailure> {
        loop {
            let offered = self.offer();
            self.fill()?;
            if !offered {
                return Ok(());
            }
        }
    }

    /// Hands one batch of received facts to the host. While the host has others and more arrive, a batch waits until
    /// it is full: every batch costs the host a commit with its flush.
    fn offer(&mut self) -> bool {
        while !self.gathered.is_full() {
            let Some((ticket, fact)) = self.session.poll_offer() else { break };
            let bytes = fact.payload_len();
            self.judged_facts += 1;
            self.judged_bytes += bytes;
            self.gathered.bytes += bytes;
            self.gathered.tickets.push(ticket);
            self.gathered.facts.push(fact);
        }
        let more_may_join = !self.jobs.is_empty() && self.session.is_waiting_for_peer();
        if self.gathered.facts.is_empty() || (more_may_join && !self.gathered.is_full()) {
            return false;
        }
        let Gathered { tickets, facts, bytes } = std::mem::take(&mut self.gathered);
        let host = Arc::clone(&self.host);
        self.jobs.spawn(async move { Judged { tickets, verdicts: host.judge(facts).await, bytes } });
        true
    }

    fn answer(&mut self, judged: Result<Judged, JoinError>) -> Result<(), SessionFailure> {
        let Judged { tickets, verdicts, bytes } =
            judged.map_err(|error| internal(&format!("the verifier failed: {error}")))?;
        let verdicts = verdicts.map_err(SessionError::from)?;
        if verdicts.len() != tickets.len() {
            return Err(internal("the verifier left facts out").into());
        }
        self.judged_facts -= tickets.len();
        self.judged_bytes -= bytes;
        for (ticket, verdict) in tickets.into_iter().zip(verdicts) {
            self.session.handle_verdict(ticket, verdict)?;
        }
        Ok(())
    }

    /// Queues frames up to the write-ahead. Facts are read from the store here.
    fn fill(&mut self) -> Result<(), SessionFailure> {
        let (_, writer) = self.stream.halves();
        let nothing_to_send = self.session.is_waiting_for_peer() || self.session.outstanding() > 0;
        if nothing_to_send || writer.queued() >= WRITE_AHEAD {
            return Ok(());
        }
        let (session, host) = (&mut self.session, &self.host);
        heavy(|| {
            let (view, reader) = (host.view(), host.reader());
            while writer.queued() < WRITE_AHEAD {
                let Some(frame) = session.poll_frame(&view, reader.as_ref())? else { break };
                writer.queue(frame).map_err(TransportError::from)?;
            }
            Ok(())
        })
    }

    /// Takes a frame, and those behind it that are here already: their facts make one batch.
    fn take_frames(&mut self, first: Bytes) -> Result<(), SessionFailure> {
        let view = self.host.view();
        // The hello makes the responder compute digests that nobody has asked for since the last batch.
        if std::mem::replace(&mut self.greeted, true) {
            self.session.handle_frame(first, &view)?;
        } else {
            heavy(|| self.session.handle_frame(first, &view))?;
        }
        let (reader, _) = self.stream.halves();
        while self.session.is_waiting_for_peer() {
            let Some(frame) = reader.buffered()? else { break };
            self.session.handle_frame(frame, &view)?;
        }
        Ok(())
    }
}

/// Ends the stream as the result demands.
async fn end(
    stream: SessionStream,
    result: Result<Outcome, SessionFailure>,
) -> (Result<Outcome, SessionFailure>, StreamBytes) {
    let bytes = stream.bytes();
    match result {
        // Both sides have come to the outcome: whether the peer still ends its stream changes nothing of it.
        Ok(outcome) => (Ok(outcome), stream.finish().await.unwrap_or(bytes)),
        Err(failure) => {
            match &failure {
                SessionFailure::Session(error) => match refusal(error) {
                    (code, true) => stream.drop_peer(code, &error.to_string()),
                    (code, false) => stream.abort(code),
                },
                // The stream has ended already, or its drop cancels it.
                SessionFailure::Transport(_) => drop(stream),
            }
            (Err(failure), bytes)
        }
    }
}

/// The code for the peer, and whether its connection is of no more use.
fn refusal(error: &SessionError) -> (Code, bool) {
    match error {
        SessionError::ForeignCluster(_) => (Code::ForeignCluster, true),
        SessionError::Version(_) => (Code::Version, true),
        SessionError::Misbehaved(_) => (Code::Misbehaved, true),
        SessionError::Protocol(_) => (Code::Protocol, true),
        SessionError::Storage(_) => (Code::Store, false),
        SessionError::Bye(_) => (Code::Cancelled, false),
        _ => (Code::Internal, false),
    }
}

/// Failures of this side that no peer has caused.
fn internal(what: &str) -> SessionError {
    SessionError::Storage(StorageError::Stopped(what.into()))
}

/// Runs what computes or reads a disk for longer than a worker thread should be taken from other tasks.
fn heavy<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
