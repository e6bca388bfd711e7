//! Faults of the program itself, told apart from those of the disk and of peers.

use crate::storage::StorageError;

/// A fault of the program: a state that cannot be, or work that panicked. Neither the disk nor a peer causes it, and
/// what was acknowledged before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InternalError {
    /// A session came to a state that it cannot have.
    #[error("a fault of the program in a session ({0})")]
    Session(&'static str),
    /// The committer panicked. It takes nothing in until the agent is started again.
    #[error("a fault of the program ended the thread that takes facts in")]
    Committer,
    /// A task panicked, or gave an answer that does not fit its question.
    #[error("a fault of the program in {0}")]
    Task(&'static str),
}

impl InternalError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Session(_) => "internal.session",
            Self::Committer => "internal.committer",
            Self::Task(_) => "internal.task",
        }
    }
}

/// Why a replica takes nothing in.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Its store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The program is at fault.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// It is being stopped.
    #[error("the replica is shutting down")]
    ShuttingDown,
}

impl Failure {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Storage(error) => error.code(),
            Self::Internal(error) => error.code(),
            Self::ShuttingDown => "shutdown",
        }
    }
}
