//! Subscriptions against agents that run: what `docs/client.md` promises, one test each.

use kvgossip_agent::now;
use kvgossip_client::{Cause, Change, Dirty, MAX_LINGERING_KEYS, Value};
use kvgossip_grants::{By, EntryId, Fact, Floor, Revocation, Signer, Verdict};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::*;
use kvgossip_testkit::wait::{eventually, soon};
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_can_be_watched_before_it_exists_and_a_purge_arrives_with_its_cause() {
    let agent = start(config(0)).await;
    let client = client(&[&agent]);
    let mut sub = client.subscribe(&key("/app/x"));
    assert_eq!(sub.state().value, Value::Unknown);
    assert_eq!(sub.state().dirty, Some(Dirty::Loading));
    let state = soon(sub.ready()).await.expect("ready");
    assert_eq!((state.value, state.cause), (Value::Absent, Some(Cause::Loaded)));
    assert!(!sub.watch().has_changed().expect("open"), "what was given is seen");
    soon(sub.next_value()).await.expect("absent");

    let writer = identity(1);
    let grant = grant(writer.public(), "/app/**", root(), None);
    put(&agent, Fact::Grant(grant.clone())).await;
    let older = entry("/app/x", b"older", now(), root(), None);
    let older_id = EntryId(older.id().0);
    put(&agent, older).await;
    let state = soon(sub.next_value()).await.expect("written");
    assert_eq!(text(&state), "older");
    assert_eq!(state.cause, Some(Cause::Written(older_id)));
    put(&agent, entry("/app/x", b"newer", now(), &writer, Some(grant.id()))).await;
    assert_eq!(text(&soon(sub.next_value()).await.expect("written")), "newer");

    let revocation = Revocation { grant: grant.clone(), by: By::Root, revoked_at: now() };
    put(&agent, Fact::Revocation(sign(revocation, root()))).await;
    let state = soon(sub.next_value()).await.expect("revoked");
    assert_eq!((text(&state), state.cause), ("older".into(), Some(Cause::Revoked(grant.id()))));

    let floor = Floor { patterns: vec!["/app/**".parse().expect("a glob")], before: now(), nonce: [0; 16] };
    let floor = sign(floor, root());
    put(&agent, Fact::Floor(floor.clone())).await;
    let state = soon(sub.next_value()).await.expect("floored");
    assert_eq!((state.value, state.cause), (Value::Absent, Some(Cause::Floored(floor.id()))));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_arrives_on_time_also_without_any_agent() {
    let agent = start(config(0)).await;
    let client = client(&[&agent]);
    let writer = identity(1);
    let mut body = grant(writer.public(), "/app/**", root(), None).body().clone();
    let until = now().saturating_add(2_500_000);
    body.expires_at = Some(until);
    let grant = sign(body, root());
    put(&agent, Fact::Grant(grant.clone())).await;
    put(&agent, entry("/app/x", b"for now", now(), &writer, Some(grant.id()))).await;
    let mut sub = client.subscribe(&key("/app/x"));
    assert_eq!(text(&soon(sub.ready()).await.expect("ready")), "for now");
    soon(sub.next_value()).await.expect("present");
    // The agent is gone before the time comes.
    agent.stop().await;
    let state = soon(sub.next_value()).await.expect("expired");
    let late = now().as_micros() - until.as_micros();
    assert_eq!((state.value, state.cause), (Value::Absent, Some(Cause::Expired(grant.id()))));
    assert!(late < 5_000_000, "{late} µs late");
    assert_eq!(state.dirty, Some(Dirty::Disconnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_an_agent_that_lags_shows_no_older_value_and_heals_when_it_catches_up() {
    let (fresh, lagging) = (start(config(0)).await, start(config(1)).await);
    let first = entry("/k", b"1", now(), root(), None);
    put(&fresh, first.clone()).await;
    put(&lagging, first).await;
    let second = entry("/k", b"2", now(), root(), None);
    put(&fresh, second.clone()).await;
    let client = client(&[&fresh, &lagging]);
    let mut sub = client.subscribe(&key("/k"));
    assert_eq!(text(&soon(sub.ready()).await.expect("ready")), "2");
    let mut seen = record(&sub);
    fresh.stop().await;
    let state = soon(sub.wait_for(|state| state.dirty == Some(Dirty::Behind))).await.expect("behind");
    assert_eq!(text(&state), "2");
    put(&lagging, second).await;
    assert_eq!(text(&soon(sub.ready()).await.expect("clean")), "2");
    put(&lagging, entry("/k", b"3", now(), root(), None)).await;
    soon(sub.wait_for(|state| text(state) == "3")).await.expect("goes on");
    drop((sub, client));
    assert!(seen.finish().await.iter().all(|value| ["2", "3"].contains(&value.as_str())), "never back");
    lagging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_elsewhere_stays_dead_at_an_agent_that_has_not_heard_of_it() {
    let (informed, lagging) = (start(config(0)).await, start(config(1)).await);
    let writer = identity(1);
    let grant = grant(writer.public(), "/app/**", root(), None);
    let entry = entry("/app/x", b"v", now(), &writer, Some(grant.id()));
    for agent in [&informed, &lagging] {
        put(agent, Fact::Grant(grant.clone())).await;
        assert_eq!(put(agent, entry.clone()).await, Verdict::Merged);
    }
    let client = client(&[&informed, &lagging]);
    let mut sub = client.subscribe(&key("/app/x"));
    assert_eq!(text(&soon(sub.ready()).await.expect("ready")), "v");
    let revocation =
        Fact::Revocation(sign(Revocation { grant: grant.clone(), by: By::Root, revoked_at: now() }, root()));
    put(&informed, revocation.clone()).await;
    soon(sub.wait_for(|state| state.value == Value::Absent)).await.expect("revoked");
    informed.stop().await;
    let state = soon(sub.wait_for(|state| state.dirty == Some(Dirty::Behind))).await.expect("behind");
    assert_eq!(state.value, Value::Absent);
    put(&lagging, revocation).await;
    assert_eq!(soon(sub.ready()).await.expect("caught up").value, Value::Absent);
    lagging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_agents_gone_and_back_the_handle_lives_on() {
    let agent = start(config(0)).await;
    put(&agent, entry("/k", b"1", now(), root(), None)).await;
    let address = agent.http_address().expect("TCP");
    let client = client(&[&agent]);
    let mut sub = client.subscribe(&key("/k"));
    soon(sub.ready()).await.expect("ready");
    agent.stop().await;
    let state = soon(sub.wait_for(|state| state.dirty == Some(Dirty::Disconnected))).await.expect("told");
    assert_eq!(text(&state), "1", "the last known value stands");

    // It comes back with an empty store: all is lost there, and nothing is lost here.
    let mut again = config(0);
    again.http = Some(address);
    let agent = start(again).await;
    let state = soon(sub.wait_for(|state| state.dirty == Some(Dirty::Behind))).await.expect("back");
    assert_eq!(text(&state), "1");
    put(&agent, entry("/k", b"2", now(), root(), None)).await;
    let state = soon(sub.ready()).await.expect("clean");
    assert_eq!(text(&state), "2");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_misses_no_latest_value_and_no_change_of_a_filter_is_lost() {
    let agent = start(config(0)).await;
    let client = client(&[&agent]);
    let mut sub = client.subscribe(&key("/k/0"));
    let mut all = client.subscribe_matching(["/k/**", "!/k/no/*"]).expect("globs");
    soon(all.ready()).await.expect("ready");
    // Written while the subscriptions are read by nobody, each key many times.
    for round in 0..20 {
        let number = |n: usize| entry(&format!("/k/{n}"), round.to_string().as_bytes(), now(), root(), None);
        let facts: Vec<_> = (0..20).map(|n| Ok(number(n))).collect();
        agent.put_facts(&facts).await.expect("the store works");
    }
    put(&agent, entry("/k/no/x", b"v", now(), root(), None)).await;
    soon(sub.wait_for(|state| text(state) == "19")).await.expect("the latest");
    let mut seen = BTreeMap::new();
    while seen.values().filter(|value| **value == "19").count() < 20 {
        match soon(all.next()).await.expect("a change") {
            Change::Added { entry, .. } => {
                let text = String::from_utf8_lossy(&entry.value).into_owned();
                assert!(seen.insert(entry.key, text).is_none(), "added once");
            }
            Change::Updated { entry, .. } => {
                let text = String::from_utf8_lossy(&entry.value).into_owned();
                assert!(seen.insert(entry.key, text).is_some(), "added before");
            }
            change => panic!("{change:?}"),
        }
    }
    let floor = Floor { patterns: vec!["/k/3".parse().expect("a glob")], before: now(), nonce: [0; 16] };
    let floor = sign(floor, root());
    put(&agent, Fact::Floor(floor.clone())).await;
    let change = soon(all.next()).await.expect("a change");
    assert_eq!(change, Change::Removed { key: key("/k/3"), cause: Cause::Floored(floor.id()) });
    assert_eq!(all.entries().len(), 19);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_the_first_read_and_the_live_stream() {
    let agent = start(config(0)).await;
    let client = client(&[&agent]);
    let writing = tokio::spawn({
        let agent = agent.clone();
        async move {
            for n in 0..150u32 {
                put(&agent, entry("/k", n.to_string().as_bytes(), now(), root(), None)).await;
            }
        }
    });
    // Subscriptions come and go while it is written; each sees the end.
    let mut subs = Vec::new();
    while !writing.is_finished() {
        subs.push((client.subscribe(&key("/k")), client.subscribe_matching(["/*"]).expect("a glob")));
        if subs.len() > 20 {
            subs.clear();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    writing.await.expect("no panic");
    subs.push((client.subscribe(&key("/k")), client.subscribe_matching(["/*"]).expect("a glob")));
    for (mut sub, mut all) in subs {
        soon(sub.wait_for(|state| text(state) == "149")).await.expect("the last");
        soon(async {
            while all.entries().get(&key("/k")).is_none_or(|entry| entry.value != "149") {
                all.next().await.expect("a change");
            }
        })
        .await;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interests_are_shared_and_culled_after_the_grace_delay() {
    let agent = start(config(0)).await;
    put(&agent, entry("/k", b"1", now(), root(), None)).await;
    let client = builder(&[&agent]).grace(Duration::from_millis(300)).build().expect("a client");
    let mut one = client.subscribe(&key("/k"));
    soon(one.ready()).await.expect("ready");
    let two = client.subscribe(&key("/k"));
    assert_eq!(two.state(), one.state(), "shared: known at once");
    assert_eq!(agent.hub().watchers(), 1);
    drop((one, two));
    let again = client.subscribe(&key("/k"));
    assert_eq!(text(&again.state()), "1", "kept within the grace delay");
    drop(again);
    eventually("nobody watches any more", async || agent.hub().watchers() == 0).await;
    assert_eq!(client.subscribe(&key("/k")).state().value, Value::Unknown, "and the value is forgotten");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_is_not_kept_and_a_short_one_is() {
    let agent = start(config(0)).await;
    let facts: Vec<_> = (0..=MAX_LINGERING_KEYS)
        .map(|n| Ok(entry(&format!("/many/{n}"), b"v", now(), root(), None)))
        .collect();
    agent.put_facts(&facts).await.expect("the store works");
    // Longer than this test takes.
    let client = builder(&[&agent]).grace(Duration::from_secs(600)).build().expect("a client");
    let list = async |glob: &str| {
        let filter = kvgossip_grants::Filter::parse([glob]).expect("a glob");
        soon(client.list(&filter)).await.expect("a list").len()
    };
    assert_eq!(list("/many/**").await, MAX_LINGERING_KEYS + 1);
    eventually("nobody watches any more", async || agent.hub().watchers() == 0).await;
    assert_eq!(list("/many/1*").await, 136);
    // Somebody else holds the same while it is listed: that stays.
    let mut all = client.subscribe_matching(["/many/**"]).expect("a glob");
    soon(all.ready()).await.expect("ready");
    assert_eq!(list("/many/**").await, MAX_LINGERING_KEYS + 1);
    put(&agent, entry("/many/new", b"v", now(), root(), None)).await;
    soon(async {
        while !all.entries().contains_key(&key("/many/new")) {
            all.next().await.expect("a change");
        }
    })
    .await;
    drop(all);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(agent.hub().watchers(), 1, "the grace delay goes on for the short list");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_signed_writes() {
    let agent = start(config(0)).await;
    let client = client(&[&agent]);
    let writer = identity(1);
    let grant = grant(writer.public(), "/app/**", root(), None);
    put(&agent, Fact::Grant(grant.clone())).await;
    assert!(soon(client.get(&key("/app/x"))).await.expect("an answer").is_none());
    let written = soon(client.set(&key("/app/x"), "hello", &writer)).await.expect("written");
    assert_eq!(written.grant, Some(grant.id()), "the grant was found by asking");
    eventually("read back", async || {
        client.get(&key("/app/x")).await.expect("an answer").is_some_and(|entry| entry.id == written.entry)
    })
    .await;
    let listed = soon(client.list(&kvgossip_grants::Filter::parse(["/app/*"]).expect("a glob")))
        .await
        .expect("a list");
    assert_eq!(listed[&key("/app/x")].value, "hello");
    soon(client.delete(&key("/app/x"), &writer)).await.expect("deleted");
    eventually("unset", async || client.get(&key("/app/x")).await.expect("an answer").is_none()).await;
    let refused = soon(client.set(&key("/other"), "v", &writer)).await.expect_err("out of reach");
    assert_eq!(refused.code(), "entry.out_of_reach");
    assert!(soon(client.status()).await.expect("a status").ready);
    agent.stop().await;
    let gone = soon(client.set(&key("/app/x"), "v", &writer)).await.expect_err("nobody is there");
    assert_eq!(gone.code(), "agent.unreachable");
}
