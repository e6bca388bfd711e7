//! Agents on the loopback, with keys made once.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod raw;
pub mod stream;

use bytes::Bytes;
use kvgossip_agent::{Agent, Config, PeerTarget};
use kvgossip_engine::MemoryStorage;
use kvgossip_grants::{
    AuthorityBody, ClusterId, EntryDraft, EntryFact, Fact, Grant, GrantId, Key, KeyGlob, PublicKey,
    ReplicaId, Signed, Signer, SigningKey, Timestamp, Verdict,
};
use kvgossip_transport::ReplicaKey;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

pub struct Made {
    pub key: SigningKey,
    pub pem: String,
}

fn make() -> Made {
    let (key, pem) = SigningKey::generate(2048, &mut |bytes| getrandom::fill(bytes).expect("random bytes"))
        .expect("a key is made");
    Made { key, pem }
}

/// Root, two entities, and six replica keys.
pub static KEYS: LazyLock<Vec<Made>> = LazyLock::new(|| {
    let makers: Vec<_> = (0..9).map(|_| std::thread::spawn(make)).collect();
    makers.into_iter().map(|maker| maker.join().expect("a key is made")).collect()
});

pub fn root() -> &'static SigningKey {
    &KEYS[0].key
}

pub fn identity(number: usize) -> SigningKey {
    SigningKey::from_pem(&KEYS[number].pem).expect("a good key")
}

pub fn replica_key(number: usize) -> ReplicaKey {
    ReplicaKey::from_pem(KEYS[3 + number].pem.as_bytes()).expect("a good key")
}

pub fn replica_id(number: usize) -> ReplicaId {
    replica_key(number).id()
}

pub fn cluster() -> ClusterId {
    root().public().cluster()
}

pub fn config(number: usize) -> Config {
    let mut config = Config::new(root().public().clone(), replica_key(number));
    config.allowed = (0..6).map(replica_id).collect();
    // Tests of anything else ask an agent before it has met the others.
    config.ready_alone = true;
    config
}

pub async fn start(config: Config) -> Agent {
    Agent::start(config, Box::new(MemoryStorage::new())).await.expect("the agent starts")
}

pub fn peer(agent: &Agent) -> PeerTarget {
    PeerTarget { address: agent.peers().address().into(), id: Some(agent.peers().id()) }
}

pub fn sign<B: AuthorityBody>(body: B, signer: &SigningKey) -> Signed<B> {
    Signed::sign(cluster(), body, signer).expect("a signature")
}

pub fn grant(to: &PublicKey, pattern: &str, issuer: &SigningKey, parent: Option<GrantId>) -> Signed<Grant> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).expect("random bytes");
    let grant = Grant {
        issuer: issuer.public().entity(),
        grantee: to.clone(),
        pattern: KeyGlob::parse(pattern).expect("a glob"),
        subgrant: true,
        parent,
        issued_at: kvgossip_agent::now(),
        expires_at: None,
        nonce,
    };
    sign(grant, issuer)
}

pub fn entry(key: &str, value: &[u8], time: Timestamp, signer: &SigningKey, grant: Option<GrantId>) -> Fact {
    let draft = EntryDraft {
        key: Key::parse(key).expect("a key"),
        value: Some(Bytes::copy_from_slice(value)),
        timestamp: time,
        grant,
    };
    Fact::Entry(EntryFact::sign(cluster(), draft, signer).expect("a signature"))
}

pub async fn put(agent: &Agent, fact: Fact) -> Verdict {
    agent.put_facts(&[Ok(fact)]).await.expect("the store works")[0]
}

/// Waits for a condition that should hold within a second, for ten times that and more.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn value(agent: &Agent, key: &str) -> Option<Bytes> {
    let fact = agent.read(&Key::parse(key).expect("a key")).await.expect("the store works");
    fact.and_then(|fact| fact.value().cloned())
}

pub fn same_root(agents: &[&Agent]) -> bool {
    let roots: Vec<_> = agents.iter().map(|agent| agent.store().view().root()).collect();
    roots.windows(2).all(|pair| pair[0] == pair[1])
}
