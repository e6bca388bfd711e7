//! Whether what subscribers see is allowed.

use crate::world::{Clock, Shared};
use kvgossip_client::{Cause, Change, Closed, Entry, Matching, State, Subscription, Value};
use kvgossip_grants::{EntryId, Key, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// What was seen in all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub written: usize,
    pub revoked: usize,
    pub floored: usize,
    pub expired: usize,
    /// Back to an older entry, or to none.
    pub back: usize,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.revoked += other.revoked;
        self.floored += other.floored;
        self.expired += other.expired;
        self.back += other.back;
    }
}

#[derive(Clone)]
pub struct Judge {
    record: Shared,
    clock: Clock,
    tally: Arc<Mutex<Tally>>,
}

/// Somebody who sees states, until the client ends.
pub struct Witness(JoinHandle<usize>);

impl Witness {
    /// Panics if it saw what it should not have.
    pub fn is_content(&self) {
        assert!(!self.0.is_finished(), "a subscriber saw what is not allowed; its panic is above");
    }

    /// How many states it saw.
    pub async fn testimony(self) -> usize {
        self.0.await.expect("a subscriber saw what is not allowed")
    }

    pub fn dismiss(self) {
        self.is_content();
        self.0.abort();
    }
}

/// What was shown last of a key: an entry, a delete, or nothing.
type Shown = Option<EntryId>;

impl Judge {
    pub fn new(record: Shared, clock: Clock) -> Self {
        Self { record, clock, tally: Arc::default() }
    }

    pub fn tally(&self) -> Tally {
        self.tally.lock().expect("no panic").clone()
    }

    pub fn of_key(&self, mut sub: Subscription) -> Witness {
        let judge = self.clone();
        Witness(tokio::spawn(async move {
            let (mut seen, mut last) = (0, None);
            let mut state = sub.mark_seen();
            loop {
                seen += 1;
                judge.judge(sub.key(), &state, &mut last);
                match sub.changed().await {
                    Ok(next) => state = next,
                    Err(Closed) => return seen,
                }
            }
        }))
    }

    pub fn of_filter(&self, mut all: Matching) -> Witness {
        let judge = self.clone();
        Witness(tokio::spawn(async move {
            let mut seen = 0;
            let mut shown: BTreeMap<Key, Shown> = BTreeMap::new();
            let mut present: BTreeMap<Key, EntryId> = BTreeMap::new();
            while let Ok(change) = all.next().await {
                seen += 1;
                let key = change.key().clone();
                let (value, cause) = match change {
                    Change::Added { entry, cause } => {
                        assert!(present.insert(key.clone(), entry.id).is_none(), "{key} was there");
                        (Value::Present(entry), cause)
                    }
                    Change::Updated { entry, cause } => {
                        let before = present.insert(key.clone(), entry.id);
                        assert!(before.is_some_and(|before| before != entry.id), "{key} is another");
                        (Value::Present(entry), cause)
                    }
                    Change::Removed { cause, .. } => {
                        assert!(present.remove(&key).is_some(), "{key} was there");
                        (Value::Absent, cause)
                    }
                };
                let state = State { value, dirty: None, cause: Some(cause) };
                judge.judge(&key, &state, shown.entry(key.clone()).or_default());
            }
            seen
        }))
    }

    fn judge(&self, key: &Key, state: &State, last: &mut Shown) {
        let now = self.clock.now();
        let shown = match (&state.value, state.cause) {
            (Value::Unknown, cause) => {
                assert_eq!(cause, None);
                // What was shown has ended, and the agent has yet to tell what else stands; or a later entry came of which
                // the agent has yet to tell the value: it shows another one, whose grant has ended by this clock.
                let lives =
                    last.filter(|before| !self.is_over(before, now) && !self.is_superseded(key, before, now));
                assert_eq!(lives, None, "{key} was known");
                return;
            }
            (Value::Present(entry), _) => {
                self.is_genuine(key, entry);
                Some(entry.id)
            }
            (Value::Absent, Some(Cause::Deleted(id))) => Some(id),
            (Value::Absent, _) => None,
        };
        self.is_right(key, shown, state.cause.expect("a known value has a cause"), now);
        if let Some(before) = *last
            && self.is_back(&before, shown)
        {
            if shown.is_none() && self.is_standing_delete(&before, now) {
                // What came over it has ended, perhaps unseen: the key is unset again by the same delete.
                return;
            }
            self.tally.lock().expect("no panic").back += 1;
            assert!(self.is_over(&before, now), "{key} went back from {before}, which lives, to {shown:?}");
        }
        *last = shown;
    }

    /// It was written just so.
    fn is_genuine(&self, key: &Key, entry: &Entry) {
        let record = self.record.lock().expect("no panic");
        let made = record.entries.get(&entry.id).expect("an entry that was made");
        assert_eq!((&made.key, &entry.key), (key, key));
        assert_eq!((made.timestamp, made.grant, made.is_delete), (entry.timestamp, entry.grant, false));
    }

    fn is_back(&self, before: &EntryId, shown: Shown) -> bool {
        let record = self.record.lock().expect("no panic");
        let rank = |id: &EntryId| (record.entries[id].timestamp, *id);
        shown.is_none_or(|shown| rank(&shown) < rank(before))
    }

    /// A later entry of the key was made, and lives.
    fn is_superseded(&self, key: &Key, before: &EntryId, now: Timestamp) -> bool {
        let record = self.record.lock().expect("no panic");
        let rank = (record.entries[before].timestamp, *before);
        record
            .entries
            .iter()
            .any(|(id, made)| made.key == *key && (made.timestamp, *id) > rank && !made.is_over(now))
    }

    fn is_standing_delete(&self, id: &EntryId, now: Timestamp) -> bool {
        let is_delete = self.record.lock().expect("no panic").entries[id].is_delete;
        is_delete && !self.is_over(id, now)
    }

    fn is_over(&self, id: &EntryId, now: Timestamp) -> bool {
        self.record.lock().expect("no panic").entries[id].is_over(now)
    }

    /// The cause is what happened.
    fn is_right(&self, key: &Key, shown: Shown, cause: Cause, now: Timestamp) {
        let record = self.record.lock().expect("no panic");
        let mut tally = self.tally.lock().expect("no panic");
        match cause {
            Cause::Loaded => {}
            Cause::Written(id) => {
                tally.written += 1;
                assert_eq!(Some(id), shown, "{key}");
            }
            Cause::Deleted(id) => assert!(record.entries[&id].is_delete && record.entries[&id].key == *key),
            Cause::Revoked(grant) => {
                tally.revoked += 1;
                assert!(record.dead.contains_key(&grant), "{key}: {grant} lives");
            }
            Cause::Floored(floor) => {
                tally.floored += 1;
                assert!(record.floors.contains(&floor), "{key}: no floor {floor}");
            }
            Cause::Expired(grant) => {
                tally.expired += 1;
                assert!(record.until.get(&grant).is_some_and(|until| *until < now), "{key}: {grant} holds");
            }
            other => panic!("{key}: {other:?}"),
        }
    }
}
