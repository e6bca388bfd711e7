//! Two replicas keep exactly one connection, whoever dials and whoever restarts.
#![allow(clippy::unwrap_used)]

mod common;

use common::relay::Relay;
use common::{allow, bind, bind_with, keys, soon, until};
use kvgossip_grants::ReplicaId;
use kvgossip_transport::limits::CLOSE_TIMEOUT;
use kvgossip_transport::{
    Code, Connection, ConnectionTable, Endpoint, Limits, Policy, ReplicaKey, Target, TransportError,
    Whereabouts, keep_connected,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A replica as an agent runs one: what dials in goes to the table, and sessions are accepted.
struct Replica {
    endpoint: Endpoint,
    table: ConnectionTable,
}

impl Replica {
    fn new(endpoint: Endpoint) -> Self {
        let table = ConnectionTable::new(Limits::default());
        let (accepting, accepted) = (endpoint.clone(), table.clone());
        tokio::spawn(async move {
            while let Some(connection) = accepting.accept().await {
                if accepted.insert(connection.clone()).is_ok() {
                    tokio::spawn(answer(connection));
                }
            }
        });
        Self { endpoint, table }
    }

    fn keep_connected(&self, address: std::net::SocketAddr, expected: Option<ReplicaId>, seed: u64) {
        let (up, mut ups) = mpsc::channel(1);
        let target = Target { address, expected };
        let rng = StdRng::seed_from_u64(seed);
        tokio::spawn(keep_connected(self.endpoint.clone(), self.table.clone(), target, rng, up));
        tokio::spawn(async move {
            while let Some(connection) = ups.recv().await {
                tokio::spawn(answer(connection));
            }
        });
    }

    fn connected(&self, peer: ReplicaId) -> Option<Connection> {
        self.table.get(&peer)
    }
}

/// Answers every session of a connection with what it says.
async fn answer(connection: Connection) {
    while let Ok(mut stream) = connection.accept_session().await {
        if let Ok(Some(frame)) = stream.recv().await {
            let _ = stream.send(frame).await;
            let _ = stream.finish().await;
        }
    }
}

async fn ask(connection: &Connection) -> Result<(), TransportError> {
    let mut stream = connection.open_session().await?;
    stream.send("hello".into()).await?;
    assert_eq!(stream.recv().await?.unwrap(), "hello");
    stream.finish().await.map(drop)
}

/// Waits until both hold one and the same connection, and it works.
async fn settled(a: &Replica, b: &Replica) -> Connection {
    let (a_id, b_id) = (a.endpoint.id(), b.endpoint.id());
    let find = async {
        loop {
            if let (Some(here), Some(there)) = (a.connected(b_id), b.connected(a_id))
                && here.dialled_by() == there.dialled_by()
                && ask(&here).await.is_ok()
            {
                return here;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(find).await
}

#[tokio::test]
async fn crossing_dials_leave_the_connection_of_the_smaller_id() {
    let [small, large, ..] = keys();
    for _ in 0..5 {
        let (a, b) = (bind(&small, allow([&large])), bind(&large, allow([&small])));
        let (at_a, at_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        // All four ends are established before either table decides: the crossing at its worst.
        let (ab, ba, in_a, in_b) = soon(async {
            tokio::join!(a.connect(at_b, None), b.connect(at_a, None), a.accept(), b.accept())
        })
        .await;
        let tables = [ConnectionTable::new(Limits::default()), ConnectionTable::new(Limits::default())];
        let kept = [tables[0].insert(ab.unwrap()), tables[0].insert(in_a.unwrap())];
        assert!(kept[0].is_ok(), "{kept:?}");
        assert!(matches!(kept[1], Err(TransportError::Duplicate { peer }) if peer == large.id()), "{kept:?}");
        // The other end may see them in the other order, and keeps the same.
        let _ = tables[1].insert(ba.unwrap());
        let _ = tables[1].insert(in_b.unwrap());
        for (table, peer) in [(&tables[0], large.id()), (&tables[1], small.id())] {
            until(|| table.list().len() == 1).await;
            let stays = table.get(&peer).unwrap();
            assert_eq!(stays.dialled_by(), small.id());
            assert!(!stays.is_closed());
        }
    }
}

#[tokio::test]
async fn replicas_that_keep_dialling_each_other_settle_on_one_connection() {
    let [small, large, ..] = keys();
    let a = Replica::new(bind(&small, allow([&large])));
    let b = Replica::new(bind(&large, allow([&small])));
    a.keep_connected(b.endpoint.local_addr().unwrap(), None, 1);
    b.keep_connected(a.endpoint.local_addr().unwrap(), Some(small.id()), 2);
    let first = settled(&a, &b).await;
    // Nobody dials again while it lasts: the same connection still stands after several back-offs.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(settled(&a, &b).await.is_same(&first));
    assert_eq!((a.table.list().len(), b.table.list().len()), (1, 1));
}

/// Several addresses, as a name or several members tell them.
struct Several(Vec<std::net::SocketAddr>);

impl Whereabouts for Several {
    async fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.0.clone()
    }
}

#[tokio::test]
async fn the_one_of_many_addresses_that_proves_the_key_is_found_and_comes_first_from_then_on() {
    let [small, large, other, _] = keys();
    let a = Replica::new(bind(&small, allow([&large])));
    let b = Replica::new(bind(&large, allow([&small])));
    let silent: Vec<_> = (0..8).map(|_| std::net::UdpSocket::bind(common::ANY_PORT).unwrap()).collect();
    let mut addresses: Vec<_> = silent.iter().map(|socket| socket.local_addr().unwrap()).collect();
    // Another replica answers at one of them, with its own key.
    let stranger = bind(&other, allow([&small]));
    addresses.push(stranger.local_addr().unwrap());
    addresses.push(b.endpoint.local_addr().unwrap());
    let (up, mut ups) = mpsc::channel(1);
    let target = Target { address: Several(addresses), expected: Some(large.id()) };
    let rng = StdRng::seed_from_u64(3);
    tokio::spawn(keep_connected(a.endpoint.clone(), a.table.clone(), target, rng, up));
    let first = soon(ups.recv()).await.unwrap();
    assert_eq!(first.peer(), large.id());
    let began = std::time::Instant::now();
    first.close(Code::Closed, "once more");
    let again = soon(ups.recv()).await.unwrap();
    assert_eq!(again.address(), b.endpoint.local_addr().unwrap());
    assert!(!again.is_same(&first));
    println!("dialled again after {:?}", began.elapsed());
}

#[tokio::test]
async fn two_addresses_of_one_replica_give_one_connection_that_stays() {
    let [small, large, ..] = keys();
    let a = Replica::new(bind(&small, allow([&large])));
    let b = Replica::new(bind(&large, allow([&small])));
    let address = b.endpoint.local_addr().unwrap();
    let first = soon(a.endpoint.connect(address, Some(large.id()))).await.unwrap();
    a.table.insert(first.clone()).unwrap();
    until(|| b.connected(small.id()).is_some()).await;
    let stays = b.connected(small.id()).unwrap();
    // The dial of another address was under way, and ends a moment later.
    let second = soon(a.endpoint.connect(address, Some(large.id()))).await.unwrap();
    let end = soon(second.closed()).await;
    assert_eq!(end.code(), Code::Duplicate, "{end}");
    assert!(b.connected(small.id()).unwrap().is_same(&stays) && !first.is_closed());
}

#[tokio::test]
async fn a_replica_that_restarts_is_dialled_again() {
    let [small, large, ..] = keys();
    for (dialling, restarting) in [(&small, &large), (&large, &small)] {
        let a = Replica::new(bind(dialling, allow([restarting])));
        let b = Replica::new(bind(restarting, allow([dialling])));
        let address = b.endpoint.local_addr().unwrap();
        a.keep_connected(address, Some(restarting.id()), 1);
        let first = settled(&a, &b).await;
        soon(b.endpoint.close(Code::Shutdown, "restarting")).await;
        drop(b);
        let end = soon(first.closed()).await;
        assert!(matches!(end, TransportError::ByPeer { code: Code::Shutdown, .. }), "{end}");
        drop(first);
        let again = Replica::new(rebind(address, restarting, || allow([dialling])).await);
        settled(&a, &again).await;
    }
}

/// The port is free once the tasks of the old endpoint have ended.
async fn rebind(address: std::net::SocketAddr, key: &ReplicaKey, policy: impl Fn() -> Policy) -> Endpoint {
    soon(async {
        loop {
            match Endpoint::bind(address, key.clone(), Arc::new(policy()), Limits::default()) {
                Ok(endpoint) => return endpoint,
                Err(TransportError::Bind { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

/// A crash says nothing. The peer learns of it from the first packet that the new process gets, because
/// stateless resets are signed with the replica's key; otherwise this would take the idle timeout.
#[tokio::test]
async fn a_replica_that_crashed_says_so_when_it_is_back() {
    let [small, large, ..] = keys();
    let before = Replica::new(bind(&large, allow([&small])));
    let relay = Relay::to(before.endpoint.local_addr().unwrap()).await;
    let a = Replica::new(bind(&small, allow([&large])));
    a.keep_connected(relay.address, Some(large.id()), 1);
    let first = settled(&a, &before).await;

    let after = Replica::new(bind(&large, allow([&small])));
    relay.redirect(after.endpoint.local_addr().unwrap());
    let asked = std::time::Instant::now();
    let error = soon(ask(&first)).await.unwrap_err();
    assert!(matches!(error, TransportError::Lost(_)), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(10), "the reset was not understood");
    drop(first);
    settled(&a, &after).await;
}

/// The peer of the larger id restarted and dials before we know that: we would keep our own, dead one.
#[tokio::test]
async fn a_replica_that_crashed_can_dial_in_again_at_once() {
    let [small, large, ..] = keys();
    let before = Replica::new(bind(&large, allow([&small])));
    let relay = Relay::to(before.endpoint.local_addr().unwrap()).await;
    let a = Replica::new(bind(&small, allow([&large])));
    let connection = soon(a.endpoint.connect(relay.address, None)).await.unwrap();
    a.table.insert(connection.clone()).unwrap();
    quiet(&connection).await;
    drop(connection);

    let after = Replica::new(bind(&large, allow([&small])));
    relay.redirect(after.endpoint.local_addr().unwrap());
    let began = std::time::Instant::now();
    after.keep_connected(a.endpoint.local_addr().unwrap(), None, 1);
    settled(&a, &after).await;
    assert!(began.elapsed() < Duration::from_secs(9), "it took {:?}", began.elapsed());
}

/// Waits until a connection has nothing more to say of itself, such as probes for larger packets.
async fn quiet(connection: &Connection) {
    soon(async {
        let mut before = (0, 0);
        while connection.udp_bytes() != before {
            before = connection.udp_bytes();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_dialler_stops_with_its_endpoint() {
    let [a, b, ..] = keys();
    let mut limits = Limits::default();
    limits.handshake_timeout = Duration::from_millis(200);
    let endpoint = bind_with(&a, allow([&b]), limits.clone());
    let nobody = std::net::UdpSocket::bind(common::ANY_PORT).unwrap();
    let target = Target { address: nobody.local_addr().unwrap(), expected: None };
    let (up, _ups) = mpsc::channel(1);
    let table = ConnectionTable::new(limits);
    let dialler = tokio::spawn(keep_connected(endpoint.clone(), table, target, StdRng::seed_from_u64(1), up));
    soon(endpoint.close(Code::Shutdown, "")).await;
    soon(dialler).await.unwrap();
}

#[tokio::test]
async fn the_table_forgets_connections_that_end_and_tells_of_changes() {
    let pair = common::pair().await;
    let table = ConnectionTable::new(Limits::default());
    let mut changes = table.changes();
    table.insert(pair.out.clone()).unwrap();
    soon(changes.changed()).await.unwrap();
    assert!(table.get(&pair.dialled.id()).unwrap().is_same(&pair.out));
    pair.inward.close(Code::Closed, "");
    soon(changes.changed()).await.unwrap();
    assert!(table.list().is_empty());
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connection() {
    let pair = common::pair().await;
    let other = pair.out.clone();
    drop(pair.out);
    assert!(ask_fails_slowly(&pair.inward).await, "a handle is left");
    drop(other);
    let end = soon(pair.inward.closed()).await;
    assert!(matches!(end, TransportError::ByPeer { code: Code::Closed, .. }), "{end}");
}

/// Nobody answers, but the connection is there.
async fn ask_fails_slowly(connection: &Connection) -> bool {
    tokio::time::timeout(Duration::from_millis(200), connection.closed()).await.is_err()
}

/// Peers that never answer do not hold an endpoint that closes.
#[tokio::test]
async fn closing_ends_whatever_peers_do() {
    let [own, other, ..] = keys();
    let endpoint = bind(&own, allow([&other]));
    let mute = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap();
    let dialling = endpoint.clone();
    let dial = tokio::spawn(async move { dialling.connect(address, None).await });
    // Once its first packet is there, the handshake is under way.
    let mut packet = [0; 2048];
    tokio::time::timeout(Duration::from_secs(20), mute.recv(&mut packet)).await.unwrap().unwrap();
    let began = tokio::time::Instant::now();
    endpoint.close(Code::Shutdown, "").await;
    // Without a bound, three times the longest that an answer might take by what is known of the way: 3 s.
    let took = began.elapsed();
    assert!(took < CLOSE_TIMEOUT * 2, "{took:?}");
    assert!(dial.await.unwrap().is_err());
}
