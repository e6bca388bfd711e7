//! State of one watched key, by the same rules as in a replica.

use super::offered::Offered;
use super::state::{Cause, Dirty, Entry, Value};
use super::streams::StreamId;
use super::told::{Part, Told};
use super::{MAX_HELD_ENTRIES, MAX_HELD_VALUE_BYTES, MAX_WAITING_ENTRIES, VALUE_RETRY_US};
use kvgossip_grants::{
    Authority, EntryFact, EntryId, EntryMeta, FactId, Frontier, GrantId, Key, LiveGrant, Offer, Rank,
    Timestamp,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Fraction of a full list of entries that is kept when some are dropped; dropping many at once makes it rare.
const KEPT_PART: (usize, usize) = (3, 4);

/// Entry that waits for its grant to arrive, or for its timestamp to come due.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) offered: Offered,
    /// Endpoint of the agent that sent the entry.
    pub(crate) endpoint: Arc<str>,
    pub(crate) since: Timestamp,
    /// Whether the entry has been reported as a rejection for waiting too long.
    pub(crate) reported: bool,
}

/// State of one watched key.
///
/// Memory is bounded. Beyond `MAX_HELD_ENTRIES` entries the oldest are dropped, and everything older is then
/// unknown. Beyond `MAX_HELD_VALUE_BYTES` of values, those of the oldest entries are dropped, but never that of
/// the shown entry.
#[derive(Debug, Default)]
pub(crate) struct KeyState {
    /// Frontier: verified entries that no other supersedes.
    standing: Frontier<()>,
    /// Facts with values for some entries of `standing`, by rank: the shown entry, and others that were
    /// received with their value.
    values: BTreeMap<Rank, EntryFact>,
    /// Total size of the records in `values`, in bytes.
    value_bytes: usize,
    /// Rank of the newest entry dropped for lack of room; entries that are not newer are not taken in.
    fell: Option<Rank>,
    /// Whether one of the dropped entries is not masked, so that it may be shown once all newer ones are
    /// masked.
    hides: bool,
    /// Entries that wait for a grant, or until they are due; at most `MAX_WAITING_ENTRIES`.
    waiting: Vec<Waiting>,
    /// What the connected agent says about the key; `None` until it has sent something of it on this
    /// connection.
    pub(crate) told: Option<Told>,
    /// Whether the key was found to be unset, and no entry has been shown since.
    absent: bool,
    /// Cause of the key's present value; `None` while nothing is known.
    pub(crate) cause: Option<Cause>,
    /// State of the key that `cause` led to.
    seen: Seen,
    /// Id of the entry whose value was requested last, and the time of the request; `None` before the first.
    value_asked: Option<(EntryId, Timestamp)>,
}

/// Known state of a key, whether or not the value has been received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Nothing,
    Unset,
    Entry(EntryId),
}

/// Result of merging a verified entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// The entry is in the frontier.
    Stands,
    /// An entry of the frontier supersedes it.
    Dominated,
}

impl KeyState {
    /// Returns whether the key has neither a live nor a waiting entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.standing.is_empty() && self.waiting.is_empty()
    }

    /// Returns whether the frontier is empty.
    pub(crate) fn is_bare(&self) -> bool {
        self.standing.is_empty()
    }

    /// Ids of the entries in the frontier, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.standing.ids()
    }

    pub(crate) fn contains(&self, id: &EntryId) -> bool {
        self.standing.contains(id)
    }

    /// Merges a verified entry of this key, whose live grant is `grant`.
    pub(crate) fn merge(
        &mut self,
        offered: Offered,
        grant: Option<Arc<LiveGrant>>,
        now: Timestamp,
    ) -> Merged {
        let meta = EntryMeta::new(offered.id(), offered.entry(), grant);
        let Offer::Stands { ended } = self.standing.offer(meta, ()) else { return Merged::Dominated };
        ended.into_iter().for_each(|entry| self.ended(&entry.meta));
        self.keep_value(offered);
        self.make_room(now);
        Merged::Stands
    }

    /// Keeps the value of an entry of the frontier.
    pub(crate) fn keep_value(&mut self, offered: Offered) {
        let rank = offered.rank();
        let Some(fact) = offered.into_fact().filter(|_| !self.values.contains_key(&rank)) else { return };
        self.value_bytes += fact.record().len();
        self.values.insert(rank, fact);
    }

    /// Returns an entry of the frontier, if its value is kept.
    pub(crate) fn fact(&self, id: &EntryId) -> Option<&EntryFact> {
        self.values.get(&self.standing.get(id)?.meta.rank())
    }

    /// Number of entries of the frontier that the connected agent has sent; `None` if it has not sent the key,
    /// or part of what it sent is disputed.
    pub(crate) fn told_standing(&self) -> Option<usize> {
        let told = self.told.as_ref().filter(|told| !told.is_disputed())?;
        Some(self.standing.len().saturating_sub(told.lacking()))
    }

    /// Records that an agent other than the connected one sent an entry that is now in the frontier.
    pub(crate) fn note_learned(&mut self, id: EntryId) {
        if let Some(told) = &mut self.told {
            told.note_lacking(id);
        }
    }

    /// Returns whether this entry is shown and the connected agent has not sent it.
    pub(crate) fn lacks_shown(&self, id: &EntryId, now: Timestamp) -> bool {
        // An agent that sent something that cannot be judged here may hold an entry that supersedes this one.
        let told = self.told.as_ref().filter(|told| !told.has_unverified());
        let is_shown = self.newest(now).is_some_and(|shown| shown.id == *id);
        is_shown && told.is_some_and(|told| told.lacks(id))
    }

    #[cfg(test)]
    pub(crate) fn held_value_bytes(&self) -> usize {
        self.value_bytes
    }

    fn drop_value(&mut self, rank: &Rank) {
        if let Some(fact) = self.values.remove(rank) {
            self.value_bytes -= fact.record().len();
        }
    }

    /// Cleans up after an entry that left the frontier.
    fn ended(&mut self, meta: &EntryMeta) {
        self.drop_value(&meta.rank());
        if let Some(told) = &mut self.told {
            told.forget(&meta.id);
        }
    }

    /// Drops the oldest entries if there are more than `MAX_HELD_ENTRIES`, but never the shown one.
    fn make_room(&mut self, now: Timestamp) {
        if self.standing.len() <= MAX_HELD_ENTRIES {
            return;
        }
        let kept = MAX_HELD_ENTRIES * KEPT_PART.0 / KEPT_PART.1;
        let Some(rank) = self.standing.newest_first().nth(kept).map(|entry| entry.meta.rank()) else {
            return;
        };
        let shown = self.newest(now).map(EntryMeta::rank);
        self.fell = Some(rank);
        for entry in self.standing.end_down_from(rank) {
            if Some(entry.meta.rank()) == shown {
                // No entry of the frontier supersedes it, and it supersedes none.
                self.standing.offer(entry.meta, ());
                continue;
            }
            self.hides |= !entry.meta.is_masked(now);
            self.ended(&entry.meta);
        }
    }

    /// Returns whether there is no room for an entry of this rank under this grant (if live): it is older than
    /// the dropped ones, and would not be shown.
    pub(crate) fn falls(&mut self, rank: Rank, grant: Option<&LiveGrant>, now: Timestamp) -> bool {
        if self.fell.is_none_or(|fell| rank > fell) {
            return false;
        }
        if grant.and_then(LiveGrant::valid_until).is_some_and(|until| until < now) {
            return true;
        }
        let falls = self.newest(now).is_some_and(|shown| shown.rank() > rank);
        self.hides |= falls;
        falls
    }

    /// Adds a waiting entry. Returns whether there was room, with at most `MAX_WAITING_ENTRIES`.
    pub(crate) fn wait(&mut self, waiting: Waiting) -> bool {
        let room = self.waiting.len() < MAX_WAITING_ENTRIES;
        if room {
            self.waiting.push(waiting);
        }
        room
    }

    /// Returns the waiting entry with this id.
    pub(crate) fn awaiting(&mut self, id: &EntryId) -> Option<&mut Waiting> {
        self.waiting.iter_mut().find(|waiting| waiting.offered.id() == *id)
    }

    /// Removes and returns all waiting entries.
    pub(crate) fn take_waiting(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn waiting_mut(&mut self) -> &mut [Waiting] {
        &mut self.waiting
    }

    /// Total weight of the waiting entries of this key, in bytes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.offered.weight()).sum()
    }

    /// Removes the entries that cite this grant or one below it. Returns whether there were any.
    pub(crate) fn end_below(&mut self, grant: &Arc<LiveGrant>) -> bool {
        let ended = self.standing.end_below(grant);
        ended.iter().for_each(|entry| self.ended(&entry.meta));
        !ended.is_empty()
    }

    /// Removes the entries of this key that a floor ends. Returns whether there were any.
    pub(crate) fn end_floored(&mut self, authority: &Authority, key: &Key) -> bool {
        let Some(before) = authority.floor_of(key) else { return false };
        let ended = self.standing.end_older(before);
        ended.iter().for_each(|entry| self.ended(&entry.meta));
        !ended.is_empty()
    }

    /// Timestamp of the newest entry of the frontier, whether shown or not; `None` if the frontier is empty.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.standing.newest().map(|entry| entry.meta.timestamp)
    }

    /// Entry shown at `now`; it may be a delete. `None` if every live entry is masked or there is none.
    pub(crate) fn newest(&self, now: Timestamp) -> Option<&EntryMeta> {
        self.standing.shown(now).map(|entry| &entry.meta)
    }

    /// Value at `now`. The newest entry that is not masked decides. Without one, the key is absent if it was
    /// found to be unset, and unknown otherwise. It is also unknown while that entry's value has not been
    /// received.
    pub(crate) fn value(&self, now: Timestamp) -> Value {
        match self.newest(now) {
            Some(shown) if shown.is_delete => Value::Absent,
            Some(shown) => {
                let fact = self.values.get(&shown.rank()).and_then(Entry::of);
                fact.map_or(Value::Unknown, Value::Present)
            }
            None if self.absent => Value::Absent,
            None => Value::Unknown,
        }
    }

    /// Id of the shown entry, if it sets the key and its value has not been received.
    pub(crate) fn lacks_value(&self, now: Timestamp) -> Option<EntryId> {
        let shown = self.newest(now).filter(|shown| !shown.is_delete)?;
        (!self.values.contains_key(&shown.rank())).then_some(shown.id)
    }

    /// Like [`KeyState::lacks_value`], but only if the value may be requested now; records the request.
    pub(crate) fn ask_value(&mut self, now: Timestamp) -> Option<EntryId> {
        let id = self.lacks_value(now)?;
        let is_early = self
            .value_asked
            .is_some_and(|(asked, at)| asked == id && at <= now && now < at.saturating_add(VALUE_RETRY_US));
        if is_early {
            return None;
        }
        self.value_asked = Some((id, now));
        Some(id)
    }

    /// Prepares for an event of a stream about the key.
    pub(crate) fn begin_event(&mut self, part: Part, stream: StreamId) {
        let anew = self.told.as_ref().is_none_or(|told| self.hides || told.is_begun_anew_by(part, stream));
        if anew && matches!(part, Part::Whole | Part::First { .. }) {
            (self.fell, self.hides) = (None, false);
            self.told = Some(Told::begin(self.standing.ids()));
        }
        let told = self.told.get_or_insert_with(|| Told::begin(self.standing.ids()));
        // The agent sends the key again, or shows another entry.
        told.outdated &= matches!(part, Part::Next { .. } | Part::Last { .. });
    }

    /// Returns whether the key must be loaded again: all known entries have ended, and an entry dropped earlier
    /// may now be shown.
    pub(crate) fn has_lost_sight(&self, now: Timestamp) -> bool {
        self.hides && self.newest(now).is_none() && self.told.as_ref().is_some_and(Told::is_whole)
    }

    /// Returns why the value may not be the latest, while the agent is in step; `None` if the agent confirms
    /// it.
    pub(crate) fn dirt(&self, now: Timestamp) -> Option<Dirty> {
        let Some(told) = &self.told else { return Some(Dirty::Loading) };
        let newest = self.newest(now);
        if told.has_unverified() {
            return Some(Dirty::Unverified);
        }
        if !told.decides(newest.map(EntryMeta::rank)) || self.value(now) == Value::Unknown {
            return Some(Dirty::Loading);
        }
        let behind = told.outdated || newest.is_some_and(|newest| told.lacks(&newest.id));
        behind.then_some(Dirty::Behind)
    }

    /// Updates the cause if the value has changed, and returns whether it has. `why` matters only if no entry
    /// came to be shown.
    pub(crate) fn settle(&mut self, authority: &Authority, now: Timestamp, why: Why) -> bool {
        let newest = self.newest(now).map(|meta| (meta.id, meta.is_delete));
        self.absent = newest.is_none()
            && (self.absent || !self.hides && self.told.as_ref().is_some_and(Told::is_certain));
        self.drop_values(now);
        let seen = match newest {
            Some((id, _)) => Seen::Entry(id),
            None if self.absent => Seen::Unset,
            None => Seen::Nothing,
        };
        if seen == self.seen {
            return false;
        }
        let told = match newest {
            Some((id, true)) => Cause::Deleted(id),
            Some((id, false)) => Cause::Written(id),
            None => Cause::Loaded,
        };
        let ended = self.cause.filter(|_| self.seen == Seen::Nothing && seen == Seen::Unset);
        let cause = match why {
            Why::Revoked(id) => Cause::Revoked(id),
            Why::Floored(id) => Cause::Floored(id),
            Why::Expired => self.expired(authority, now).map_or(told, Cause::Expired),
            // The cause of the end was recorded when it was not yet known whether another entry is live.
            Why::Told => ended.unwrap_or(told),
        };
        (self.seen, self.cause) = (seen, Some(cause));
        true
    }

    /// Drops the values of the oldest entries while all values exceed `MAX_HELD_VALUE_BYTES`.
    fn drop_values(&mut self, now: Timestamp) {
        if self.value_bytes <= MAX_HELD_VALUE_BYTES {
            return;
        }
        let shown = self.newest(now).map(EntryMeta::rank);
        let others: Vec<Rank> = self.values.keys().copied().filter(|rank| Some(*rank) != shown).collect();
        for rank in others {
            if self.value_bytes <= MAX_HELD_VALUE_BYTES {
                break;
            }
            self.drop_value(&rank);
        }
    }

    /// Grant of the previously shown entry, if it has expired. (If the clock is set back, a newer entry is
    /// shown again although nothing expired.)
    fn expired(&self, authority: &Authority, now: Timestamp) -> Option<GrantId> {
        let Seen::Entry(id) = self.seen else { return None };
        let before = self.standing.get(&id)?;
        before.meta.grant_id().filter(|grant| authority.is_masked(Some(grant), now))
    }
}

/// Event after which a key's value is re-evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    /// An agent sent the key, or an entry of it.
    Told,
    /// A revocation arrived that names the grant with this id.
    Revoked(GrantId),
    /// The floor with this id arrived.
    Floored(FactId),
    /// The clock advanced, so that grants may have expired.
    Expired,
}
