//! Detects a commit that does not end.
//!
//! The engine can wait for ever on a disk that has failed without an error. Writers must get an answer then, and the
//! agent's health must show it.

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use kvgossip_engine::{Failure, StorageError};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Maximum duration of a commit before it is reported. The longest measured with a million entries was 1.3 s.
pub const STALL_LIMIT: Duration = Duration::from_secs(15);
/// Default interval at which the free space of a full disk is checked again.
const ROOM_INTERVAL: Duration = Duration::from_secs(5);
/// Number of checks by the watchdog within the maximum duration of a commit.
const LOOKS: u32 = 8;

/// Limit on the duration of a commit, and interval of the checks of a full disk.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Duration after which a commit is reported as stalled.
    pub stall: Duration,
    /// Interval at which the free space of a full disk is checked again.
    pub room: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stall: STALL_LIMIT, room: ROOM_INTERVAL }
    }
}

/// The committer's side of the watchdog: when the committer is busy, and why it accepts no facts.
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// The watchdog thread ends when this is dropped.
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
    /// The committer's own failure. During a stall, the stall is published in its place; this field keeps the failure.
    failure: Option<Failure>,
    is_stalled: bool,
}

/// A guard: while it exists, the committer is busy with a commit, which should end within the limit.
pub(super) struct Busy(Arc<Shared>);

impl Watch {
    /// Starts the watchdog thread. `failed` receives what is published: a stall, or else the committer's failure.
    /// `limit`: duration after which a commit counts as stalled.
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

    /// Marks the start of a commit or a sweep; it ends when the returned guard is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.shared.state.lock().busy_since = Some(Instant::now());
        Busy(self.shared.clone())
    }

    /// Returns the failure because of which the committer accepts no facts; `None`: no failure, or only a stall.
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

    /// Publishes the state. The caller holds the lock, so that the last published state is the current one.
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
