//! A store in memory that simulates faults of a disk, and an agent that uses it.

use crate::agents::{config, entry, peer, root};
use bytes::Bytes;
use kvgossip_agent::Agent;
use kvgossip_agent::committer::Patience;
use kvgossip_engine::{Batch, Failure, IndexEntry, MemoryStorage, Reader, Storage, StorageError, Summary};
use kvgossip_grants::{EntryId, Fact, GrantId, Key, Timestamp, Verdict};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Behaviour of the commits of the simulated disk.
#[derive(Clone, Default)]
pub enum Commits {
    /// Commits succeed.
    #[default]
    Work,
    /// Commits block until the behaviour changes.
    Hang,
    /// Commits fail with this error.
    Fail(StorageError),
    /// Commits panic.
    Panic,
}

/// Faults of the simulated disk.
#[derive(Default)]
pub struct Faults {
    commits: Mutex<Commits>,
    commits_changed: Condvar,
    /// Whether the disk has no room for a batch.
    pub is_full: Mutex<bool>,
    /// Number of times the store was reopened; `None`: it cannot be reopened.
    pub reopens: Mutex<Option<u32>>,
    /// Whether a batch whose commit fails is durable nevertheless.
    pub fails_late: Mutex<bool>,
    /// Number of times that the free space was checked.
    pub probes: AtomicU32,
    /// Id of an entry that cannot be read, with the error; without an error, its record is missing. `None`: all can be
    /// read.
    pub entry: Mutex<Option<(EntryId, Option<StorageError>)>>,
    /// Error of every read of the keys that cite a grant; `None`: these reads succeed.
    pub citations: Mutex<Option<StorageError>>,
}

impl Faults {
    /// Sets the behaviour of all commits from now on, including those that are blocked.
    pub fn set_commits(&self, commits: Commits) {
        *self.commits.lock().unwrap() = commits;
        self.commits_changed.notify_all();
    }

    /// Returns the behaviour of commits. Waits while it is [`Commits::Hang`].
    fn commits(&self) -> Commits {
        let commits = self.commits.lock().unwrap();
        let hangs = |commits: &mut Commits| matches!(commits, Commits::Hang);
        self.commits_changed.wait_while(commits, hangs).unwrap().clone()
    }
}

struct Faulty {
    memory: MemoryStorage,
    /// Whether a commit of this store has failed: nothing is written until the store is reopened.
    failed: bool,
    faults: Arc<Faults>,
}

struct FaultyReader {
    inner: Arc<dyn Reader>,
    faults: Arc<Faults>,
}

impl Reader for FaultyReader {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        match &*self.faults.entry.lock().unwrap() {
            Some((faulty, error)) if faulty == id => error.clone().map_or(Ok(None), Err),
            _ => self.inner.entry(key, id),
        }
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        match &*self.faults.citations.lock().unwrap() {
            Some(error) => Err(error.clone()),
            None => self.inner.keys_citing(grant, each),
        }
    }
}

impl Storage for Faulty {
    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(FaultyReader { inner: self.memory.reader(), faults: self.faults.clone() })
    }

    fn summary(&self) -> Result<Option<Summary>, StorageError> {
        self.memory.summary()
    }

    fn load_authority(&self, each: &mut dyn FnMut(Bytes)) -> Result<(), StorageError> {
        self.memory.load_authority(each)
    }

    fn load_index(&self, each: &mut dyn FnMut(Key, IndexEntry)) -> Result<(), StorageError> {
        self.memory.load_index(each)
    }

    fn probe(&self) -> Result<(), StorageError> {
        self.faults.probes.fetch_add(1, Ordering::SeqCst);
        if *self.faults.is_full.lock().unwrap() {
            Err(StorageError::NoRoom { needed_bytes: 1 << 25 })
        } else {
            Ok(())
        }
    }

    fn reopen(&mut self) -> Result<(), StorageError> {
        let mut reopens = self.faults.reopens.lock().unwrap();
        let count = reopens.as_mut().ok_or_else(|| StorageError::Stopped("not here".into()))?;
        *count += 1;
        self.failed = false;
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if self.failed && !matches!(*self.faults.commits.lock().unwrap(), Commits::Fail(_)) {
            return Err(StorageError::Stopped("it was not opened anew".into()));
        }
        match self.faults.commits() {
            Commits::Work | Commits::Hang => self.memory.commit(batch),
            Commits::Fail(error) => {
                if *self.faults.fails_late.lock().unwrap() && !self.failed {
                    self.memory.commit(batch)?;
                }
                self.failed = true;
                Err(error)
            }
            Commits::Panic => panic!("planted: a fault in the engine"),
        }
    }
}

/// Starts replica `number` on such a store. `stall`: duration after which a commit counts as stalled.
pub async fn start(
    number: usize,
    memory: &MemoryStorage,
    faults: &Arc<Faults>,
    peers: &[&Agent],
    stall: Duration,
) -> Agent {
    let mut config = config(number);
    config.patience = Patience { stall, room: Duration::from_millis(50) };
    config.peers = peers.iter().map(|agent| peer(agent)).collect();
    let storage = Faulty { memory: memory.clone(), failed: false, faults: faults.clone() };
    Agent::start(config, Box::new(storage)).await.unwrap()
}

/// Returns root's entry for `/n/NUMBER`.
pub fn numbered(number: u64) -> Fact {
    let time = Timestamp::from_micros(1_000 + number).unwrap();
    entry(&format!("/n/{number}"), b"value", time, root(), None)
}

/// Offers root's entry for `/n/NUMBER` to an agent.
pub async fn put_number(agent: &Agent, number: u64) -> Result<Verdict, Failure> {
    agent.put_facts(&[Ok(numbered(number))]).await.map(|verdicts| verdicts[0])
}

/// Offers the numbers 1 to 19 concurrently, and returns the result of each.
pub async fn put_many_at_once(agent: &Agent) -> Vec<Result<Verdict, Failure>> {
    let writers: Vec<_> = (1..20)
        .map(|number| {
            let agent = agent.clone();
            tokio::spawn(async move { put_number(&agent, number).await })
        })
        .collect();
    let mut heard = Vec::new();
    for writer in writers {
        heard.push(writer.await.unwrap());
    }
    heard
}

/// Returns the text of the only reason why the agent is not ready; it must have this code.
#[track_caller]
pub fn reason(agent: &Agent, code: &str) -> String {
    let (status, reasons) = (agent.status(), agent.unready());
    assert!(!status.ready && reasons.len() == 1, "{:?}", status.reasons);
    assert!(reasons[0].starts_with(&format!("{code}: ")), "{reasons:?}");
    assert_eq!(status.reasons[0].code, code, "the gravest comes first");
    reasons[0].clone()
}
