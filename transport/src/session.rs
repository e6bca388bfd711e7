//! Runs the engine's session over a framed stream.
//!
//! The engine's [`Driver`] decides everything; this carries it out: it moves the bytes, runs the host's work beside
//! them, and holds the peer to the stream's rules.

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

/// The replica that a session works for.
pub trait SessionHost: Send + Sync + 'static {
    /// The committed state. Once a fact's verdict is given, it is part of every state taken later. It is read from where
    /// blocking is allowed.
    fn snapshot(&self) -> Snapshot;

    /// What the clock says that entries are stamped with. The peer is told it; `None`: it is told nothing.
    fn now(&self) -> Option<Timestamp> {
        None
    }

    /// Facts that the peer is asked not to send, and why: what is early or condemned here.
    fn declined(&self) -> Vec<(FactId, Reason)> {
        Vec::new()
    }

    /// Whether the store has reached its limit, so that the peer is asked for nothing but what may free room.
    fn is_full(&self) -> bool {
        false
    }

    /// What the peer is told if this replica has yet to end its first comparison with anybody.
    fn newcomer(&self) -> Option<Newcomer> {
        None
    }

    /// What the session has cost and done so far. Called while it runs, whenever that has changed.
    fn progress(&self, _: &Tally) {}

    /// Checks received facts, verifies their signatures, merges them and makes them durable; gives one verdict
    /// for each, in their order. A grant and what stands on it come in one batch, the grant first. Several calls run
    /// at once. Dropping the future must be safe at any time: what was committed stays.
    fn judge(&self, facts: Vec<Fact>) -> impl Future<Output = Result<Vec<Verdict>, Failure>> + Send;
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
    /// The root over what this side had and the peer was told of, where they still differ; see
    /// [`Session::told_root`].
    pub told: Option<Digest>,
    /// The root over everything that the peer held when it last said so; see [`Session::peer_root`].
    pub peer_root: Option<Digest>,
    /// What the peer tells if it has yet to end its first comparison with anybody; `None` if its hello did not come, too.
    pub peer_newcomer: Option<Newcomer>,
    /// Whether it only compared, so that nothing was moved.
    pub compared: bool,
    /// What it cost and did, by kind.
    pub tally: Tally,
    /// Exact bytes of the stream.
    pub bytes: StreamBytes,
    /// From the opening of the stream on this side to the end of it.
    pub time: Duration,
    /// What the peer's clock said, if the peer told it.
    pub their_clock: Option<ClockReading>,
}

/// The time in a peer's hello, and when that came.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// What the peer's clock said as the hello was sent.
    pub theirs: Timestamp,
    /// What the clock here said as the hello came.
    pub ours: Timestamp,
    /// When that was.
    pub at: std::time::Instant,
    /// How long before this side had sent its own hello, where theirs answers it.
    pub answered_after: Option<Duration>,
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
        newcomer: host.newcomer(),
    };
    let mut session = heavy(|| match host.is_full() {
        true => Session::when_full(config, &host.snapshot().view),
        false => Session::new(config, &host.snapshot().view),
    });
    session.decline(host.declined());
    drive(stream, session, host, began).await.0
}

/// Compares with the peer and moves nothing: what differs, where the session came to its end.
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

/// What the host made of a job.
type Judged = (JobId, Result<Vec<Verdict>, Failure>);

/// Carries out what a driver wants.
struct Carrier<H> {
    stream: SessionStream,
    driver: Driver,
    host: Arc<H>,
    jobs: JoinSet<Judged>,
    /// When this side sent its hello, where it was the first to.
    greeted_at: Option<Instant>,
    /// What the clock said as the peer's hello came, when that was, and how long after this side's.
    met: Option<(Timestamp, Instant, Option<Duration>)>,
    /// What the host was told last.
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

    /// Waits for whatever the session can go on with. The peer's clock runs only while we wait for the peer.
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

    /// Queues frames. Facts are read from the store here.
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

    /// Takes a frame, and those behind it that are here already: their facts make one batch.
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
                SessionFailure::Session(error) if error.blames_peer() => {
                    stream.shut_out(refusal(error).0, &error.to_string());
                }
                SessionFailure::Session(error) => match refusal(error) {
                    (code, true) => stream.drop_peer(code, &error.to_string()),
                    (code, false) => stream.abort(code),
                },
                SessionFailure::Transport(TransportError::GaveWay) => stream.abort(Code::Busy),
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
        SessionError::ShuttingDown => (Code::Shutdown, false),
        _ => (Code::Internal, false),
    }
}

/// Runs what computes or reads a disk for longer than a worker thread should be taken from other tasks.
fn heavy<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
