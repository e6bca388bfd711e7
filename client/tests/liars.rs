//! Agents that lie: what does not verify is never shown, it is reported, and it stops nothing else.

use kvgossip_agent::{Agent, now};
use kvgossip_client::{Dirty, Value};
use kvgossip_grants::Signer;
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::liar::{Liar, SYNCED, forgeries, key_event, later, told};
use kvgossip_testkit::clients::*;
use kvgossip_testkit::wait::soon;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn address(agent: &Agent) -> SocketAddr {
    agent.http_address().expect("TCP")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lying_agent_says_is_never_shown_and_is_reported() {
    let honest = start(config(0)).await;
    put(&honest, entry("/k", b"true", now(), root(), None)).await;
    for (code, authority, forged) in forgeries("/k") {
        let liar = Liar::telling(format!("{authority}{forged}{SYNCED}")).await;
        // Alone, it gets nothing shown.
        let client = at(&[liar.address]).build().expect("a client");
        let mut sub = client.subscribe(&key("/k"));
        let state = soon(sub.wait_for(|state| state.dirty == Some(Dirty::Unverified))).await.expect(code);
        assert_eq!(state.value, Value::Unknown, "{code}: it may be set");
        let mut reported = client.watch_rejections();
        let (count, list) = soon(reported.wait_for(|(count, _)| *count > 0)).await.expect(code).clone();
        assert_eq!((count, &list[0].endpoint), (1, &endpoint(liar.address).to_string()), "{list:?}");
        assert_eq!((list[0].code.as_str(), list[0].key.clone()), (code, Some(key("/k"))));

        // Beside an honest one it is left.
        let client = at(&[liar.address, address(&honest)]).build().expect("a client");
        let mut sub = client.subscribe(&key("/k"));
        let mut seen = record(&sub);
        soon(sub.wait_for(|state| text(state) == "true" && state.dirty.is_none())).await.expect(code);
        drop((sub, client));
        assert!(!seen.finish().await.contains(&"forged".to_owned()), "{code}");
    }
    honest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refused_entry_does_not_stop_the_others() {
    for (code, authority, forged) in forgeries("/k") {
        let good = entry("/good", b"1", now(), root(), None);
        let liar = Liar::telling(format!("{authority}{}{SYNCED}", told("/good", &good))).await;
        let client = at(&[liar.address]).build().expect("a client");
        let (mut sub, mut bad) = (client.subscribe(&key("/good")), client.subscribe(&key("/k")));
        let mut all = client.subscribe_matching(["/**"]).expect("a glob");
        assert_eq!(text(&soon(sub.ready()).await.expect("ready")), "1");
        soon(all.ready()).await.expect("ready");
        let streams = liar.streams();
        // Forged and good in turns, each more than once.
        for round in 2..5 {
            let next = entry("/good", round.to_string().as_bytes(), now(), root(), None);
            liar.say(&format!("{forged}{}", told("/good", &next)));
            let state = soon(sub.wait_for(|state| text(state) == round.to_string())).await.expect(code);
            assert_eq!(state.dirty, None, "{code}: the forged one concerns its own key alone");
            soon(bad.wait_for(|state| state.dirty == Some(Dirty::Unverified))).await.expect(code);
            // And filters that include it.
            soon(async {
                while all.status().dirty != Some(Dirty::Unverified) {
                    all.next_status().await.expect(code);
                }
            })
            .await;
        }
        let mut reported = client.watch_rejections();
        soon(reported.wait_for(|(count, _)| *count > 0)).await.expect(code);
        assert_eq!(liar.streams(), streams, "{code}: it is asked on, as there is no other");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_is_left_without_an_interruption_and_asked_again_while_nobody_else_answers() {
    let honest = start(config(0)).await;
    let good = entry("/good", b"1", now(), root(), None);
    put(&honest, good.clone()).await;
    let liar = Liar::telling(format!("{}{SYNCED}", told("/good", &good))).await;
    let client = at(&[liar.address, address(&honest)]).build().expect("a client");
    let mut sub = client.subscribe(&key("/good"));
    let mut bad = client.subscribe(&key("/k"));
    soon(sub.ready()).await.expect("ready");
    soon(bad.ready()).await.expect("ready");
    let mut connection = client.watch_connection();
    assert_eq!(connection.borrow_and_update().as_deref(), Some(&*endpoint(liar.address).to_string()));
    let (mut dirt, lost) = (sub.clone(), Arc::new(AtomicBool::new(false)));
    let noting = lost.clone();
    tokio::spawn(async move {
        while let Ok(dirty) = dirt.next_dirtiness().await {
            noting.fetch_or(dirty == Some(Dirty::Disconnected), Ordering::SeqCst);
        }
    });
    let (_, _, forged) = forgeries("/k").remove(0);
    liar.say(&forged);
    let name = endpoint(address(&honest)).to_string();
    soon(connection.wait_for(|name_now| name_now.as_deref() == Some(&name))).await.expect("another");
    soon(bad.ready()).await.expect("clean there");
    put(&honest, entry("/good", b"2", now(), root(), None)).await;
    soon(sub.wait_for(|state| text(state) == "2")).await.expect("it goes on");
    assert!(!lost.load(Ordering::SeqCst), "there was an agent all the time");

    // The honest one is gone: the liar's other values are better than none.
    honest.stop().await;
    let name = endpoint(liar.address).to_string();
    soon(connection.wait_for(|name_now| name_now.as_deref() == Some(&name))).await.expect("back");
    liar.say(&told("/good", &entry("/good", b"3", later(), root(), None)));
    soon(sub.wait_for(|state| text(state) == "3")).await.expect("what verifies counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_shows_an_older_value_than_another_did_changes_nothing() {
    let honest = start(config(0)).await;
    let (old, new) = (entry("/k", b"old", now(), root(), None), entry("/k", b"new", later(), root(), None));
    put(&honest, new).await;
    let liar = Liar::telling(format!("{}{SYNCED}", told("/k", &old))).await;
    let client = at(&[address(&honest), liar.address]).build().expect("a client");
    let mut sub = client.subscribe(&key("/k"));
    assert_eq!(text(&soon(sub.ready()).await.expect("ready")), "new");
    let mut seen = record(&sub);
    honest.stop().await;
    soon(sub.wait_for(|state| state.dirty == Some(Dirty::Behind))).await.expect("the older one is noticed");
    assert_eq!(client.rejections().0, 0, "to be behind is no lie");
    drop((sub, client));
    assert_eq!(seen.finish().await.iter().filter(|value| *value != "new").count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_another_cluster_is_named_as_such_and_fills_no_memory() {
    // Signed by somebody who is not root here.
    let stranger = identity(2);
    let fact = entry("/k/0", b"v", now(), &stranger, None);
    let events: String = (0..=kvgossip_client::MAX_UNVERIFIED_KEYS)
        .map(|n| key_event(&format!("/k/{n}"), &fact.to_record(), &fact.id().to_string()))
        .collect();
    let liar = Liar::telling(events).await;
    let client = at(&[liar.address]).build().expect("a client");
    let all = client.subscribe_matching(["/**"]).expect("a glob");
    let mut trouble = client.watch_trouble();
    let told = soon(trouble.wait_for(Option::is_some)).await.expect("told").clone().expect("some");
    assert_eq!((told.code.as_str(), told.endpoint), ("agent.unexpected", endpoint(liar.address).to_string()));
    assert!(told.message.contains("an agent of this cluster"), "{}", told.message);
    assert!(all.entries().is_empty() && stranger.public().entity() != root().public().entity());
    let (count, list) = client.rejections();
    assert!(count > 4000 && list.len() == kvgossip_client::MAX_REJECTIONS, "{count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_knows_itself_of_another_cluster_refuses_and_nothing_is_shown_as_absent() {
    let agent = start(config(0)).await;
    put(&agent, entry("/k", b"v", now(), root(), None)).await;
    let client = at(&[address(&agent)]).root(identity(2).public().clone()).build().expect("a client");
    let sub = client.subscribe(&key("/k"));
    let mut trouble = client.watch_trouble();
    let told = soon(trouble.wait_for(Option::is_some)).await.expect("told").clone().expect("some");
    assert_eq!(told.code, "cluster.mismatch", "{told:?}");
    assert_eq!(sub.state().value, Value::Unknown, "whether it is set is not known");
    agent.stop().await;
}
