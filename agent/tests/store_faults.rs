//! A store that fails while the agent runs: commits that end in an error or a panic, and reads that do not read. What
//! the agent says, what goes on, and that nothing acknowledged is lost.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use bytes::Bytes;
use common::{config, entry, eventually, grant, identity, peer, put, root, same_root, sign, value};
use kvgossip_agent::Agent;
use kvgossip_agent::committer::Patience;
use kvgossip_agent::watch::{Feed, Interest};
use kvgossip_api::WatchRequest;
use kvgossip_engine::{Batch, IndexRow, MemoryStorage, Reader, Storage, StorageError, Summary};
use kvgossip_grants::{
    By, EntryId, Fact, Grant, GrantId, Key, Revocation, Signed, Signer, Timestamp, Verdict,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a commit does.
#[derive(Clone, Default)]
enum Commits {
    #[default]
    Work,
    Fail(StorageError),
    Panic,
}

/// What does not read.
#[derive(Default)]
struct Faults {
    commits: Mutex<Commits>,
    entry: Mutex<Option<(EntryId, StorageError)>>,
    citations: Mutex<Option<StorageError>>,
}

impl Faults {
    fn set_commits(&self, commits: Commits) {
        *self.commits.lock().unwrap() = commits;
    }

    fn set_entry(&self, fault: Option<(EntryId, StorageError)>) {
        *self.entry.lock().unwrap() = fault;
    }
}

/// A store in memory with such faults.
struct Faulty {
    memory: MemoryStorage,
    faults: Arc<Faults>,
}

struct FaultyReader {
    inner: Arc<dyn Reader>,
    faults: Arc<Faults>,
}

impl Reader for FaultyReader {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        match &*self.faults.entry.lock().unwrap() {
            Some((faulty, error)) if faulty == id => Err(error.clone()),
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

    fn load_index(&self, each: &mut dyn FnMut(Key, IndexRow)) -> Result<(), StorageError> {
        self.memory.load_index(each)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let commits = self.faults.commits.lock().unwrap().clone();
        match commits {
            Commits::Work => self.memory.commit(batch),
            Commits::Fail(error) => Err(error),
            Commits::Panic => panic!("planted: a fault in the engine"),
        }
    }
}

async fn start(number: usize, memory: &MemoryStorage, faults: &Arc<Faults>, peers: &[&Agent]) -> Agent {
    let mut config = config(number);
    config.patience = Patience { stall: Duration::from_secs(60), room: Duration::from_millis(50) };
    config.peers = peers.iter().map(|agent| peer(agent)).collect();
    let storage = Faulty { memory: memory.clone(), faults: faults.clone() };
    Agent::start(config, Box::new(storage)).await.unwrap()
}

fn numbered(number: u64) -> Fact {
    let time = Timestamp::from_micros(1_000 + number).unwrap();
    entry(&format!("/n/{number}"), b"value", time, root(), None)
}

async fn put_number(agent: &Agent, number: u64) -> Result<Verdict, StorageError> {
    agent.put_facts(&[Ok(numbered(number))]).await.map(|verdicts| verdicts[0])
}

/// The one reason for which the agent is not ready.
#[track_caller]
fn reason(agent: &Agent, code: &str) -> String {
    let status = agent.status();
    assert!(!status.ready && status.reasons.len() == 1, "{:?}", status.reasons);
    assert!(status.reasons[0].starts_with(&format!("{code}: ")), "{:?}", status.reasons);
    status.reasons[0].clone()
}

fn damaged() -> StorageError {
    StorageError::Damaged("a planted fault".into())
}

fn io() -> StorageError {
    StorageError::Io("a planted fault".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_ends_the_writing_and_neither_reading_nor_what_was_acknowledged() {
    let stopped = StorageError::Stopped("a planted fault".into());
    for (fault, code) in [(io(), "store.io"), (damaged(), "store.damaged"), (stopped, "store.stopped")] {
        let (memory, faults) = (MemoryStorage::new(), Arc::<Faults>::default());
        let agent = start(0, &memory, &faults, &[]).await;
        assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
        faults.set_commits(Commits::Fail(fault));
        let waiting: Vec<_> = (1..20)
            .map(|number| {
                let agent = agent.clone();
                tokio::spawn(async move { put_number(&agent, number).await })
            })
            .collect();
        for answer in waiting {
            assert_eq!(answer.await.unwrap().unwrap_err().code(), code);
        }
        // The disk is well again, and the engine may not be: nothing is taken in before the store was opened anew.
        faults.set_commits(Commits::Work);
        assert_eq!(put_number(&agent, 20).await.unwrap_err().code(), code);
        reason(&agent, code);
        assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
        assert_eq!(value(&agent, "/n/1").await, None, "what was not acknowledged is not shown");
        // What it has, it hands out.
        let other = start(1, &MemoryStorage::new(), &Arc::default(), &[&agent]).await;
        eventually("the other has it", async || value(&other, "/n/0").await.is_some()).await;
        other.stop().await;
        agent.stop().await;

        let agent = start(0, &memory, &faults, &[]).await;
        assert!(agent.unready().is_empty());
        assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
        assert_eq!(put_number(&agent, 20).await.unwrap(), Verdict::Merged);
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committer_that_panics_is_told_to_all_who_wait_and_ask() {
    let (memory, faults) = (MemoryStorage::new(), Arc::<Faults>::default());
    let agent = start(0, &memory, &faults, &[]).await;
    assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
    faults.set_commits(Commits::Panic);
    let waiting: Vec<_> = (1..20)
        .map(|number| {
            let agent = agent.clone();
            tokio::spawn(async move { put_number(&agent, number).await })
        })
        .collect();
    for answer in waiting {
        let error = answer.await.unwrap().unwrap_err();
        let told = error.code() == "store.stopped" && error.to_string().contains("restart the agent");
        assert!(told, "{error}");
    }
    faults.set_commits(Commits::Work);
    assert_eq!(put_number(&agent, 20).await.unwrap_err().code(), "store.stopped");
    let why = reason(&agent, "store.stopped");
    assert!(why.contains("restart the agent"), "{why}");
    assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
    // It ends as any other.
    tokio::time::timeout(Duration::from_secs(20), agent.stop()).await.expect("it stops");
    let agent = start(0, &memory, &faults, &[]).await;
    assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
    assert_eq!(put_number(&agent, 20).await.unwrap(), Verdict::Merged);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_does_not_read_stops_no_other() {
    for (fault, code) in [(damaged(), "store.damaged"), (io(), "store.io")] {
        let faults = Arc::<Faults>::default();
        let agent = start(0, &MemoryStorage::new(), &faults, &[]).await;
        for number in 0..10 {
            assert_eq!(put_number(&agent, number).await.unwrap(), Verdict::Merged);
        }
        faults.set_entry(Some((numbered(3).id(), fault)));
        let error = agent.read(&Key::parse("/n/3").unwrap()).await.unwrap_err();
        assert!(error.code() == code && error.to_string().contains("/n/3"), "{error}");
        let why = reason(&agent, code);
        assert!(why.contains("/n/3") && why.contains("--move-damaged-aside"), "{why}");
        assert_eq!(value(&agent, "/n/4").await.unwrap(), "value");
        assert_eq!(put_number(&agent, 10).await.unwrap(), Verdict::Merged, "writing goes on");

        // A fresh replica gets all the others, and both say what is in the way.
        let other = start(1, &MemoryStorage::new(), &Arc::default(), &[&agent]).await;
        for number in (0..11).filter(|number| *number != 3) {
            let key = format!("/n/{number}");
            eventually(&key, async || value(&other, &key).await.is_some()).await;
        }
        let told = |agent: &Agent| {
            let last = agent.status().peers.first().and_then(|row| row.last_sync.clone());
            last.is_some_and(|last| last.outcome == "unsettled" && last.reasons == ["unreadable"])
        };
        eventually("both are told", async || told(&agent) && told(&other)).await;
        assert_eq!(value(&other, "/n/3").await, None);

        let expected = if code == "store.io" {
            // The disk answers again.
            faults.set_entry(None);
            "value"
        } else {
            // Written anew: the old record is not needed any more.
            let later = Timestamp::from_micros(5_000).unwrap();
            assert_eq!(put(&agent, entry("/n/3", b"anew", later, root(), None)).await, Verdict::Merged);
            "anew"
        };
        eventually("it is well again", async || agent.unready().is_empty()).await;
        eventually("both hold the same", async || same_root(&[&agent, &other])).await;
        assert_eq!(value(&other, "/n/3").await.unwrap(), expected);
        other.stop().await;
        agent.stop().await;
    }
}

fn revoke(granted: &Signed<Grant>) -> Fact {
    let revocation = Revocation { grant: granted.clone(), by: By::Root, revoked_at: kvgossip_agent::now() };
    Fact::Revocation(sign(revocation, root()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_falls_although_the_disk_does_not_tell_what_stands_on_it() {
    let (memory, faults) = (MemoryStorage::new(), Arc::<Faults>::default());
    let agent = start(0, &memory, &faults, &[]).await;
    let writer = identity(1);
    let granted = [0, 1].map(|_| grant(writer.public(), "/app/**", root(), None));
    for granted in &granted {
        assert_eq!(put(&agent, Fact::Grant(granted.clone())).await, Verdict::Merged);
    }
    let now = kvgossip_agent::now();
    for (key, granted) in [("/app/a", &granted[0]), ("/app/b", &granted[0]), ("/app/c", &granted[1])] {
        let fact = entry(key, b"x", now, &writer, Some(granted.id()));
        assert_eq!(put(&agent, fact).await, Verdict::Merged);
    }
    *faults.citations.lock().unwrap() = Some(damaged());
    assert_eq!(put(&agent, revoke(&granted[0])).await, Verdict::Merged);
    for (key, stands) in [("/app/a", false), ("/app/b", false), ("/app/c", true)] {
        assert_eq!(value(&agent, key).await.is_some(), stands, "{key}");
    }
    reason(&agent, "store.damaged");
    assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged, "writing goes on");
    // Nothing is left behind in the store.
    agent.stop().await;
    *faults.citations.lock().unwrap() = None;
    let agent = start(0, &memory, &faults, &[]).await;
    assert_eq!(value(&agent, "/app/a").await, None);
    assert_eq!(value(&agent, "/app/c").await.unwrap(), "x");
    assert!(agent.unready().is_empty());
    agent.stop().await;
}

/// What a watcher is told until a text has come. Heartbeats come in between.
async fn told_until(feed: &mut Feed, text: &str) -> String {
    let mut told = String::new();
    let all = async {
        while !told.contains(text) {
            told.push_str(std::str::from_utf8(&feed.next().await.expect("it goes on")).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("in time");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_is_told_although_the_disk_does_not_tell_what_stands_on_it() {
    let faults = Arc::<Faults>::default();
    let agent = start(0, &MemoryStorage::new(), &faults, &[]).await;
    let (writer, now) = (identity(1), kvgossip_agent::now());
    let mut granted = grant(writer.public(), "/app/**", root(), None).body().clone();
    granted.expires_at = Some(now.saturating_add(1_500_000));
    let granted = sign(granted, root());
    assert_eq!(put(&agent, Fact::Grant(granted.clone())).await, Verdict::Merged);
    let fact = entry("/app/a", b"x", granted.body().issued_at, &writer, Some(granted.id()));
    assert_eq!(put(&agent, fact).await, Verdict::Merged);
    *faults.citations.lock().unwrap() = Some(damaged());
    let request = WatchRequest { keys: vec!["/app/a".into()], ..WatchRequest::default() };
    let mut feed = agent.hub().watch(Interest::parse(&request).unwrap(), None).unwrap();
    let told = told_until(&mut feed, "event: synced").await;
    assert!(told.contains("\"state\":\"present\""), "{told}");
    let told = told_until(&mut feed, "event: key").await;
    assert!(told.contains("\"state\":\"absent\""), "{told}");
    drop(feed);
    agent.stop().await;
}
