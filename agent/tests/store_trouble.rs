//! A disk that hangs, and one without room: what the agent says, and that it goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use bytes::Bytes;
use common::{config, entry, eventually, root, value};
use kvgossip_agent::Agent;
use kvgossip_agent::committer::Patience;
use kvgossip_engine::{Batch, IndexRow, MemoryStorage, Reader, Storage, StorageError, Summary};
use kvgossip_grants::{Fact, Key, Timestamp, Verdict};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What the disk does.
#[derive(Default)]
struct Disk {
    is_hung: Mutex<bool>,
    changed: Condvar,
    is_full: Mutex<bool>,
}

impl Disk {
    fn hang(&self, hung: bool) {
        *self.is_hung.lock().unwrap() = hung;
        self.changed.notify_all();
    }

    fn fill(&self, full: bool) {
        *self.is_full.lock().unwrap() = full;
    }
}

/// A store on such a disk.
struct Troubled {
    memory: MemoryStorage,
    disk: Arc<Disk>,
}

impl Storage for Troubled {
    fn reader(&self) -> Arc<dyn Reader> {
        self.memory.reader()
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

    fn probe(&self) -> Result<(), StorageError> {
        if *self.disk.is_full.lock().unwrap() {
            Err(StorageError::NoRoom { needed_bytes: 1 << 25 })
        } else {
            Ok(())
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let hung = self.disk.is_hung.lock().unwrap();
        drop(self.disk.changed.wait_while(hung, |hung| *hung).unwrap());
        self.memory.commit(batch)
    }
}

async fn agent(disk: &Arc<Disk>) -> Agent {
    let mut config = config(0);
    config.patience = Patience { stall: Duration::from_millis(400), room: Duration::from_millis(50) };
    let storage = Troubled { memory: MemoryStorage::new(), disk: disk.clone() };
    Agent::start(config, Box::new(storage)).await.unwrap()
}

fn numbered(number: u64) -> Fact {
    let time = Timestamp::from_micros(1_000 + number).unwrap();
    entry(&format!("/n/{number}"), b"value", time, root(), None)
}

async fn put(agent: &Agent, number: u64) -> Result<Verdict, StorageError> {
    agent.put_facts(&[Ok(numbered(number))]).await.map(|verdicts| verdicts[0])
}

fn says(agent: &Agent, code: &str) -> bool {
    let reasons = agent.unready();
    let status = agent.status();
    assert_eq!((status.ready, &status.reasons), (reasons.is_empty(), &reasons));
    reasons.len() == 1 && reasons[0].starts_with(&format!("{code}: "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_does_not_end_is_told_to_all_who_wait_and_ask() {
    let disk = Arc::<Disk>::default();
    let agent = agent(&disk).await;
    assert_eq!(put(&agent, 0).await.unwrap(), Verdict::Merged);
    disk.hang(true);
    // The first is under way, the others wait behind it; none waits for ever.
    let waiting = (1..20).map(|number| {
        tokio::spawn({
            let agent = agent.clone();
            async move { put(&agent, number).await }
        })
    });
    for answer in waiting.collect::<Vec<_>>() {
        let error = answer.await.unwrap().unwrap_err();
        assert!(matches!(error, StorageError::Stalled { .. }), "{error}");
    }
    assert!(says(&agent, "store.stalled"), "{:?}", agent.unready());
    // Now it is known: refused at once, and reading goes on.
    assert!(matches!(put(&agent, 20).await, Err(StorageError::Stalled { .. })));
    assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");

    disk.hang(false);
    eventually("it goes on by itself", async || agent.unready().is_empty()).await;
    assert_eq!(put(&agent, 20).await.unwrap(), Verdict::Merged);
    // What was offered can be offered again, whether it was stored or not.
    for number in 1..20 {
        assert!(matches!(put(&agent, number).await.unwrap(), Verdict::Merged | Verdict::Moot(_)));
        assert_eq!(value(&agent, &format!("/n/{number}")).await.unwrap(), "value");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_without_room_reads_and_waits_for_room() {
    let disk = Arc::<Disk>::default();
    disk.fill(true);
    let agent = agent(&disk).await;
    assert!(says(&agent, "store.no_room"), "{:?}", agent.unready());
    for number in 0..3 {
        assert!(matches!(put(&agent, number).await, Err(StorageError::NoRoom { .. })));
    }
    assert_eq!(value(&agent, "/n/0").await, None);
    disk.fill(false);
    eventually("there is room", async || agent.unready().is_empty()).await;
    assert_eq!(put(&agent, 0).await.unwrap(), Verdict::Merged);
    agent.stop().await;
}
