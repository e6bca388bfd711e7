//! Conditions of a write, and the errors of a conditional commit.

use crate::condition::{Precondition, Unmet};
use crate::waiting::Waiting;
use kvgossip_engine::{Failure, InternalError, StorageError, View};
use kvgossip_grants::{EntryId, Key, Timestamp};
use std::sync::Arc;

/// A condition that must hold at the moment when facts are merged.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Key whose shown entry is tested.
    pub key: Key,
    /// Requirement on the entry that the key shows at that moment.
    pub only_if: Precondition,
    /// The waiting room: while an early entry of the key is in it, a key that shows nothing has an unknown value.
    pub(crate) waiting: Arc<Waiting>,
}

impl Condition {
    /// Checks the condition against the state into which the facts would be merged.
    pub(super) fn check(&self, view: &View, now: Timestamp) -> Result<(), CommitError> {
        let shown = view.shown(&self.key, now).map(|entry| entry.id);
        if shown.is_none() && !self.waiting.early_entries(&self.key).is_empty() {
            return Err(CommitError::Unknown { key: self.key.clone() });
        }
        let checked = self.only_if.check(shown.as_ref());
        checked.map_err(|unmet| CommitError::Conflict { key: self.key.clone(), shown, unmet })
    }
}

/// Reason why a commit merged none of its facts.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A failure of the store or of the program, independent of the condition.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The condition does not hold: the key does not show an entry that the condition accepts.
    #[error("{} {}, and {unmet} asks for something else", .key, .shown.map_or("is unset".into(), |id| format!("holds entry {id}")))]
    Conflict {
        /// Key whose shown entry was tested.
        key: Key,
        /// Id of the entry that the key shows; `None`: the key is unset.
        shown: Option<EntryId>,
        /// The part of the requirement that does not hold.
        unmet: Unmet,
    },
    /// The key shows nothing, but an early entry of it waits, so it is unknown whether the key has a value.
    #[error(
        "an entry of {key} waits until it is due by this replica's clock, so it is not known whether the key has a value: \
         set the clock that is wrong, see `kvgossip status`, or ask another agent"
    )]
    Unknown {
        /// Key of the condition, for which an early entry waits.
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
    /// Converts the error of a commit without a condition to a [`Failure`].
    pub(crate) fn unconditional(self) -> Failure {
        match self {
            Self::Failure(failure) => failure,
            Self::Conflict { .. } | Self::Unknown { .. } => {
                InternalError::Task("the committer: a condition that nobody set").into()
            }
        }
    }
}
