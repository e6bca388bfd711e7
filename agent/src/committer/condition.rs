//! What must hold when facts are merged, and why they were not.

use crate::condition::{Precondition, Unmet};
use kvgossip_engine::{Failure, InternalError, StorageError};
use kvgossip_grants::{EntryId, Key};

/// What must hold when facts are merged.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Of the entry that this key shows.
    pub key: Key,
    /// What is asked of it.
    pub only_if: Precondition,
}

/// Why facts were not merged.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The store failed, or the program.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The condition does not hold.
    #[error("{} {}, and {unmet} asks for something else", .key, .shown.map_or("is unset".into(), |id| format!("holds entry {id}")))]
    Conflict {
        /// Of this key
        key: Key,
        /// this entry is shown.
        shown: Option<EntryId>,
        /// What does not hold.
        unmet: Unmet,
    },
}

impl From<StorageError> for CommitError {
    fn from(error: StorageError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<InternalError> for CommitError {
    fn from(error: InternalError) -> Self {
        Self::Failure(error.into())
    }
}

impl CommitError {
    /// The failure, where no condition was set.
    pub(crate) fn unconditional(self) -> Failure {
        match self {
            Self::Failure(failure) => failure,
            Self::Conflict { .. } => InternalError::Task("the committer: a condition that nobody set").into(),
        }
    }
}
