//! An agent whose clock is behind keeps entries until they are due: what it lacks by that comes from others, and is never
//! told as unset.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_agent::{Clock, Config, now};
use kvgossip_client::{OpError, Rejection};
use kvgossip_grants::{Filter, Verdict};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::*;
use kvgossip_testkit::wait::eventually;
use std::time::Duration;

const BEHIND_US: u64 = 600_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_which_an_agent_keeps_an_entry_back_is_unknown_until_another_tells_it() {
    let whole = start(config(0)).await;
    let clock = Clock::new(|| now().saturating_sub(BEHIND_US));
    let behind = start(Config { clock, peers: vec![peer(&whole)], ready_alone: true, ..config(1) }).await;
    assert_eq!(put(&whole, entry("/n/1", b"value", now(), root(), None)).await, Verdict::Merged);
    eventually("it waits", async || behind.status().waiting.facts == 1).await;
    let at_behind = behind.http_address().unwrap();

    let alone = at(&[at_behind]).timeout(Duration::from_secs(1)).build().unwrap();
    let got = alone.get(&key("/n/1")).await.unwrap_err();
    assert!(matches!(got, OpError::Early { .. }) && got.code() == Rejection::EARLY, "{got}");
    let listed = alone.list(&Filter::parse(["/n/**"]).unwrap()).await.unwrap_err();
    assert!(matches!(listed, OpError::Early { .. }), "{listed}");
    assert_eq!(alone.get(&key("/n/2")).await.unwrap(), None, "nothing waits of another key");

    let both = at(&[at_behind, whole.http_address().unwrap()]).build().unwrap();
    assert_eq!(&both.get(&key("/n/1")).await.unwrap().unwrap().value[..], b"value");
    behind.stop().await;
    whole.stop().await;
}
