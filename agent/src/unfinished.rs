//! Work on another thread that did not complete.

use kvgossip_engine::{Failure, InternalError};
use tokio::task::JoinError;

/// Converts the failure of a background task, named by `work`, to a [`Failure`]: shutdown if cancelled, internal if
/// it panicked.
pub(crate) fn unfinished(error: &JoinError, work: &'static str) -> Failure {
    if error.is_cancelled() {
        return Failure::ShuttingDown;
    }
    tracing::error!(%error, code = InternalError::Task(work).code(), "a task panicked: {work}");
    InternalError::Task(work).into()
}
