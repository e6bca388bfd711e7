//! Networks that are cut.

#[path = "../../agent/tests/common/mod.rs"]
mod common;
mod live_support;

use common::*;
use kvgossip_agent::now;
use kvgossip_client::Dirty;
use live_support::*;
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
