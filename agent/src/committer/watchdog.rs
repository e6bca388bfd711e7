//! Notices a commit that does not end.
//!
//! The engine can wait for ever behind a disk that has failed without saying so. Whoever offers facts must hear of it,
//! and so must whoever asks whether the agent is well.

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use kvgossip_engine::{Failure, StorageError};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a commit may take. The longest that were measured with a million entries took 1.3 s.
pub const STALL_LIMIT: Duration = Duration::from_secs(15);
/// How often a disk without room is asked again.
const ROOM_INTERVAL: Duration = Duration::from_secs(5);
/// How many looks the watchdog takes within its limit.
const LOOKS: u32 = 8;

/// How long the committer and its watchdog wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A commit that takes longer is reported.
    pub stall: Duration,
    /// A disk without room is asked again after this time.
    pub room: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stall: STALL_LIMIT, room: ROOM_INTERVAL }
    }
}

/// The committer's side: says when it is busy, and holds why it takes nothing in.
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// The watchdog ends when this is dropped.
    _alive: Sender<()>,
}

struct Shared {
    limit: Duration,
    state: Mutex<State>,
    failed: watch::Sender<Option<Failure>>,
}

#[derive(Default)]
struct State {
    busy_since: Option<Instant>,
    /// What the watchdog has not said; a stall hides it only from others.
    failure: Option<Failure>,
    is_stalled: bool,
}

/// While it lives, the committer is at something that should end soon.
pub(super) struct Busy(Arc<Shared>);

impl Watch {
    /// Starts the watchdog. What is told to others goes to `failed`.
    pub(super) fn start(failed: watch::Sender<Option<Failure>>, limit: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { limit, state: Mutex::default(), failed });
        let (alive, ended) = bounded::<()>(0);
        let watched = shared.clone();
        let look = move || {
            while ended.recv_timeout(watched.limit / LOOKS) == Err(RecvTimeoutError::Timeout) {
                watched.look();
            }
        };
        std::thread::Builder::new().name("watchdog".into()).spawn(look)?;
        Ok(Self { shared, _alive: alive })
    }

    /// Begins something that should end soon.
    pub(super) fn busy(&self) -> Busy {
        self.shared.state.lock().busy_since = Some(Instant::now());
        Busy(self.shared.clone())
    }

    /// Why nothing is taken in, but for a stall.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.shared.state.lock().failure.clone()
    }

    pub(super) fn set_failure(&self, failure: Option<Failure>) {
        let mut state = self.shared.state.lock();
        state.failure = failure;
        self.shared.tell(&state);
    }
}

impl Shared {
    fn look(&self) {
        let mut state = self.state.lock();
        let too_long = state.busy_since.is_some_and(|since| since.elapsed() > self.limit);
        if too_long && !state.is_stalled {
            state.is_stalled = true;
            self.tell(&state);
            tracing::error!(limit = ?self.limit, code = "store.stalled", "a commit does not end: look at the disk");
        }
    }

    /// Tells others, under the lock, so that what is told last is what holds.
    fn tell(&self, state: &State) {
        let stall = || StorageError::Stalled { after: self.limit }.into();
        let stalled = state.is_stalled.then(stall);
        self.failed.send_replace(stalled.or_else(|| state.failure.clone()));
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        let since = state.busy_since.take();
        if std::mem::take(&mut state.is_stalled) {
            self.0.tell(&state);
            let took = since.map(|since| since.elapsed()).unwrap_or_default();
            tracing::warn!(?took, "the commit that did not end has ended");
        }
    }
}
