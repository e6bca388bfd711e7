//! Runs the engine's session on a framed stream.
//!
//! The engine's [`Driver`] makes all decisions. This module carries them out: it moves the bytes, runs the
//! host's work concurrently, and enforces the rules of the stream.

use crate::admission::Access;
use crate::code::Code;
use crate::error::TransportError;
use crate::stream::{SessionStream, StreamBytes};
use bytes::Bytes;
use kvgossip_engine::declined::Reason;
use kvgossip_engine::session::{
    Action, Config, Differences, Driver, JobId, Newcomer, Outcome, Role, Session, SessionError, Tally, Wait,
};
use kvgossip_engine::{Failure, InternalError, Snapshot};
use kvgossip_grants::{Digest, Fact, FactId, PathPrefix, Timestamp, Verdict};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// Replica on whose behalf a session runs.
pub trait SessionHost: Send + Sync + 'static {
    /// Returns the host's committed state. Once a fact has its verdict, every later snapshot contains it.
    /// Records are read from the snapshot where blocking is allowed.
    fn snapshot(&self) -> Snapshot;

    /// Current time of the clock that stamps this replica's entries, to be sent to the peer; `None` sends no
    /// time.
    fn now(&self) -> Option<Timestamp> {
        None
    }

    /// Ids of facts that the peer is asked not to send, with the reason: facts that are early or condemned at
    /// this replica.
    fn declined(&self) -> Vec<(FactId, Reason)> {
        Vec::new()
    }

    /// Returns whether this replica's store has reached its limit; the peer is then asked only for facts that
    /// may free room.
    fn is_full(&self) -> bool {
        false
    }

    /// Information for the peer about this replica if it has not yet completed its first comparison with any
    /// peer; otherwise `None`.
    fn newcomer(&self) -> Option<Newcomer> {
        None
    }

    /// Receives the session's costs and results so far; called while the session runs, whenever they have
    /// changed.
    fn progress(&self, _: &Tally) {}

    /// Checks received facts, verifies their signatures, merges them and makes them durable. Returns one
    /// verdict per fact, in the order of the facts. A grant and the facts that depend on it come in one batch, the
    /// grant first. Several calls run concurrently. Dropping the future must be safe at any time: what was
    /// committed stays.
    fn judge(&self, facts: Vec<Fact>) -> impl Future<Output = Result<Vec<Verdict>, Failure>> + Send;
}

/// Settings of a session that the caller chooses.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Path prefix to which the entries are confined; only that of the side that opened the stream counts.
    pub scope: PathPrefix,
    /// Eight bytes from a cryptographic random generator.
    pub nonce: [u8; 8],
    /// Whether this side accepts facts. Facts of a peer with [`Access::PullOnly`] are never accepted.
    pub takes_facts: bool,
}

/// Result of a session, with its costs.
#[derive(Debug)]
pub struct SessionReport {
    /// Outcome or failure of the session. After a failure, facts that were merged before it stay.
    pub result: Result<Outcome, SessionFailure>,
    /// Root digest of everything that both sides hold, if they found themselves equal; otherwise `None`.
    pub agreed: Option<Digest>,
    /// Root digest of what this side held and sent to the peer, if the sides still differ; see
    /// [`Session::told_root`].
    pub told: Option<Digest>,
    /// Last root digest that the peer sent; `None` if it sent none. See [`Session::peer_root`].
    pub peer_root: Option<Digest>,
    /// Newcomer information of the peer; `None` if the peer has completed a comparison with any peer before, or
    /// its hello did not arrive.
    pub peer_newcomer: Option<Newcomer>,
    /// Whether the session only compared the two sides, without any transfer, and completed.
    pub compared: bool,
    /// Costs and results of the session by kind.
    pub tally: Tally,
    /// Exact number of stream bytes of the session, sent and received.
    pub bytes: StreamBytes,
    /// Time from the opening of the stream on this side to the end of the session.
    pub time: Duration,
    /// Reading of the peer's clock; `None` if the peer sent no time.
    pub their_clock: Option<ClockReading>,
}

/// Time from a peer's hello, with the local time when the hello arrived.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// Time of the peer's clock, from its hello.
    pub theirs: Timestamp,
    /// Time of the local clock when the hello arrived.
    pub ours: Timestamp,
    /// Monotonic instant when the hello arrived.
    pub at: std::time::Instant,
    /// Time from this side's hello to the arrival of the peer's; `None` if the peer's hello does not answer
    /// one.
    pub answered_after: Option<Duration>,
}

/// Reason why a session ended without an outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionFailure {
    /// The stream or the connection ended, or the peer broke a rule of the transport.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The session itself failed, on this side or by the peer's fault.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl SessionFailure {
    /// Returns the stable code of the failure.
    pub fn code(&self) -> &str {
        match self {
            Self::Transport(error) => error.code().name(),
            Self::Session(error) => error.code(),
        }
    }
}

/// Runs a session to its end, and ends the stream. The connection is closed if the peer breaks the session's
/// protocol, belongs to another cluster, or speaks another version.
///
/// On a multi-threaded runtime, call it from a spawned task, so that reads of the store block that worker
/// thread only.
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
        newcomer: host.newcomer(),
    };
    let mut session = heavy(|| match host.is_full() {
        true => Session::when_full(config, &host.snapshot().view),
        false => Session::new(config, &host.snapshot().view),
    });
    session.decline(host.declined());
    drive(stream, session, host, began).await.0
}

/// Runs a session that compares with the peer without any transfer. Returns the differences if the session
/// completed.
pub async fn run_comparison<H: SessionHost>(
    stream: SessionStream,
    options: SessionOptions,
    host: Arc<H>,
) -> (SessionReport, Option<Differences>) {
    let began = Instant::now();
    let config = Config {
        role: Role::Initiator,
        scope: options.scope,
        nonce: options.nonce,
        takes_facts: false,
        newcomer: host.newcomer(),
    };
    let session = heavy(|| Session::comparing(config, &host.snapshot().view));
    drive(stream, session, host, began).await
}

async fn drive<H: SessionHost>(
    stream: SessionStream,
    session: Session,
    host: Arc<H>,
    began: Instant,
) -> (SessionReport, Option<Differences>) {
    let tally = session.tally();
    let (driver, jobs) = (Driver::new(session), JoinSet::new());
    let mut carrier = Carrier { stream, driver, host, jobs, greeted_at: None, met: None, tally };
    let result = carrier.run().await;
    let session = carrier.driver.session();
    let their_clock = session.their_time().zip(carrier.met).map(|(theirs, (ours, at, answered_after))| {
        ClockReading { theirs, ours, at: at.into_std(), answered_after }
    });
    let (tally, agreed, differences) =
        (session.tally(), session.agreed_root(), session.differences().cloned());
    let (told, peer_root, peer_newcomer) =
        (session.told_root(), session.peer_root(), session.peer_newcomer());
    let (result, bytes) = end(carrier.stream, result).await;
    let compared = differences.is_some();
    let time = began.elapsed();
    let report = SessionReport {
        result,
        agreed,
        told,
        peer_root,
        peer_newcomer,
        compared,
        tally,
        bytes,
        time,
        their_clock,
    };
    (report, differences)
}

/// Result of a host's job that judges received facts: the verdicts, or a failure.
type Judged = (JobId, Result<Vec<Verdict>, Failure>);

/// Carries out the actions that a session's driver demands, on a stream and a host.
struct Carrier<H> {
    stream: SessionStream,
    driver: Driver,
    host: Arc<H>,
    jobs: JoinSet<Judged>,
    /// Instant when this side sent its hello; `None` before that, or if the peer's hello came first.
    greeted_at: Option<Instant>,
    /// Local time when the peer's hello arrived, its instant, and the time since this side's hello.
    met: Option<(Timestamp, Instant, Option<Duration>)>,
    /// Last tally that was reported to the host.
    tally: Tally,
}

enum Event {
    Judged(Result<Judged, JoinError>),
    Flushed,
    Frame(Option<Bytes>),
}

impl<H: SessionHost> Carrier<H> {
    async fn run(&mut self) -> Result<Outcome, SessionFailure> {
        loop {
            self.tell_progress();
            let queued = self.stream.halves().1.queued();
            match self.driver.poll(queued)? {
                Action::Judge { job, facts } => {
                    let host = Arc::clone(&self.host);
                    self.jobs.spawn(async move { (job, host.judge(facts).await) });
                }
                Action::Fill => self.fill(queued)?,
                Action::Finished(outcome) => return Ok(outcome),
                Action::Wait(wait) => match self.event(wait).await? {
                    Event::Judged(judged) => self.answer(judged)?,
                    Event::Flushed => {}
                    Event::Frame(Some(frame)) => self.take_frames(frame)?,
                    Event::Frame(None) => {
                        let ended = self.driver.handle_end_of_stream();
                        let early =
                            |_| TransportError::Protocol("the stream ended before the session".into());
                        ended.map_err(early)?;
                    }
                },
            }
        }
    }

    fn tell_progress(&mut self) {
        let tally = self.driver.session().tally();
        if tally != self.tally {
            self.tally = tally;
            self.host.progress(&tally);
        }
    }

    /// Waits for the next event of the session. The peer's clock runs only while this side waits for the peer.
    async fn event(&mut self, wait: Wait) -> Result<Event, SessionFailure> {
        let (reader, writer) = self.stream.halves();
        tokio::select! {
            biased;
            Some(judged) = self.jobs.join_next(), if wait.for_jobs => Ok(Event::Judged(judged)),
            flushed = writer.flush(), if wait.for_flush => Ok(flushed.map(|()| Event::Flushed)?),
            frame = reader.recv(), if wait.for_peer => Ok(Event::Frame(frame?)),
            else => Err(SessionError::from(InternalError::Session("it waits for a job that is gone")).into()),
        }
    }

    fn answer(&mut self, judged: Result<Judged, JoinError>) -> Result<(), SessionFailure> {
        let (job, verdicts) = judged.map_err(|error| {
            tracing::error!(%error, "the work that judges received facts broke off");
            SessionError::from(InternalError::Task("the work that judges received facts"))
        })?;
        let verdicts = verdicts.map_err(SessionError::from)?;
        Ok(self.driver.handle_judged(job, verdicts)?)
    }

    /// Queues frames to send, and reads the facts in them from the store.
    fn fill(&mut self, queued: usize) -> Result<(), SessionFailure> {
        if let Some(now) = self.host.now() {
            self.driver.tell_time(now);
        }
        if self.driver.awaits_hello() && self.greeted_at.is_none() {
            self.greeted_at = Some(Instant::now());
        }
        let (_, writer) = self.stream.halves();
        let (driver, host) = (&mut self.driver, &self.host);
        heavy(|| {
            let now = host.snapshot();
            for frame in driver.fill(&now.view, now.reader.as_ref(), queued)? {
                let no_frame = |_| InternalError::Session("it made a frame that is none");
                writer.queue(frame).map_err(no_frame).map_err(SessionError::from)?;
            }
            Ok(())
        })
    }

    /// Processes a frame and the complete frames that have been read with it; their facts form one batch.
    fn take_frames(&mut self, first: Bytes) -> Result<(), SessionFailure> {
        let view = self.host.snapshot().view;
        if self.driver.awaits_hello() {
            let at = Instant::now();
            let since = self.greeted_at.map(|greeted| at.duration_since(greeted));
            self.met = self.host.now().map(|now| (now, at, since));
            heavy(|| self.driver.handle_frame(first, &view))?;
        } else {
            self.driver.handle_frame(first, &view)?;
        }
        let (reader, _) = self.stream.halves();
        while self.driver.may_read() {
            let Some(frame) = reader.buffered()? else { break };
            self.driver.handle_frame(frame, &view)?;
        }
        Ok(())
    }
}

/// Ends the stream as the session's result requires. Returns the result and the stream's final byte counts.
async fn end(
    stream: SessionStream,
    result: Result<Outcome, SessionFailure>,
) -> (Result<Outcome, SessionFailure>, StreamBytes) {
    let bytes = stream.bytes();
    match result {
        // Both sides have reached the outcome; whether the peer still ends its stream does not change it.
        Ok(outcome) => (Ok(outcome), stream.finish().await.unwrap_or(bytes)),
        Err(failure) => {
            match &failure {
                SessionFailure::Session(error) if error.blames_peer() => {
                    stream.shut_out(refusal(error).0, &error.to_string());
                }
                SessionFailure::Session(error) => match refusal(error) {
                    (code, true) => stream.drop_peer(code, &error.to_string()),
                    (code, false) => stream.abort(code),
                },
                SessionFailure::Transport(TransportError::GaveWay) => stream.abort(Code::Busy),
                // The stream has ended already, or dropping it cancels it.
                SessionFailure::Transport(_) => drop(stream),
            }
            (Err(failure), bytes)
        }
    }
}

/// Returns the code that the peer receives for a session's error, and whether to close its connection.
fn refusal(error: &SessionError) -> (Code, bool) {
    match error {
        SessionError::ForeignCluster(_) => (Code::ForeignCluster, true),
        SessionError::Version(_) => (Code::Version, true),
        SessionError::Misbehaved(_) => (Code::Misbehaved, true),
        SessionError::Protocol(_) => (Code::Protocol, true),
        SessionError::Storage(_) => (Code::Store, false),
        SessionError::Bye(_) => (Code::Cancelled, false),
        SessionError::ShuttingDown => (Code::Shutdown, false),
        _ => (Code::Internal, false),
    }
}

/// Runs work that computes or reads a disk for longer than a worker thread should be blocked.
fn heavy<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
