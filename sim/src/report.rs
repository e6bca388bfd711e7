//! What a judge did, and how it says that a law was broken.

use crate::subject::{Complaint, Met};
use std::fmt;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Runs of any kind.
    pub runs: u64,
    /// Runs with several replicas.
    pub spread: u64,
    /// Offers of single facts, by whoever holds them.
    pub offers: u64,
    /// Sessions between two replicas.
    pub sessions: u64,
    /// Sessions that were cut.
    pub cut: u64,
    /// Sessions that took another round for no reason that is known: two short hashes were alike, or should not
    /// have been.
    pub needless_rounds: u64,
    /// Sessions that found less than there was, for two short hashes that were alike.
    pub misled: u64,
    /// Facts that were sent before what they stand on.
    pub early: u64,
    /// Facts that went over the wire.
    pub moved: u64,
    /// Facts among them that were fine and changed nothing.
    pub moot: u64,
    /// Restarts from the store.
    pub restarts: u64,
    /// The most rounds of a session.
    pub most_rounds: u32,
    /// The most flights of a session.
    pub most_flights: u32,
    /// The most times that all had to meet until they were equal.
    pub most_settling: usize,
}

impl Stats {
    /// Adds what somebody else did.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.spread += other.spread;
        self.offers += other.offers;
        self.sessions += other.sessions;
        self.cut += other.cut;
        self.needless_rounds += other.needless_rounds;
        self.misled += other.misled;
        self.early += other.early;
        self.moved += other.moved;
        self.moot += other.moot;
        self.restarts += other.restarts;
        self.most_rounds = self.most_rounds.max(other.most_rounds);
        self.most_flights = self.most_flights.max(other.most_flights);
        self.most_settling = self.most_settling.max(other.most_settling);
    }

    /// Counts a session.
    pub(crate) fn met(&mut self, met: &Met) {
        self.sessions += 1;
        self.cut += u64::from(met.equal.is_none());
        self.needless_rounds += u64::from(met.needless_round);
        self.misled += u64::from(met.misled);
        self.early += met.early;
        self.moved += met.moved;
        self.moot += met.moot;
        self.most_rounds = self.most_rounds.max(met.rounds);
        self.most_flights = self.most_flights.max(met.flights);
    }
}

/// A run that broke a law.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Failure {
    /// The world.
    pub seed: u64,
    /// The run of it.
    pub order: u64,
    /// What was broken.
    pub complaint: Complaint,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, order, complaint } = self;
        writeln!(f, "seed {seed}, order {order}: {complaint}")?;
        write!(
            f,
            "replay: cargo run -p kvgossip-sim --release --example worlds -- --seed {seed} --order {order} --show"
        )
    }
}
