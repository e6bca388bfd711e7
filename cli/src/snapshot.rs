//! A replica in the command, without values, that computes the meaning of facts from any source.

use crate::codes;
use crate::error::{Failure, Result};
use bytes::Bytes;
use kvgossip_engine::{Batch, MemoryStorage, Replica, Storage, StorageError, View, Write};
use kvgossip_grants::{Fact, PublicKey, RsaVerifier, Timestamp, Unverified, Verdict, Verified};
use std::num::NonZero;
use std::thread;

/// Minimum number of facts verified per thread; fewer do not pay for starting one.
const MIN_JOB_FACTS: usize = 32;

/// Replica in this process with verified facts in normal form, without values.
#[derive(Debug)]
pub(crate) struct Snapshot {
    replica: Replica,
    /// Index of the keys that cite each grant; holds no values.
    store: MemoryStorage,
}

impl Snapshot {
    /// Creates an empty snapshot of the cluster with this root.
    pub(crate) fn new(root: PublicKey) -> Self {
        Self { replica: Replica::new(root), store: MemoryStorage::new() }
    }

    /// Returns the view of the facts merged so far.
    pub(crate) fn view(&self) -> &View {
        self.replica.view()
    }

    /// Merges facts in order; returns a verdict for each. The facts' times are not compared with any clock.
    pub(crate) fn take(&mut self, facts: Vec<Fact>) -> Result<Vec<Verdict>> {
        let mut verdicts = Vec::with_capacity(facts.len());
        let mut entries = Vec::new();
        for fact in facts {
            if fact.is_authority() {
                verdicts.extend(self.take_alike(std::mem::take(&mut entries))?);
                verdicts.extend(self.take_alike(vec![fact])?);
            } else {
                entries.push(fact);
            }
        }
        verdicts.extend(self.take_alike(entries)?);
        Ok(verdicts)
    }

    /// Merges facts none of which is needed to judge another of them.
    fn take_alike(&mut self, facts: Vec<Fact>) -> Result<Vec<Verdict>> {
        let (mut verdicts, mut places, mut verified) = (Vec::new(), Vec::new(), Vec::new());
        for (place, checked) in verify(self.view(), facts).into_iter().enumerate() {
            verdicts.push(checked.as_ref().err().copied().unwrap_or(Verdict::Merged));
            if let Ok(fact) = checked {
                places.push(place);
                verified.push(fact);
            }
        }
        let reader = self.store.reader();
        let applied = self.replica.apply(verified, reader.as_ref()).map_err(|error| impossible(&error))?;
        for (place, verdict) in places.into_iter().zip(applied.verdicts) {
            verdicts[place] = verdict;
        }
        let mut batch = applied.batch;
        while let Some(done) = batch {
            self.store.commit(&without_values(done)).map_err(|error| impossible(&error))?;
            batch = self.replica.next_sweep();
        }
        Ok(verdicts)
    }
}

/// Converts a storage error, which a store in memory never returns.
fn impossible(error: &StorageError) -> Failure {
    Failure::new(codes::INTERNAL, error.to_string())
}

/// Checks facts independently of each other; verifies signatures on all cores.
fn verify(view: &View, facts: Vec<Fact>) -> Vec<std::result::Result<Verified, Verdict>> {
    let check = |fact: Fact| view.check(fact, Timestamp::MAX).and_then(judge);
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let job = facts.len().div_ceil(cores).max(MIN_JOB_FACTS);
    if facts.len() <= job {
        return facts.into_iter().map(check).collect();
    }
    thread::scope(|scope| {
        let jobs: Vec<_> = facts
            .chunks(job)
            .map(|facts| scope.spawn(move || facts.iter().cloned().map(check).collect::<Vec<_>>()))
            .collect();
        jobs.into_iter()
            .flat_map(|job| job.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn judge(fact: Unverified) -> std::result::Result<Verified, Verdict> {
    fact.verify(&RsaVerifier)
}

/// Reduces a batch to the rows needed to find the entries that a revocation ends.
fn without_values(mut batch: Batch) -> Batch {
    batch.writes.retain_mut(|write| match write {
        Write::PutEntry(_, _, record) => {
            *record = Bytes::new();
            true
        }
        Write::PutAuthority(_, record) => {
            *record = Bytes::new();
            true
        }
        _ => true,
    });
    batch
}
