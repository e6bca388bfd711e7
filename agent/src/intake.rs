//! The only path for facts into the store: facts are checked, verified in parallel, merged and made durable.

use crate::clock::Clock;
use crate::committer::{CommitError, Condition, StoreHandle};
use crate::metrics::Metrics;
pub use crate::origin::Origin;
use crate::refusals::{FactName, Refusals};
use crate::unfinished::unfinished;
use crate::waiting::{Early, Waiting};
use kvgossip_engine::declined::Declined;
use kvgossip_engine::{Checked, Failure, Judging, Pass};
use kvgossip_grants::{Authority, Fact, RsaVerifier, Timestamp, Verdict, Verified};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Number of facts that one job of the thread pool verifies.
const JOB_FACTS: usize = 128;
/// Batches of at most this many facts are verified on the calling thread: a signature takes 16 to 20 µs (65 µs for
/// the longest keys), a switch to a pool thread and back 30 µs
/// (`docs/decisions/0010-few-signatures-are-verified-in-place.md`).
const IN_PLACE_FACTS: usize = 2;

/// The entrance of a store: checks facts, verifies their signatures and has them merged. Clones share it.
#[derive(Clone)]
pub struct Intake {
    store: StoreHandle,
    refusals: Arc<Refusals>,
    metrics: Metrics,
    waiting: Arc<Waiting>,
    clock: Clock,
    /// One permit per running job of the thread pool: the number of cores plus one, so that a job is ready when a core
    /// becomes free.
    jobs: Arc<Semaphore>,
}

impl Intake {
    /// Creates an intake in front of a store, with the system clock.
    pub fn new(store: StoreHandle, metrics: Metrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let waiting = Arc::new(Waiting::new(Declined::new(store.view().authority().cluster())));
        let (refusals, jobs) = (Arc::default(), Arc::new(Semaphore::new(cores + 1)));
        Self { store, refusals, metrics, waiting, clock: Clock::system(), jobs }
    }

    /// Replaces the clock that entries are judged against.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the set of facts that the replica declines.
    pub(crate) fn with_declined(mut self, declined: Declined) -> Self {
        self.waiting = Arc::new(Waiting::new(declined));
        self
    }

    /// Returns the time of the clock that entries are judged against.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the store that the facts are merged into.
    pub fn store(&self) -> &StoreHandle {
        &self.store
    }

    /// Returns the agent's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the list of recently refused facts.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Returns the waiting room and the other facts that peers are asked not to send.
    pub(crate) fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    /// Offers relayed facts once, in order. `from` names the source in the list of refusals. Early entries are kept
    /// and offered again when they are due.
    pub async fn offer(&self, facts: Vec<Fact>, from: &str) -> Result<Vec<Verdict>, Failure> {
        self.offer_once(facts, from, Origin::Relayed).await
    }

    async fn offer_once(
        &self,
        facts: Vec<Fact>,
        from: &str,
        origin: Origin,
    ) -> Result<Vec<Verdict>, Failure> {
        self.offer_if(facts, from, origin, None).await.map_err(CommitError::unconditional)
    }

    /// Offers facts once, in order, if the condition `only_if` holds at the moment of merging. `from` names the source
    /// in the list of refusals. Early relayed entries are kept in the waiting room once the merge has succeeded.
    pub async fn offer_if(
        &self,
        facts: Vec<Fact>,
        from: &str,
        origin: Origin,
        only_if: Option<Condition>,
    ) -> Result<Vec<Verdict>, CommitError> {
        let now = self.clock.now();
        let names: Vec<FactName> = facts.iter().map(FactName::of).collect();
        let early = match origin {
            Origin::Relayed => early(&facts, now),
            // The writer gets the verdict that the entry is early; the entry is not kept.
            Origin::Direct { .. } => Vec::new(),
        };
        let Checked { verdicts, verified } = self.verify(facts, now, origin).await?;
        let (places, verified): (Vec<usize>, Vec<Verified>) = verified.into_iter().unzip();
        let mut verdicts: Vec<Verdict> =
            verdicts.into_iter().map(|verdict| verdict.unwrap_or(Verdict::Merged)).collect();
        for (place, verdict) in places.into_iter().zip(self.store.commit_if(verified, only_if, origin).await?)
        {
            verdicts[place] = verdict;
        }
        for (name, verdict) in names.iter().zip(&verdicts) {
            self.refusals.note(from, name, *verdict, now);
            self.waiting.note(&name.id, *verdict, now);
        }
        self.keep(early, now).await?;
        self.metrics.facts(from, &verdicts);
        Ok(verdicts)
    }

    /// Keeps early facts in the waiting room. Runs after the merge, because their grants may be in the same batch of
    /// facts.
    async fn keep(&self, early: Vec<Early>, now: Timestamp) -> Result<(), Failure> {
        let (view, waiting) = (self.store.view(), self.waiting.clone());
        if early.len() <= IN_PLACE_FACTS {
            if !early.is_empty() {
                waiting.keep(&view, early, now);
            }
            return Ok(());
        }
        let kept = tokio::task::spawn_blocking(move || waiting.keep(&view, early, now)).await;
        kept.map_err(|error| unfinished(&error, "the keeping of early facts"))
    }

    /// Offers facts in any order: unjustified ones are offered again as long as the previous pass over them merged
    /// anything.
    pub async fn offer_all(
        &self,
        facts: Vec<Fact>,
        from: &str,
        origin: Origin,
    ) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = vec![None; facts.len()];
        let mut open: Vec<usize> = (0..facts.len()).collect();
        // Authority facts first: most entries are then justified in the first pass.
        open.sort_by_key(|place| !facts[*place].is_authority());
        loop {
            let batch = open.iter().map(|place| facts[*place].clone()).collect();
            let results = self.offer_once(batch, from, origin).await?;
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

    /// Checks facts and verifies their signatures, split into jobs of the pool. A fact that depends on a grant of the
    /// same batch follows in a later pass.
    async fn verify(&self, facts: Vec<Fact>, now: Timestamp, origin: Origin) -> Result<Checked, Failure> {
        let view = self.store.view();
        let mut judging = match origin {
            Origin::Relayed => Judging::new(&view, facts),
            Origin::Direct { .. } => Judging::thorough(&view, facts),
        };
        while let Some(Pass { authority, facts }) = judging.next_pass() {
            for (place, result) in self.run(authority, facts, now, origin).await? {
                judging.handle(place, result);
            }
        }
        Ok(judging.finish())
    }

    async fn run(
        &self,
        authority: Arc<Authority>,
        facts: Vec<Placed>,
        now: Timestamp,
        origin: Origin,
    ) -> Result<Vec<PlacedResult>, Failure> {
        if facts.len() <= IN_PLACE_FACTS {
            return Ok(judge(&authority, facts, now, origin));
        }
        let (count, mut jobs) = (facts.len(), Vec::new());
        let mut facts = facts.into_iter();
        loop {
            let job: Vec<Placed> = facts.by_ref().take(JOB_FACTS).collect();
            if job.is_empty() {
                break;
            }
            let (authority, permit) = (authority.clone(), self.jobs.clone().acquire_owned().await);
            jobs.push(tokio::task::spawn_blocking(move || {
                let done = judge(&authority, job, now, origin);
                drop(permit);
                done
            }));
        }
        let mut results = Vec::with_capacity(count);
        for job in jobs {
            results.extend(job.await.map_err(|error| unfinished(&error, "the verification of facts"))?);
        }
        Ok(results)
    }
}

/// Returns the early entries with their due times. The clones are cheap: facts share their bytes.
fn early(facts: &[Fact], now: Timestamp) -> Vec<Early> {
    let due = |fact: &Fact| match fact {
        Fact::Entry(entry) => entry.entry().early_until(now),
        _ => None,
    };
    facts.iter().filter_map(|fact| Some((fact.clone(), due(fact)?))).collect()
}

/// A fact with its index in the batch of offered facts.
type Placed = (usize, Fact);
/// The verified fact, or the verdict against it, with the fact's index in the batch of offered facts.
type PlacedResult = (usize, Result<Verified, Verdict>);

/// Checks each fact, then verifies its signature. Direct puts are checked against the authority of the same pass, so
/// a grant in the same batch cannot bypass the checks.
fn judge(authority: &Authority, facts: Vec<Placed>, now: Timestamp, origin: Origin) -> Vec<PlacedResult> {
    let judge_one = |fact: Fact| {
        if let Origin::Direct { max_value_bytes } = origin {
            authority.check_direct(&fact, now, max_value_bytes).map_err(Verdict::Refused)?;
        }
        authority.check(fact, now)?.verify(&RsaVerifier)
    };
    facts.into_iter().map(|(place, fact)| (place, judge_one(fact))).collect()
}
