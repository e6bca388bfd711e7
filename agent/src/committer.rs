//! The one thread that changes the replica and writes to the store.
//!
//! It gathers the waiting requests, merges their facts as one batch, and makes the batch durable. Only then does it
//! publish the new state to readers and answer the requests.

mod condition;
mod quota;
mod reads;
mod recovery;
mod turns;
mod watchdog;

pub use condition::{CommitError, Condition};
pub use reads::ReadsAgain;
pub use watchdog::{Patience, STALL_LIMIT};

use crate::clock;

use crate::intake::Origin;
use crate::metrics::CommitMetrics;
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use kvgossip_engine::{
    Change, Failure, InternalError, Replica, Snapshot, Storage, StorageError, View, Write,
};
use kvgossip_grants::{FactId, Verdict, Verified};
use quota::Quota;
use reads::Noted;
use recovery::Unsettled;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{broadcast, oneshot, watch};
use watchdog::Watch;

/// Maximum number of requests that wait for the committer; further senders wait until one of them is taken.
pub const MAX_WAITING: usize = 1024;
/// Number of facts from which on a batch takes no further requests.
pub const MAX_BATCH_FACTS: usize = 4096;
/// Size of the facts, in bytes, from which on a batch takes no further requests.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Maximum number of batches that a receiver of changes may lag behind; beyond it, the receiver learns that it missed
/// some.
pub const CHANGE_BUFFER: usize = 1024;

struct Request {
    facts: Vec<Verified>,
    only_if: Option<Condition>,
    origin: Origin,
    reply: oneshot::Sender<Result<Vec<Verdict>, CommitError>>,
}

/// A batch of facts that is durable, as sent to receivers of changes.
#[derive(Debug)]
pub struct Committed {
    /// State of the store after the batch.
    pub snapshot: Arc<Snapshot>,
    /// Changes by the batch that readers can see, in order.
    pub changes: Vec<Change>,
    /// Ids of the grants, revocations and floors that the batch added.
    pub authority: Vec<FactId>,
}

/// A handle to the committer and to the published state. Clones share it.
#[derive(Clone)]
pub struct StoreHandle {
    published: Arc<ArcSwap<Snapshot>>,
    noted: Arc<Noted>,
    requests: Sender<Request>,
    batches: watch::Receiver<u64>,
    failed: watch::Receiver<Option<Failure>>,
    full: watch::Receiver<bool>,
    has_limit: bool,
    changes: broadcast::Sender<Arc<Committed>>,
}

/// State of the committer thread. The watchdog ends with it.
struct Committer {
    replica: Replica,
    storage: Box<dyn Storage>,
    requests: Receiver<Request>,
    published: Arc<ArcSwap<Snapshot>>,
    noted: Arc<Noted>,
    batches: watch::Sender<u64>,
    watch: Watch,
    changes: broadcast::Sender<Arc<Committed>>,
    quota: Quota,
    full: watch::Sender<bool>,
    patience: Patience,
    metrics: CommitMetrics,
    /// Changes of the last batch if its commit failed and the store can be reopened: the batch may be durable.
    unsettled: Option<Unsettled>,
}

/// Starts the committer. It ends, and closes the store, when the last [`StoreHandle`] is dropped.
///
/// A store without the disk space that it may need at once is read-only until there is space. A store whose weight has
/// reached `limit` (bytes) accepts only facts that may free room.
///
/// # Errors
/// The system cannot start a thread.
pub fn start(
    replica: Replica,
    storage: Box<dyn Storage>,
    patience: Patience,
    metrics: CommitMetrics,
    limit: Option<u64>,
) -> std::io::Result<(StoreHandle, JoinHandle<()>)> {
    let noted = Arc::<Noted>::default();
    let published = Arc::new(ArcSwap::from_pointee(noted.snapshot(&replica, storage.as_ref())));
    let (sender, requests) = bounded(MAX_WAITING);
    let (batches, batches_seen) = watch::channel(replica.view().batch());
    let (failed, failed_seen) = watch::channel(None);
    let (full, full_seen) = watch::channel(false);
    let (changes, _) = broadcast::channel(CHANGE_BUFFER);
    let store = StoreHandle {
        published: published.clone(),
        noted: noted.clone(),
        requests: sender,
        batches: batches_seen,
        failed: failed_seen,
        full: full_seen,
        has_limit: limit.is_some(),
        changes: changes.clone(),
    };
    let watch = Watch::start(failed, patience.stall)?;
    let mut committer = Committer {
        replica,
        storage,
        requests,
        published,
        noted,
        batches,
        watch,
        changes,
        quota: Quota::new(limit),
        full,
        patience,
        metrics,
        unsettled: None,
    };
    // Done before anybody receives "ready".
    committer.ask_for_room();
    let thread = std::thread::Builder::new().name("committer".into()).spawn(move || committer.run())?;
    Ok((store, thread))
}

impl StoreHandle {
    /// Returns the current durable state with reads of the store. Drop it when the answer that needs it is complete:
    /// until then the store keeps overwritten and removed rows on the disk.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// Returns the current durable state, for callers that read no records.
    pub fn view(&self) -> Arc<View> {
        self.published.load().view.clone()
    }

    /// Returns the first of the recent read failures of stored data; see [`StoreHandle::look_again`].
    pub fn unreadable(&self) -> Option<StorageError> {
        self.noted.trouble()
    }

    /// Retries the reads that failed, and forgets those that succeed now and those of entries that are no longer live.
    /// Reads the disk: call it where blocking is allowed.
    pub fn look_again(&self) -> ReadsAgain {
        self.noted.look_again(&self.snapshot())
    }

    /// Returns a channel with the number of the last published batch; it signals each new state.
    pub fn batches(&self) -> watch::Receiver<u64> {
        self.batches.clone()
    }

    /// Returns the reason why the store accepts no facts; `None` while it accepts them.
    pub fn failure(&self) -> Option<Failure> {
        self.failed.borrow().clone()
    }

    /// Returns the number of requests that wait for the committer.
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// Whether the committer thread is running and receives requests.
    pub fn is_running(&self) -> bool {
        self.batches.has_changed().is_ok()
    }

    /// Returns a receiver of all batches committed from now on.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.changes.subscribe()
    }

    /// Merges verified facts. Completes when they are durable, and returns one verdict per fact.
    pub async fn commit(&self, facts: Vec<Verified>) -> Result<Vec<Verdict>, Failure> {
        self.commit_if(facts, None, Origin::Relayed).await.map_err(CommitError::unconditional)
    }

    /// Merges verified facts like [`StoreHandle::commit`], if the condition `only_if` holds at the moment of the merge.
    pub async fn commit_if(
        &self,
        facts: Vec<Verified>,
        only_if: Option<Condition>,
        origin: Origin,
    ) -> Result<Vec<Verdict>, CommitError> {
        if facts.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let mut failed = self.failed.clone();
        let is_stall = |failure: &Option<Failure>| {
            matches!(failure, Some(Failure::Storage(StorageError::Stalled { .. })))
        };
        let stalled = failed.wait_for(is_stall);
        let answered = async {
            self.send(Request { facts, only_if, origin, reply }).await?;
            answer.await.unwrap_or_else(|_| Err(self.stopped().into()))
        };
        tokio::select! {
            biased;
            Ok(error) = stalled => Err(error.clone().unwrap_or_else(|| self.stopped()).into()),
            answer = answered => answer,
        }
    }

    async fn send(&self, request: Request) -> Result<(), Failure> {
        let request = match self.requests.try_send(request) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_disconnected() => return Err(self.stopped()),
            Err(error) => error.into_inner(),
        };
        // The queue is full: wait for room without blocking the runtime.
        let requests = self.requests.clone();
        let sent = tokio::task::spawn_blocking(move || requests.send(request)).await;
        if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(self.stopped()) }
    }

    fn stopped(&self) -> Failure {
        // While this handle lives, the committer does not end by itself.
        self.failure().unwrap_or_else(|| InternalError::Committer.into())
    }
}

impl Committer {
    fn run(mut self) {
        let (mut next, mut turns) = (None, turns::Turns::default());
        loop {
            if self.replica.is_sweep_due() && self.watch.failure().is_none() {
                if next.is_none() {
                    next = match self.requests.try_recv() {
                        Ok(request) => Some(request),
                        Err(TryRecvError::Empty) => None,
                        // The store is to be closed. The sweep continues after the next opening.
                        Err(TryRecvError::Disconnected) => return,
                    };
                }
                if turns.is_sweeps(next.is_some()) {
                    if let Err(error) = self.guarded(Self::sweep)
                        && !self.may_reopen_after(&error)
                    {
                        return self.give_up(error, next);
                    }
                    continue;
                }
            }
            // While no facts are accepted, waiting requests are refused as well.
            let waited = next.take().filter(|_| self.watch.failure().is_none());
            let Some(first) = waited.or_else(|| self.next_request()) else { return };
            let requests = if first.only_if.is_some() {
                vec![first]
            } else {
                let (requests, conditional) = self.gather(first);
                next = conditional;
                requests
            };
            if let Err(error) = self.guarded(|committer| committer.commit(requests))
                && !self.may_reopen_after(&error)
            {
                return self.give_up(error, next);
            }
        }
    }

    /// Runs a commit under the watchdog. A panic counts as a failed commit: its batch is not published, and the
    /// committer accepts no further one.
    fn guarded(&mut self, commit: impl FnOnce(&mut Self) -> Result<(), StorageError>) -> Result<(), Failure> {
        let _busy = self.watch.busy();
        catch_unwind(AssertUnwindSafe(|| commit(self)))
            .map_or_else(|_| Err(InternalError::Committer.into()), |done| done.map_err(Failure::from))
    }

    fn give_up(&self, error: Failure, next: Option<Request>) {
        tracing::error!(%error, code = error.code(), "nothing is taken in any more, reading goes on");
        self.watch.set_failure(Some(error));
        self.refuse_all(next);
    }

    /// Removes some stored rows of facts that have ended. Readers see no difference.
    fn sweep(&mut self) -> Result<(), StorageError> {
        let Some(batch) = self.replica.next_sweep() else { return Ok(()) };
        self.storage.commit(&batch)?;
        self.publish(Vec::new(), Vec::new());
        Ok(())
    }

    /// Publishes the durable state to readers, with the changes and the authority facts of the batch that led to it.
    fn publish(&self, changes: Vec<Change>, authority: Vec<FactId>) {
        let snapshot = Arc::new(self.noted.snapshot(&self.replica, self.storage.as_ref()));
        self.published.store(snapshot.clone());
        // It is no error if there is no receiver.
        let _ = self.changes.send(Arc::new(Committed { snapshot, changes, authority }));
    }

    /// Takes waiting requests for one batch. Stops at a request with a condition, which is checked only after the
    /// requests before it are committed; returns that request separately.
    fn gather(&self, first: Request) -> (Vec<Request>, Option<Request>) {
        let weight =
            |request: &Request| -> usize { request.facts.iter().map(|fact| fact.fact().payload_len()).sum() };
        let (mut facts, mut bytes) = (first.facts.len(), weight(&first));
        let mut requests = vec![first];
        while facts < MAX_BATCH_FACTS && bytes < MAX_BATCH_BYTES {
            let Ok(next) = self.requests.try_recv() else { break };
            if next.only_if.is_some() {
                return (requests, Some(next));
            }
            facts += next.facts.len();
            bytes += weight(&next);
            requests.push(next);
        }
        (requests, None)
    }

    fn commit(&mut self, requests: Vec<Request>) -> Result<(), StorageError> {
        let (mut facts, mut replies) = (Vec::new(), Vec::new());
        let mut weight = self.replica.view().weight();
        self.quota.look(weight);
        for request in requests {
            // The sender no longer waits for the reply, and may have reported a failure.
            if request.reply.is_closed() {
                continue;
            }
            let only_if = request.only_if.as_ref();
            if let Some(Err(unmet)) = only_if.map(|it| it.check(self.replica.view(), clock::now())) {
                // The sender may be gone.
                let _ = request.reply.send(Err(unmet));
                continue;
            }
            match self.quota.admit(self.replica.view(), weight, &request.facts, request.origin) {
                Ok(grown) => weight = grown,
                Err(error) => {
                    // The sender may be gone.
                    let _ = request.reply.send(Err(error.into()));
                    continue;
                }
            }
            replies.push((request.facts.len(), request.reply));
            facts.extend(request.facts);
        }
        let (began, count) = (std::time::Instant::now(), facts.len());
        let current = self.published.load_full();
        let committed = self.replica.apply(facts, current.reader.as_ref()).and_then(|applied| {
            let Some(batch) = &applied.batch else { return Ok(applied) };
            match self.storage.commit(batch) {
                Ok(()) => Ok(applied),
                Err(error) => {
                    let authority = batch.writes.iter().filter_map(brought).collect();
                    self.unsettled = Some(Unsettled { changes: applied.changes, authority });
                    Err(error)
                }
            }
        });
        let applied = match committed {
            Ok(applied) => applied,
            Err(error) => {
                for (_, reply) in replies {
                    let _ = reply.send(Err(error.clone().into()));
                }
                return Err(error);
            }
        };
        if let Some(batch) = applied.batch {
            self.metrics.batch(count, began.elapsed());
            self.publish(applied.changes, batch.writes.iter().filter_map(brought).collect());
            self.batches.send_replace(self.replica.view().batch());
        }
        self.tell_fullness();
        let mut verdicts = applied.verdicts.into_iter();
        for (count, reply) in replies {
            let _ = reply.send(Ok(verdicts.by_ref().take(count).collect()));
        }
        Ok(())
    }

    /// Refuses all further requests after a failure, so that no sender waits for ever.
    fn refuse_all(&self, mut next: Option<Request>) {
        while let Some(request) = next.take().or_else(|| self.requests.recv().ok()) {
            let error = self.watch.failure();
            let error = error.unwrap_or_else(|| InternalError::Committer.into());
            let _ = request.reply.send(Err(error.into()));
        }
    }
}

/// Returns the id of the authority fact that a write adds; `None`: the write adds none.
const fn brought(write: &Write) -> Option<FactId> {
    if let Write::PutAuthority(id, _) = write { Some(*id) } else { None }
}
