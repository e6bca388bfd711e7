//! Pairs of replicas with the same keys except for some differences. Equal parameters give equal pairs.

use kvgossip_grants::{Fact, GrantId, Verdict, Verified};
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::{Scribe, SimReplica};
use rand::rngs::ChaCha12Rng;
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// Time of both replicas' clocks in microseconds: some day of 2026.
const NOW_MICROS: u64 = 1_770_000_000_000_000;
/// Age of the oldest common entries in microseconds: 30 days.
const OLDEST_MICROS: u64 = 30 * 24 * 3600 * 1_000_000;
/// Time since the replicas were separated, in microseconds: an hour.
const APART_MICROS: u64 = 3600 * 1_000_000;
/// Number of facts that are merged at once while a replica is filled.
const FILL_BATCH: usize = 10_000;
const METRICS: [&str; 4] = ["user", "system", "idle", "iowait"];
const CORES: usize = 8;
const DATACENTERS: usize = 5;

/// Distribution of the differences over the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Anywhere in the tree.
    Uniform,
    /// In one run of adjacent keys, each of which differs.
    Clustered,
}

/// Kinds of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// Keys that one side lacks.
    Adds,
    /// Keys for which one side has a newer entry.
    Updates,
    /// Adds, updates and deletes, a third each.
    Mixed,
}

/// Parameters of a pair of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Number of keys of both replicas together.
    pub keys: usize,
    /// Number of keys for which one side has an entry that the other lacks; at most `keys`.
    pub differences: usize,
    /// Distribution of the differences.
    pub spread: Spread,
    /// Kinds of differences.
    pub mix: Mix,
    /// Seed of the random contents.
    pub seed: u64,
}

/// Kind of a difference, made on one side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Add,
    Update,
    Delete,
}

impl Workload {
    /// Makes the two replicas. The side of each difference is random.
    pub fn build(&self) -> [SimReplica; 2] {
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        let mut scribe = Scribe::new(2);
        let grant = scribe.grant(0, 1, "/**", None, Terms::default());
        let id = grant.id();
        let mut keys: Vec<String> = (0..self.keys).map(key).collect();
        keys.sort_unstable();
        let mut kinds: Vec<Option<Kind>> = vec![None; self.keys];
        for (turn, place) in self.places(&mut rng).into_iter().enumerate() {
            kinds[place] = Some(self.kind(turn));
        }
        let mut pair = [0, 1].map(|_| SimReplica::new(scribe.root().clone(), at(NOW_MICROS)));
        fill(&mut pair, std::iter::once(Fact::Grant(grant)));
        let common = keys.iter().zip(&kinds).filter(|(_, kind)| **kind != Some(Kind::Add));
        let written = NOW_MICROS - OLDEST_MICROS..NOW_MICROS - APART_MICROS;
        fill(&mut pair, common.map(|(key, _)| set(&scribe, key, rng.random_range(written.clone()), id)));
        let mut own = [Vec::new(), Vec::new()];
        for (key, kind) in keys.iter().zip(&kinds) {
            let Some(kind) = kind else { continue };
            let time = rng.random_range(NOW_MICROS - APART_MICROS..NOW_MICROS);
            let fact = match kind {
                Kind::Add | Kind::Update => set(&scribe, key, time, id),
                Kind::Delete => scribe.delete(1, key, time, Some(id)),
            };
            own[rng.random_range(0..2)].push(fact);
        }
        for (replica, facts) in pair.iter_mut().zip(own) {
            apply(replica, facts);
        }
        pair
    }

    fn places(&self, rng: &mut ChaCha12Rng) -> Vec<usize> {
        let count = self.differences.min(self.keys);
        match self.spread {
            Spread::Uniform => index::sample(rng, self.keys, count).into_vec(),
            Spread::Clustered => {
                let first = rng.random_range(0..=self.keys - count);
                (first..first + count).collect()
            }
        }
    }

    fn kind(&self, turn: usize) -> Kind {
        match (self.mix, turn % 3) {
            (Mix::Adds, _) | (Mix::Mixed, 0) => Kind::Add,
            (Mix::Updates, _) | (Mix::Mixed, 1) => Kind::Update,
            (Mix::Mixed, _) => Kind::Delete,
        }
    }
}

/// Returns the `number`th key, such as `/dc3/host1742/cpu/core7/user`.
pub fn key(number: usize) -> String {
    let (rest, metric) = (number / METRICS.len(), METRICS[number % METRICS.len()]);
    let (host, core) = (rest / CORES, rest % CORES);
    format!("/dc{}/host{host}/cpu/core{core}/{metric}", host % DATACENTERS)
}

fn set(scribe: &Scribe, key: &str, time: u64, grant: GrantId) -> Fact {
    scribe.set(1, key, format!("value at {time}").as_bytes(), time, Some(grant))
}

/// Merges the same facts into both replicas.
fn fill(pair: &mut [SimReplica; 2], facts: impl Iterator<Item = Fact>) {
    let mut facts = facts.peekable();
    while facts.peek().is_some() {
        let batch: Vec<Fact> = facts.by_ref().take(FILL_BATCH).collect();
        for replica in pair.iter_mut() {
            apply(replica, batch.clone());
        }
    }
}

/// Merges facts as one batch.
fn apply(replica: &mut SimReplica, facts: Vec<Fact>) {
    let verified: Result<Vec<Verified>, Verdict> =
        facts.into_iter().map(|fact| replica.check(fact)).collect();
    let verdicts = verified.map(|verified| replica.apply(verified)).unwrap_or_else(|verdict| vec![verdict]);
    assert!(verdicts.iter().all(|verdict| verdict.is_taken_in()), "every fact of a workload is acceptable");
    replica.changes.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_distinct() {
        let keys: BTreeSet<String> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.contains("/dc2/host182/cpu/core3/idle"));
    }

    #[test]
    fn replicas_differ_in_as_many_keys_as_asked() {
        for spread in [Spread::Uniform, Spread::Clustered] {
            for mix in [Mix::Adds, Mix::Updates, Mix::Mixed] {
                let workload = Workload { keys: 500, differences: 60, spread, mix, seed: 1 };
                let [a, b] = workload.build();
                let ids = |replica: &SimReplica| -> BTreeSet<_> {
                    let facts = replica.view().keys("", None);
                    facts.map(|(key, frontier)| (key, frontier.ids().next())).collect()
                };
                let (a, b) = (ids(&a), ids(&b));
                let differing: BTreeSet<_> = a.symmetric_difference(&b).map(|(key, _)| key).collect();
                assert_eq!(differing.len(), 60, "{workload:?}");
                assert!(!a.is_superset(&b) && !b.is_superset(&a), "both sides have something");
            }
        }
    }
}
