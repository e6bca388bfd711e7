//! Faults of the program itself, distinguished from faults of the disk and of peers.

use crate::storage::StorageError;

/// A fault of the program: an impossible state, or a panic. Neither the disk nor a peer causes it, and everything
/// acknowledged before remains stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InternalError {
    /// A session reached an impossible state, which the text describes.
    #[error("a fault of the program in a session ({0})")]
    Session(&'static str),
    /// The thread that merges facts panicked. No fact is accepted until the agent is restarted.
    #[error("a fault of the program ended the thread that takes facts in")]
    Committer,
    /// A task, which the text names, panicked or returned an answer that does not fit its request.
    #[error("a fault of the program in {0}")]
    Task(&'static str),
}

impl InternalError {
    /// Returns the stable code of the fault.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Session(_) => "internal.session",
            Self::Committer => "internal.committer",
            Self::Task(_) => "internal.task",
        }
    }
}

/// Reason why a replica accepts no facts.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The store failed, so that nothing can be stored.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The program has a fault, after which it accepts no facts.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// The replica is being stopped.
    #[error("the replica is shutting down")]
    ShuttingDown,
}

impl Failure {
    /// Returns the stable code of the reason.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Storage(error) => error.code(),
            Self::Internal(error) => error.code(),
            Self::ShuttingDown => "shutdown",
        }
    }
}
