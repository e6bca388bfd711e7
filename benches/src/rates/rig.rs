//! Setup of the measurements: keys, facts, and agents with stores on a disk.

use anyhow::{Context, Result};
use bytes::Bytes;
use kvgossip_agent::{Agent, Config, Recovery, open_store};
use kvgossip_grants::{
    EntryDraft, EntryFact, Fact, Grant, GrantId, Key, KeyGlob, Signed, Signer, SigningKey, Timestamp,
};
use kvgossip_transport::ReplicaKey;
use std::path::Path;
use std::thread;

/// Size of all RSA keys in bits.
const BITS: usize = 2048;

/// A root, one writer with a grant, and two replicas.
pub(super) struct Rig {
    pub(super) root: SigningKey,
    pub(super) writer: SigningKey,
    writer_pem: String,
    replicas: [String; 2],
    pub(super) grant: Signed<Grant>,
}

fn generate() -> Result<(SigningKey, String)> {
    let (key, pem) = SigningKey::generate(BITS, &mut |bytes| {
        getrandom::fill(bytes).unwrap_or_else(|error| panic!("no random bytes: {error}"));
    })?;
    Ok((key, pem.to_string()))
}

impl Rig {
    pub(super) fn new() -> Result<Self> {
        let ((root, _), (writer, writer_pem)) = (generate()?, generate()?);
        let grant = Grant {
            issuer: root.public().entity(),
            grantee: writer.public().clone(),
            pattern: KeyGlob::parse("/bench/**")?,
            subgrant: false,
            parent: None,
            issued_at: Timestamp::ZERO,
            expires_at: None,
            nonce: [0; 16],
        };
        let grant = Signed::sign(root.public().cluster(), grant, &root)?;
        Ok(Self { root, writer, writer_pem, replicas: [generate()?.1, generate()?.1], grant })
    }

    pub(super) fn replica_key(&self, number: usize) -> Result<ReplicaKey> {
        ReplicaKey::from_pem(self.replicas[number].as_bytes()).context("a replica key")
    }

    /// Starts an agent that signs as the writer, admits the other one, and has its store in `dir`.
    pub(super) async fn agent(
        &self,
        number: usize,
        dir: &Path,
        prepare: impl FnOnce(&mut Config),
    ) -> Result<Agent> {
        let mut config = Config::new(self.root.public().clone(), self.replica_key(number)?);
        config.identity = Some(SigningKey::from_pem(&self.writer_pem)?);
        config.socket = Some(dir.join("agent.sock"));
        config.allowed = [self.replica_key(1 - number)?.id()].into_iter().collect();
        prepare(&mut config);
        let opened = open_store(dir, self.root.public(), Recovery::default())?;
        Ok(Agent::start_loaded(config, opened.replica, Box::new(opened.storage)).await?)
    }

    /// Signs entries with the numbers `from..from + count` under the writer's grant, on two threads.
    pub(super) fn entries(&self, from: usize, count: usize, value_bytes: usize) -> Result<Vec<Fact>> {
        let half = count / 2;
        let make = |from: usize, count: usize| -> Result<Vec<Fact>> {
            (from..from + count).map(|number| self.entry(number, value_bytes)).collect()
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| make(from + half, count - half));
            let mut facts = make(from, half)?;
            facts.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            Ok(facts)
        })
    }

    fn entry(&self, number: usize, value_bytes: usize) -> Result<Fact> {
        let key = key(number)?;
        let mut value = vec![0; value_bytes];
        // All values differ, and none is compressible.
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut value);
        let draft = EntryDraft {
            key,
            value: Some(Bytes::from(value)),
            timestamp: Timestamp::from_micros(1_000_000 + number as u64)?,
            grant: Some(self.grant_id()),
        };
        Ok(Fact::Entry(EntryFact::sign(self.root.public().cluster(), draft, &self.writer)?))
    }

    pub(super) fn grant_id(&self) -> GrantId {
        self.grant.id()
    }
}

/// Returns a key as in a tree of services, with a hundred keys in each service.
pub(super) fn key(number: usize) -> Result<Key> {
    Ok(Key::parse(&format!("/bench/service-{:05}/setting-{:02}", number / 100, number % 100))?)
}
