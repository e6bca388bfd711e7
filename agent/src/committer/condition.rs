//! What must hold when facts are merged, and why they were not.

use crate::condition::{Precondition, Unmet};
use crate::waiting::Waiting;
use kvgossip_engine::{Failure, InternalError, StorageError, View};
use kvgossip_grants::{EntryId, Key, Timestamp};
use std::sync::Arc;

/// What must hold when facts are merged.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Of the entry that this key shows.
    pub key: Key,
    /// What is asked of it.
    pub only_if: Precondition,
    /// Which entries wait until they are due.
    pub(crate) waiting: Arc<Waiting>,
}

impl Condition {
    /// Holds it against the state that the facts would be merged into.
    pub(super) fn check(&self, view: &View, now: Timestamp) -> Result<(), CommitError> {
        let shown = view.shown(&self.key, now).map(|entry| entry.id);
        if shown.is_none() && !self.waiting.early_entries(&self.key).is_empty() {
            return Err(CommitError::Unknown { key: self.key.clone() });
        }
        let checked = self.only_if.check(shown.as_ref());
        checked.map_err(|unmet| CommitError::Conflict { key: self.key.clone(), shown, unmet })
    }
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
    /// The key shows nothing, and an entry of it waits: whether it has a value is not known.
    #[error(
        "an entry of {key} waits until it is due by this replica's clock, so it is not known whether the key has a value: \
         set the clock that is wrong, see `kvgossip status`, or ask another agent"
    )]
    Unknown {
        /// The key.
        key: Key,
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
            Self::Conflict { .. } | Self::Unknown { .. } => {
                InternalError::Task("the committer: a condition that nobody set").into()
            }
        }
    }
}
