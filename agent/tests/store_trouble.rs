//! A disk that hangs, and one without room: what the agent says, and that it goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;
mod faulty;

use common::{eventually, value};
use faulty::{Commits, Faults, put_many_at_once, put_number, reason};
use kvgossip_agent::Agent;
use kvgossip_engine::{MemoryStorage, StorageError};
use kvgossip_grants::Verdict;
use std::sync::Arc;
use std::time::Duration;

async fn start(faults: &Arc<Faults>) -> Agent {
    faulty::start(0, &MemoryStorage::new(), faults, &[], Duration::from_millis(400)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_does_not_end_is_told_to_all_who_wait_and_ask() {
    let faults = Arc::<Faults>::default();
    let agent = start(&faults).await;
    assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
    faults.set_commits(Commits::Hang);
    // The first is under way, the others wait behind it; none waits for ever.
    for heard in put_many_at_once(&agent).await {
        let error = heard.unwrap_err();
        assert!(matches!(error, StorageError::Stalled { .. }), "{error}");
    }
    reason(&agent, "store.stalled");
    // Now it is known: refused at once, and reading goes on.
    assert!(matches!(put_number(&agent, 20).await, Err(StorageError::Stalled { .. })));
    assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");

    faults.set_commits(Commits::Work);
    eventually("it goes on by itself", async || agent.unready().is_empty()).await;
    assert_eq!(put_number(&agent, 20).await.unwrap(), Verdict::Merged);
    // What was offered can be offered again, whether it was stored or not.
    for number in 1..20 {
        assert!(matches!(put_number(&agent, number).await.unwrap(), Verdict::Merged | Verdict::Moot(_)));
        assert_eq!(value(&agent, &format!("/n/{number}")).await.unwrap(), "value");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_without_room_reads_and_waits_for_room() {
    let faults = Arc::<Faults>::default();
    *faults.is_full.lock().unwrap() = true;
    let agent = start(&faults).await;
    reason(&agent, "store.no_room");
    for number in 0..3 {
        assert!(matches!(put_number(&agent, number).await, Err(StorageError::NoRoom { .. })));
    }
    assert_eq!(value(&agent, "/n/0").await, None);
    *faults.is_full.lock().unwrap() = false;
    eventually("there is room", async || agent.unready().is_empty()).await;
    assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
    agent.stop().await;
}
