//! Facts that this replica asks its peers not to send, because it does not accept them now or ever.

use crate::early_keys::EarlyKeys;
use crate::waiting_room::{MAX_DUE_FACTS, MAX_ROOM_FACTS, WaitingRoom};
use kvgossip_grants::{ClusterId, Code, Fact, FactId, Key, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of early facts that are remembered by id only, because the waiting room had no place for them. At the
/// limit, the id that was added first is dropped.
pub const MAX_FALLEN_IDS: usize = 4096;
/// Maximum number of facts that are remembered by id because they are refused by their body alone.
pub const MAX_CONDEMNED_IDS: usize = 1024;
/// Time for which a fact that is refused by its body alone is remembered, in microseconds: one day.
pub const CONDEMNED_FOR_US: u64 = 24 * 60 * 60 * 1_000_000;
/// Maximum number of facts that a replica declines at the same time.
pub const MAX_DECLINED: usize = MAX_ROOM_FACTS + MAX_DUE_FACTS + MAX_FALLEN_IDS + MAX_CONDEMNED_IDS;

/// Reason why a replica declines a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The fact is early. It waits here, or is to be sent again when it is due.
    NotYet,
    /// The fact is refused by its body alone ([`Code::condemns_body`]).
    Refused,
}

/// A bounded set of ids, each with the time when it is forgotten. At the limit, the id that was added first is dropped.
#[derive(Debug, Default)]
struct Remembered {
    /// For each id, the time when it is forgotten, and its sequence number in the order of adding.
    ids: BTreeMap<FactId, (Timestamp, u64)>,
    by_time: BTreeSet<(Timestamp, FactId)>,
    by_age: BTreeMap<u64, FactId>,
    added: u64,
}

impl Remembered {
    /// Adds an id until the time `until`. Returns the id that was dropped because of `limit`; `None` if none was.
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

    /// Removes and returns the ids whose time has come at `now`.
    fn forget(&mut self, now: Timestamp) -> Vec<FactId> {
        let mut forgotten = Vec::new();
        while let Some(&(_, id)) = self.by_time.first().filter(|(until, _)| *until <= now) {
            self.remove(&id);
            forgotten.push(id);
        }
        forgotten
    }
}

/// The facts that a replica declines: early facts, which wait in a [`WaitingRoom`] or are remembered by id until they
/// are due, and facts that are refused by their body alone.
///
/// A fact whose chain is not known here is never remembered, since the chain may arrive in the next session. Nor is a
/// corrupt copy, since another copy may be intact.
#[derive(Debug)]
pub struct Declined {
    room: WaitingRoom,
    /// Ids of early facts that were taken out of the room because they are due, and are not known yet to be merged or
    /// refused.
    under_way: BTreeSet<FactId>,
    fallen: Remembered,
    condemned: Remembered,
    /// Keys of the early entries with a value, in the room or remembered by id.
    early: EarlyKeys,
}

impl Declined {
    /// Creates a set of declined facts of `cluster`, without any fact.
    pub fn new(cluster: ClusterId) -> Self {
        let (fallen, condemned) = (Remembered::default(), Remembered::default());
        let (room, under_way) = (WaitingRoom::new(cluster), BTreeSet::new());
        Self { room, under_way, fallen, condemned, early: EarlyKeys::default() }
    }

    /// Keeps an early fact, or remembers its id if there is no place for it. The caller must have verified the fact as
    /// of the time when it is due: otherwise a corrupt copy would keep an intact one away.
    pub fn keep(&mut self, fact: &Fact, due: Timestamp) {
        self.early.add(fact);
        self.put_into_room(fact, due);
    }

    /// Keeps an entry that an operator has this replica forget until it is due. Unlike [`Declined::keep`], it does not
    /// list the key as early: without the entry, the key counts as unset.
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

    /// Returns the keys of early entries with a value. For these keys, the state of this replica is known to be
    /// incomplete.
    pub fn early(&self) -> &EarlyKeys {
        &self.early
    }

    /// Remembers the id of a refused fact for [`CONDEMNED_FOR_US`], if `code` says that it was refused by its body
    /// alone.
    pub fn refused(&mut self, id: FactId, code: Code, now: Timestamp) {
        if code.condemns_body() {
            let _ = self.condemned.add(id, now.saturating_add(CONDEMNED_FOR_US), MAX_CONDEMNED_IDS);
        }
    }

    /// Returns the waiting room, which holds the early facts.
    pub fn room(&self) -> &WaitingRoom {
        &self.room
    }

    /// Returns the number of early facts that are remembered by id only.
    pub fn fallen(&self) -> usize {
        self.fallen.ids.len()
    }

    /// Returns the number of facts that are remembered because they are refused by their body alone.
    pub fn condemned(&self) -> usize {
        self.condemned.ids.len()
    }

    /// Takes some of the facts that are due out of the room; see [`WaitingRoom::take_due`]. They remain declined until
    /// [`settle_due`](Self::settle_due) reports that they were offered.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Fact> {
        let taken = self.room.take_due(now);
        self.under_way.extend(taken.iter().map(Fact::id));
        taken
    }

    /// Reports that the facts taken out of the room were merged or refused. Returns the keys of the early entries among
    /// them.
    pub fn settle_due(&mut self) -> BTreeSet<Key> {
        let mut settled = BTreeSet::new();
        for id in std::mem::take(&mut self.under_way) {
            if !self.room.contains(&id) && !self.fallen.ids.contains_key(&id) {
                settled.extend(self.early.remove(&id));
            }
        }
        settled
    }

    /// Whether facts taken out of the room are being offered now: [`settle_due`](Self::settle_due) was not called yet.
    pub fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Forgets the ids whose time has come at `now`. Returns whether an early fact is among them, which must now be
    /// requested from peers again.
    pub fn forget_due(&mut self, now: Timestamp) -> bool {
        self.condemned.forget(now);
        let forgotten = self.fallen.forget(now);
        for id in forgotten.iter().filter(|id| !self.room.contains(id) && !self.under_way.contains(id)) {
            self.early.remove(id);
        }
        !forgotten.is_empty()
    }

    /// Returns the next time at which a waiting fact is due or a forgotten one must be requested again; `None` if there
    /// is none.
    pub fn next_due(&self) -> Option<Timestamp> {
        let fallen = self.fallen.by_time.first().map(|(until, _)| *until);
        self.room.next_due().into_iter().chain(fallen).min()
    }

    /// Returns the reason why the fact with this id is declined; `None` if it is not.
    pub fn reason(&self, id: &FactId) -> Option<Reason> {
        if self.room.contains(id) || self.under_way.contains(id) || self.fallen.ids.contains_key(id) {
            return Some(Reason::NotYet);
        }
        self.condemned.ids.contains_key(id).then_some(Reason::Refused)
    }

    /// Returns the ids of all declined facts with their reasons, at most [`MAX_DECLINED`].
    pub fn list(&self) -> Vec<(FactId, Reason)> {
        let early = self.room.ids().chain(self.under_way.iter().chain(self.fallen.ids.keys()).copied());
        let refused = self.condemned.ids.keys().map(|id| (*id, Reason::Refused));
        early.map(|id| (id, Reason::NotYet)).chain(refused).collect()
    }
}

#[cfg(test)]
#[path = "declined_tests.rs"]
mod tests;
