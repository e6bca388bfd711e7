//! Forgetting entries from the future at a start, because an operator says so.

use crate::opening::Opened;
use kvgossip_engine::StorageError;
use kvgossip_engine::declined::Declined;
use kvgossip_grants::Timestamp;

/// What was forgotten.
#[derive(Debug)]
pub struct Forgotten {
    /// How many entries.
    pub entries: usize,
    /// These entries in their waiting room, for [`Config::declined`](crate::Config::declined).
    pub declined: Declined,
}

/// Takes entries that are more than two minutes ahead of `now` out of the state and the store of a replica that was opened,
/// and into the waiting room: they are taken in when they are due, like those that peers send early. The room lies in
/// memory, so that an entry which no peer has is lost if the agent ends before that.
///
/// What these entries had superseded is not here any more. It comes from peers that never took them in.
///
/// # Errors
/// When the store fails.
pub fn forget_future(opened: &mut Opened, now: Timestamp) -> Result<Forgotten, StorageError> {
    let mut declined = Declined::new(opened.replica.view().authority().cluster());
    let mut keep = |fact: &_, due| declined.keep_forgotten(fact, due);
    let entries = opened.replica.forget_early(&mut opened.storage, now, &mut keep)?;
    Ok(Forgotten { entries, declined })
}
