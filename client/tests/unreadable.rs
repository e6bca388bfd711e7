//! Agents whose store is damaged in places: what does not read there comes from others, and stops nothing else.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_client::{Dirty, Rejection, Value};
use kvgossip_engine::{MemoryStorage, StorageError};
use kvgossip_grants::{EntryId, Verdict};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::*;
use kvgossip_testkit::faulty::{self, Faults, numbered, put_number};
use kvgossip_testkit::wait::{eventually, soon};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_an_agent_cannot_read_comes_from_another_and_stops_no_other() {
    let faults = Arc::<Faults>::default();
    let damaged = faulty::start(0, &MemoryStorage::new(), &faults, &[], Duration::from_secs(60)).await;
    let whole = start(config(1)).await;
    for number in 0..6 {
        assert_eq!(put_number(&damaged, number).await.unwrap(), Verdict::Merged);
        put(&whole, numbered(number)).await;
    }
    let fault = StorageError::Io("a planted fault".into());
    *faults.entry.lock().unwrap() = Some((EntryId(numbered(3).id().0), Some(fault)));
    let at_damaged = damaged.http_address().unwrap();

    // Where no other agent is known, all others are shown, and it says what is missing.
    let alone = at(&[at_damaged]).build().unwrap();
    let all = alone.subscribe_matching(["/n/**"]).unwrap();
    let (mut good, mut bad) = (alone.subscribe(&key("/n/4")), alone.subscribe(&key("/n/3")));
    assert_eq!(text(&soon(good.ready()).await.unwrap()), "value");
    let state = soon(bad.wait_for(|state| state.dirty == Some(Dirty::Unverified))).await.unwrap();
    assert_eq!(state.value, Value::Unknown, "it is not called absent");
    eventually("all others are there", async || all.entries().len() == 5).await;
    let mut reported = alone.watch_rejections();
    let (_, list) = soon(reported.wait_for(|(count, _)| *count > 0)).await.unwrap().clone();
    let said = (list[0].endpoint.clone(), list[0].key.clone(), list[0].code.as_str());
    assert_eq!(said, (endpoint(at_damaged).to_string(), Some(key("/n/3")), Rejection::UNREADABLE));

    // Another one has it.
    let client = at(&[at_damaged, whole.http_address().unwrap()]).build().unwrap();
    let mut sub = client.subscribe(&key("/n/3"));
    assert_eq!(text(&soon(sub.ready()).await.unwrap()), "value");

    // The disk answers again: it is told without being asked.
    *faults.entry.lock().unwrap() = None;
    assert_eq!(text(&soon(bad.ready()).await.unwrap()), "value");
    assert_eq!(all.entries().len(), 6);
    damaged.stop().await;
    whole.stop().await;
}
