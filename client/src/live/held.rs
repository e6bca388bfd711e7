//! What stands of one watched key, by the same rules as at a replica.

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

/// The part of a full list of entries that stays when some fall, as a fraction: the others fall together, so that it
/// happens seldom.
const KEPT_PART: (usize, usize) = (3, 4);

/// An entry that waits for a grant or for its time.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) offered: Offered,
    /// Who told it.
    pub(crate) endpoint: Arc<str>,
    pub(crate) since: Timestamp,
    /// Whether it has been reported.
    pub(crate) reported: bool,
}

/// One key.
///
/// Its memory is bounded: of very many entries the oldest fall first, and what is below them is not known any more; of
/// values, those of the oldest entries fall first, and never that of the entry that is shown.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Verified entries that no other dominates.
    standing: Frontier<()>,
    /// Entries of these with their values: the one that is shown, and others that were told with theirs.
    values: BTreeMap<Rank, EntryFact>,
    /// The bytes of these values.
    value_bytes: usize,
    /// The newest of the entries that fell for want of room: what is not newer is not taken in.
    fell: Option<Rank>,
    /// Whether one of these is not masked, so that it may be what is shown once all newer ones are.
    hides: bool,
    /// Entries that wait for a grant or for their time.
    waiting: Vec<Waiting>,
    /// What the agent says of the key; `None`: it has not said anything on this connection.
    pub(crate) told: Option<Told>,
    /// Whether the key was found to be unset, and nothing was shown since.
    absent: bool,
    /// What led to the value.
    pub(crate) cause: Option<Cause>,
    /// What `cause` belongs to.
    seen: Seen,
    /// Of which entry the value was asked for last, and when.
    value_asked: Option<(EntryId, Timestamp)>,
}

/// What a key is, as far as is known, whether or not the value is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Nothing,
    Unset,
    Entry(EntryId),
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// It stands.
    Stands,
    /// Another one that stands supersedes it.
    Dominated,
}

impl Held {
    /// Whether anything is remembered of the key.
    pub(crate) fn is_empty(&self) -> bool {
        self.standing.is_empty() && self.waiting.is_empty()
    }

    /// Whether no verified entry stands.
    pub(crate) fn is_bare(&self) -> bool {
        self.standing.is_empty()
    }

    /// The ids of what stands, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.standing.ids()
    }

    pub(crate) fn contains(&self, id: &EntryId) -> bool {
        self.standing.contains(id)
    }

    /// Takes a verified entry of this key in, which stands on `grant`, live.
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

    /// Keeps the value of an entry that stands.
    pub(crate) fn keep_value(&mut self, offered: Offered) {
        let rank = offered.rank();
        let Some(fact) = offered.into_fact().filter(|_| !self.values.contains_key(&rank)) else { return };
        self.value_bytes += fact.record().len();
        self.values.insert(rank, fact);
    }

    /// An entry that stands, if its value is kept.
    pub(crate) fn fact(&self, id: &EntryId) -> Option<&EntryFact> {
        self.values.get(&self.standing.get(id)?.meta.rank())
    }

    /// How many of the entries that stand the agent has told, if it has told the key and none of that is in dispute.
    pub(crate) fn told_standing(&self) -> Option<usize> {
        let told = self.told.as_ref().filter(|told| !told.is_disputed())?;
        Some(self.standing.len().saturating_sub(told.lacking()))
    }

    /// Another agent told an entry, which stands now.
    pub(crate) fn note_learned(&mut self, id: EntryId) {
        if let Some(told) = &mut self.told {
            told.note_lacking(id);
        }
    }

    /// Whether the agent has not told an entry that is shown.
    pub(crate) fn lacks_shown(&self, id: &EntryId, now: Timestamp) -> bool {
        // Whoever told something that cannot be judged here may hold what supersedes it.
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

    /// An entry stands no more.
    fn ended(&mut self, meta: &EntryMeta) {
        self.drop_value(&meta.rank());
        if let Some(told) = &mut self.told {
            told.forget(&meta.id);
        }
    }

    /// Lets the oldest entries fall, if there are too many; never the one that is shown.
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
                // Nothing that stands dominates it, nor the other way round.
                self.standing.offer(entry.meta, ());
                continue;
            }
            self.hides |= !entry.meta.is_masked(now);
            self.ended(&entry.meta);
        }
    }

    /// Whether there is no room for an entry of this rank on this grant, if that is live: it is older than what fell, and
    /// not what is shown.
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

    /// Keeps an entry for later; whether there was room.
    pub(crate) fn wait(&mut self, waiting: Waiting) -> bool {
        let room = self.waiting.len() < MAX_WAITING_ENTRIES;
        if room {
            self.waiting.push(waiting);
        }
        room
    }

    /// An entry that waits.
    pub(crate) fn awaiting(&mut self, id: &EntryId) -> Option<&mut Waiting> {
        self.waiting.iter_mut().find(|waiting| waiting.offered.id() == *id)
    }

    /// Gives what waits.
    pub(crate) fn take_waiting(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn waiting_mut(&mut self) -> &mut [Waiting] {
        &mut self.waiting
    }

    /// What those weigh.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.offered.weight()).sum()
    }

    /// Drops entries that stand on a grant or below it; whether there were any.
    pub(crate) fn end_below(&mut self, grant: &Arc<LiveGrant>) -> bool {
        let ended = self.standing.end_below(grant);
        ended.iter().for_each(|entry| self.ended(&entry.meta));
        !ended.is_empty()
    }

    /// Drops entries that a floor ends; whether there were any.
    pub(crate) fn end_floored(&mut self, authority: &Authority, key: &Key) -> bool {
        let Some(before) = authority.floor_of(key) else { return false };
        let ended = self.standing.end_older(before);
        ended.iter().for_each(|entry| self.ended(&entry.meta));
        !ended.is_empty()
    }

    /// When the newest entry that stands was written, shown or not.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.standing.newest().map(|entry| entry.meta.timestamp)
    }

    /// What a reader sees at `now`; it may be a delete.
    pub(crate) fn newest(&self, now: Timestamp) -> Option<&EntryMeta> {
        self.standing.shown(now).map(|entry| &entry.meta)
    }

    /// The value at `now`. The first entry that nothing masks decides. For want of one the key is absent only if that
    /// was found, and unknown otherwise; so it is while the value of that entry has not been told.
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

    /// The entry that is shown, if its value has not been told.
    pub(crate) fn lacks_value(&self, now: Timestamp) -> Option<EntryId> {
        let shown = self.newest(now).filter(|shown| !shown.is_delete)?;
        (!self.values.contains_key(&shown.rank())).then_some(shown.id)
    }

    /// The same, if it may be asked for; it counts as asked for then.
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

    /// An event about the key begins.
    pub(crate) fn begin_event(&mut self, part: Part, stream: StreamId) {
        let anew = self.told.as_ref().is_none_or(|told| self.hides || told.is_begun_anew_by(part, stream));
        if anew && matches!(part, Part::Whole | Part::First { .. }) {
            (self.fell, self.hides) = (None, false);
            self.told = Some(Told::begin(self.standing.ids()));
        }
        let told = self.told.get_or_insert_with(|| Told::begin(self.standing.ids()));
        // What it holds is told again, or what it shows has changed.
        told.outdated &= matches!(part, Part::Next { .. } | Part::Last { .. });
    }

    /// Whether nothing verified is known of what follows, or that something is: if all that is known ends now, the key
    /// has to be told anew.
    pub(crate) fn has_lost_sight(&self, now: Timestamp) -> bool {
        self.hides && self.newest(now).is_none() && self.told.as_ref().is_some_and(Told::is_whole)
    }

    /// Why the value may not be the latest, where the agent is in step.
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

    /// Notes why the value changed, if it did; whether it did. `why` is asked only where no entry came to be shown.
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
            // What ended it was noted when nobody knew yet whether something else stands.
            Why::Told => ended.unwrap_or(told),
        };
        (self.seen, self.cause) = (seen, Some(cause));
        true
    }

    /// Lets values fall, if they weigh too much.
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

    /// The grant of the entry that was shown, if that has expired. (When the clock is set back, a later entry is shown
    /// again, and nothing has.)
    fn expired(&self, authority: &Authority, now: Timestamp) -> Option<GrantId> {
        let Seen::Entry(id) = self.seen else { return None };
        let before = self.standing.get(&id)?;
        before.meta.grant_id().filter(|grant| authority.is_masked(Some(grant), now))
    }
}

/// What happened before a value is looked at again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    /// An agent told the key.
    Told,
    /// This grant was revoked.
    Revoked(GrantId),
    /// This floor came.
    Floored(FactId),
    /// Time passed.
    Expired,
}
