//! Waits for conditions, with a time limit.
//!
//! The limit is many times the usual duration, so that a slow machine does not fail a test.

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of every wait in a test.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Interval between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Result of checking a condition: a `bool`, or a value that was found.
pub trait Condition {
    /// Value that the wait returns.
    type Found;

    /// Returns the value if the condition holds, else `None`.
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

/// Waits until a condition holds, and returns the value that it found.
///
/// # Panics
/// The condition does not hold after [`PATIENCE`]; the message contains `what`.
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

/// Like [`eventually`], without a runtime.
///
/// # Panics
/// The condition does not hold after [`PATIENCE`]; the message contains `what`.
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

/// Awaits a future that must complete in time.
///
/// # Panics
/// The future is not complete after [`PATIENCE`].
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}
