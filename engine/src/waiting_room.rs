//! Entries that came before their time, until they are due.

use kvgossip_grants::{ClusterId, Fact, FactId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The most facts that wait.
pub const MAX_ROOM_FACTS: usize = 4096;
/// The most bytes that waiting facts may take, [`ROOM_COST_BYTES`] for each among them.
pub const MAX_ROOM_BYTES: usize = 16 << 20;
/// What a waiting fact takes beside its record, at most: its id in three orders.
pub const ROOM_COST_BYTES: usize = 256;
/// The most facts of one portion that is due.
pub const MAX_DUE_FACTS: usize = 256;
/// A portion that is due is closed with the fact that takes it to so many bytes.
pub const MAX_DUE_BYTES: usize = 2 << 20;

#[derive(Debug)]
struct Waiting {
    due: Timestamp,
    /// A copy of its own: a received fact holds on to the whole frame that it came in.
    record: Box<[u8]>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.record.len() + ROOM_COST_BYTES
    }
}

/// A bounded store in memory for facts that are early.
///
/// [`keep`](Self::keep) puts a fact in, [`take_due`](Self::take_due) gives those whose time has come, and
/// [`next_due`](Self::next_due) says when to ask again. Who keeps the timer is outside.
#[derive(Debug)]
pub struct WaitingRoom {
    cluster: ClusterId,
    facts: BTreeMap<FactId, Waiting>,
    by_due: BTreeSet<(Timestamp, FactId)>,
    by_size: BTreeSet<(usize, FactId)>,
    bytes: usize,
}

impl WaitingRoom {
    /// An empty room for facts of `cluster`.
    pub fn new(cluster: ClusterId) -> Self {
        let (facts, by_due, by_size) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { cluster, facts, by_due, by_size, bytes: 0 }
    }

    /// Keeps a fact until it is due. Gives the facts that have no place any more, each with the time when it is due:
    /// the largest fall first, and the new one may be among them.
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

    /// Takes out the next facts whose time has come, the earliest first: at most [`MAX_DUE_FACTS`] of about
    /// [`MAX_DUE_BYTES`]. Ask again until there is none.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Fact> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < MAX_DUE_FACTS && bytes < MAX_DUE_BYTES {
            let Some(&(_, id)) = self.by_due.first().filter(|(due, _)| *due <= now) else { break };
            let Some(waiting) = self.remove(&id) else { break };
            bytes += waiting.record.len();
            // It was a fact when it was kept, so it reads.
            taken.extend(Fact::from_record(self.cluster, &waiting.record));
        }
        taken
    }

    /// When the next fact is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// Whether a fact waits here.
    pub fn contains(&self, id: &FactId) -> bool {
        self.facts.contains_key(id)
    }

    /// The ids of all facts that wait.
    pub fn ids(&self) -> impl Iterator<Item = FactId> {
        self.facts.keys().copied()
    }

    /// How many facts wait.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[path = "waiting_room_tests.rs"]
mod tests;
