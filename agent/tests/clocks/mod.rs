//! Clocks that are wrong: they are measured, told, not signed with, and what one of them has written can be forgotten.

use super::{MINUTE_US, Skew, config, entry, eventually, grant, identity, peer, put, root, start, value};
use kvgossip_agent::{
    Agent, Clock, Config, Precondition, Recovery, WriteError, forget_future, now, open_store,
};
use kvgossip_engine::MemoryStorage;
use kvgossip_grants::{Fact, Key, Signer, SigningKey, Verdict};
use std::path::Path;
use std::sync::atomic::Ordering;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

/// An agent that signs as root by this clock.
async fn signing(number: usize, skew: &Skew, peers: &[&Agent]) -> Agent {
    let peers = peers.iter().map(|agent| peer(agent)).collect();
    let config = Config { clock: skew.clock(), peers, identity: Some(identity(0)), ..config(number) };
    Agent::start(config, Box::new(MemoryStorage::new())).await.unwrap()
}

/// What `status` says of clocks that differ.
fn clock_reasons(agent: &Agent) -> Vec<String> {
    let codes = ["clock.differs", "clock.contradicted"];
    let reasons = agent.status().reasons.into_iter().filter(|reason| codes.contains(&reason.code.as_str()));
    reasons.map(|reason| format!("{}: {}", reason.code, reason.message)).collect()
}

async fn knows_clocks_of(agent: &Agent, peers: usize) {
    eventually("the clocks are measured", async || agent.peers().clock_standing().peers == peers).await;
}

fn gauge(agent: &Agent, name: &str) -> f64 {
    let text = agent.metrics_text().unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(f64::NAN)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_signs_nothing_while_most_of_three_peers_contradict_its_clock() {
    let (right, wrong, memory) = (Skew::default(), Skew::ahead(10 * MINUTE_US), MemoryStorage::new);
    let a = start(0, &right, &memory(), &[]).await;
    let b = start(1, &right, &memory(), &[]).await;
    let d = signing(3, &wrong, &[&a, &b]).await;
    assert!(gauge(&d, "kvgossip_clock_offset_seconds{of=\"median\"}").is_nan(), "what is not known is not 0");
    knows_clocks_of(&d, 2).await;
    assert!(
        d.write(key("/two"), Some("v".into()), Precondition::default()).await.is_ok(),
        "two may both be wrong"
    );
    let told = clock_reasons(&d);
    assert!(
        told[0].starts_with("clock.differs: the clock of peer ") && told[0].contains(" min behind"),
        "{told:?}"
    );

    let c = start(2, &right, &memory(), &[&d]).await;
    knows_clocks_of(&d, 3).await;
    let refused = d.write(key("/three"), Some("v".into()), Precondition::default()).await.unwrap_err();
    assert!(matches!(refused, WriteError::ClockContradicted(_)), "{refused}");
    let told = refused.to_string();
    assert!(told.contains("ahead of those of most of its 3 peers"), "{told}");
    assert!(d.write(key("/two"), None, Precondition::default()).await.is_err(), "nor a delete");
    let (status, told) = (d.status(), clock_reasons(&d));
    assert!(status.ready && told[0].starts_with("clock.contradicted: "), "{told:?}");
    assert!(
        status
            .peers
            .iter()
            .all(|row| row.clock_offset_us.is_some_and(|us| (-610..-590).contains(&(us / 1_000_000))))
    );
    assert_eq!(gauge(&d, "kvgossip_clock_contradicted"), 1.0);
    assert!((-610.0..-590.0).contains(&gauge(&d, "kvgossip_clock_offset_seconds{of=\"median\"}")));
    assert!((-610.0..-590.0).contains(&gauge(&d, "kvgossip_clock_offset_seconds{of=\"furthest\"}")));
    // The other side sees the same, and goes on signing.
    knows_clocks_of(&a, 1).await;
    assert!((590..610).contains(&(a.peers().clock_offset_us(&d.peers().id()).unwrap() / 1_000_000)));
    let told = clock_reasons(&a);
    assert!(told[0].contains("ahead of this replica's"), "{told:?}");

    // It shows at once, before any peer is met again.
    wrong.ahead_us.store(0, Ordering::SeqCst);
    assert!(d.write(key("/three"), Some("v".into()), Precondition::default()).await.is_ok());
    assert!(clock_reasons(&d).is_empty());
    for agent in [a, b, c, d] {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_that_lies_about_the_time_does_not_keep_an_agent_from_signing() {
    let (right, liar, memory) = (Skew::default(), Skew::behind(1_000 * MINUTE_US), MemoryStorage::new);
    let a = start(0, &right, &memory(), &[]).await;
    let b = start(1, &right, &memory(), &[]).await;
    let c = start(2, &liar, &memory(), &[]).await;
    let d = signing(3, &right, &[&a, &b, &c]).await;
    knows_clocks_of(&d, 3).await;
    assert!(d.write(key("/k"), Some("v".into()), Precondition::default()).await.is_ok());
    let lying = c.peers().id().to_string();
    let reasons = clock_reasons(&d);
    assert!(
        reasons.len() == 1 && reasons[0].contains(&format!("peer {} is 16 h behind", &lying[..8])),
        "{reasons:?}"
    );
    for agent in [a, b, c, d] {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_five_seconds_behind_refuses_no_write_right_after_its_grant() {
    let behind = Skew::behind(5_000_000);
    let writer: SigningKey = identity(1);
    let config = Config { clock: behind.clock(), identity: Some(identity(1)), ..config(0) };
    let agent = Agent::start(config, Box::new(MemoryStorage::new())).await.unwrap();
    let given = grant(writer.public(), "/team/**", root(), None);
    assert_eq!(put(&agent, Fact::Grant(given.clone())).await, Verdict::Merged);
    let written = agent.write(key("/team/x"), Some("v".into()), Precondition::default()).await.unwrap();
    assert_eq!(written.entry().timestamp, given.body().issued_at, "the first moment of the grant");
    agent.stop().await;
}

/// An agent on a store in a directory; with `forgets`, it forgets entries from the future first.
async fn on_disk(dir: &Path, clock: Clock, peers: &[&Agent], forgets: bool) -> Agent {
    let mut opened = open_store(dir, root().public(), Recovery::default()).unwrap();
    let mut config = Config { clock, identity: Some(identity(0)), ..config(1) };
    config.peers = peers.iter().map(|agent| peer(agent)).collect();
    if forgets {
        let forgotten = forget_future(&mut opened, now()).unwrap();
        assert_eq!(forgotten.entries, 1);
        config.declined = Some(forgotten.declined);
    }
    Agent::start_loaded(config, opened.replica, Box::new(opened.storage)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_fast_clock_wrote_is_forgotten_and_what_it_superseded_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let fast = Skew::ahead(24 * 60 * MINUTE_US);
    let a = start(0, &Skew::default(), &MemoryStorage::new(), &[]).await;
    assert_eq!(put(&a, entry("/k", b"before", now(), root(), None)).await, Verdict::Merged);
    let b = on_disk(dir.path(), fast.clock(), &[&a], false).await;
    eventually("it came", async || value(&b, "/k").await.is_some()).await;
    b.write(key("/k"), Some("fast".into()), Precondition::default()).await.unwrap();
    eventually("the others keep it waiting", async || a.status().waiting.facts == 1).await;
    // Once the clock is right the key is locked.
    fast.ahead_us.store(0, Ordering::SeqCst);
    let locked = b.write(key("/k"), Some("right".into()), Precondition::default()).await.unwrap_err();
    assert!(matches!(locked, WriteError::Verdict(Verdict::NotYet { .. })), "{locked}");
    assert!(locked.to_string().contains("--forget-future"), "{locked}");
    b.stop().await;

    let b = on_disk(dir.path(), Clock::system(), &[&a], true).await;
    assert_eq!(b.status().waiting.facts, 1);
    eventually("it came back", async || value(&b, "/k").await.as_deref() == Some(b"before")).await;
    b.write(key("/k"), Some("right".into()), Precondition::default()).await.unwrap();
    eventually("all have it", async || value(&a, "/k").await.as_deref() == Some(b"right")).await;
    b.stop().await;
    // It is gone from the disk, too.
    let b = on_disk(dir.path(), Clock::system(), &[], false).await;
    assert_eq!(value(&b, "/k").await.as_deref(), Some(&b"right"[..]));
    b.stop().await;
    a.stop().await;
}

/// The message of a reason; empty if it is none.
fn reason(agent: &Agent, code: &str) -> String {
    let reasons = agent.status().reasons;
    reasons.into_iter().find(|reason| reason.code == code).map_or(String::new(), |reason| reason.message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_the_own_store_that_are_ahead_of_the_clock_are_a_reason_until_they_are_due() {
    let (fast, memory) = (Skew::ahead(10 * MINUTE_US), MemoryStorage::new());
    let a = start(0, &fast, &memory, &[]).await;
    for key in ["/one", "/two"] {
        let time = now().saturating_add(10 * MINUTE_US);
        assert_eq!(put(&a, entry(key, b"v", time, root(), None)).await, Verdict::Merged);
    }
    assert_eq!(put(&a, entry("/three", b"v", now(), root(), None)).await, Verdict::Merged);
    assert_eq!(reason(&a, "clock.store_ahead"), "", "not by the clock that it was written under");
    a.stop().await;
    let right = Skew::default();
    let a = start(0, &right, &memory, &[]).await;
    eventually("they are counted", async || {
        reason(&a, "clock.store_ahead").starts_with("2 entries of the store are ahead of this clock")
    })
    .await;
    assert!(a.status().ready);
    right.ahead_us.store(9 * MINUTE_US, Ordering::SeqCst);
    assert_eq!(reason(&a, "clock.store_ahead"), "", "they are due");
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_never_equal_to_any_and_differs_from_its_only_peer_says_so_at_once() {
    let (right, behind) = (Skew::default(), Skew::behind(10 * MINUTE_US));
    let memory = MemoryStorage::new();
    let a = start(0, &right, &memory, &[]).await;
    assert_eq!(put(&a, entry("/new", b"v", now(), root(), None)).await, Verdict::Merged);
    a.stop().await;
    // It never held as little as the other one, as far as it knows.
    let a = start(0, &right, &memory, &[]).await;
    let b = start(1, &behind, &MemoryStorage::new(), &[&a]).await;
    eventually("it says so", async || reason(&a, "sync.apart").contains("never known to hold the same"))
        .await;
    assert!(a.status().ready);
    behind.set_right();
    eventually("they are equal", async || reason(&a, "sync.apart").is_empty()).await;
    assert!(a.peers().rows()[0].equal);
    a.stop().await;
    b.stop().await;
}
