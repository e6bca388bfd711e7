//! Measures the cost of making two replicas equal again.

use crate::workload::Workload;
use kvgossip_engine::session::{Outcome, Tally};
use kvgossip_sim::{Link, SimReplica, sync};
use serde::Serialize;
use std::time::Instant;

/// Number of facts that are merged at once during a session.
const BATCH: usize = 1_000;

/// Cost of one session. Everything except the time is exact and the same in every run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Replicas and differences of the session.
    pub workload: Workload,
    /// Bytes from the initiator beyond the facts themselves.
    pub overhead_out: u64,
    /// Bytes from the responder beyond the facts themselves.
    pub overhead_in: u64,
    /// Bytes of bodies, signatures and values of the entries transferred.
    pub payload: u64,
    /// Number of entries transferred.
    pub entries: u64,
    /// Bytes of entries that changed nothing at the receiver; part of `payload`.
    pub waste: u64,
    /// Number of flights, from the first hello to the final roots.
    pub flights: u32,
    /// Number of rounds, that is, of walks through the trees.
    pub rounds: u32,
    /// Number of tree nodes hashed by both sides, including those for merging the entries.
    pub nodes_hashed: u64,
    /// Time of both sides on one thread, without signatures, in microseconds.
    pub micros: u128,
}

impl Report {
    /// Returns the overhead of both directions per difference, in bytes.
    pub fn per_difference(&self) -> f64 {
        (self.overhead_out + self.overhead_in) as f64 / self.workload.differences.max(1) as f64
    }
}

/// Reason why a session did not make two replicas equal.
#[derive(Debug)]
pub struct NotRepaired(pub String);

impl std::fmt::Display for NotRepaired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the session did not make the replicas equal: {}", self.0)
    }
}

impl std::error::Error for NotRepaired {}

/// Builds the replicas and repairs them in one session.
///
/// # Errors
/// The session failed or ended with differences.
pub fn measure(workload: Workload) -> Result<Report, NotRepaired> {
    let [mut a, mut b] = workload.build();
    let hashed = |replica: &SimReplica| replica.view().entries().nodes_hashed();
    let hashed_before = hashed(&a) + hashed(&b);
    let begun = Instant::now();
    let ended = sync(&mut a, &mut b, &Link { seed: workload.seed, batch: BATCH, ..Link::default() });
    let micros = begun.elapsed().as_micros();
    if ended.outcome != Some(Outcome::Equal) || a.view().root() != b.view().root() {
        return Err(NotRepaired(format!("{:?} {:?}", ended.outcome, ended.error)));
    }
    let Tally { sent, received, waste, flights, rounds, .. } = ended.tally;
    Ok(Report {
        workload,
        overhead_out: sent.overhead,
        overhead_in: received.overhead,
        payload: sent.entries + received.entries,
        entries: sent.entry_facts + received.entry_facts,
        waste: waste + ended.responder_tally.waste,
        flights,
        rounds,
        nodes_hashed: hashed(&a) + hashed(&b) - hashed_before,
        micros,
    })
}
