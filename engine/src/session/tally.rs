//! What a session cost, by kind and direction.

/// Bytes that went one way, with the length in front of each frame counted where it belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Hellos, hashes, ids, wants, ends, and the framing of everything: what is not a fact.
    pub overhead: u64,
    /// Bodies and signatures of grants, revocations and floors.
    pub authority: u64,
    /// Bodies, signatures and values of entries.
    pub entries: u64,
    /// How many grants, revocations and floors.
    pub authority_facts: u64,
    /// How many entries.
    pub entry_facts: u64,
}

impl Traffic {
    /// All bytes of the stream.
    pub fn total(&self) -> u64 {
        self.overhead + self.authority + self.entries
    }
}

/// What a session cost and did, as one side saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent by this side.
    pub sent: Traffic,
    /// Received by this side.
    pub received: Traffic,
    /// Bytes of received facts that changed nothing here; part of `received`.
    pub waste: u64,
    /// Changes of direction from the first hello on: two are a round trip.
    pub flights: u32,
    /// Rounds that were begun after the hellos.
    pub rounds: u32,
    /// Received facts that were merged.
    pub merged: u64,
    /// Received facts that were fine and changed nothing.
    pub moot: u64,
    /// Received entries from the future.
    pub not_yet: u64,
    /// Received facts whose chain is not live here.
    pub unjustified: u64,
    /// Received facts that can never be accepted.
    pub refused: u64,
}
