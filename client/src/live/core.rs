//! State machine of a live client: a replica of the watched keys.
//!
//! Its inputs are interests, stream events and the time; its outputs are states and changes. The state of a key
//! is the normal form of all facts taken in for it while it was covered, so the value returns to an older entry
//! only if the facts themselves end the newer one.

use super::held::{KeyState, Why};
use super::interests::{Interest, InterestId, Interests, What};
use super::learned::Learned;
use super::rejections::Rejections;
use super::state::{Dirty, Entry, State, Value};
use super::streams::{self, Bookmark, StreamId, Telling, Way};
use super::told::Told;
use kvgossip_api::{HeldRow, MAX_WATCH_FILTERS, MAX_WATCH_KEYS, WatchForm, WatchRequest};
use kvgossip_grants::{
    Authority, ClusterId, EntryId, GrantId, HeldDigests, Key, Timestamp, Verifier, held_authority,
};
use std::collections::{BTreeMap, BTreeSet};

/// State of the connection to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// No agent has answered yet.
    Opening,
    /// A stream of an agent is open.
    Up,
    /// No agent is connected.
    Down,
    /// No agent is connected; the last one that answered has never been compared with a peer, so it may lack
    /// facts.
    Unsynced,
}

/// Changes since the last call of [`Core::take_changes`].
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Keys whose value, dirtiness or cause may have changed.
    pub(crate) keys: BTreeSet<Key>,
    /// Whether the dirtiness of any key may have changed.
    pub(crate) dirt: bool,
}

/// Shown entry of a key whose value has not been received, and since when.
pub(super) struct Valueless {
    pub(super) id: EntryId,
    pub(super) since: Timestamp,
    /// Whether the missing value has been reported as a rejection.
    pub(super) reported: bool,
}

pub(crate) struct Core {
    pub(super) authority: Authority,
    pub(super) verifier: Box<dyn Verifier>,
    pub(super) keys: BTreeMap<Key, KeyState>,
    pub(super) interests: Interests,
    pub(super) streams: BTreeMap<StreamId, Telling>,
    /// Position at which the next stream can resume; `None` if it must compare digests.
    pub(super) bookmark: Option<Bookmark>,
    link: Link,
    pub(super) now: Timestamp,
    pub(super) changes: Changes,
    /// Keys that may not be the latest although the agent is in step.
    troubled: BTreeSet<Key>,
    /// Those keys of `troubled` that are not subscribed by name and of which nothing has been verified.
    pub(super) bare_troubled: BTreeSet<Key>,
    /// Keys whose shown entry has been received without its value.
    pub(super) valueless: BTreeMap<Key, Valueless>,
    /// Whether some key must be loaded again: all its known entries have ended, and older ones had been
    /// dropped.
    pub(super) lost_sight: bool,
    /// Received grants that are revoked or hang below a revoked one, at most `MAX_DEAD_GRANTS`.
    pub(super) dead: BTreeSet<GrantId>,
    /// Total weight of the waiting entries of all keys, in bytes; at most `MAX_WAITING_BYTES`.
    pub(super) waiting_bytes: usize,
    pub(super) rejections: Rejections,
    /// Facts received from other agents and not sent by the connected one.
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

    /// Adds an interest in a key or filter under this id.
    pub(crate) fn add(&mut self, id: InterestId, what: What) {
        if let What::Key(key) = &what {
            self.keys.entry(key.clone()).or_default();
            self.changes.keys.insert(key.clone());
        }
        self.interests.add(id, what);
    }

    /// Removes an interest, and the keys that no other interest of this client covers.
    pub(crate) fn remove(&mut self, id: InterestId) {
        let Some(gone) = self.interests.remove(id) else { return };
        for telling in self.streams.values_mut() {
            telling.interests.remove(&id);
        }
        if let What::Key(key) = &gone.what {
            // The name may have been the only reason to keep the key.
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

    /// Removes a key and everything known of it.
    pub(super) fn forget(&mut self, key: &Key) {
        let Some(held) = self.keys.remove(key) else { return };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(held.waiting_bytes());
        self.troubled.remove(key);
        self.bare_troubled.remove(key);
        self.valueless.remove(key);
    }

    /// Returns whether there are no interests.
    pub(crate) fn is_idle(&self) -> bool {
        self.interests.ids().next().is_none()
    }

    /// Returns whether the connected agent has sent everything that was requested.
    pub(crate) fn is_in_step(&self) -> bool {
        let synced = |id| self.interests.get(id).is_some_and(|interest| interest.synced);
        self.link == Link::Up && self.asked().all(synced)
    }

    /// Returns whether every requested interest is part of a stream.
    pub(crate) fn is_covered(&self) -> bool {
        let newest = self.streams.values().next_back();
        newest.is_some_and(|telling| self.asked().all(|id| telling.interests.contains(&id)))
    }

    /// Interests that are requested: all of them, within the limits of one stream.
    fn asked(&self) -> impl Iterator<Item = InterestId> {
        let keys = self.interests.keys().take(MAX_WATCH_KEYS).map(|(_, id)| id);
        keys.chain(self.interests.filters().take(MAX_WATCH_FILTERS).map(|(_, id)| id))
    }

    /// Builds the request for a new stream `id`, including digests of what is held already.
    pub(crate) fn open(&mut self, id: StreamId, endpoint: &str, way: Way) -> WatchRequest {
        let (mut request, mut telling) = self.request(endpoint, way);
        // The agent detects itself whether the cursor is its own; if not, it compares digests.
        let place = self.bookmark.as_ref().filter(|place| place.serves(&telling.interests));
        request.cursor = place.filter(|_| way == Way::Anew).map(|place| place.cursor.clone());
        telling.resuming = request.cursor.is_some();
        self.streams.insert(id, telling);
        request
    }

    /// Builds a request for all requested interests, with digests of what is held for them.
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

    /// Computes the digests of what is held for a stream's interests, and records them in `telling`.
    fn claim(&self, telling: &mut Telling) -> HeldRow {
        let is_asked = |key: &Key| self.interests.covering_ids(key).any(|id| telling.interests.contains(&id));
        let claimed: BTreeMap<Key, Vec<EntryId>> = self
            .keys
            .iter()
            .filter(|(key, _)| is_asked(key))
            .map(|(key, held)| (key.clone(), held.ids().collect()))
            .collect();
        telling.buckets = HeldDigests::buckets_for(claimed.len());
        let mut digests = HeldDigests::new(telling.buckets);
        for (key, ids) in &claimed {
            digests.add(key, ids.clone());
        }
        telling.claimed = claimed;
        HeldRow {
            authority: held_authority(self.authority.fact_ids()).to_string(),
            buckets: digests.finish().iter().map(ToString::to_string).collect(),
        }
    }

    /// Records that the agent answered the request for this stream; events follow.
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

    /// Forgets what the agent said about all keys except those in `except`, because it is another agent or its
    /// state has changed.
    pub(super) fn forget_told(&mut self, except: &BTreeSet<Key>) {
        for (key, held) in self.keys.iter_mut().filter(|(key, _)| !except.contains(*key)) {
            held.told = None;
            if held.is_empty() {
                // The key may have been kept only because it was troubled.
                self.changes.keys.insert(key.clone());
            }
        }
        let (keys, now) = (&self.keys, self.now);
        let is_unknown = |key: &Key| keys.get(key).is_some_and(|held| held.value(now) == Value::Unknown);
        self.troubled.retain(|key| except.contains(key) || is_unknown(key));
        self.bare_troubled.retain(|key| except.contains(key));
    }

    /// Records that stream `id` ended while other streams of the agent go on.
    pub(crate) fn closed(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.keys.values_mut().filter_map(|held| held.told.as_mut()).for_each(|told| told.forget_stream(id));
    }

    /// Records that no agent is connected any more.
    pub(crate) fn disconnected(&mut self) {
        self.bookmark = streams::bookmark(&self.streams, self.bookmark.take());
        let is_cut = |held: &KeyState| held.told.as_ref().is_some_and(|told| !told.is_whole());
        if self.keys.values().any(is_cut) {
            // A resumed stream would not send the rest of that key again.
            self.bookmark = None;
        }
        self.streams.clear();
        self.learned.clear();
        self.link = Link::Down;
        self.interests.values_mut().for_each(|interest| interest.synced = false);
        self.changes.dirt = true;
    }

    /// Records that the agent that was tried has never been compared with a peer.
    pub(crate) fn unsynced(&mut self) {
        self.link = Link::Unsynced;
        self.changes.dirt = true;
    }

    /// Advances the time. Entries whose grants expired are no longer shown.
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

    /// Time of the next tick that is needed because a grant expires; `None` if none will.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        // A grant is still valid at its expiry time itself.
        self.authority.next_expiry(self.now).map(|time| time.saturating_add(1))
    }

    /// Re-evaluates the value, cause and dirtiness of a key after the event `why`.
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

    /// State of `key` as the subscriber with interest `id` sees it.
    pub(crate) fn state(&self, id: InterestId, key: &Key) -> State {
        let Some((interest, held)) = self.interests.get(id).zip(self.keys.get(key)) else {
            return State::NEW;
        };
        let value = held.value(self.now);
        let cause = if value == Value::Unknown { None } else { held.cause };
        State { dirty: self.dirt(interest, std::iter::once(held)), value, cause }
    }

    /// Returns why the entries of a filter may not be the latest.
    pub(crate) fn dirt_of(&self, id: InterestId) -> Option<Dirty> {
        let Some(interest) = self.interests.get(id) else { return Some(Dirty::Loading) };
        let troubled = self.troubled.iter().filter(|key| interest.covers(key));
        self.dirt(interest, troubled.filter_map(|key| self.keys.get(key)))
    }

    /// Number of keys of a filter that agents sent and whose value is not known.
    pub(crate) fn unknown_of(&self, id: InterestId) -> usize {
        let Some(interest) = self.interests.get(id) else { return 0 };
        let held =
            self.troubled.iter().filter(|key| interest.covers(key)).filter_map(|key| self.keys.get(key));
        // A key without live or waiting entries is not known to exist.
        held.filter(|held| !held.is_empty() && held.value(self.now) == Value::Unknown).count()
    }

    fn dirt<'a>(&self, interest: &Interest, mut held: impl Iterator<Item = &'a KeyState>) -> Option<Dirty> {
        match self.link {
            Link::Opening => Some(Dirty::Loading),
            Link::Down => Some(Dirty::Disconnected),
            Link::Unsynced => Some(Dirty::Unsynced),
            Link::Up if !interest.synced => Some(Dirty::Loading),
            Link::Up => held.by_ref().filter_map(|held| held.dirt(self.now)).max(),
        }
    }

    /// Returns whether some agent has ever sent the interest in full.
    pub(crate) fn is_loaded(&self, id: InterestId) -> bool {
        self.interests.get(id).is_some_and(|interest| interest.loaded)
    }

    /// Entry shown for a key, with its value; `None` if the key is unset or its value unknown.
    pub(crate) fn entry(&self, key: &Key) -> Option<Entry> {
        self.keys.get(key)?.value(self.now).entry().cloned()
    }

    /// Cause of a key's present value; `None` if nothing is known of the key.
    pub(crate) fn cause(&self, key: &Key) -> Option<super::state::Cause> {
        self.keys.get(key)?.cause
    }

    /// Takes the changes since the last call.
    pub(crate) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Sets the time by which the next facts are judged.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        // Something expired in between, or the clock was set back, so that something no longer counts as
        // expired.
        if now < self.now || self.authority.expiring(self.now, now).next().is_some() {
            return self.tick(now);
        }
        self.now = now;
    }

    /// Known keys that an interest covers.
    pub(crate) fn keys_of(&self, id: InterestId) -> Vec<Key> {
        let Some(interest) = self.interests.get(id) else { return Vec::new() };
        self.keys.keys().filter(|key| interest.covers(key)).cloned().collect()
    }

    /// Id of the cluster that facts are verified against.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.authority.cluster()
    }
}
