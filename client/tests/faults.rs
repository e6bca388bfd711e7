//! Networks that are cut, certificates that do not fit, and agents without room.

use kvgossip_agent::now;
use kvgossip_api::SyncOutcome;
use kvgossip_client::{Dirty, OpError, Trouble, Value};
use kvgossip_grants::Signer;
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::*;
use kvgossip_testkit::wait::soon;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

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
    soon(sub.ready()).await.expect("ready");
    cut.send_replace(true);
    put(&second, entry("/k", b"2", now(), root(), None)).await;
    let state = soon(sub.wait_for(|state| text(state) == "2" && state.dirty.is_none())).await;
    state.expect("heard elsewhere");
    assert_eq!(*client.watch_connection().borrow(), Some(endpoint(second_address).to_string()));

    // Nobody else is left: the value stands, and it is said that it may be old.
    second.stop().await;
    let state = soon(sub.wait_for(|state| state.dirty == Some(Dirty::Disconnected))).await.expect("told");
    assert_eq!(text(&state), "2");
    first.stop().await;
}

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/fixtures").join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_the_authority_that_was_named_and_no_other() {
    let mut secure = config(0);
    let (cert, key_file) = (fixture("tls-server.pem"), fixture("tls-server.key"));
    secure.tls = Some(kvgossip_agent::http::ServerTls::load(&cert, &key_file, None).expect("a certificate"));
    let agent = start(secure).await;
    put(&agent, entry("/k", b"1", now(), root(), None)).await;
    let port = agent.http_address().expect("TCP").port();
    let client = |ca: &str| {
        let ca = std::fs::read(fixture(ca)).expect("a certificate");
        at(&[])
            .endpoint(format!("https://127.0.0.1:{port}").parse().expect("an endpoint"))
            .authorities(kvgossip_client::Authorities::from_pem(&ca).expect("a certificate"))
            .build()
            .expect("a client")
    };
    let good = client("tls-ca.pem");
    let mut sub = good.subscribe(&key("/k"));
    assert_eq!(text(&soon(sub.ready()).await.expect("ready")), "1");
    put(&agent, entry("/k", b"2", now(), root(), None)).await;
    soon(sub.wait_for(|state| text(state) == "2")).await.expect("live");
    soon(good.set(&key("/k"), "3", root())).await.expect("written");
    soon(sub.wait_for(|state| text(state) == "3")).await.expect("live");

    let wary = client("tls-other.pem");
    let mut none = wary.subscribe(&key("/k"));
    soon(none.wait_for(|state| state.dirty == Some(Dirty::Disconnected))).await.expect("refused");
    let trouble = wary.watch_trouble().borrow().clone().expect("it says why");
    assert_eq!(trouble.code, "agent.tls", "{}", trouble.message);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_room_is_named_and_another_is_taken() {
    let mut small = config(0);
    small.http_limits.tcp_connections = 1;
    let (full, free) = (start(small).await, start(config(1)).await);
    for agent in [&full, &free] {
        put(agent, entry("/k", b"1", now(), root(), None)).await;
    }
    let first = client(&[&full]);
    soon(first.subscribe(&key("/k")).ready()).await.expect("ready");
    let alone = client(&[&full]);
    let waiting = alone.subscribe(&key("/k"));
    let mut trouble = alone.watch_trouble();
    // The refusal may come before the question has gone out, and then is no answer to it: the next try has one.
    let says_busy = |told: &Option<Trouble>| told.as_ref().is_some_and(|told| told.code == "http.busy");
    soon(trouble.wait_for(says_busy)).await.expect("told");
    let elsewhere = client(&[&full, &free]);
    soon(elsewhere.subscribe(&key("/k")).ready()).await.expect("at the other");
    // A place is free again: it is noticed.
    drop(first);
    soon(waiting.clone().ready()).await.expect("in time");
    for agent in [full, free] {
        agent.stop().await;
    }
}

/// An agent that was told of others and was never compared with one.
async fn newcomer() -> kvgossip_agent::Agent {
    let mut config = config(1);
    (config.ready_alone, config.expects_others) = (false, true);
    start(config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_never_compared_is_believed_no_absence() {
    let (full, fresh) = (start(config(0)).await, newcomer().await);
    put(&full, entry("/k", b"1", now(), root(), None)).await;
    // With another agent, that one is asked, whatever stands first.
    let both = client(&[&fresh, &full]);
    assert_eq!(soon(both.get(&key("/k"))).await.expect("an answer").expect("set").value, "1");
    let union = soon(both.asking(1).get(&key("/k"))).await.expect("an answer");
    assert_eq!(union.expect("set").value, "1");
    let explained = soon(both.explain(root().public().entity(), &key("/k"))).await.expect("an answer");
    assert!(explained.accepted);

    // Without one, nothing is known, and it is told why.
    let short = builder(&[&fresh]).timeout(Duration::from_millis(500)).build().expect("a client");
    let told = soon(short.get(&key("/k"))).await.expect_err("ignorance");
    assert!(matches!(told, OpError::FirstSync { .. }) && told.code() == "sync.first", "{told}");
    let alone = client(&[&fresh]);
    let (mut sub, mut missing) = (alone.subscribe(&key("/k")), alone.subscribe(&key("/missing")));
    let mut seen = sub.clone();
    let seen = tokio::spawn(async move {
        let mut absent = false;
        while let Ok(state) = seen.changed().await {
            absent |= state.value == Value::Absent;
        }
        absent
    });
    let waits =
        soon(sub.wait_for(|state| state.dirty == Some(Dirty::Unsynced))).await.expect("the client lives");
    assert_eq!(waits.value, Value::Unknown);
    let trouble = alone.watch_trouble().borrow().clone().expect("said");
    assert_eq!(trouble.code, "sync.first");

    // Compared, it is as good as any.
    let peer = format!("{}@{}", full.peers().id(), full.peers().address());
    let report = fresh.sync_with(&peer, kvgossip_grants::PathPrefix::root()).await.expect("a session");
    assert_eq!(report.outcome, SyncOutcome::Equal);
    let state = soon(sub.wait_for(|state| state.dirty.is_none())).await.expect("the client lives");
    assert_eq!(text(&state), "1");
    let state = soon(missing.wait_for(|state| state.dirty.is_none())).await.expect("the client lives");
    assert_eq!(state.value, Value::Absent, "now it is known");
    drop((sub, missing, alone));
    assert!(!seen.await.expect("it ends with the client"), "it never was absent");
    fresh.stop().await;
    full.stop().await;
}
