//! What a repair between two real agents costs, in exact bytes and flights.

use kvgossip_agent::{Agent, now};
use kvgossip_api::{SyncOutcome, SyncReport};
use kvgossip_grants::{Fact, PathPrefix, Signer, SigningKey, Timestamp, Verdict};
use kvgossip_testkit::agents::*;
use std::sync::Arc;

const KEYS: usize = 10_000;
const UPDATES: usize = 100;

fn key(number: usize) -> String {
    format!("/dc{}/host{}/cpu/core{}/user", number % 7, number / 80, number % 80)
}

/// Signed by root, on both cores.
fn sign_all(root: &Arc<SigningKey>, numbers: Vec<usize>, value: &'static str, time: Timestamp) -> Vec<Fact> {
    let parts: Vec<_> = numbers
        .chunks(numbers.len().div_ceil(2))
        .map(|part| {
            let (root, part) = (root.clone(), part.to_vec());
            std::thread::spawn(move || {
                let sign =
                    |number| entry(&key(number), format!("{value} {number}").as_bytes(), time, &root, None);
                part.into_iter().map(sign).collect::<Vec<_>>()
            })
        })
        .collect();
    parts.into_iter().flat_map(|part| part.join().expect("signed")).collect()
}

async fn put_all(agent: &Agent, facts: &[Fact]) {
    for chunk in facts.chunks(1_000) {
        let chunk: Vec<_> = chunk.iter().cloned().map(Ok).collect();
        let verdicts = agent.put_facts(&chunk).await.expect("the store works");
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Merged));
    }
}

async fn sync(from: &Agent, to: &Agent) -> SyncReport {
    let peer = format!("{}@{}", to.peers().id(), to.peers().address());
    from.sync_with(&peer, PathPrefix::root()).await.expect("the peer answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_updates_of_ten_thousand_keys_are_repaired_in_one_session() {
    let (a, b) = (start(config(0)).await, start(config(1)).await);
    let root = Arc::new(identity(0));
    let all = sign_all(&root, (0..KEYS).collect(), "first", now());
    put_all(&a, &all).await;
    put_all(&b, &all).await;
    assert!(same_root(&[&a, &b]));

    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    for n in 0..UPDATES {
        let side = if n % 2 == 0 { &mut at_a } else { &mut at_b };
        side.push((n * 7919) % KEYS);
    }
    let later = now();
    let (updates_a, updates_b) =
        (sign_all(&root, at_a, "second", later), sign_all(&root, at_b, "second", later));
    let weight: usize = updates_a.iter().chain(&updates_b).map(Fact::payload_len).sum();
    put_all(&a, &updates_a).await;
    put_all(&b, &updates_b).await;

    // Nobody is connected yet, so that the first session is the only one.
    let report = sync(&b, &a).await;
    assert_eq!(report.outcome, SyncOutcome::Equal, "{report:?}");
    assert!(same_root(&[&a, &b]));
    let overhead = report.sent.overhead + report.received.overhead;
    println!("{overhead} B and {} flights beside {weight} B of entries", report.flights);
    assert_eq!(report.sent.entries + report.received.entries, weight as u64, "only what differs is moved");
    assert_eq!((report.sent.entry_facts, report.received.entry_facts), (50, 50));
    assert_eq!((report.waste, report.rounds), (0, 1));
    assert!(overhead <= 40_000, "{report:?}");
    assert!(report.flights <= 12, "six round trips: {report:?}");

    let idle = sync(&a, &b).await;
    assert_eq!((idle.outcome, idle.flights), (SyncOutcome::Equal, 2), "one round trip");
    for way in [idle.sent, idle.received] {
        assert_eq!(way.entries + way.authority, 0);
        assert!(way.overhead <= 128, "{idle:?}");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_confined_to_a_prefix_repairs_that_and_the_authority() {
    let (a, b) = (start(config(0)).await, start(config(1)).await);
    let writer = identity(1);
    let grant = grant(writer.public(), "/x/**", root(), None);
    assert_eq!(put(&a, Fact::Grant(grant.clone())).await, Verdict::Merged);
    assert_eq!(put(&a, entry("/x/in/1", b"v", now(), &writer, Some(grant.id()))).await, Verdict::Merged);
    assert_eq!(put(&a, entry("/x/inside", b"v", now(), &writer, Some(grant.id()))).await, Verdict::Merged);
    let peer = format!("{}@{}", a.peers().id(), a.peers().address());
    // Once connected, the agents sync everything by themselves: the report is of the first session alone.
    let report = b.sync_with(&peer, PathPrefix::parse("/x/in").expect("a prefix")).await.expect("it answers");
    assert_eq!((report.received.entry_facts, report.received.authority_facts), (1, 1), "{report:?}");
    assert_eq!(report.outcome, SyncOutcome::Equal);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_cluster_is_refused_with_its_code() {
    let a = start(config(0)).await;
    let mut foreign = config(1);
    foreign.root = identity(2).public().clone();
    let b = start(foreign).await;
    let report = sync(&b, &a).await;
    assert_eq!(
        (report.outcome, report.reasons),
        (SyncOutcome::Failed, vec!["peer.foreign_cluster".to_owned()])
    );
    assert_eq!(report.received.entry_facts + report.sent.entry_facts, 0);
    a.stop().await;
    b.stop().await;
}
