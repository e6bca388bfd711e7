//! Coming back: a cursor moves only what changed meanwhile, and where it leads nowhere digests are compared.

use kvgossip_agent::{Agent, now};
use kvgossip_client::{Client, Dirty, Matching};
use kvgossip_grants::{Fact, HeldDigests};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::tap::{Seen, Tap};
use kvgossip_testkit::clients::*;
use kvgossip_testkit::wait::soon;
use std::collections::BTreeSet;
use std::net::SocketAddr;

const KEYS: usize = 300;

fn facts() -> Vec<Fact> {
    (0..KEYS).map(|n| entry(&format!("/k/{n}"), b"before", now(), root(), None)).collect()
}

async fn give(agent: &Agent, facts: &[Fact]) {
    let offered: Vec<_> = facts.iter().cloned().map(Ok).collect();
    agent.put_facts(&offered).await.expect("the store works");
}

async fn set(agent: &Agent, key: &str) {
    put(agent, entry(key, b"after", now(), root(), None)).await;
}

fn address(agent: &Agent) -> SocketAddr {
    agent.http_address().expect("TCP")
}

async fn shows(all: &mut Matching, what: &str) {
    soon(async {
        while all.entries().get(&key(what)).is_none_or(|entry| entry.value != "after") {
            all.next().await.expect("a change");
        }
        all.ready().await.expect("clean")
    })
    .await;
}

async fn dirty(all: &mut Matching, what: Dirty) {
    soon(async {
        while all.status().dirty != Some(what) {
            all.next_status().await.expect("a status");
        }
    })
    .await;
}

/// A client that knows all the keys, and has heard something live, so that its cursor has moved.
async fn settled(agent: &Agent, addresses: &[SocketAddr]) -> (Client, Matching) {
    let client = at(addresses).build().expect("a client");
    let mut all = client.subscribe_matching(["/k/**"]).expect("a glob");
    soon(all.ready()).await.expect("ready");
    assert_eq!(all.entries().len(), KEYS);
    set(agent, "/k/0").await;
    shows(&mut all, "/k/0").await;
    (client, all)
}

/// The keys of a bucket in which one has changed.
fn bucket_of(changed: &str) -> BTreeSet<String> {
    let buckets = HeldDigests::buckets_for(KEYS);
    let hit = HeldDigests::bucket(&key(changed), buckets);
    let names = (0..KEYS).map(|n| format!("/k/{n}"));
    names.filter(|name| HeldDigests::bucket(&key(name), buckets) == hit).collect()
}

fn assert_compared(seen: &Seen, told: &BTreeSet<String>) {
    assert!(seen.sends_cursor(), "{}", seen.request);
    assert_eq!((seen.count("gap"), seen.answer.matches("\"reason\":\"cursor\"").count()), (1, 1));
    assert!(seen.answer.contains("\"resumed\":false"));
    assert_eq!(seen.count("key"), told.len());
    assert!(told.iter().all(|key| seen.tells(key)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_from_its_cursor_and_moves_only_what_changed() {
    let agent = start(config(0)).await;
    give(&agent, &facts()).await;
    let tap = Tap::to(address(&agent)).await;
    let (client, mut all) = settled(&agent, &[tap.address]).await;
    let first = tap.last();
    assert!(!first.sends_cursor());
    assert_eq!(first.count("key"), KEYS + 1);

    for round in 0..3 {
        tap.cut();
        dirty(&mut all, Dirty::Disconnected).await;
        let changed = [format!("/k/{}", 10 + round), format!("/k/{}", 20 + round)];
        for key in &changed {
            set(&agent, key).await;
        }
        let before = tap.watches().len();
        tap.mend(address(&agent));
        for key in &changed {
            shows(&mut all, key).await;
        }
        assert_eq!(tap.watches().len(), before + 1, "one attempt");
        let again = tap.last();
        assert!(again.sends_cursor() && again.answer.contains("\"resumed\":true"), "{}", again.answer);
        assert_eq!((again.count("key"), again.count("gap"), again.count("authority")), (2, 0, 0));
        assert!(again.answer.len() * 20 < first.answer.len(), "{} bytes", again.answer.len());
    }

    // What is asked for meanwhile was not part of it: no cursor serves.
    tap.cut();
    dirty(&mut all, Dirty::Disconnected).await;
    set(&agent, "/other").await;
    let mut other = client.subscribe(&key("/other"));
    tap.mend(address(&agent));
    assert_eq!(text(&soon(other.ready()).await.expect("ready")), "after");
    assert!(!tap.last().sends_cursor());
    assert_eq!(tap.last().count("key"), bucket_of("/other").len() + 1, "digests are compared all the same");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_restarted_says_gap_and_only_what_differs_is_told() {
    let (agent, facts) = (start(config(0)).await, facts());
    give(&agent, &facts).await;
    let tap = Tap::to(address(&agent)).await;
    let (_client, mut all) = settled(&agent, &[tap.address]).await;
    tap.cut();
    agent.stop().await;
    dirty(&mut all, Dirty::Disconnected).await;

    let again = start(config(0)).await;
    give(&again, &facts).await;
    // It has not got the last of before, and has something else.
    set(&again, "/k/7").await;
    tap.mend(address(&again));
    soon(async {
        while all.entries()[&key("/k/7")].value != "after" {
            all.next().await.expect("a change");
        }
    })
    .await;
    dirty(&mut all, Dirty::Behind).await;
    assert_eq!(all.entries()[&key("/k/0")].value, "after", "not back to what the agent has");
    let told: BTreeSet<_> = bucket_of("/k/7").union(&bucket_of("/k/0")).cloned().collect();
    assert!(told.len() < KEYS / 5);
    assert_compared(&tap.last(), &told);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_agent_says_gap_and_tells_nothing_if_it_has_the_same() {
    let (one, two, facts) = (start(config(0)).await, start(config(1)).await, facts());
    for agent in [&one, &two] {
        give(agent, &facts).await;
    }
    let first = entry("/k/0", b"after", now(), root(), None);
    let (tap, other) = (Tap::to(address(&one)).await, Tap::to(address(&two)).await);
    let client = at(&[tap.address, other.address]).build().expect("a client");
    let mut all = client.subscribe_matching(["/k/**"]).expect("a glob");
    soon(all.ready()).await.expect("ready");
    for agent in [&one, &two] {
        put(agent, first.clone()).await;
    }
    shows(&mut all, "/k/0").await;
    tap.cut();
    soon(async {
        while client.watch_connection().borrow().as_deref() != Some(&*endpoint(other.address).to_string()) {
            all.next_status().await.expect("a status");
        }
        all.ready().await.expect("clean")
    })
    .await;
    assert_compared(&other.last(), &BTreeSet::new());
    for agent in [one, two] {
        agent.stop().await;
    }
}
