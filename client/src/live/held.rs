//! What stands of one watched key, by the same rules as at a replica.

use super::MAX_WAITING_ENTRIES;
use super::state::{Cause, Entry, Value};
use kvgossip_grants::{Authority, EntryFact, EntryId, FactId, GrantId, Timestamp};

/// One key.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Verified entries that no other dominates.
    entries: Vec<EntryFact>,
    /// Entries that wait for a grant or for their time.
    waiting: Vec<EntryFact>,
    /// What the agent says stands of the key; `None`: it has not said anything on this connection.
    pub(crate) told: Option<Vec<EntryId>>,
    /// Whether the agent holds something that did not verify.
    pub(crate) unverified: bool,
    /// Whether the agent holds something that is known to be dead or superseded.
    pub(crate) outdated: bool,
    /// Whether some agent has told what stands.
    pub(crate) loaded: bool,
    /// What led to the value.
    pub(crate) cause: Option<Cause>,
    /// The value that `cause` belongs to.
    shown: Option<EntryId>,
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// It stands now.
    New,
    /// It stood already.
    Known,
    /// Another one that stands supersedes it.
    Dominated,
}

fn rank(fact: &EntryFact) -> (Timestamp, EntryId) {
    (fact.entry().timestamp, fact.id())
}

impl Held {
    /// Whether anything is remembered of the key.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.waiting.is_empty()
    }

    /// The ids of what stands.
    pub(crate) fn ids(&self) -> Vec<EntryId> {
        self.entries.iter().map(EntryFact::id).collect()
    }

    pub(crate) fn contains(&self, id: &EntryId) -> bool {
        self.entries.iter().any(|entry| entry.id() == *id)
    }

    /// Takes a verified entry of this key in, whose grant is live.
    pub(crate) fn merge(&mut self, fact: EntryFact, authority: &Authority) -> Merged {
        if self.contains(&fact.id()) {
            return Merged::Known;
        }
        let dominates = |newer: &EntryFact, older: &EntryFact| {
            let (upper, lower) = (newer.entry().grant, older.entry().grant);
            rank(newer) > rank(older) && authority.outranks(upper.as_ref(), lower.as_ref())
        };
        if self.entries.iter().any(|standing| dominates(standing, &fact)) {
            return Merged::Dominated;
        }
        self.entries.retain(|standing| !dominates(&fact, standing));
        self.entries.push(fact);
        Merged::New
    }

    /// Keeps an entry for later.
    pub(crate) fn wait(&mut self, fact: EntryFact) {
        let known = self.waiting.iter().any(|other| other.id() == fact.id());
        if !known && self.waiting.len() < MAX_WAITING_ENTRIES {
            self.waiting.push(fact);
        }
    }

    /// Gives what waits.
    pub(crate) fn take_waiting(&mut self) -> Vec<EntryFact> {
        std::mem::take(&mut self.waiting)
    }

    /// Drops entries that stand on one of these grants; whether there were any.
    pub(crate) fn end_grants(&mut self, dead: &[GrantId]) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.entry().grant.is_none_or(|grant| !dead.contains(&grant)));
        self.entries.len() < before
    }

    /// Drops entries that a floor ends; whether there were any.
    pub(crate) fn end_floored(&mut self, authority: &Authority) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !authority.is_floored(&entry.entry().key, entry.entry().timestamp));
        self.entries.len() < before
    }

    /// What a reader sees at `now`; it may be a delete.
    pub(crate) fn newest(&self, authority: &Authority, now: Timestamp) -> Option<&EntryFact> {
        let visible =
            self.entries.iter().filter(|entry| !authority.is_masked(entry.entry().grant.as_ref(), now));
        visible.max_by_key(|entry| rank(entry))
    }

    /// The value at `now`.
    pub(crate) fn value(&self, authority: &Authority, now: Timestamp) -> Value {
        match self.newest(authority, now) {
            Some(fact) => Entry::of(fact).map_or(Value::Absent, Value::Present),
            None if self.loaded || !self.entries.is_empty() => Value::Absent,
            None => Value::Unknown,
        }
    }

    /// Whether the agent lacks what is shown, or holds what is known to be over.
    pub(crate) fn is_behind(&self, authority: &Authority, now: Timestamp) -> bool {
        let lacks = |told: &Vec<EntryId>| {
            self.newest(authority, now).is_some_and(|newest| !told.contains(&newest.id()))
        };
        self.outdated || self.told.as_ref().is_some_and(lacks)
    }

    /// Notes why the value changed, if it did; whether it did. `why` is asked only where no entry came to be shown.
    pub(crate) fn settle(&mut self, authority: &Authority, now: Timestamp, why: Why) -> bool {
        let newest = self.newest(authority, now);
        let (shown, is_delete) =
            (newest.map(EntryFact::id), newest.is_some_and(|fact| fact.value().is_none()));
        if shown == self.shown && (self.cause.is_some() || !self.loaded && shown.is_none()) {
            return false;
        }
        let cause = match (why, shown) {
            (Why::Revoked(id), _) => Cause::Revoked(id),
            (Why::Floored(id), _) => Cause::Floored(id),
            (Why::Expired, _) => {
                let before = self.entries.iter().find(|entry| Some(entry.id()) == self.shown);
                let grant = before.and_then(|entry| entry.entry().grant);
                grant.map_or(Cause::Loaded, Cause::Expired)
            }
            (Why::Told, Some(id)) if is_delete => Cause::Deleted(id),
            (Why::Told, Some(id)) => Cause::Written(id),
            (Why::Told, None) => Cause::Loaded,
        };
        (self.shown, self.cause) = (shown, Some(cause));
        true
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
