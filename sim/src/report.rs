//! Statistics of a judge, and the report of a violated law.

use crate::subject::{Complaint, Met};
use std::fmt;

/// Counts of the work of a judge.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Number of runs of any kind.
    pub runs: u64,
    /// Number of runs with several replicas.
    pub spread: u64,
    /// Number of offers of single facts to a replica by their holders.
    pub offers: u64,
    /// Number of sessions between two replicas.
    pub sessions: u64,
    /// Number of sessions whose connection was cut.
    pub cut: u64,
    /// Number of sessions that took another round without a known reason: a collision of two short hashes, or a fault.
    pub needless_rounds: u64,
    /// Number of sessions that missed differences because of a collision of two short hashes.
    pub misled: u64,
    /// Number of facts that were sent before the facts on which they depend.
    pub early: u64,
    /// Number of facts that sessions transferred.
    pub moved: u64,
    /// Number of transferred facts that were moot.
    pub moot: u64,
    /// Number of restarts of replicas from their stores.
    pub restarts: u64,
    /// Maximum number of rounds that a session took.
    pub most_rounds: u32,
    /// Maximum number of flights, that is, changes of direction, that a session took.
    pub most_flights: u32,
    /// Maximum number of times that all replicas had to have sessions until they were equal.
    pub most_settling: usize,
}

impl Stats {
    /// Adds the counts of `other` to these.
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

    /// Counts the result of one session.
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

/// A run of a judge that violated a law.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Failure {
    /// Seed of the world that was judged.
    pub seed: u64,
    /// Number of the run in that world.
    pub order: u64,
    /// The law that was violated, with details.
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
