//! Replicas on loopback for the tests of this crate.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // every test file uses a part of it

pub mod host;
pub mod raw;
pub mod relay;

use kvgossip_grants::ReplicaId;
use kvgossip_testkit::wait::eventually;
use kvgossip_transport::{Connection, Endpoint, Limits, Policy, ReplicaKey};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

pub use kvgossip_testkit::wait::soon;

pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The bytes of a file of `tests/fixtures`.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(path).unwrap()
}

/// The keys `a` to `d`, in the order of their replica ids.
pub fn keys() -> [ReplicaKey; 4] {
    let mut keys = ["a", "b", "c", "d"]
        .map(|name| ReplicaKey::from_pem(&fixture(&format!("replica-{name}.pem"))).unwrap());
    keys.sort_by_key(ReplicaKey::id);
    keys
}

/// A policy that admits these replicas.
pub fn allow<'a>(keys: impl IntoIterator<Item = &'a ReplicaKey>) -> Policy {
    Policy::new(keys.into_iter().map(ReplicaKey::id).collect())
}

pub fn bind_with(key: &ReplicaKey, policy: Policy, limits: Limits) -> Endpoint {
    Endpoint::bind(ANY_PORT, key.clone(), Arc::new(policy), limits).unwrap()
}

pub fn bind(key: &ReplicaKey, policy: Policy) -> Endpoint {
    bind_with(key, policy, Limits::default())
}

/// Waits until a condition holds that nothing signals.
pub async fn until(mut condition: impl FnMut() -> bool) {
    eventually("a condition", async || condition()).await;
}

/// Two endpoints that admit each other, and a connection that the first one dialled, from both ends.
pub struct Pair {
    pub dialler: Endpoint,
    pub dialled: Endpoint,
    /// The dialler's end.
    pub out: Connection,
    /// The dialled replica's end.
    pub inward: Connection,
}

pub async fn pair_with(limits: Limits) -> Pair {
    let [a, b, ..] = keys();
    let dialler = bind_with(&a, allow([&b]), limits.clone());
    let dialled = bind_with(&b, allow([&a]), limits);
    let (out, inward) = connect(&dialler, &dialled, Some(b.id())).await;
    Pair { dialler, dialled, out, inward }
}

pub async fn pair() -> Pair {
    pair_with(Limits::default()).await
}

pub async fn connect(
    from: &Endpoint,
    to: &Endpoint,
    expected: Option<ReplicaId>,
) -> (Connection, Connection) {
    let address = to.local_addr().unwrap();
    let (out, inward) = soon(async { tokio::join!(from.connect(address, expected), to.accept()) }).await;
    (out.unwrap(), inward.unwrap())
}

/// That the endpoint still takes a fresh peer and moves a message.
pub async fn assert_serves(endpoint: &Endpoint, peer: &ReplicaKey) {
    let client = bind(peer, Policy::new([endpoint.id()].into_iter().collect()));
    let (out, inward) = connect(&client, endpoint, Some(endpoint.id())).await;
    let echo = tokio::spawn(async move {
        let mut stream = inward.accept_session().await.unwrap();
        let frame = stream.recv().await.unwrap().unwrap();
        stream.send(frame).await.unwrap();
        stream.finish().await.unwrap();
    });
    let mut stream = out.open_session().await.unwrap();
    soon(stream.send("are you there?".into())).await.unwrap();
    assert_eq!(soon(stream.recv()).await.unwrap().unwrap(), "are you there?");
    soon(stream.finish()).await.unwrap();
    soon(echo).await.unwrap();
}
