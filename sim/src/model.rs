//! The simplest model of a replica: a set of facts that is brought into normal form after each offer. Optionally it
//! breaks one rule, to show that the judge would notice.

use crate::naive::{Answer, Cluster, Facts};
use crate::naive_tree::roots;
use crate::pair::Link;
use crate::subject::{Complaint, Met, Subject};
use crate::world::World;
use bytes::Bytes;
use kvgossip_grants::{Digest, EntryId, Fact, FactId, GrantId, Key, KeyGlob, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of passes in which a peer sends all its facts. A pass in the order of ids may lack one link of a
/// chain at a time.
const MAX_PASSES: usize = 32;

/// A rule that a model breaks on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Only the newest valid entry of each key is kept.
    OneWinnerPerKey,
    /// The first revocation of a grant is kept, even if one that takes precedence over it comes later.
    FirstRevocationKept,
    /// A revocation is kept although a grant above the revoked one has ended.
    RevocationsKeptBelowDeadGrants,
    /// Entries that are masked by the replica's own clock are not stored.
    ExpiryDecidesStorage,
    /// A floor is dropped when one of its patterns is superseded.
    FloorsDroppedOnceOnePatternIsSuperseded,
    /// An entry that is older than the newest of its key is refused.
    OlderPutsRefused,
    /// Only the two newest valid entries of each key are kept.
    FrontierCapped,
    /// Of several entries of one grant with equal timestamps, the first to arrive is kept.
    FirstOfEqualTimesKept,
    /// A fact that cites an unknown grant is treated as moot.
    UnknownChainsAreMoot,
}

impl Flaw {
    /// All rules that a model can break.
    pub const ALL: [Self; 9] = [
        Self::OneWinnerPerKey,
        Self::FirstRevocationKept,
        Self::RevocationsKeptBelowDeadGrants,
        Self::ExpiryDecidesStorage,
        Self::FloorsDroppedOnceOnePatternIsSuperseded,
        Self::OlderPutsRefused,
        Self::FrontierCapped,
        Self::FirstOfEqualTimesKept,
        Self::UnknownChainsAreMoot,
    ];
}

/// The model of a replica: a set of facts and a clock.
#[derive(Clone, Debug)]
pub struct Model {
    cluster: Cluster,
    flaw: Option<Flaw>,
    now: Timestamp,
    stored: Facts,
    taken: Facts,
}

impl Model {
    /// Creates a model without facts, whose clock shows `now`.
    pub fn new(world: &World, now: Timestamp, flaw: Option<Flaw>) -> Self {
        Self { cluster: world.cluster.clone(), flaw, now, stored: Facts::new(), taken: Facts::new() }
    }

    fn take(&mut self, fact: &Fact) -> Answer {
        let answer = match self.spoilt_answer(fact) {
            Some(answer) => answer,
            None => self.cluster.answer(&self.stored, fact, self.now),
        };
        if self.flaw == Some(Flaw::UnknownChainsAreMoot) && answer == Answer::Unjustified {
            return Answer::Moot;
        }
        if answer == Answer::Merged {
            self.stored.insert(fact.id(), fact.clone());
            self.tidy();
        }
        if matches!(answer, Answer::Merged | Answer::Moot) {
            self.taken.insert(fact.id(), fact.clone());
        }
        answer
    }

    /// Brings the stored facts into normal form, or into the faulty form that the flaw demands.
    fn tidy(&mut self) {
        let mut normal = self.cluster.normal_form(&self.stored);
        match self.flaw {
            Some(Flaw::OneWinnerPerKey) => keep_newest(&mut normal, 1),
            Some(Flaw::FrontierCapped) => keep_newest(&mut normal, 2),
            Some(Flaw::RevocationsKeptBelowDeadGrants) => {
                let is_judged =
                    |revoked, normal: &Facts| revocations(normal).any(|(_, grant)| grant == revoked);
                let kept: Vec<FactId> = revocations(&self.stored)
                    .filter(|(_, revoked)| !is_judged(*revoked, &normal))
                    .map(|(id, _)| id)
                    .collect();
                normal.extend(kept.into_iter().filter_map(|id| self.stored.remove_entry(&id)));
            }
            Some(Flaw::ExpiryDecidesStorage) => {
                let all = normal.clone();
                let law = self.cluster.law(&all);
                normal.retain(|_, fact| !matches!(fact, Fact::Entry(it) if law.is_masked(it, self.now)));
            }
            Some(Flaw::FloorsDroppedOnceOnePatternIsSuperseded) => drop_superseded(&mut normal),
            _ => {}
        }
        self.stored = normal;
    }

    /// Returns the answer that the flaw gives to an offered fact without consulting the definitions; `None` if it gives
    /// none.
    fn spoilt_answer(&self, fact: &Fact) -> Option<Answer> {
        let law = self.cluster.law(&self.stored);
        match (self.flaw?, fact) {
            (Flaw::FirstRevocationKept, Fact::Revocation(revocation)) => {
                let revoked = revocation.body().grant.id();
                let stands = revocations(&self.stored).any(|(_, grant)| grant == revoked);
                stands.then_some(Answer::Moot)
            }
            (Flaw::OlderPutsRefused, Fact::Entry(entry)) => {
                let standing = law.newest().remove(&entry.entry().key)?;
                let Some(Fact::Entry(standing)) = self.stored.get(&standing.into()) else { return None };
                (entry.entry().timestamp < standing.entry().timestamp).then_some(Answer::Refused)
            }
            (Flaw::FirstOfEqualTimesKept, Fact::Entry(entry)) => {
                let rank = |it: &kvgossip_grants::Entry| (it.key.clone(), it.timestamp, it.grant);
                let mut standing = law.frontiers().into_values().flatten();
                let same = standing.any(|other| rank(other.entry()) == rank(entry.entry()));
                same.then_some(Answer::Moot)
            }
            _ => None,
        }
    }

    /// Sends all stored facts to `other`, repeatedly, until that changes nothing there.
    fn send_all(&self, other: &mut Self) {
        // A model with a flaw may never reach a stable state.
        for _ in 0..MAX_PASSES {
            let answers: Vec<Answer> = self.stored.values().map(|fact| other.take(fact)).collect();
            if !answers.contains(&Answer::Merged) {
                return;
            }
        }
    }
}

fn revocations(facts: &Facts) -> impl Iterator<Item = (FactId, GrantId)> {
    facts.iter().filter_map(|(id, fact)| match fact {
        Fact::Revocation(it) => Some((*id, it.body().grant.id())),
        _ => None,
    })
}

fn keep_newest(facts: &mut Facts, count: usize) {
    let mut by_key: BTreeMap<Key, BTreeSet<(Timestamp, EntryId)>> = BTreeMap::new();
    for fact in facts.values() {
        if let Fact::Entry(entry) = fact {
            let rank = (entry.entry().timestamp, entry.id());
            by_key.entry(entry.entry().key.clone()).or_default().insert(rank);
        }
    }
    let kept = by_key.values().flat_map(|ranks| ranks.iter().rev().take(count).map(|(_, id)| (*id).into()));
    let kept: BTreeSet<FactId> = kept.collect();
    facts.retain(|id, fact| fact.is_authority() || kept.contains(id));
}

fn drop_superseded(facts: &mut Facts) {
    let mut highest = BTreeMap::new();
    for fact in facts.values() {
        if let Fact::Floor(floor) = fact {
            for pattern in &floor.body().patterns {
                let rank = (floor.body().before, floor.id());
                let best = highest.entry(pattern.clone()).or_insert(rank);
                *best = rank.max(*best);
            }
        }
    }
    let is_best = |id: &FactId, pattern: &KeyGlob| highest.get(pattern).is_some_and(|(_, best)| best == id);
    facts.retain(|id, fact| match fact {
        Fact::Floor(floor) => floor.body().patterns.iter().all(|pattern| is_best(id, pattern)),
        _ => true,
    });
}

impl Subject for Model {
    fn clock(&self) -> Timestamp {
        self.now
    }

    fn set_clock(&mut self, now: Timestamp) {
        self.now = now;
        self.tidy();
    }

    fn offer(&mut self, batch: &[Fact]) -> Vec<Answer> {
        batch.iter().map(|fact| self.take(fact)).collect()
    }

    fn meet(&mut self, other: &mut Self, _: &Link) -> Result<Met, Complaint> {
        self.send_all(other);
        other.send_all(self);
        Ok(Met { equal: Some(self.root() == other.root()), ..Met::default() })
    }

    fn restart(&mut self) -> Result<(), Complaint> {
        Ok(())
    }

    fn taken(&self) -> &Facts {
        &self.taken
    }

    fn stored(&self) -> BTreeMap<FactId, Bytes> {
        self.stored.iter().map(|(id, fact)| (*id, fact.to_record())).collect()
    }

    fn root(&self) -> Digest {
        roots(&self.stored).whole
    }

    fn shown(&self, key: &Key, now: Timestamp) -> Option<EntryId> {
        self.cluster.law(&self.stored).values(now).remove(key)
    }

    fn audit(&self, _: &World, _: &Facts) -> Result<(), Complaint> {
        Ok(())
    }
}
