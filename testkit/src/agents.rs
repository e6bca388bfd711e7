//! Agents on the loopback interface with stores in memory, their keys, and facts signed by them.

use bytes::Bytes;
use kvgossip_agent::{Agent, Config, PeerTarget};
use kvgossip_engine::MemoryStorage;
use kvgossip_grants::{
    AuthorityBody, ClusterId, EntryDraft, EntryFact, Fact, Grant, GrantId, Key, KeyGlob, PublicKey,
    ReplicaId, Signed, Signer, SigningKey, Timestamp, Verdict,
};
use kvgossip_transport::ReplicaKey;
use std::sync::LazyLock;

/// An RSA key generated for this run.
pub struct Made {
    /// The private key.
    pub key: SigningKey,
    /// The private key in PEM.
    pub pem: String,
}

fn make() -> Made {
    let (key, pem) = SigningKey::generate(2048, &mut |bytes| getrandom::fill(bytes).expect("random bytes"))
        .expect("a key is made");
    Made { key, pem }
}

/// Keys of root, two entities and six replicas, generated at first use.
pub static KEYS: LazyLock<Vec<Made>> = LazyLock::new(|| {
    let makers: Vec<_> = (0..9).map(|_| std::thread::spawn(make)).collect();
    makers.into_iter().map(|maker| maker.join().expect("a key is made")).collect()
});

/// Returns the key of the cluster's root.
pub fn root() -> &'static SigningKey {
    &KEYS[0].key
}

/// Returns the key of an entity: 0 is root, 1 and 2 are others.
pub fn identity(number: usize) -> SigningKey {
    SigningKey::from_pem(&KEYS[number].pem).expect("a good key")
}

/// Returns the key of replica `number`, 0 to 5.
pub fn replica_key(number: usize) -> ReplicaKey {
    ReplicaKey::from_pem(KEYS[3 + number].pem.as_bytes()).expect("a good key")
}

/// Returns the id of replica `number`.
pub fn replica_id(number: usize) -> ReplicaId {
    replica_key(number).id()
}

/// Returns the cluster of [`root`].
pub fn cluster() -> ClusterId {
    root().public().cluster()
}

/// Returns the settings of replica `number`, which admits all six.
pub fn config(number: usize) -> Config {
    let mut config = Config::new(root().public().clone(), replica_key(number));
    config.allowed = (0..6).map(replica_id).collect();
    // Tests of other features use an agent before its first comparison.
    config.ready_alone = true;
    config
}

/// Starts an agent with an empty store.
pub async fn start(config: Config) -> Agent {
    Agent::start(config, Box::new(MemoryStorage::new())).await.expect("the agent starts")
}

/// Returns the address and id of an agent, for others that dial it.
pub fn peer(agent: &Agent) -> PeerTarget {
    PeerTarget { address: agent.peers().address().into(), id: Some(agent.peers().id()) }
}

/// Signs an authority fact.
pub fn sign<B: AuthorityBody>(body: B, signer: &SigningKey) -> Signed<B> {
    Signed::sign(cluster(), body, signer).expect("a signature")
}

/// Returns a grant issued now, with subgrants and without expiry.
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

/// Returns an entry that sets `key`.
pub fn entry(key: &str, value: &[u8], time: Timestamp, signer: &SigningKey, grant: Option<GrantId>) -> Fact {
    let draft = EntryDraft {
        key: Key::parse(key).expect("a key"),
        value: Some(Bytes::copy_from_slice(value)),
        timestamp: time,
        grant,
    };
    Fact::Entry(EntryFact::sign(cluster(), draft, signer).expect("a signature"))
}

/// Offers a fact to an agent as its writer would and returns the verdict.
pub async fn put(agent: &Agent, fact: Fact) -> Verdict {
    agent.put_facts(&[Ok(fact)]).await.expect("the store works")[0]
}

/// Returns the value that an agent shows for a key.
pub async fn value(agent: &Agent, key: &str) -> Option<Bytes> {
    let fact = agent.read(&Key::parse(key).expect("a key")).await.expect("the store works");
    fact.and_then(|fact| fact.value().cloned())
}

/// Whether all agents have the same root digest.
pub fn same_root(agents: &[&Agent]) -> bool {
    let roots: Vec<_> = agents.iter().map(|agent| agent.store().view().root()).collect();
    roots.windows(2).all(|pair| pair[0] == pair[1])
}
