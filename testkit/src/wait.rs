//! Waiting for a condition, with a limit.
//!
//! The limits are many times what anything takes: a slow machine must not fail a test.

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// What a condition gives: whether it holds, or what was found.
pub trait Condition {
    /// What the waiting gives.
    type Found;

    /// The value once the condition holds; none before.
    fn found(self) -> Option<Self::Found>;
}

impl Condition for bool {
    type Found = ();

    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Condition for Option<T> {
    type Found = T;

    fn found(self) -> Self {
        self
    }
}

/// Waits until a condition holds, and gives what it found.
///
/// # Panics
/// After [`PATIENCE`], with `what` in the message.
pub async fn eventually<C: Condition>(what: &str, mut condition: impl AsyncFnMut() -> C) -> C::Found {
    let began = Instant::now();
    loop {
        if let Some(found) = condition().await.found() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`eventually`] without a runtime.
///
/// # Panics
/// After [`PATIENCE`], with `what` in the message.
#[track_caller]
pub fn wait_until<C: Condition>(what: &str, mut condition: impl FnMut() -> C) -> C::Found {
    let began = Instant::now();
    loop {
        if let Some(found) = condition().found() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Waits for what must come.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}
