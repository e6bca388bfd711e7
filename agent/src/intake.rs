//! The one way in for facts, whoever brings them: judged, verified in parallel, merged, made durable.

use crate::clock;
use crate::committer::{CommitError, Condition, Store};
use crate::error::unfinished;
use crate::metrics::Metrics;
use crate::refusals::{FactName, Refusals};
use kvgossip_engine::{StorageError, View};
use kvgossip_grants::{Fact, RsaVerifier, Timestamp, Verdict, Verified};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Facts verified by one job of the pool.
const JOB_FACTS: usize = 128;
/// So few are verified where they arrive: 16 to 20 µs each (65 for the longest keys), while waking a thread of the pool
/// and being woken by it cost 30 (`docs/decisions/0010-few-signatures-are-verified-in-place.md`).
const IN_PLACE_FACTS: usize = 2;

/// Takes facts in. Clones share it.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    refusals: Arc<Refusals>,
    metrics: Metrics,
    /// A permit for each job of the pool: as many as there are cores, and one that is ready when another ends, so that
    /// no core waits until the next job is handed over.
    jobs: Arc<Semaphore>,
}

impl Intake {
    /// An intake in front of a store.
    pub fn new(store: Store, metrics: Metrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { store, refusals: Arc::default(), metrics, jobs: Arc::new(Semaphore::new(cores + 1)) }
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is counted and measured.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What was refused lately.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Offers facts once, in order. `from` is who brings them, for the list of refusals.
    pub async fn offer(&self, facts: Vec<Fact>, from: &str) -> Result<Vec<Verdict>, StorageError> {
        match self.offer_if(facts, from, None).await {
            Ok(verdicts) => Ok(verdicts),
            Err(CommitError::Storage(error)) => Err(error),
            Err(conflict) => Err(StorageError::Stopped(conflict.to_string())),
        }
    }

    /// The same, provided that a condition holds at the moment of merging.
    pub async fn offer_if(
        &self,
        facts: Vec<Fact>,
        from: &str,
        only_if: Option<Condition>,
    ) -> Result<Vec<Verdict>, CommitError> {
        let now = clock::now();
        let names: Vec<FactName> = facts.iter().map(FactName::of).collect();
        let checked = self.verify(facts, now).await?;
        let count = checked.len();
        let (mut verdicts, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut verified = Vec::with_capacity(count);
        for (place, result) in checked.into_iter().enumerate() {
            verdicts.push(result.as_ref().err().copied().unwrap_or(Verdict::Merged));
            if let Ok(fact) = result {
                places.push(place);
                verified.push(fact);
            }
        }
        for (place, verdict) in places.into_iter().zip(self.store.commit_if(verified, only_if).await?) {
            verdicts[place] = verdict;
        }
        for (name, verdict) in names.iter().zip(&verdicts) {
            self.refusals.note(from, name, *verdict, now);
        }
        self.metrics.facts(from, &verdicts);
        Ok(verdicts)
    }

    /// Offers facts in any order: what lacks its chain is offered again as long as others are merged.
    pub async fn offer_all(&self, facts: Vec<Fact>, from: &str) -> Result<Vec<Verdict>, StorageError> {
        let mut verdicts = vec![None; facts.len()];
        let mut open: Vec<usize> = (0..facts.len()).collect();
        // Authority first spares most second offers.
        open.sort_by_key(|place| !facts[*place].is_authority());
        loop {
            let batch = open.iter().map(|place| facts[*place].clone()).collect();
            let results = self.offer(batch, from).await?;
            let helped = results.contains(&Verdict::Merged);
            for (place, verdict) in open.iter().zip(&results) {
                verdicts[*place] = Some(*verdict);
            }
            let lacking = |(_, verdict): &(usize, Verdict)| matches!(verdict, Verdict::Unjustified(_));
            open = open.into_iter().zip(results).filter(lacking).map(|(place, _)| place).collect();
            if open.is_empty() || !helped {
                return Ok(verdicts.into_iter().flatten().collect());
            }
        }
    }

    /// Judges and verifies, a job of the pool at a time; the results are in the order of the facts.
    async fn verify(
        &self,
        facts: Vec<Fact>,
        now: Timestamp,
    ) -> Result<Vec<Result<Verified, Verdict>>, StorageError> {
        let view = self.store.view();
        if facts.len() <= IN_PLACE_FACTS {
            return Ok(judge(&view, facts, now));
        }
        let (count, mut jobs) = (facts.len(), Vec::new());
        let mut facts = facts.into_iter();
        loop {
            let job: Vec<Fact> = facts.by_ref().take(JOB_FACTS).collect();
            if job.is_empty() {
                break;
            }
            let (view, permit) = (view.clone(), self.jobs.clone().acquire_owned().await);
            jobs.push(tokio::task::spawn_blocking(move || {
                let done = judge(&view, job, now);
                drop(permit);
                done
            }));
        }
        let mut results = Vec::with_capacity(count);
        for job in jobs {
            results.extend(job.await.map_err(|error| unfinished(&error))?);
        }
        Ok(results)
    }
}

/// Checks, then verifies; the results are in the order of the facts.
fn judge(view: &View, facts: Vec<Fact>, now: Timestamp) -> Vec<Result<Verified, Verdict>> {
    facts.into_iter().map(|fact| view.check(fact, now)?.verify(&RsaVerifier)).collect()
}
