//! What a merge changes for readers.

use kvgossip_grants::{EntryId, FactId, GrantId, Key};

/// Why a key changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// An entry was taken in.
    Written(EntryId),
    /// This grant was revoked; the entries that ended cited it or a grant below it.
    Revoked(GrantId),
    /// This floor ended entries.
    Floored(FactId),
}

/// What stands of a key changed. Expiry changes what is *read* without any such event: see
/// [`Authority::next_expiry`](kvgossip_grants::Authority::next_expiry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Counts changes since the replica was opened, from 1.
    pub seq: u64,
    /// Which key.
    pub key: Key,
    /// The newest entry before, expired or not.
    pub old: Option<EntryId>,
    /// The newest entry now, expired or not. It equals `old` when only an older entry came or went.
    pub new: Option<EntryId>,
    /// Why.
    pub cause: Cause,
}
