//! Sessions that come to nothing: the scheduler hears of the end, and this side begins again.

use super::Peers;
use super::places::Occupant;
use crate::committer::{self, Patience};
use crate::config::Config;
use crate::intake::Intake;
use crate::metrics::Metrics;
use bytes::Bytes;
use kvgossip_engine::scheduler::First;
use kvgossip_engine::{MemoryStorage, Replica};
use kvgossip_grants::{ReplicaId, Signer, SigningKey};
use kvgossip_transport::{Access, Code, Connection, Endpoint, Limits, Policy, ReplicaKey};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Retries come within a second here; ten times that and more.
const PATIENCE: Duration = Duration::from_secs(30);

fn key() -> (SigningKey, String) {
    SigningKey::generate(2048, &mut |bytes| getrandom::fill(bytes).expect("random bytes")).expect("a key")
}

/// Peers of an agent without anything else of one, another endpoint, and an unserved connection between the two.
struct Pair {
    peers: Peers,
    _there: Endpoint,
    ours: Connection,
    theirs: Connection,
}

async fn pair() -> Pair {
    let keys = [key(), key()].map(|(_, pem)| ReplicaKey::from_pem(pem.as_bytes()).expect("a replica key"));
    let allowed: Vec<ReplicaId> = keys.iter().map(ReplicaKey::id).collect();
    let [here, there] = keys;
    let root = key().0;
    let mut config = Config::new(root.public().clone(), here);
    config.allowed = allowed.iter().copied().collect();
    let (replica, metrics) = (Replica::new(root.public().clone()), Metrics::new());
    let storage = Box::new(MemoryStorage::new());
    let (store, _) =
        committer::start(replica, storage, Patience::default(), metrics.commit(), None).expect("a committer");
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let peers = Peers::start(config.peers(), Intake::new(store, metrics), Arc::default(), &stop, &tasks)
        .expect("peers");
    let policy = Arc::new(Policy::new(allowed.into_iter().collect()));
    let there = Endpoint::bind(config.sync, there, policy, Limits::default()).expect("an endpoint");
    let address = there.local_addr().expect("an address");
    let (ours, theirs) =
        tokio::join!(peers.inner.endpoint.connect(address, Some(there.id())), there.accept());
    Pair { peers, ours: ours.expect("a connection"), theirs: theirs.expect("a connection"), _there: there }
}

/// A session that never waits for its peer, and so gives way to none.
struct Quick;

impl Occupant for Quick {
    fn unpaid(&self) -> Duration {
        Duration::ZERO
    }

    fn give_way(&self) {}
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect(what);
}

#[tokio::test]
async fn a_session_that_finds_the_peers_stream_before_it_and_no_place_for_that_begins_again() {
    let Pair { peers, ours, theirs, .. } = &pair().await;
    // The peer's stream is here, and nobody has taken it yet: it holds the one slot of the two.
    let mut stream = theirs.open_session().await.expect("a stream");
    stream.send(Bytes::from_static(b"x")).await.expect("a frame");
    until("their stream holds the slot", || ours.is_busy()).await;
    // Ours is due, and meets `busy`.
    peers.inner.table.insert(ours.clone()).expect("room");
    let now = || peers.inner.clock.now_us();
    peers.inner.scheduler.lock().peer_up(ours.peer(), ours.number(), First::Session, now());
    peers.inner.wake.notify_one();
    until("our session was due", || peers.inner.scheduler.lock().poll_timeout(now()) > now()).await;
    // Theirs finds no place.
    let others = (0..=u8::MAX).map(|number| ReplicaId([number; 32]));
    let take = |other| peers.inner.places.take(other, Access::Full, Quick);
    let places: Vec<_> = others.map_while(take).collect();
    let server = (peers.clone(), ours.clone());
    let serving = tokio::spawn(async move { server.0.serve_sessions(&server.1).await });
    let refused = timeout(PATIENCE, stream.recv()).await.expect("an answer");
    assert_eq!(refused.expect_err("no room").code(), Code::Busy);
    drop((stream, places));
    let again = timeout(PATIENCE, theirs.accept_session()).await;
    again.expect("this side begins again").expect("a stream");
    serving.abort();
}

#[tokio::test]
async fn a_session_that_is_dropped_has_ended() {
    let Pair { peers, ours, .. } = &pair().await;
    let now = peers.inner.clock.now_us();
    // Not in the table: nothing that is due finds a connection.
    peers.inner.scheduler.lock().peer_up(ours.peer(), ours.number(), First::Session, now);
    let (due, under_way) = peers.next_due().expect("a session is due");
    assert_eq!(due.connection, ours.number());
    let second = peers.under_way(ours);
    let is_due = || peers.inner.scheduler.lock().poll(u64::MAX / 2).is_some();
    assert!(!is_due(), "two are under way");
    drop(under_way);
    assert!(!is_due(), "one is under way");
    drop(second);
    assert!(is_due(), "none is");
}
