//! The state machine of a live client: a replica of what is watched.
//!
//! Fed with interests, with the events of streams and with the time; asked for states and for what changed. The state of
//! a key is the normal form of every fact that was ever taken in and still covered, so it goes back to an older entry only
//! when the facts themselves say that the newer one is dead.

use super::held::{Held, Why};
use super::interests::{Interest, InterestId, Interests, What};
use super::others::Learned;
use super::rejections::Rejections;
use super::state::{Dirty, Entry, State, Value};
use super::streams::{self, Bookmark, StreamId, Telling, Way};
use super::told::Told;
use super::values::Valueless;
use kvgossip_api::{HeldRow, MAX_WATCH_FILTERS, MAX_WATCH_KEYS, WatchForm, WatchRequest};
use kvgossip_grants::{
    Authority, ClusterId, EntryId, GrantId, Held as Digests, Key, Timestamp, Verifier, held_authority,
};
use std::collections::{BTreeMap, BTreeSet};

/// Whether an agent is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// It was not tried, or is being tried for the first time.
    Opening,
    /// A stream is being read.
    Up,
    /// None.
    Down,
    /// None: the one that answered last lacks, perhaps, what others hold.
    Unsynced,
}

/// What changed since the last time it was asked.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// These keys.
    pub(crate) keys: BTreeSet<Key>,
    /// The dirtiness of any key.
    pub(crate) dirt: bool,
}

pub(crate) struct Core {
    pub(super) authority: Authority,
    pub(super) verifier: Box<dyn Verifier>,
    pub(super) keys: BTreeMap<Key, Held>,
    pub(super) interests: Interests,
    pub(super) streams: BTreeMap<StreamId, Telling>,
    /// Where the next stream may go on.
    pub(super) bookmark: Option<Bookmark>,
    link: Link,
    pub(super) now: Timestamp,
    pub(super) changes: Changes,
    /// Keys that may not be the latest, though the agent is in step.
    troubled: BTreeSet<Key>,
    /// Of these, keys that nobody named and of which nothing has verified.
    pub(super) bare_troubled: BTreeSet<Key>,
    /// Keys whose shown entry was told without its value.
    pub(super) valueless: BTreeMap<Key, Valueless>,
    /// Whether all that is known of some key ended and older entries had fallen: it has to be told anew.
    pub(super) lost_sight: bool,
    /// Grants that were told and hang below a revoked one.
    pub(super) dead: BTreeSet<GrantId>,
    /// The weight of all entries that wait, in bytes.
    pub(super) waiting_bytes: usize,
    pub(super) rejections: Rejections,
    /// What others told and the connected agent has not.
    pub(super) learned: Learned,
}

impl Core {
    pub(crate) fn new(authority: Authority, verifier: Box<dyn Verifier>, now: Timestamp) -> Self {
        Self {
            authority,
            verifier,
            keys: BTreeMap::new(),
            interests: Interests::default(),
            streams: BTreeMap::new(),
            bookmark: None,
            link: Link::Opening,
            now,
            changes: Changes::default(),
            troubled: BTreeSet::new(),
            bare_troubled: BTreeSet::new(),
            valueless: BTreeMap::new(),
            lost_sight: false,
            dead: BTreeSet::new(),
            waiting_bytes: 0,
            rejections: Rejections::default(),
            learned: Learned::default(),
        }
    }

    /// Begins to want something.
    pub(crate) fn add(&mut self, id: InterestId, what: What) {
        if let What::Key(key) = &what {
            self.keys.entry(key.clone()).or_default();
            self.changes.keys.insert(key.clone());
        }
        self.interests.add(id, what);
    }

    /// Ends it, and forgets what nobody else wants.
    pub(crate) fn remove(&mut self, id: InterestId) {
        let Some(gone) = self.interests.remove(id) else { return };
        for telling in self.streams.values_mut() {
            telling.interests.remove(&id);
        }
        if let What::Key(key) = &gone.what {
            // Perhaps nothing but its name kept it.
            self.changes.keys.insert(key.clone());
        }
        let interests = &self.interests;
        let unwanted = |key: &Key| gone.covers(key) && interests.covering(key).next().is_none();
        let forgotten: Vec<Key> = match &gone.what {
            What::Key(key) => Some(key.clone()).filter(unwanted).into_iter().collect(),
            What::Matching(_) => self.keys.keys().filter(|key| unwanted(key)).cloned().collect(),
        };
        forgotten.iter().for_each(|key| self.forget(key));
    }

    /// Forgets a key.
    pub(super) fn forget(&mut self, key: &Key) {
        let Some(held) = self.keys.remove(key) else { return };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(held.waiting_bytes());
        self.troubled.remove(key);
        self.bare_troubled.remove(key);
        self.valueless.remove(key);
    }

    /// Whether anything is wanted.
    pub(crate) fn is_idle(&self) -> bool {
        self.interests.ids().next().is_none()
    }

    /// Whether the connected agent has told all that is asked for.
    pub(crate) fn is_in_step(&self) -> bool {
        let synced = |id| self.interests.get(id).is_some_and(|interest| interest.synced);
        self.link == Link::Up && self.asked().all(synced)
    }

    /// Whether every interest is part of a stream.
    pub(crate) fn is_covered(&self) -> bool {
        let newest = self.streams.values().next_back();
        newest.is_some_and(|telling| self.asked().all(|id| telling.interests.contains(&id)))
    }

    /// What is asked for: all interests, within the limits of one stream.
    fn asked(&self) -> impl Iterator<Item = InterestId> {
        let keys = self.interests.keys().take(MAX_WATCH_KEYS).map(|(_, id)| id);
        keys.chain(self.interests.filters().take(MAX_WATCH_FILTERS).map(|(_, id)| id))
    }

    /// What to ask an agent for, with what is held already; the stream is `id` from now on.
    pub(crate) fn open(&mut self, id: StreamId, endpoint: &str, way: Way) -> WatchRequest {
        let (mut request, mut telling) = self.request(endpoint, way);
        // Whether the agent is the one that gave it, it finds out itself; if not it compares.
        let place = self.bookmark.as_ref().filter(|place| place.serves(&telling.interests));
        request.cursor = place.filter(|_| way == Way::Anew).map(|place| place.cursor.clone());
        telling.resuming = request.cursor.is_some();
        self.streams.insert(id, telling);
        request
    }

    /// A request for all that is asked for, with digests of what is held of it.
    pub(super) fn request(&self, endpoint: &str, way: Way) -> (WatchRequest, Telling) {
        let keys = self.interests.keys().take(MAX_WATCH_KEYS);
        let filters = self.interests.filters().take(MAX_WATCH_FILTERS);
        let (mut interests, mut request) = (BTreeSet::new(), WatchRequest::default());
        for (key, id) in keys {
            interests.insert(id);
            request.keys.push(key.to_string());
        }
        for (filter, id) in filters {
            interests.insert(id);
            let rules = filter.rules().iter().map(ToString::to_string).collect();
            request.filters.push(rules);
        }
        request.cluster = Some(self.authority.cluster().to_string());
        request.form = WatchForm::Records;
        request.authority = true;
        let mut telling = Telling::new(way, endpoint.into(), interests);
        request.have = Some(self.claim(&mut telling));
        (request, telling)
    }

    /// Says what is held of what a stream is opened for, as digests, and notes it there.
    fn claim(&self, telling: &mut Telling) -> HeldRow {
        let is_asked = |key: &Key| self.interests.covering_ids(key).any(|id| telling.interests.contains(&id));
        let claimed: BTreeMap<Key, Vec<EntryId>> = self
            .keys
            .iter()
            .filter(|(key, _)| is_asked(key))
            .map(|(key, held)| (key.clone(), held.ids().collect()))
            .collect();
        telling.buckets = Digests::buckets_for(claimed.len());
        let mut digests = Digests::new(telling.buckets);
        for (key, ids) in &claimed {
            digests.add(key, ids.clone());
        }
        telling.claimed = claimed;
        HeldRow {
            authority: held_authority(self.authority.fact_ids()).to_string(),
            buckets: digests.finish().iter().map(ToString::to_string).collect(),
        }
    }

    /// The agent answered: events of this stream follow.
    pub(crate) fn opened(&mut self, id: StreamId) {
        let Some((way, resuming)) = self.streams.get(&id).map(|telling| (telling.way, telling.resuming))
        else {
            return;
        };
        if way != Way::Beside {
            self.streams.retain(|other, _| *other == id);
            self.interests.values_mut().for_each(|interest| interest.synced = false);
            self.learned.clear();
            if !resuming {
                self.bookmark = None;
                self.forget_told(&BTreeSet::new());
            }
        }
        self.link = Link::Up;
        self.changes.dirt = true;
    }

    /// Forgets what the agent said it holds, except of some keys: it is another agent, or its state is another.
    pub(super) fn forget_told(&mut self, except: &BTreeSet<Key>) {
        for (key, held) in self.keys.iter_mut().filter(|(key, _)| !except.contains(*key)) {
            held.told = None;
            if held.is_empty() {
                // Kept for its trouble alone, perhaps.
                self.changes.keys.insert(key.clone());
            }
        }
        let (keys, now) = (&self.keys, self.now);
        let is_unknown = |key: &Key| keys.get(key).is_some_and(|held| held.value(now) == Value::Unknown);
        self.troubled.retain(|key| except.contains(key) || is_unknown(key));
        self.bare_troubled.retain(|key| except.contains(key));
    }

    /// A stream ended while others go on.
    pub(crate) fn closed(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.keys.values_mut().filter_map(|held| held.told.as_mut()).for_each(|told| told.forget_stream(id));
    }

    /// No agent is connected any more.
    pub(crate) fn disconnected(&mut self) {
        self.bookmark = streams::bookmark(&self.streams, self.bookmark.take());
        let is_cut = |held: &Held| held.told.as_ref().is_some_and(|told| !told.is_whole());
        if self.keys.values().any(is_cut) {
            // What follows of a key would not be told again.
            self.bookmark = None;
        }
        self.streams.clear();
        self.learned.clear();
        self.link = Link::Down;
        self.interests.values_mut().for_each(|interest| interest.synced = false);
        self.changes.dirt = true;
    }

    /// The agent that was tried was never compared with a peer.
    pub(crate) fn unsynced(&mut self) {
        self.link = Link::Unsynced;
        self.changes.dirt = true;
    }

    /// Brings the time. Entries whose grants expired meanwhile are not shown any more.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        let before = std::mem::replace(&mut self.now, now);
        let expired = self.authority.expiring(before, now).next().is_some();
        for key in self.keys.keys().cloned().collect::<Vec<_>>() {
            self.retry(&key);
            self.report_waiting(&key);
            if expired || now < before {
                self.settle(&key, Why::Expired);
            }
        }
        self.report_valueless();
    }

    /// When a tick is due because something expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        // At the very time it still holds.
        self.authority.next_expiry(self.now).map(|time| time.saturating_add(1))
    }

    /// Looks at a key again after something happened.
    pub(super) fn settle(&mut self, key: &Key, why: Why) {
        let Some(held) = self.keys.get_mut(key) else { return };
        held.settle(&self.authority, self.now, why);
        let put = |set: &mut BTreeSet<Key>, belongs: bool| match belongs {
            true => set.insert(key.clone()),
            false => set.remove(key),
        };
        let disputed = held.told.as_ref().is_some_and(Told::is_disputed);
        put(&mut self.troubled, held.dirt(self.now).is_some());
        put(&mut self.bare_troubled, disputed && held.is_bare() && !self.interests.names(key));
        self.lost_sight |= held.has_lost_sight(self.now);
        self.note_valueless(key);
        self.changes.keys.insert(key.clone());
    }

    /// What a subscriber of one key sees.
    pub(crate) fn state(&self, id: InterestId, key: &Key) -> State {
        let Some((interest, held)) = self.interests.get(id).zip(self.keys.get(key)) else {
            return State::NEW;
        };
        let value = held.value(self.now);
        let cause = if value == Value::Unknown { None } else { held.cause };
        State { dirty: self.dirt(interest, std::iter::once(held)), value, cause }
    }

    /// Why what a filter shows may not be the latest.
    pub(crate) fn dirt_of(&self, id: InterestId) -> Option<Dirty> {
        let Some(interest) = self.interests.get(id) else { return Some(Dirty::Loading) };
        let troubled = self.troubled.iter().filter(|key| interest.covers(key));
        self.dirt(interest, troubled.filter_map(|key| self.keys.get(key)))
    }

    /// How many keys of a filter are not known, of those that were told.
    pub(crate) fn unknown_of(&self, id: InterestId) -> usize {
        let Some(interest) = self.interests.get(id) else { return 0 };
        let held =
            self.troubled.iter().filter(|key| interest.covers(key)).filter_map(|key| self.keys.get(key));
        // A key of which nothing stands or waits is not known to exist.
        held.filter(|held| !held.is_empty() && held.value(self.now) == Value::Unknown).count()
    }

    fn dirt<'a>(&self, interest: &Interest, mut held: impl Iterator<Item = &'a Held>) -> Option<Dirty> {
        match self.link {
            Link::Opening => Some(Dirty::Loading),
            Link::Down => Some(Dirty::Disconnected),
            Link::Unsynced => Some(Dirty::Unsynced),
            Link::Up if !interest.synced => Some(Dirty::Loading),
            Link::Up => held.by_ref().filter_map(|held| held.dirt(self.now)).max(),
        }
    }

    /// Whether an interest was ever told in full.
    pub(crate) fn is_loaded(&self, id: InterestId) -> bool {
        self.interests.get(id).is_some_and(|interest| interest.loaded)
    }

    /// The entry that is shown of a key.
    pub(crate) fn entry(&self, key: &Key) -> Option<Entry> {
        self.keys.get(key)?.value(self.now).entry().cloned()
    }

    /// Why a key is what it is.
    pub(crate) fn cause(&self, key: &Key) -> Option<super::state::Cause> {
        self.keys.get(key)?.cause
    }

    /// What changed since the last time.
    pub(crate) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Brings the time, for the judgement of what is told next.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        // Something expired on the way; or the clock was set back, and what had expired has not.
        if now < self.now || self.authority.expiring(self.now, now).next().is_some() {
            return self.tick(now);
        }
        self.now = now;
    }

    /// The keys that an interest covers and of which something stands.
    pub(crate) fn keys_of(&self, id: InterestId) -> Vec<Key> {
        let Some(interest) = self.interests.get(id) else { return Vec::new() };
        self.keys.keys().filter(|key| interest.covers(key)).cloned().collect()
    }

    /// The cluster that is verified against.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.authority.cluster()
    }
}
