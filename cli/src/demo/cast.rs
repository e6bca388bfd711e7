//! The participants of the demonstration: keys, facts and agents.

use super::wire::Wire;
use crate::keys::generate;
use anyhow::Context;
use bytes::Bytes;
use kvgossip_agent::gossip::{GossipConfig, JoinTarget};
use kvgossip_agent::{Agent, Config, now};
use kvgossip_engine::FjallStorage;
use kvgossip_grants::{
    By, ClusterId, EntryDraft, EntryFact, Fact, Grant, GrantId, Key, KeyGlob, PublicKey, Revocation, Signed,
    Signer, SigningKey, Timestamp,
};
use kvgossip_membership::Timing;
use kvgossip_transport::{Limits, ReplicaKey};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The keys of all participants, generated for each run.
pub(super) struct Cast {
    pub(super) root: SigningKey,
    pub(super) team: SigningKey,
    pub(super) deployer: SigningKey,
    pub(super) service: SigningKey,
    pub(super) stranger: SigningKey,
    pub(super) replicas: Vec<ReplicaKey>,
}

/// Returns the gossip name of a replica, numbered from 1.
pub(super) fn name(number: usize) -> String {
    format!("replica-{}", number + 1)
}

/// Gossip timing faster than for a real network, where the failure of a silent member takes about ten seconds to
/// detect.
fn timing() -> Timing {
    Timing {
        probe_interval: Duration::from_millis(500),
        gossip_interval: Duration::from_millis(50),
        reconnect_interval: Duration::from_millis(500),
        // No extra time for a member that only one other suspects.
        suspicion_max_mult: 1,
        ..Timing::local()
    }
}

fn make_key() -> anyhow::Result<(SigningKey, String)> {
    generate(2048).map_err(|failure| anyhow::anyhow!("{}", failure.message()))
}

impl Cast {
    /// Generates nine RSA keys, two at a time.
    pub(super) fn make() -> anyhow::Result<Self> {
        let half = |count: usize| move || (0..count).map(|_| make_key()).collect::<anyhow::Result<Vec<_>>>();
        let (entities, replicas) = (std::thread::spawn(half(5)), half(4)());
        let entities = entities.join().map_err(|_| anyhow::anyhow!("making keys failed"))??;
        let mut entities = entities.into_iter().map(|(key, _)| key);
        let mut next = || entities.next().context("too few keys");
        let (root, team, deployer, service, stranger) = (next()?, next()?, next()?, next()?, next()?);
        let read = |(_, pem): (SigningKey, String)| Ok(ReplicaKey::from_pem(pem.as_bytes())?);
        let replicas = replicas?.into_iter().map(read).collect::<anyhow::Result<_>>()?;
        Ok(Self { root, team, deployer, service, stranger, replicas })
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.root.public().cluster()
    }

    /// Signs a grant that may be delegated.
    pub(super) fn grant(
        &self,
        issuer: &SigningKey,
        to: &PublicKey,
        pattern: &str,
        parent: Option<GrantId>,
    ) -> anyhow::Result<Signed<Grant>> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        let grant = Grant {
            issuer: issuer.public().entity(),
            grantee: to.clone(),
            pattern: KeyGlob::parse(pattern)?,
            subgrant: true,
            parent,
            issued_at: now(),
            expires_at: None,
            nonce,
        };
        Ok(Signed::sign(self.cluster(), grant, issuer)?)
    }

    pub(super) fn revoke(&self, grant: &Signed<Grant>, by: By, signer: &SigningKey) -> anyhow::Result<Fact> {
        let revocation = Revocation { grant: grant.clone(), by, revoked_at: now() };
        Ok(Fact::Revocation(Signed::sign(self.cluster(), revocation, signer)?))
    }

    pub(super) fn entry(
        &self,
        signer: &SigningKey,
        key: &Key,
        value: &Bytes,
        timestamp: Timestamp,
        grant: GrantId,
    ) -> anyhow::Result<Fact> {
        let draft =
            EntryDraft { key: key.clone(), value: Some(value.clone()), timestamp, grant: Some(grant) };
        Ok(Fact::Entry(EntryFact::sign(self.cluster(), draft, signer)?))
    }

    /// Starts an agent with a durable store in a directory of its own. It is configured with the gossip address of
    /// one other agent only.
    pub(super) async fn start(
        &self,
        number: usize,
        dir: &Path,
        join: Option<SocketAddr>,
        wire: &Wire,
    ) -> anyhow::Result<Agent> {
        let dir = dir.join(name(number));
        std::fs::create_dir_all(&dir)?;
        let mut config = Config::new(self.root.public().clone(), self.replicas[number].clone());
        config.socket = Some(dir.join("agent.sock"));
        // A cut connection is noticed after two seconds, instead of the default forty.
        config.limits = Limits::default();
        config.limits.idle_timeout = Duration::from_secs(2);
        config.limits.keep_alive = Duration::from_millis(500);
        let sessions = wire.clone();
        config.link_filter = Some(Arc::new(move |_| sessions.passes()));
        let mut gossip = GossipConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        gossip.name = Some(name(number));
        gossip.join = join.into_iter().map(JoinTarget::from).collect();
        gossip.timing = timing();
        let datagrams = wire.clone();
        gossip.link_filter = Some(Arc::new(move |_| datagrams.passes()));
        config.gossip = Some(gossip);
        let store = FjallStorage::open(&dir, self.cluster())?;
        Ok(Agent::start(config, Box::new(store)).await?)
    }

    /// Starts an agent without gossip that admits one other and dials nobody by itself.
    pub(super) async fn start_late(&self, number: usize, dir: &Path, peer: &Agent) -> anyhow::Result<Agent> {
        let dir = dir.join(name(number));
        std::fs::create_dir_all(&dir)?;
        let mut config = Config::new(self.root.public().clone(), self.replicas[number].clone());
        config.socket = Some(dir.join("agent.sock"));
        config.allowed = [peer.peers().id()].into_iter().collect();
        let store = FjallStorage::open(&dir, self.cluster())?;
        Ok(Agent::start(config, Box::new(store)).await?)
    }
}
