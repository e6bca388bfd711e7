//! Agents that lie, and networks that are cut: what is shown stays verified and never goes back.

#[path = "../../agent/tests/common/mod.rs"]
mod common;
mod live_support;

use base64::prelude::{BASE64_STANDARD, Engine};
use common::*;
use kvgossip_agent::now;
use kvgossip_client::{Dirty, Value};
use kvgossip_grants::{Fact, GrantId, Signer, Timestamp};
use live_support::*;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Answers every request with the same events, and keeps the stream open.
async fn liar(events: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let events = events.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 65_536];
                let _ = stream.read(&mut head).await;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{events}");
                let _ = stream.write_all(answer.as_bytes()).await;
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

fn authority_event(facts: &[Fact]) -> String {
    let records: Vec<_> = facts.iter().map(|fact| BASE64_STANDARD.encode(fact.to_record())).collect();
    format!("event: authority\ndata: {}\n\n", serde_json::json!({ "records_b64": records }))
}

fn key_event(key: &str, record: &[u8], id: &str) -> String {
    let data = serde_json::json!({
        "key": key, "state": "present", "cause": { "kind": "current" },
        "entries": [id], "records_b64": [BASE64_STANDARD.encode(record)],
    });
    format!("event: key\ndata: {data}\n\n")
}

const SYNCED: &str = "event: synced\ndata: {\"now_us\":0,\"resumed\":false}\n\n";

/// A value that nobody may set: with a broken signature, on a grant for other keys, or on one of another's.
fn forgeries() -> Vec<(&'static str, String)> {
    let (writer, stranger) = (identity(1), identity(2));
    let grant = grant(writer.public(), "/other/**", root(), None);
    let authority = authority_event(&[Fact::Grant(grant.clone())]);
    let told = |fact: &Fact, spoil: bool| {
        let mut record = fact.to_record();
        if spoil {
            record[9] ^= 1;
        }
        format!("{authority}{}{SYNCED}", key_event("/k", &record, &fact.id().to_string()))
    };
    let entry = |signer, cites: Option<GrantId>| entry("/k", b"forged", later(), signer, cites);
    vec![
        ("fact.bad_signature", told(&entry(root(), None), true)),
        ("entry.out_of_reach", told(&entry(&writer, Some(grant.id())), false)),
        ("entry.wrong_signer", told(&entry(&stranger, Some(grant.id())), false)),
        ("grant.not_root", told(&entry(&stranger, None), false)),
    ]
}

fn later() -> Timestamp {
    now().saturating_add(1_000_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lying_agent_says_is_never_shown_and_is_reported() {
    let honest = start(config(0)).await;
    put(&honest, entry("/k", b"true", now(), root(), None)).await;
    for (code, events) in forgeries() {
        let lying = liar(events).await;
        // Alone, it gets nothing shown.
        let client = at(&[lying]).build().expect("a client");
        let mut sub = client.subscribe(&key("/k"));
        let state = within(sub.wait_for(|state| state.dirty == Some(Dirty::Unverified))).await.expect(code);
        assert_eq!(state.value, Value::Absent, "{code}");
        let (count, list) = client.rejections();
        assert!(count >= 1 && list[0].endpoint == endpoint(lying).to_string(), "{list:?}");
        assert_eq!((list[0].code.as_str(), list[0].key.clone()), (code, Some(key("/k"))));

        // Beside an honest one it is left.
        let client = at(&[lying, honest.http_address().expect("TCP")]).build().expect("a client");
        let mut sub = client.subscribe(&key("/k"));
        let mut seen = record(&sub);
        within(sub.wait_for(|state| text(state) == "true" && state.dirty.is_none())).await.expect(code);
        drop((sub, client));
        assert!(!seen.finish().await.contains(&"forged".to_owned()), "{code}");
    }
    honest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_shows_an_older_value_than_another_did_changes_nothing() {
    let honest = start(config(0)).await;
    let (old, new) = (entry("/k", b"old", now(), root(), None), entry("/k", b"new", later(), root(), None));
    put(&honest, new).await;
    let events = format!("{}{SYNCED}", key_event("/k", &old.to_record(), &old.id().to_string()));
    let lying = liar(events).await;
    let client = at(&[honest.http_address().expect("TCP"), lying]).build().expect("a client");
    let mut sub = client.subscribe(&key("/k"));
    assert_eq!(text(&within(sub.ready()).await.expect("ready")), "new");
    let mut seen = record(&sub);
    honest.stop().await;
    within(sub.wait_for(|state| state.dirty == Some(Dirty::Behind))).await.expect("the older one is noticed");
    drop((sub, client));
    assert_eq!(seen.finish().await.iter().filter(|value| *value != "new").count(), 0);
}

/// Passes bytes on until it is cut; then connections stay open and silent.
async fn relay(to: SocketAddr) -> (SocketAddr, Arc<watch::Sender<bool>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, cut) = (listener.local_addr().expect("bound"), Arc::new(watch::Sender::new(false)));
    let cutting = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut cut = cutting.subscribe();
            tokio::spawn(async move {
                let was_cut = *cut.borrow();
                if was_cut {
                    return std::future::pending().await;
                }
                let Ok(mut far) = TcpStream::connect(to).await else { return };
                let is_cut = async move { drop(cut.wait_for(|cut| *cut).await) };
                let was_cut = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
                    () = is_cut => true,
                };
                if was_cut {
                    // Both ends stay open.
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_noticed_by_silence_and_another_agent_takes_over() {
    let (first, second) = (start(config(0)).await, start(config(1)).await);
    for agent in [&first, &second] {
        put(agent, entry("/k", b"1", now(), root(), None)).await;
    }
    let (near, cut) = relay(first.http_address().expect("TCP")).await;
    let second_address = second.http_address().expect("TCP");
    let client = at(&[near, second_address]).silence(Duration::from_millis(600)).build().expect("a client");
    let mut sub = client.subscribe(&key("/k"));
    within(sub.ready()).await.expect("ready");
    cut.send_replace(true);
    put(&second, entry("/k", b"2", now(), root(), None)).await;
    let state = within(sub.wait_for(|state| text(state) == "2" && state.dirty.is_none())).await;
    state.expect("heard elsewhere");
    assert_eq!(*client.watch_connection().borrow(), Some(endpoint(second_address).to_string()));

    // Nobody else is left: the value stands, and it is said that it may be old.
    second.stop().await;
    let state = within(sub.wait_for(|state| state.dirty == Some(Dirty::Disconnected))).await.expect("told");
    assert_eq!(text(&state), "2");
    first.stop().await;
}
