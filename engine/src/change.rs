//! Events for readers: the changes of keys that a merge makes.

use kvgossip_grants::{EntryId, FactId, GrantId, Key};

/// Cause of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// This entry was merged.
    Written(EntryId),
    /// This grant was revoked; the entries that ended cited it or a grant below it.
    Revoked(GrantId),
    /// This floor ended entries.
    Floored(FactId),
}

/// A change of a key's frontier. Expiry changes what readers see without such an event: see
/// [`Authority::next_expiry`](kvgossip_grants::Authority::next_expiry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Number of the change since the replica was opened, from 1.
    pub seq: u64,
    /// Key that changed.
    pub key: Key,
    /// Newest entry before the change, masked or not.
    pub old: Option<EntryId>,
    /// Newest entry after the change, masked or not. It equals `old` if only an older entry was added or removed.
    pub new: Option<EntryId>,
    /// Cause of the change.
    pub cause: Cause,
}
