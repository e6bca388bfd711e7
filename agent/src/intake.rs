//! The one way in for facts, whoever brings them: judged, verified in parallel, merged, made durable.

use crate::clock::Clock;
use crate::committer::{CommitError, Condition, Store};
use crate::error::unfinished;
use crate::metrics::Metrics;
use crate::refusals::{FactName, Refusals};
use crate::waiting::{Early, Waiting};
use kvgossip_engine::declined::Declined;
use kvgossip_engine::{Checked, Failure, Judging, Pass};
use kvgossip_grants::{Authority, Fact, RsaVerifier, Timestamp, Verdict, Verified};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Facts verified by one job of the pool.
const JOB_FACTS: usize = 128;
/// So few are verified where they arrive: 16 to 20 µs each (65 for the longest keys), while waking a thread of the pool
/// and being woken by it cost 30 (`docs/decisions/0010-few-signatures-are-verified-in-place.md`).
const IN_PLACE_FACTS: usize = 2;

/// How offered facts came, which decides by which rules they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They came whole from elsewhere: from a peer, or out of a file. What one replica holds, every other takes in.
    Relayed,
    /// Their writer has just signed them and puts them here. [`Authority::check_direct`] is asked first.
    ///
    /// [`Authority::check_direct`]: kvgossip_grants::Authority::check_direct
    Direct {
        /// The largest value that is taken, in bytes.
        max_value_bytes: usize,
    },
}

/// Takes facts in. Clones share it.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    refusals: Arc<Refusals>,
    metrics: Metrics,
    waiting: Arc<Waiting>,
    clock: Clock,
    /// A permit for each job of the pool: as many as there are cores, and one that is ready when another ends, so that
    /// no core waits until the next job is handed over.
    jobs: Arc<Semaphore>,
}

impl Intake {
    /// An intake in front of a store. Entries are held against the system's clock.
    pub fn new(store: Store, metrics: Metrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let waiting = Arc::new(Waiting::new(Declined::new(store.view().authority().cluster())));
        let (refusals, jobs) = (Arc::default(), Arc::new(Semaphore::new(cores + 1)));
        Self { store, refusals, metrics, waiting, clock: Clock::system(), jobs }
    }

    /// Holds entries against another clock.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The same, with what is declined from the start.
    pub(crate) fn with_declined(mut self, declined: Declined) -> Self {
        self.waiting = Arc::new(Waiting::new(declined));
        self
    }

    /// What the clock says that entries are held against.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
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

    /// What waits until it is due, and what else peers are asked not to send.
    pub(crate) fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    /// Offers relayed facts once, in order. `from` is who brings them, for the list of refusals. Early entries are kept
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

    /// Offers facts once, in order, provided that a condition holds at the moment of merging.
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
            // The writer hears that it is early, and nothing is kept of it.
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

    /// Keeps early facts for later. Their grants may have come with them, so that comes last.
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

    /// Offers facts in any order: what lacks its chain is offered again as long as others are merged.
    pub async fn offer_all(
        &self,
        facts: Vec<Fact>,
        from: &str,
        origin: Origin,
    ) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = vec![None; facts.len()];
        let mut open: Vec<usize> = (0..facts.len()).collect();
        // Authority first spares most second offers.
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

    /// Judges and verifies, a job of the pool at a time. What stands on a grant of the same batch comes after it.
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

/// The entries that are early. Facts share their bytes, so a copy costs little.
fn early(facts: &[Fact], now: Timestamp) -> Vec<Early> {
    let due = |fact: &Fact| match fact {
        Fact::Entry(entry) => entry.entry().early_until(now),
        _ => None,
    };
    facts.iter().filter_map(|fact| Some((fact.clone(), due(fact)?))).collect()
}

/// A fact and its place in the batch.
type Placed = (usize, Fact);
/// What came of it.
type PlacedResult = (usize, Result<Verified, Verdict>);

/// Checks, then verifies. The checks of a direct put are made against the same authority as all others, so that a grant which
/// arrives with the fact that cites it cannot slip past them.
fn judge(authority: &Authority, facts: Vec<Placed>, now: Timestamp, origin: Origin) -> Vec<PlacedResult> {
    let judge_one = |fact: Fact| {
        if let Origin::Direct { max_value_bytes } = origin {
            authority.check_direct(&fact, now, max_value_bytes).map_err(Verdict::Refused)?;
        }
        authority.check(fact, now)?.verify(&RsaVerifier)
    };
    facts.into_iter().map(|(place, fact)| (place, judge_one(fact))).collect()
}
