//! The one thread that changes the replica and writes to the store.
//!
//! It gathers what waits, merges it as one batch, makes the batch durable, and only then lets readers see the new
//! state and answers whoever offered the facts.

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded};
use kvgossip_engine::{Change, Reader, Replica, Storage, StorageError, View};
use kvgossip_grants::{Verdict, Verified};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{broadcast, oneshot, watch};

/// How many requests wait at most; more make whoever offers wait.
pub const MAX_WAITING: usize = 1024;
/// A batch is closed when it has this many facts.
pub const MAX_BATCH_FACTS: usize = 4096;
/// A batch is closed when its facts have this many bytes.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// How many changes a reader of the feed may be behind before it is told that it missed some.
pub const CHANGE_BUFFER: usize = 8192;

struct Request {
    facts: Vec<Verified>,
    reply: oneshot::Sender<Result<Vec<Verdict>, StorageError>>,
}

/// A handle to the committer and to the state that it publishes. Clones share it.
#[derive(Clone)]
pub struct Store {
    view: Arc<ArcSwap<View>>,
    reader: Arc<dyn Reader>,
    requests: Sender<Request>,
    batches: watch::Receiver<u64>,
    failed: watch::Receiver<Option<StorageError>>,
    changes: broadcast::Sender<Arc<Vec<Change>>>,
}

/// What the committer thread owns.
struct Committer {
    replica: Replica,
    storage: Box<dyn Storage>,
    requests: Receiver<Request>,
    view: Arc<ArcSwap<View>>,
    batches: watch::Sender<u64>,
    failed: watch::Sender<Option<StorageError>>,
    changes: broadcast::Sender<Arc<Vec<Change>>>,
}

/// Starts the committer. It ends, and lets go of the store, when the last [`Store`] is dropped.
pub fn start(replica: Replica, storage: Box<dyn Storage>) -> std::io::Result<(Store, JoinHandle<()>)> {
    let view = Arc::new(ArcSwap::from_pointee(replica.view().clone()));
    let (sender, requests) = bounded(MAX_WAITING);
    let (batches, batches_seen) = watch::channel(replica.view().batch());
    let (failed, failed_seen) = watch::channel(None);
    let (changes, _) = broadcast::channel(CHANGE_BUFFER);
    let store = Store {
        view: view.clone(),
        reader: storage.reader(),
        requests: sender,
        batches: batches_seen,
        failed: failed_seen,
        changes: changes.clone(),
    };
    let committer = Committer { replica, storage, requests, view, batches, failed, changes };
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

    /// Signals each new state; the value counts batches.
    pub fn batches(&self) -> watch::Receiver<u64> {
        self.batches.clone()
    }

    /// Why the store stopped, once it has.
    pub fn failure(&self) -> Option<StorageError> {
        self.failed.borrow().clone()
    }

    /// What changes from now on, in batches.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Vec<Change>>> {
        self.changes.subscribe()
    }

    /// Merges verified facts; answers when they are durable, with a verdict for each.
    pub async fn commit(&self, facts: Vec<Verified>) -> Result<Vec<Verdict>, StorageError> {
        if facts.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request { facts, reply }).await?;
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
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
        self.failure().unwrap_or_else(|| StorageError::Stopped("the agent is shutting down".into()))
    }
}

impl Committer {
    fn run(mut self) {
        while let Ok(first) = self.requests.recv() {
            let requests = self.gather(first);
            if let Err(error) = self.commit(requests) {
                tracing::error!(%error, "the store failed: nothing is taken in any more, reading goes on");
                self.failed.send_replace(Some(error));
                return self.refuse_all();
            }
        }
    }

    /// Everything that waits, up to a batch.
    fn gather(&self, first: Request) -> Vec<Request> {
        let weight =
            |request: &Request| -> usize { request.facts.iter().map(|fact| fact.fact().payload_len()).sum() };
        let (mut facts, mut bytes) = (first.facts.len(), weight(&first));
        let mut requests = vec![first];
        while facts < MAX_BATCH_FACTS && bytes < MAX_BATCH_BYTES {
            let Ok(next) = self.requests.try_recv() else { break };
            facts += next.facts.len();
            bytes += weight(&next);
            requests.push(next);
        }
        requests
    }

    fn commit(&mut self, requests: Vec<Request>) -> Result<(), StorageError> {
        let (mut facts, mut replies) = (Vec::new(), Vec::new());
        for request in requests {
            replies.push((request.facts.len(), request.reply));
            facts.extend(request.facts);
        }
        let reader = self.storage.reader();
        let committed = self.replica.apply(facts, reader.as_ref()).and_then(|applied| {
            if let Some(batch) = &applied.batch {
                self.storage.commit(batch)?;
            }
            Ok(applied)
        });
        let applied = match committed {
            Ok(applied) => applied,
            Err(error) => {
                for (_, reply) in replies {
                    // Whoever asked may have gone.
                    let _ = reply.send(Err(error.clone()));
                }
                return Err(error);
            }
        };
        if applied.batch.is_some() {
            self.view.store(Arc::new(self.replica.view().clone()));
            self.batches.send_replace(self.replica.view().batch());
        }
        if !applied.changes.is_empty() {
            // Nobody listening is fine.
            let _ = self.changes.send(Arc::new(applied.changes));
        }
        let mut verdicts = applied.verdicts.into_iter();
        for (count, reply) in replies {
            let _ = reply.send(Ok(verdicts.by_ref().take(count).collect()));
        }
        Ok(())
    }

    /// After a failure: answers instead of leaving anybody waiting.
    fn refuse_all(&self) {
        while let Ok(request) = self.requests.recv() {
            let error = self.failed.borrow().clone();
            let error = error.unwrap_or_else(|| StorageError::Stopped("the store failed".into()));
            let _ = request.reply.send(Err(error));
        }
    }
}
