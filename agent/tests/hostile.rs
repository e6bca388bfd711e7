//! Peers that trickle, replay, lie and come back: what they cost, and that honest ones go on.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use bytes::Bytes;
use kvgossip_agent::Agent;
use kvgossip_engine::session::{Config as SessionConfig, Role, Session};
use kvgossip_engine::{MemoryStorage, Replica, Storage};
use kvgossip_grants::{Fact, GrantId, PathPrefix, ReplicaId, RsaVerifier, Signer};
use kvgossip_testkit::agents::{
    KEYS, cluster, config, entry, identity, peer, put, replica_id, root, same_root, start, value,
};
use kvgossip_testkit::wait::eventually;
use kvgossip_transport::{
    AllowList, Code, Connection, Endpoint, Limits, Policy, ReplicaKey, SessionStream, TransportError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Kind bytes of session frames.
const PARTS: u8 = 2;
const FACTS: u8 = 6;

/// A replica's key that no agent of these tests has; 8 of them.
fn hostile_key(number: usize) -> ReplicaKey {
    // Those of entities are as good as any.
    let pem = match number {
        0..4 => &KEYS[5 + number].pem,
        4 => &KEYS[1].pem,
        5 => &KEYS[2].pem,
        _ => &EXTRA[number - 6],
    };
    ReplicaKey::from_pem(pem.as_bytes()).unwrap()
}

static EXTRA: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
    let make = || {
        let random = &mut |bytes: &mut [u8]| getrandom::fill(bytes).expect("random bytes");
        kvgossip_grants::SigningKey::generate(2048, random).unwrap().1
    };
    let makers: Vec<_> = (0..2).map(|_| std::thread::spawn(make)).collect();
    makers.into_iter().map(|maker| maker.join().unwrap()).collect()
});

fn everybody() -> AllowList {
    (0..6).map(replica_id).chain((0..8).map(|number| hostile_key(number).id())).collect()
}

/// An endpoint that speaks QUIC as it should, and whatever a test wants on its streams.
fn hostile(number: usize) -> Endpoint {
    let policy = Arc::new(Policy::new(everybody()));
    Endpoint::bind(([127, 0, 0, 1], 0).into(), hostile_key(number), policy, Limits::default()).unwrap()
}

async fn dial(from: &Endpoint, victim: &Agent) -> Result<Connection, TransportError> {
    from.connect(victim.peers().address(), Some(victim.peers().id())).await
}

/// The hello of a replica that holds something else than any other.
fn hello() -> Bytes {
    let (mut replica, storage) = (Replica::new(root().public().clone()), MemoryStorage::new());
    let fact = entry("/of/the/liar", b"lie", kvgossip_agent::now(), root(), None);
    let verified = replica.view().check(fact, kvgossip_agent::now()).unwrap().verify(&RsaVerifier).unwrap();
    replica.apply(vec![verified], storage.reader().as_ref()).unwrap();
    let config = SessionConfig {
        role: Role::Initiator,
        scope: PathPrefix::root(),
        nonce: [7; 8],
        takes_facts: true,
        newcomer: None,
    };
    let mut session = Session::new(config, replica.view());
    session.poll_frame(replica.view(), storage.reader().as_ref()).unwrap().unwrap()
}

/// A session of ours, of which the hello is sent.
async fn open(connection: &Connection) -> Result<SessionStream, TransportError> {
    let mut stream = connection.open_session().await?;
    stream.send(hello()).await?;
    Ok(stream)
}

/// Whether a session that is begun now is answered.
async fn is_answered(from: &Endpoint, victim: &Agent) -> bool {
    let Ok(connection) = dial(from, victim).await else { return false };
    let Ok(mut stream) = open(&connection).await else { return false };
    matches!(tokio::time::timeout(Duration::from_secs(5), stream.recv()).await, Ok(Ok(Some(_))))
}

fn facts_frame(facts: &[Fact]) -> Bytes {
    let mut frame = vec![FACTS];
    facts.iter().for_each(|fact| frame.extend_from_slice(&fact.to_record()));
    frame.into()
}

/// The fact with another signature.
fn spoilt(fact: &Fact) -> Fact {
    let mut record = fact.to_record().to_vec();
    record[100] ^= 1;
    Fact::from_record(cluster(), &record).unwrap()
}

fn many(prefix: &str, count: usize, grant: Option<GrantId>) -> Vec<Fact> {
    let now = kvgossip_agent::now();
    (0..count).map(|number| entry(&format!("/{prefix}/{number}"), b"value", now, root(), grant)).collect()
}

/// Sends what no honest peer sends; gives the code that the connection is closed with.
async fn misbehave(connection: &Connection) -> Code {
    if let Ok(mut stream) = open(connection).await {
        let lies: Vec<Fact> = many("lies", 8, None).iter().map(spoilt).collect();
        // The connection may be gone before all is sent.
        let _ = stream.send(facts_frame(&lies)).await;
        let _ = tokio::time::timeout(Duration::from_secs(20), connection.closed()).await;
    }
    connection.closed().await.code()
}

/// Keeps a session going with a small frame now and then, and begins another when it ends.
fn trickle(number: usize, victim: &Agent, sent: &Arc<AtomicUsize>) -> JoinHandle<()> {
    let (victim, sent) = (victim.clone(), sent.clone());
    tokio::spawn(async move {
        let endpoint = hostile(number);
        loop {
            if let Ok(connection) = dial(&endpoint, &victim).await
                && let Ok(mut stream) = open(&connection).await
                && let Ok(Some(_)) = stream.recv().await
            {
                while stream.send(Bytes::from_static(&[PARTS, 0, 0, 0])).await.is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(100)).await;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trickling_peers_do_not_lock_an_honest_one_out() {
    let mut config = config(0);
    config.allowed = everybody();
    config.limits.max_sessions = 2;
    let victim = start(config).await;
    let sent = Arc::<AtomicUsize>::default();
    let tricklers: Vec<_> = (0..3).map(|number| trickle(number, &victim, &sent)).collect();
    eventually("they trickle", async || sent.load(Ordering::Relaxed) >= 8).await;
    let honest = hostile(3);
    for _ in 0..3 {
        eventually("an honest session is answered", async || is_answered(&honest, &victim).await).await;
    }
    let before = sent.load(Ordering::Relaxed);
    eventually("they still trickle", async || sent.load(Ordering::Relaxed) > before).await;
    tricklers.iter().for_each(JoinHandle::abort);
    victim.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_misbehaves_is_shut_out_for_longer_each_time_and_let_in_again() {
    let mut config = config(0);
    config.allowed = everybody();
    config.limits.first_shut_out = Duration::from_secs(4);
    let victim = start(config).await;
    let liar = hostile(0);
    let id: ReplicaId = liar.id();
    assert_eq!(misbehave(&dial(&liar, &victim).await.unwrap()).await, Code::Misbehaved);

    let refused = dial(&liar, &victim).await.unwrap_err();
    assert_eq!(refused.code(), Code::ShutOut, "{refused}");
    let target = format!("{id}@{}", liar.local_addr().unwrap());
    let dialled = victim.sync_with(&target, PathPrefix::root()).await.unwrap_err();
    assert_eq!(dialled.code, "peer.shut_out", "neither is it dialled: {}", dialled.message);
    let rows = victim.status().shut_out;
    assert_eq!((rows.len(), rows[0].replica.as_str()), (1, id.to_string().as_str()));
    assert_eq!((rows[0].code.as_str(), rows[0].offences), ("peer.misbehaved", 1));
    let metrics = victim.metrics_text().unwrap();
    assert!(metrics.contains("kvgossip_peer_offences_total{code=\"peer.misbehaved\"} 1"), "{metrics}");
    assert!(metrics.contains("kvgossip_peers_shut_out 1"), "{metrics}");

    let mut again = None;
    eventually("it is let in again", async || {
        again = dial(&liar, &victim).await.ok();
        again.is_some()
    })
    .await;
    assert_eq!(misbehave(&again.unwrap()).await, Code::Misbehaved);
    let rows = victim.status().shut_out;
    assert_eq!(rows[0].offences, 2);
    assert!(rows[0].left_us > 4_000_000, "for longer than the first time: {}", rows[0].left_us);
    victim.stop().await;
}

/// Sends the same facts again and again.
fn flood(number: usize, victim: &Agent, facts: Vec<Fact>) -> JoinHandle<()> {
    let (victim, frame) = (victim.clone(), facts_frame(&facts));
    tokio::spawn(async move {
        let endpoint = hostile(number);
        loop {
            if let Ok(connection) = dial(&endpoint, &victim).await
                && let Ok(mut stream) = open(&connection).await
            {
                while stream.send(frame.clone()).await.is_ok() {}
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
}

/// Misbehaves, and comes back at once.
fn come_back(number: usize, victim: &Agent) -> JoinHandle<()> {
    let victim = victim.clone();
    tokio::spawn(async move {
        let endpoint = hostile(number);
        loop {
            if let Ok(connection) = dial(&endpoint, &victim).await {
                misbehave(&connection).await;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Eight sources at once: two trickle, two replay what is known, two send what stands on no grant, two lie and come
/// back. The attackers run in the same process, so the bound on its memory is on theirs, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_pair_goes_on_under_eight_attackers_and_memory_stays_bounded() {
    let mut victim_config = config(0);
    victim_config.allowed = everybody();
    let victim = start(victim_config).await;
    let mut honest_config = config(1);
    honest_config.peers = vec![peer(&victim)];
    let honest = start(honest_config).await;
    let known = many("known", 20, None);
    for fact in &known {
        assert!(put(&victim, fact.clone()).await.is_taken_in());
    }
    eventually("the pair is equal", async || same_root(&[&victim, &honest])).await;
    let before = resident();

    let sent = Arc::<AtomicUsize>::default();
    let mut attackers: Vec<_> = (0..2).map(|number| trickle(number, &victim, &sent)).collect();
    attackers.extend((2..4).map(|number| flood(number, &victim, known.clone())));
    let unjustified = many_of_no_grant(20);
    attackers.extend((4..6).map(|number| flood(number, &victim, unjustified.clone())));
    attackers.extend((6..8).map(|number| come_back(number, &victim)));
    eventually("the attack is under way", async || {
        sent.load(Ordering::Relaxed) >= 4 && victim.status().shut_out.len() == 2
    })
    .await;

    let (mut most, began) = (0, Instant::now());
    let mut round = 0;
    while began.elapsed() < Duration::from_secs(4) {
        round += 1;
        let key = format!("/honest/{round}");
        let fact = entry(&key, b"value", kvgossip_agent::now(), root(), None);
        let [from, to] = if round % 2 == 0 { [&victim, &honest] } else { [&honest, &victim] };
        assert!(put(from, fact).await.is_taken_in());
        eventually("a write reaches the other one", async || value(to, &key).await.is_some()).await;
        most = most.max(resident());
        sleep(Duration::from_millis(50)).await;
    }
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown <= 256, "memory grew by {grown} MiB");
    let offences: u64 = victim.status().shut_out.iter().map(|row| row.offences).sum();
    assert!(offences <= 4, "each is let in again after its time: {offences}");
    let refusals = victim.intake().refusals().list();
    assert!(refusals.len() <= 8 * 128, "{}", refusals.len());

    attackers.iter().for_each(JoinHandle::abort);
    let fact = entry("/after", b"value", kvgossip_agent::now(), root(), None);
    assert!(put(&honest, fact).await.is_taken_in());
    eventually("all is as before", async || same_root(&[&victim, &honest])).await;
    assert_eq!(value(&victim, "/after").await.unwrap(), "value");
    honest.stop().await;
    victim.stop().await;
}

fn many_of_no_grant(count: usize) -> Vec<Fact> {
    let (writer, now) = (identity(1), kvgossip_agent::now());
    let none = Some(GrantId([9; 32]));
    (0..count).map(|number| entry(&format!("/none/{number}"), b"value", now, &writer, none)).collect()
}
