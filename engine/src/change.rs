//! Events for readers: the changes of keys that a merge makes.

use kvgossip_grants::{EntryId, FactId, GrantId, Key};

/// Cause of a change of a key's frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The entry with this id was merged.
    Written(EntryId),
    /// The grant with this id was revoked; the entries that ended cited it or a grant below it.
    Revoked(GrantId),
    /// The floor with this id ended entries of the key.
    Floored(FactId),
}

/// A change of a key's frontier. Expiry changes what readers see without such an event: see
/// [`Authority::next_expiry`](kvgossip_grants::Authority::next_expiry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Number of the change since the replica was opened, from 1.
    pub seq: u64,
    /// Key whose frontier changed.
    pub key: Key,
    /// Id of the key's newest entry before the change, masked or not; `None` if the key had no entry.
    pub old: Option<EntryId>,
    /// Id of the key's newest entry after the change, masked or not; `None` if it has no entry. It equals `old` if only
    /// an older entry was added or removed.
    pub new: Option<EntryId>,
    /// What caused the change.
    pub cause: Cause,
}
