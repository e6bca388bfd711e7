//! What stands of one watched key, by the same rules as at a replica.

use super::MAX_WAITING_ENTRIES;
use super::state::{Cause, Entry, Value};
use kvgossip_grants::{Authority, EntryFact, EntryId, FactId, GrantId, Timestamp};
use std::sync::Arc;

/// What an entry weighs beside its value, in bytes: at least what it takes.
const ENTRY_WEIGHT: usize = 2048;

/// An entry that waits for a grant or for its time.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) fact: EntryFact,
    /// Who told it.
    pub(crate) endpoint: Arc<str>,
    pub(crate) since: Timestamp,
    /// Whether it has been reported.
    pub(crate) reported: bool,
}

impl Waiting {
    pub(crate) fn weight(&self) -> usize {
        ENTRY_WEIGHT + self.fact.value().map_or(0, |value| value.len())
    }
}

/// One key.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Verified entries that no other dominates.
    entries: Vec<EntryFact>,
    /// Entries that wait for a grant or for their time.
    waiting: Vec<Waiting>,
    /// What the agent says stands of the key; `None`: it has not said anything on this connection.
    pub(crate) told: Option<Vec<EntryId>>,
    /// Whether the agent holds something that did not verify.
    pub(crate) unverified: bool,
    /// Whether the agent holds something that is known to be dead or superseded.
    pub(crate) outdated: bool,
    /// Whether some agent has told what stands, all of which verified, or something that stood.
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
        self.waiting.iter_mut().find(|waiting| waiting.fact.id() == *id)
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
        self.waiting.iter().map(Waiting::weight).sum()
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

    /// An agent in step has told what stands. If something of it does not verify, the key may be set, and that is not
    /// known.
    pub(crate) fn told_in_step(&mut self) {
        self.loaded |= !self.unverified;
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
        // What was known once is never unknown again, also if it ends before its agent is in step.
        self.loaded |= shown.is_some();
        if shown == self.shown && (self.cause.is_some() || !self.loaded && shown.is_none()) {
            return false;
        }
        let told = |shown: Option<EntryId>| match shown {
            Some(id) if is_delete => Cause::Deleted(id),
            Some(id) => Cause::Written(id),
            None => Cause::Loaded,
        };
        let cause = match (why, shown) {
            (Why::Revoked(id), _) => Cause::Revoked(id),
            (Why::Floored(id), _) => Cause::Floored(id),
            (Why::Expired, shown) => match self.expired(authority, now) {
                Some(grant) => Cause::Expired(grant),
                None => told(shown),
            },
            (Why::Told, shown) => told(shown),
        };
        (self.shown, self.cause) = (shown, Some(cause));
        true
    }

    /// The grant of the entry that was shown, if that has expired. (When the clock is set back, a later entry is shown
    /// again, and nothing has.)
    fn expired(&self, authority: &Authority, now: Timestamp) -> Option<GrantId> {
        let before = self.entries.iter().find(|entry| Some(entry.id()) == self.shown)?;
        before.entry().grant.filter(|grant| authority.is_masked(Some(grant), now))
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
