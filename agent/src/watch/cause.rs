//! Causes of the events about a key.

use kvgossip_api::CauseRow;
use kvgossip_engine::Cause;
use kvgossip_grants::{EntryId, FactId, GrantId};

/// Cause of the latest change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The key has not changed: its state is sent at the start of a stream, or again.
    Current,
    /// This entry of the key was merged.
    Written(EntryId),
    /// This grant was revoked; the entries that ended cited it or a grant below it.
    Revoked(GrantId),
    /// This floor was merged, and ended entries of the key.
    Floored(FactId),
    /// This grant expired; the entries that are masked now cite it or a grant below it.
    Expired(GrantId),
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Written(id) => Self::Written(id),
            Cause::Revoked(id) => Self::Revoked(id),
            Cause::Floored(id) => Self::Floored(id),
            // A cause that this version does not know is sent without a reason.
            _ => Self::Current,
        }
    }
}

impl Why {
    /// Converts to the form that events carry. `is_delete`: whether the newest entry unsets the key.
    pub(super) fn row(self, is_delete: bool) -> CauseRow {
        let (kind, id) = match self {
            Self::Current => ("current", None),
            Self::Written(id) => (if is_delete { "deleted" } else { "written" }, Some(id.into())),
            Self::Revoked(id) => ("revoked", Some(id.into())),
            Self::Floored(id) => ("floored", Some(id)),
            Self::Expired(id) => ("expired", Some(id.into())),
        };
        CauseRow { kind: kind.to_owned(), id: id.map(|id: FactId| id.to_string()) }
    }
}
