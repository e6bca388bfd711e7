//! A bounded store for early entries until they are due.

use kvgossip_grants::{ClusterId, Fact, FactId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of facts that wait in a room.
pub const MAX_ROOM_FACTS: usize = 4096;
/// Maximum memory of the facts that wait in a room, in bytes, including [`ROOM_COST_BYTES`] for each fact.
pub const MAX_ROOM_BYTES: usize = 16 << 20;
/// Maximum overhead of a waiting fact beyond its record, in bytes: its id in three indexes.
pub const ROOM_COST_BYTES: usize = 256;
/// Maximum number of facts that one call of [`WaitingRoom::take_due`] returns.
pub const MAX_DUE_FACTS: usize = 256;
/// Size in bytes at which one call of [`WaitingRoom::take_due`] stops taking further facts.
pub const MAX_DUE_BYTES: usize = 2 << 20;

#[derive(Debug)]
struct Waiting {
    due: Timestamp,
    /// Own copy of the fact's record: a received fact would keep the whole frame that it came in allocated.
    record: Box<[u8]>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.record.len() + ROOM_COST_BYTES
    }
}

/// A bounded in-memory store for early facts.
///
/// [`keep`](Self::keep) adds a fact, [`take_due`](Self::take_due) removes those that are due, and
/// [`next_due`](Self::next_due) returns the time of the next call. The caller keeps the timer.
#[derive(Debug)]
pub struct WaitingRoom {
    cluster: ClusterId,
    facts: BTreeMap<FactId, Waiting>,
    by_due: BTreeSet<(Timestamp, FactId)>,
    by_size: BTreeSet<(usize, FactId)>,
    bytes: usize,
}

impl WaitingRoom {
    /// Creates an empty room for facts of `cluster`.
    pub fn new(cluster: ClusterId) -> Self {
        let (facts, by_due, by_size) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { cluster, facts, by_due, by_size, bytes: 0 }
    }

    /// Keeps a fact until `due`. Returns the ids of the facts that had to leave because of the limits, each with its
    /// due time: the largest facts leave first, and the new one may be among them.
    pub fn keep(&mut self, fact: &Fact, due: Timestamp) -> Vec<(FactId, Timestamp)> {
        let id = fact.id();
        if self.facts.contains_key(&id) {
            return Vec::new();
        }
        let waiting = Waiting { due, record: fact.to_record().as_ref().into() };
        self.bytes += waiting.bytes();
        self.by_due.insert((due, id));
        self.by_size.insert((waiting.bytes(), id));
        self.facts.insert(id, waiting);
        let mut fallen = Vec::new();
        while self.facts.len() > MAX_ROOM_FACTS || self.bytes > MAX_ROOM_BYTES {
            let Some(&(_, largest)) = self.by_size.last() else { break };
            fallen.extend(self.remove(&largest).map(|waiting| (largest, waiting.due)));
        }
        fallen
    }

    fn remove(&mut self, id: &FactId) -> Option<Waiting> {
        let waiting = self.facts.remove(id)?;
        self.by_due.remove(&(waiting.due, *id));
        self.by_size.remove(&(waiting.bytes(), *id));
        self.bytes -= waiting.bytes();
        Some(waiting)
    }

    /// Removes and returns the next facts that are due at `now`, the earliest first: at most [`MAX_DUE_FACTS`] facts
    /// and about [`MAX_DUE_BYTES`]. Call it until it returns none.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Fact> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < MAX_DUE_FACTS && bytes < MAX_DUE_BYTES {
            let Some(&(_, id)) = self.by_due.first().filter(|(due, _)| *due <= now) else { break };
            let Some(waiting) = self.remove(&id) else { break };
            bytes += waiting.record.len();
            // The record decodes, since it was made from a fact.
            taken.extend(Fact::from_record(self.cluster, &waiting.record));
        }
        taken
    }

    /// Returns the time when the next fact is due; `None` if no fact is waiting.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// Whether the fact with this id is waiting here.
    pub fn contains(&self, id: &FactId) -> bool {
        self.facts.contains_key(id)
    }

    /// Iterates over the ids of the waiting facts in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = FactId> {
        self.facts.keys().copied()
    }

    /// Returns the number of waiting facts.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether no fact is waiting.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Returns the memory of the waiting facts in bytes, including [`ROOM_COST_BYTES`] for each fact.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[path = "waiting_room_tests.rs"]
mod tests;
