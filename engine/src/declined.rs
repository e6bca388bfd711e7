//! Facts that this replica does not want to be sent: what it will not take in now, or ever.

use crate::early_keys::EarlyKeys;
use crate::waiting_room::{MAX_DUE_FACTS, MAX_ROOM_FACTS, WaitingRoom};
use kvgossip_grants::{ClusterId, Code, Fact, FactId, Key, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The most early facts that are remembered by id because the waiting room had no place for them.
pub const MAX_FALLEN_IDS: usize = 4096;
/// The most facts that are remembered by id because their body condemns them.
pub const MAX_CONDEMNED_IDS: usize = 1024;
/// What the body condemns is forgotten after this time, in microseconds: one day.
pub const CONDEMNED_FOR_US: u64 = 24 * 60 * 60 * 1_000_000;
/// The most facts that are declined at a time.
pub const MAX_DECLINED: usize = MAX_ROOM_FACTS + MAX_DUE_FACTS + MAX_FALLEN_IDS + MAX_CONDEMNED_IDS;

/// Why a fact is declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is early. It waits here, or is to be sent again when it is due.
    NotYet,
    /// Its body condemns it.
    Refused,
}

/// Ids with a time until which each is remembered. When there are too many, the one that was added first goes.
#[derive(Debug, Default)]
struct Remembered {
    /// With the time, and the number under which it was added.
    ids: BTreeMap<FactId, (Timestamp, u64)>,
    by_time: BTreeSet<(Timestamp, FactId)>,
    by_age: BTreeMap<u64, FactId>,
    added: u64,
}

impl Remembered {
    /// Gives the id that had to go for it.
    fn add(&mut self, id: FactId, until: Timestamp, limit: usize) -> Option<FactId> {
        if self.ids.contains_key(&id) {
            return None;
        }
        self.added += 1;
        self.ids.insert(id, (until, self.added));
        self.by_time.insert((until, id));
        self.by_age.insert(self.added, id);
        if self.ids.len() <= limit {
            return None;
        }
        let oldest = self.by_age.first_key_value().map(|(_, oldest)| *oldest)?;
        self.remove(&oldest);
        Some(oldest)
    }

    fn remove(&mut self, id: &FactId) {
        if let Some((until, number)) = self.ids.remove(id) {
            self.by_time.remove(&(until, *id));
            self.by_age.remove(&number);
        }
    }

    /// Forgets the ids whose time has come, and gives them.
    fn forget(&mut self, now: Timestamp) -> Vec<FactId> {
        let mut forgotten = Vec::new();
        while let Some(&(_, id)) = self.by_time.first().filter(|(until, _)| *until <= now) {
            self.remove(&id);
            forgotten.push(id);
        }
        forgotten
    }
}

/// What a replica declines: early facts, which wait in a [`WaitingRoom`] or are remembered by id until they are due,
/// and facts that their body condemns.
///
/// A fact whose chain is not known here is never remembered: the chain may come in the very next session. Neither is
/// a copy that is spoilt: another may be whole.
#[derive(Debug)]
pub struct Declined {
    room: WaitingRoom,
    /// Taken out of the room, and not known yet to be merged.
    under_way: BTreeSet<FactId>,
    fallen: Remembered,
    condemned: Remembered,
    /// Whose values wait, or are known to have found no place.
    early: EarlyKeys,
}

impl Declined {
    /// Nothing is declined yet.
    pub fn new(cluster: ClusterId) -> Self {
        let (fallen, condemned) = (Remembered::default(), Remembered::default());
        let (room, under_way) = (WaitingRoom::new(cluster), BTreeSet::new());
        Self { room, under_way, fallen, condemned, early: EarlyKeys::default() }
    }

    /// Keeps an early fact, or remembers its id where there is no place for it. The caller has verified it as of the
    /// time when it is due: a spoilt copy would else keep a whole one away.
    pub fn keep(&mut self, fact: &Fact, due: Timestamp) {
        self.early.add(fact);
        self.put_into_room(fact, due);
    }

    /// The same for an entry that an operator has this replica forget until it is due: without it, its key counts as unset.
    pub fn keep_forgotten(&mut self, fact: &Fact, due: Timestamp) {
        self.put_into_room(fact, due);
    }

    fn put_into_room(&mut self, fact: &Fact, due: Timestamp) {
        for (id, due) in self.room.keep(fact, due) {
            if let Some(gone) = self.fallen.add(id, due, MAX_FALLEN_IDS) {
                self.early.remove(&gone);
            }
        }
    }

    /// The keys of early entries with a value: what this replica holds of them says no more of them than it does itself.
    pub fn early(&self) -> &EarlyKeys {
        &self.early
    }

    /// Remembers a fact that was refused, if its body condemns it.
    pub fn refused(&mut self, id: FactId, code: Code, now: Timestamp) {
        if code.condemns_body() {
            let _ = self.condemned.add(id, now.saturating_add(CONDEMNED_FOR_US), MAX_CONDEMNED_IDS);
        }
    }

    /// The facts that wait here.
    pub fn room(&self) -> &WaitingRoom {
        &self.room
    }

    /// How many early facts are remembered by id alone.
    pub fn fallen(&self) -> usize {
        self.fallen.ids.len()
    }

    /// How many facts are remembered because their body condemns them.
    pub fn condemned(&self) -> usize {
        self.condemned.ids.len()
    }

    /// Takes out a portion of the facts that waited here until now; see [`WaitingRoom::take_due`]. They are declined
    /// still, until [`settle_due`](Self::settle_due) says that they were offered.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Fact> {
        let taken = self.room.take_due(now);
        self.under_way.extend(taken.iter().map(Fact::id));
        taken
    }

    /// What was taken out of the room is part of the replica's state, or was refused. Gives the keys of it.
    pub fn settle_due(&mut self) -> BTreeSet<Key> {
        let mut settled = BTreeSet::new();
        for id in std::mem::take(&mut self.under_way) {
            if !self.room.contains(&id) && !self.fallen.ids.contains_key(&id) {
                settled.extend(self.early.remove(&id));
            }
        }
        settled
    }

    /// Whether facts that waited are being offered now.
    pub fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Forgets ids whose time has come. Whether an early fact is among them, which is to be sent again now.
    pub fn forget_due(&mut self, now: Timestamp) -> bool {
        self.condemned.forget(now);
        let forgotten = self.fallen.forget(now);
        for id in forgotten.iter().filter(|id| !self.room.contains(id) && !self.under_way.contains(id)) {
            self.early.remove(id);
        }
        !forgotten.is_empty()
    }

    /// When there is something to take or to ask for again.
    pub fn next_due(&self) -> Option<Timestamp> {
        let fallen = self.fallen.by_time.first().map(|(until, _)| *until);
        self.room.next_due().into_iter().chain(fallen).min()
    }

    /// Whether and why a fact is declined.
    pub fn reason(&self, id: &FactId) -> Option<Reason> {
        if self.room.contains(id) || self.under_way.contains(id) || self.fallen.ids.contains_key(id) {
            return Some(Reason::NotYet);
        }
        self.condemned.ids.contains_key(id).then_some(Reason::Refused)
    }

    /// All that is declined, at most [`MAX_DECLINED`] facts.
    pub fn list(&self) -> Vec<(FactId, Reason)> {
        let early = self.room.ids().chain(self.under_way.iter().chain(self.fallen.ids.keys()).copied());
        let refused = self.condemned.ids.keys().map(|id| (*id, Reason::Refused));
        early.map(|id| (id, Reason::NotYet)).chain(refused).collect()
    }
}

#[cfg(test)]
#[path = "declined_tests.rs"]
mod tests;
