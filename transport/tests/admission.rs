//! Who gets in, what they may do, and what both sides are told.
#![allow(clippy::unwrap_used)]

mod common;

use common::{allow, assert_serves, bind, bind_with, connect, keys, pair, soon, until};
use kvgossip_testkit::wait::PATIENCE;
use kvgossip_transport::{
    Access, AllowList, Code, ConnectionTable, Direction, Limits, Policy, TransportError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test]
async fn listed_replicas_connect_and_know_each_other() {
    let [a, b, ..] = keys();
    let pair = pair().await;
    assert_eq!((pair.out.peer(), pair.inward.peer()), (b.id(), a.id()));
    assert_eq!((pair.out.dialled_by(), pair.inward.dialled_by()), (a.id(), a.id()));
    assert_eq!(pair.out.direction(), Direction::Outbound { expected: Some(b.id()) });
    assert_eq!(pair.inward.direction(), Direction::Inbound);
    assert_eq!(pair.inward.address(), pair.dialler.local_addr().unwrap());
    for end in [&pair.out, &pair.inward] {
        assert_eq!((end.access(), end.granted()), (Access::Full, Access::Full));
        assert!(end.rtt() > Duration::ZERO && end.rtt() < PATIENCE);
    }
}

#[tokio::test]
async fn keys_of_every_size_connect() {
    let [a, ..] = keys();
    for name in ["replica-3072.pem", "replica-4096.pem"] {
        let large = kvgossip_transport::ReplicaKey::from_pem(&common::fixture(name)).unwrap();
        let (dialler, dialled) = (bind(&large, allow([&a])), bind(&a, allow([&large])));
        let (_, inward) = connect(&dialler, &dialled, None).await;
        assert_eq!(inward.peer(), large.id());
    }
}

#[tokio::test]
async fn a_stranger_is_refused_and_told_so() {
    let [a, b, c, _] = keys();
    let dialled = bind(&b, allow([&a]));
    let stranger = bind(&c, allow([&b]));
    let error = stranger.connect(dialled.local_addr().unwrap(), None).await.unwrap_err();
    assert!(matches!(error, TransportError::ByPeer { code: Code::NotAdmitted, .. }), "{error}");
    until(|| dialled.stats().failed == 1).await;
    assert_eq!(dialled.stats().accepted, 0);
    assert_serves(&dialled, &a).await;
}

/// The dialler refuses before it has shown its own key.
#[tokio::test]
async fn a_dialler_refuses_whom_it_does_not_admit() {
    let [a, b, c, _] = keys();
    let dialled = bind(&b, allow([&a]));
    let dialler = bind(&a, allow([&c]));
    let error = dialler.connect(dialled.local_addr().unwrap(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::NotAdmitted);
    assert!(matches!(error, TransportError::Refused { peer: Some(peer), .. } if peer == b.id()), "{error}");
}

#[tokio::test]
async fn another_replica_than_the_expected_one_is_refused() {
    let [a, b, c, _] = keys();
    let dialled = bind(&b, allow([&a]));
    let dialler = bind(&a, allow([&b, &c]));
    let error = dialler.connect(dialled.local_addr().unwrap(), Some(c.id())).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongId);
    let text = error.to_string();
    assert!(text.contains(&b.id().to_string()) && text.contains(&c.id().to_string()), "{text}");
}

#[tokio::test]
async fn an_expected_id_needs_no_list() {
    let [a, b, ..] = keys();
    let (dialler, dialled) = (bind(&a, allow([])), bind(&b, allow([&a])));
    let (out, _) = connect(&dialler, &dialled, Some(b.id())).await;
    assert_eq!(out.access(), Access::Full);
}

#[tokio::test]
async fn with_open_read_a_stranger_may_pull() {
    let [a, b, c, _] = keys();
    let dialled = bind(&b, allow([&a]).open_read(true));
    let stranger = bind(&c, allow([]));
    let (out, inward) = connect(&stranger, &dialled, Some(b.id())).await;
    assert_eq!((inward.access(), out.granted()), (Access::PullOnly, Access::PullOnly));
    assert_eq!(out.access(), Access::Full);
    let member = bind(&a, allow([&b]));
    let (out, inward) = connect(&member, &dialled, None).await;
    assert_eq!((inward.access(), out.granted()), (Access::Full, Access::Full));
}

#[tokio::test]
async fn another_layer_may_vouch() {
    let [a, b, ..] = keys();
    let alive = Arc::new(AtomicBool::new(false));
    let (seen, id) = (Arc::clone(&alive), a.id());
    let policy =
        Policy::new(AllowList::default()).vouched_by(move |peer| *peer == id && seen.load(Ordering::SeqCst));
    let (dialler, dialled) = (bind(&a, allow([&b])), bind(&b, policy));
    let address = dialled.local_addr().unwrap();
    assert_eq!(dialler.connect(address, None).await.unwrap_err().code(), Code::NotAdmitted);
    alive.store(true, Ordering::SeqCst);
    connect(&dialler, &dialled, None).await;
}

#[tokio::test]
async fn a_replica_does_not_talk_to_itself() {
    let [a, ..] = keys();
    let endpoint = bind(&a, allow([&a]));
    let error = endpoint.connect(endpoint.local_addr().unwrap(), Some(a.id())).await.unwrap_err();
    assert_eq!(error.code(), Code::OwnKey);
    // Another endpoint with the same key is not taken for itself.
    let copy = bind(&a, allow([&a]));
    let error = endpoint.connect(copy.local_addr().unwrap(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::Cloned);
}

#[tokio::test]
async fn a_changed_list_closes_connections_and_admits_others() {
    let [a, b, c, _] = keys();
    let policy = Arc::new(allow([&a]));
    let dialled = kvgossip_transport::Endpoint::bind(
        common::ANY_PORT,
        b.clone(),
        Arc::clone(&policy) as _,
        Limits::default(),
    )
    .unwrap();
    let (dialler, other) = (bind(&a, allow([&b])), bind(&c, allow([&b])));
    let (out, inward) = connect(&dialler, &dialled, None).await;
    let table = ConnectionTable::new(Limits::default());
    table.insert(inward).unwrap();
    table.enforce(&*policy);
    assert!(!out.is_closed() && table.list().len() == 1);

    policy.set_allowed([c.id()].into_iter().collect());
    table.enforce(&*policy);
    let end = soon(out.closed()).await;
    assert!(matches!(end, TransportError::ByPeer { code: Code::NotAdmitted, .. }), "{end}");
    assert!(table.list().is_empty());
    connect(&other, &dialled, None).await;
}

#[tokio::test]
async fn strangers_cannot_fill_the_table() {
    let [a, b, c, d] = keys();
    let mut limits = Limits::default();
    limits.max_pull_only_connections = 1;
    let dialled = bind_with(&b, allow([&a]).open_read(true), limits.clone());
    let table = ConnectionTable::new(limits);
    let mut ends = Vec::new();
    for (key, fits) in [(&c, true), (&d, false), (&a, true)] {
        let endpoint = bind(key, allow([&b]));
        let (out, inward) = connect(&endpoint, &dialled, None).await;
        assert_eq!(table.insert(inward).is_ok(), fits);
        ends.push((endpoint, out));
    }
    let end = soon(ends[1].1.closed()).await;
    assert!(matches!(end, TransportError::ByPeer { code: Code::Full, .. }), "{end}");
    assert_eq!(table.list().len(), 2);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let [a, b, ..] = keys();
    let first = bind(&a, allow([]));
    let address = first.local_addr().unwrap();
    let error =
        kvgossip_transport::Endpoint::bind(address, b, Arc::new(allow([])), Limits::default()).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn closing_the_endpoint_tells_peers_and_ends_accept() {
    let pair = pair().await;
    soon(pair.dialled.close(Code::Shutdown, "bye")).await;
    let end = soon(pair.out.closed()).await;
    assert!(
        matches!(&end, TransportError::ByPeer { code: Code::Shutdown, reason } if reason == "bye"),
        "{end}"
    );
    assert!(soon(pair.dialled.accept()).await.is_none());
    assert!(matches!(soon(pair.inward.accept_session()).await, Err(TransportError::ClosedHere)));
}
