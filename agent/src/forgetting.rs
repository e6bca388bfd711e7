//! Removal of entries from the future at start-up, on an operator's request.

use crate::opening::Opened;
use kvgossip_engine::StorageError;
use kvgossip_engine::declined::Declined;
use kvgossip_grants::Timestamp;

/// The result of [`forget_future`].
#[derive(Debug)]
pub struct Forgotten {
    /// Number of entries removed from the store.
    pub entries: usize,
    /// The removed entries, in a waiting room, for [`Config::declined`](crate::Config::declined).
    pub declined: Declined,
}

/// Moves entries that are more than two minutes ahead of `now` from the state and the store to a waiting room. They
/// are merged when they are due, like early entries from peers. The waiting room is in memory: an entry that no peer
/// has is lost if the agent ends before it is due.
///
/// The entries that these had superseded are gone from this store. Peers that never merged the early ones send them
/// again.
///
/// # Errors
/// When the store fails.
pub fn forget_future(opened: &mut Opened, now: Timestamp) -> Result<Forgotten, StorageError> {
    let mut declined = Declined::new(opened.replica.view().authority().cluster());
    let mut keep = |fact: &_, due| declined.keep_forgotten(fact, due);
    let entries = opened.replica.forget_early(&mut opened.storage, now, &mut keep)?;
    Ok(Forgotten { entries, declined })
}
