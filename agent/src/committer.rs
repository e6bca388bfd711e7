//! The one thread that changes the replica and writes to the store.
//!
//! It gathers what waits, merges it as one batch, makes the batch durable, and only then lets readers see the new
//! state and answers whoever offered the facts.

mod reads;
mod watchdog;

pub use reads::ReadsAgain;
pub use watchdog::{Patience, STALL_LIMIT};

use crate::clock;
use crate::metrics::CommitMetrics;
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use kvgossip_engine::{Change, Reader, Replica, Storage, StorageError, View, Write};
use kvgossip_grants::{EntryId, FactId, Key, Verdict, Verified};
use reads::{NotingReader, Published};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{broadcast, oneshot, watch};
use watchdog::Watch;

/// How many requests wait at most; more make whoever offers wait.
pub const MAX_WAITING: usize = 1024;
/// A batch is closed when it has this many facts.
pub const MAX_BATCH_FACTS: usize = 4096;
/// A batch is closed when its facts have this many bytes.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// What is said of a committer that is gone.
pub(crate) const THREAD_ENDED: &str =
    "its thread ended by a fault of the program, as the log says; restart the agent";
/// How many batches a reader of the feed may be behind before it is told that it missed some.
pub const CHANGE_BUFFER: usize = 1024;

struct Request {
    facts: Vec<Verified>,
    only_if: Option<Condition>,
    reply: oneshot::Sender<Result<Vec<Verdict>, CommitError>>,
}

/// What must hold when facts are merged.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Of this key
    pub key: Key,
    /// this entry must be the one that is shown; `None`: the key must be unset.
    pub shown: Option<EntryId>,
}

/// A batch that is durable, for those who follow the state.
#[derive(Debug)]
pub struct Committed {
    /// The state that it led to.
    pub view: Arc<View>,
    /// What it changed for readers, in order.
    pub changes: Vec<Change>,
    /// Grants, revocations and floors that it brought.
    pub authority: Vec<FactId>,
}

/// Why facts were not merged.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The condition does not hold.
    #[error("{} {}, not what was expected", .key, .shown.map_or("is unset".into(), |id| format!("holds entry {id}")))]
    Conflict {
        /// Of this key
        key: Key,
        /// this entry is shown.
        shown: Option<EntryId>,
    },
}

/// A handle to the committer and to the state that it publishes. Clones share it.
#[derive(Clone)]
pub struct Store {
    view: Arc<ArcSwap<View>>,
    reader: Arc<NotingReader>,
    requests: Sender<Request>,
    batches: watch::Receiver<u64>,
    failed: watch::Receiver<Option<StorageError>>,
    changes: broadcast::Sender<Arc<Committed>>,
}

/// What the committer thread owns. Its watch ends with it.
struct Committer {
    replica: Replica,
    storage: Box<dyn Storage>,
    reader: Arc<NotingReader>,
    requests: Receiver<Request>,
    published: Arc<Published>,
    batches: watch::Sender<u64>,
    watch: Watch,
    changes: broadcast::Sender<Arc<Committed>>,
    patience: Patience,
    metrics: CommitMetrics,
}

/// Starts the committer. It ends, and lets go of the store, when the last [`Store`] is dropped.
///
/// A store without the room that it may need at once is read only, until there is room.
///
/// # Errors
/// When the system gives no thread, or the store cannot be asked for its room.
pub fn start(
    replica: Replica,
    storage: Box<dyn Storage>,
    patience: Patience,
    metrics: CommitMetrics,
) -> std::io::Result<(Store, JoinHandle<()>)> {
    let view = Arc::new(ArcSwap::from_pointee(replica.view().clone()));
    let published = Arc::new(Published::new(view.clone()));
    let (sender, requests) = bounded(MAX_WAITING);
    let (batches, batches_seen) = watch::channel(replica.view().batch());
    let (failed, failed_seen) = watch::channel(None);
    let (changes, _) = broadcast::channel(CHANGE_BUFFER);
    let store = Store {
        view,
        reader: Arc::new(NotingReader::new(storage.reader(), published.clone())),
        requests: sender,
        batches: batches_seen,
        failed: failed_seen,
        changes: changes.clone(),
    };
    let watch = Watch::start(failed, patience.stall)?;
    let reader = store.reader.clone();
    let committer = Committer {
        replica,
        storage,
        reader,
        requests,
        published,
        batches,
        watch,
        changes,
        patience,
        metrics,
    };
    // Before anybody is told "ready".
    committer.ask_for_room();
    let thread = std::thread::Builder::new().name("committer".into()).spawn(move || committer.run())?;
    Ok((store, thread))
}

impl Store {
    /// The current state: what is durable.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Reads of what is stored.
    pub fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    /// What could not be read lately, though it is stored; see [`Store::look_again`].
    pub fn unreadable(&self) -> Option<StorageError> {
        self.reader.trouble()
    }

    /// Reads once more what could not be read, and forgets what reads again or does not stand any more. Reads a disk:
    /// call it where blocking is allowed.
    pub fn look_again(&self) -> ReadsAgain {
        self.reader.look_again(&self.view())
    }

    /// Signals each new state; the value counts batches.
    pub fn batches(&self) -> watch::Receiver<u64> {
        self.batches.clone()
    }

    /// Why the store stopped, once it has.
    pub fn failure(&self) -> Option<StorageError> {
        self.failed.borrow().clone()
    }

    /// How many requests wait for the committer.
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// Whether the committer takes anything in.
    pub fn is_running(&self) -> bool {
        self.batches.has_changed().is_ok()
    }

    /// What is committed from now on.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.changes.subscribe()
    }

    /// Merges verified facts; answers when they are durable, with a verdict for each.
    pub async fn commit(&self, facts: Vec<Verified>) -> Result<Vec<Verdict>, StorageError> {
        match self.commit_if(facts, None).await {
            Ok(verdicts) => Ok(verdicts),
            Err(CommitError::Storage(error)) => Err(error),
            Err(conflict) => Err(StorageError::Stopped(conflict.to_string())),
        }
    }

    /// The same, provided that the condition holds at that very moment.
    pub async fn commit_if(
        &self,
        facts: Vec<Verified>,
        only_if: Option<Condition>,
    ) -> Result<Vec<Verdict>, CommitError> {
        if facts.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let mut failed = self.failed.clone();
        let stalled = failed.wait_for(|error| matches!(error, Some(StorageError::Stalled { .. })));
        let answered = async {
            self.send(Request { facts, only_if, reply }).await?;
            answer.await.unwrap_or_else(|_| Err(self.stopped().into()))
        };
        tokio::select! {
            biased;
            Ok(error) = stalled => Err(error.clone().unwrap_or_else(|| self.stopped()).into()),
            answer = answered => answer,
        }
    }

    async fn send(&self, request: Request) -> Result<(), StorageError> {
        let request = match self.requests.try_send(request) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_disconnected() => return Err(self.stopped()),
            Err(error) => error.into_inner(),
        };
        // The queue is full: wait for room without holding up the runtime.
        let requests = self.requests.clone();
        let sent = tokio::task::spawn_blocking(move || requests.send(request)).await;
        if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(self.stopped()) }
    }

    fn stopped(&self) -> StorageError {
        // While this handle lives, the committer does not end by itself.
        self.failure().unwrap_or_else(|| StorageError::Stopped(THREAD_ENDED.into()))
    }
}

impl Committer {
    fn run(mut self) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| self.next_request()) {
            let requests = if first.only_if.is_some() {
                vec![first]
            } else {
                let (requests, conditional) = self.gather(first);
                next = conditional;
                requests
            };
            let committed = {
                let _busy = self.watch.busy();
                // Nothing of a batch that ended in a panic is published, and nothing is committed after it.
                catch_unwind(AssertUnwindSafe(|| self.commit(requests)))
                    .unwrap_or_else(|_| Err(StorageError::Stopped(THREAD_ENDED.into())))
            };
            if let Err(error) = committed {
                tracing::error!(%error, code = error.code(), "the store failed: nothing is taken in any more, reading goes on");
                self.watch.set_failure(Some(error));
                return self.refuse_all(next);
            }
        }
    }

    /// Waits for a request. While there is no room on the disk, requests are refused and the disk is asked again.
    fn next_request(&self) -> Option<Request> {
        while let Some(error) = self.watch.failure() {
            match self.requests.recv_timeout(self.patience.room) {
                Ok(request) => {
                    // Whoever asked may have gone.
                    let _ = request.reply.send(Err(error.into()));
                }
                Err(RecvTimeoutError::Timeout) => self.ask_for_room(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        self.requests.recv().ok()
    }

    fn ask_for_room(&self) {
        let _busy = self.watch.busy();
        match (self.storage.probe(), self.watch.failure()) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                tracing::info!("the store has room again: facts are taken in");
                self.watch.set_failure(None);
            }
            (Err(error), None) => {
                tracing::error!(%error, code = error.code(), "the store is read only");
                self.watch.set_failure(Some(error));
            }
            (Err(error), Some(_)) => self.watch.set_failure(Some(error)),
        }
    }

    /// Everything that waits, up to a batch; and a request with a condition, which is looked at when what came
    /// before it is committed.
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

    fn check(&self, condition: &Condition) -> Result<(), CommitError> {
        let shown = self.replica.view().shown(&condition.key, clock::now()).map(|entry| entry.id);
        if shown == condition.shown {
            Ok(())
        } else {
            Err(CommitError::Conflict { key: condition.key.clone(), shown })
        }
    }

    fn commit(&mut self, requests: Vec<Request>) -> Result<(), StorageError> {
        let (mut facts, mut replies) = (Vec::new(), Vec::new());
        for request in requests {
            // Nobody waits for it any more, and may have been told that it failed.
            if request.reply.is_closed() {
                continue;
            }
            if let Some(Err(conflict)) = request.only_if.as_ref().map(|condition| self.check(condition)) {
                // Whoever asked may have gone.
                let _ = request.reply.send(Err(conflict));
                continue;
            }
            replies.push((request.facts.len(), request.reply));
            facts.extend(request.facts);
        }
        let (began, count) = (std::time::Instant::now(), facts.len());
        let committed = self.replica.apply(facts, self.reader.as_ref()).and_then(|applied| {
            if let Some(batch) = &applied.batch {
                self.published.turn();
                self.storage.commit(batch)?;
            }
            Ok(applied)
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
            let view = Arc::new(self.replica.view().clone());
            self.published.view.store(view.clone());
            self.published.turn();
            self.batches.send_replace(view.batch());
            let brought = |write| if let Write::PutAuthority(id, _) = write { Some(id) } else { None };
            let authority = batch.writes.into_iter().filter_map(brought).collect();
            // Nobody listening is fine.
            let _ = self.changes.send(Arc::new(Committed { view, changes: applied.changes, authority }));
        }
        let mut verdicts = applied.verdicts.into_iter();
        for (count, reply) in replies {
            let _ = reply.send(Ok(verdicts.by_ref().take(count).collect()));
        }
        Ok(())
    }

    /// After a failure: answers instead of leaving anybody waiting.
    fn refuse_all(&self, mut next: Option<Request>) {
        while let Some(request) = next.take().or_else(|| self.requests.recv().ok()) {
            let error = self.watch.failure();
            let error = error.unwrap_or_else(|| StorageError::Stopped("the store failed".into()));
            let _ = request.reply.send(Err(error.into()));
        }
    }
}
