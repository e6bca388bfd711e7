//! An agent in the test's process, and commands that talk to it.

use crate::desk::{Desk, Ran};
use kvgossip_agent::http::ServerTls;
use kvgossip_agent::{Agent, Clock, Config};
use kvgossip_engine::MemoryStorage;
use kvgossip_grants::{
    EntryDraft, EntryFact, Fact, GrantId, Key, PublicKey, ReplicaId, Signer, SigningKey, SigningKeyError,
    Timestamp, Verifier,
};
use kvgossip_transport::ReplicaKey;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Settings of an agent in the test's process.
pub struct Setup {
    /// Name of the key file that the agent signs facts with; `None`: it signs nothing.
    pub identity: Option<&'static str>,
    /// Token that gives all rights over TCP; `None`: there is none.
    pub token: Option<&'static str>,
    /// Token that gives the right to read over TCP; `None`: there is none.
    pub read_token: Option<&'static str>,
    /// Name of the file of the replica key.
    pub replica: &'static str,
    /// Ids of the replicas that the agent admits.
    pub knows: Vec<ReplicaId>,
    /// Whether anybody may read over TCP.
    pub open_read: bool,
    /// Names of the files of the HTTPS certificate and its private key; `None`: plain HTTP.
    pub tls: Option<(&'static str, &'static str)>,
    /// Name of the certificate file of the authority for client certificates; `None`: none is accepted.
    pub client_ca: Option<&'static str>,
    /// Maximum duration of a TLS handshake; `None`: the default.
    pub tls_timeout: Option<Duration>,
    /// Number of seconds by which the agent's clock is ahead.
    pub ahead_s: i64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            identity: None,
            token: None,
            read_token: None,
            replica: "replica-a.pem",
            knows: Vec::new(),
            open_read: true,
            tls: None,
            client_ca: None,
            tls_timeout: None,
            ahead_s: 0,
        }
    }
}

const UNSIGNED_AT_A_TIME: usize = 10_000;

/// A signer that writes zeros instead of a signature.
struct Unsigned(PublicKey);

impl Signer for Unsigned {
    fn public(&self) -> &PublicKey {
        &self.0
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        Ok(vec![0; self.0.signature_len()])
    }
}

/// A verifier that accepts any signature.
struct Careless;

impl Verifier for Careless {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// A running agent of the cluster of `root.pem`, with its socket in the directory of the desk.
pub struct Served {
    /// Desk in which commands for the agent run.
    pub desk: Desk,
    /// `None` once it is stopped: a handle that is left would keep the store open.
    agent: Option<Agent>,
    root: SigningKey,
    runtime: Runtime,
}

impl Served {
    /// Starts an agent. `program`: path of the command, as for [`Desk::new`].
    pub fn start(program: &'static str, setup: Setup) -> Self {
        let desk = Desk::new(program);
        let signer = |name: &str| SigningKey::from_pem(&desk.read(name)).expect("a private key");
        let root = signer("root.pem");
        let replica = ReplicaKey::from_pem(desk.read(setup.replica).as_bytes()).expect("a replica key");
        let mut config = Config::new(root.public().clone(), replica);
        config.identity = setup.identity.map(signer);
        config.token = setup.token.map(Into::into);
        config.socket = Some(desk.path("agent.sock"));
        config.allowed = setup.knows.into_iter().collect();
        config.open_read = setup.open_read;
        config.read_token = setup.read_token.map(Into::into);
        let client_ca = setup.client_ca.map(|name| desk.path(name));
        config.tls = setup.tls.map(|(cert, key)| {
            ServerTls::load(&desk.path(cert), &desk.path(key), client_ca.as_deref())
                .expect("a certificate and its key")
        });
        if setup.ahead_s != 0 {
            config.clock = Clock::new(move || {
                let micros =
                    kvgossip_agent::now().as_micros().saturating_add_signed(setup.ahead_s * 1_000_000);
                Timestamp::from_micros(micros).expect("a time")
            });
        }
        if let Some(timeout) = setup.tls_timeout {
            config.http_limits.tls_timeout = timeout;
        }
        let runtime = Runtime::new().expect("a runtime");
        let agent = runtime.block_on(Agent::start(config, Box::new(MemoryStorage::new()))).expect("an agent");
        Self { desk, agent: Some(agent), root, runtime }
    }

    /// Returns the path of a file of the desk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.desk.path(name)
    }

    /// Runs a command that talks to this agent over its socket.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.desk.run(&[args, &["--data-dir", "."]].concat())
    }

    /// Runs a command that talks to this agent over its socket, with this standard input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        self.desk.run_with_input(&[args, &["--data-dir", "."]].concat(), input)
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("running")
    }

    /// Returns the URL of the agent's HTTP API.
    pub fn url(&self) -> String {
        format!("http://{}", self.agent().http_address().expect("TCP"))
    }

    /// Returns the agent's replica id.
    pub fn replica(&self) -> ReplicaId {
        self.agent().peers().id()
    }

    /// Returns the agent's address for sessions with peers.
    pub fn sync_address(&self) -> String {
        self.agent().peers().address().to_string()
    }

    /// Returns the text of the agent's `/metrics`.
    pub fn scrape(&self) -> String {
        self.agent().metrics_text().expect("a text")
    }

    /// Offers facts to the agent as their writer.
    pub fn put(&self, facts: Vec<Fact>) {
        let facts: Vec<_> = facts.into_iter().map(Ok).collect();
        self.runtime.block_on(self.agent().put_facts(&facts)).expect("a store");
    }

    /// Commits entries of root for `/fill/000000` and following keys, with invalid signatures, past the verification.
    /// For tests of so many keys that signing would take minutes, and that do not depend on signatures.
    pub fn fill_unsigned(&self, count: usize) {
        let unsigned = Unsigned(self.root.public().clone());
        for begin in (0..count).step_by(UNSIGNED_AT_A_TIME) {
            let numbers = begin..count.min(begin + UNSIGNED_AT_A_TIME);
            let facts = numbers.map(|number| self.entry(&format!("/fill/{number:06}"), &unsigned, None));
            self.commit(facts.collect());
        }
    }

    /// Commits entries for `/team/000000` and following keys, signed by `team.pem` under this grant. Signs on all
    /// cores.
    pub fn fill_signed(&self, count: usize, grant: &str) {
        let team = SigningKey::from_pem(&self.desk.read("team.pem")).expect("a private key");
        let grant: GrantId = grant.parse().expect("an id");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let part = &|first: usize| {
            let numbers = (first..count).step_by(cores);
            numbers.map(|number| self.entry(&format!("/team/{number:06}"), &team, Some(grant))).collect()
        };
        let facts: Vec<Vec<Fact>> = std::thread::scope(|scope| {
            let jobs: Vec<_> = (0..cores).map(|first| scope.spawn(move || part(first))).collect();
            jobs.into_iter().map(|job| job.join().expect("signed")).collect()
        });
        facts.into_iter().for_each(|facts| self.commit(facts));
    }

    /// Commits facts, whatever their signatures are.
    fn commit(&self, facts: Vec<Fact>) {
        let view = self.agent().store().view();
        let verified = facts.into_iter().map(|fact| {
            view.check(fact, Timestamp::MAX).expect("a live chain").verify(&Careless).expect("any will do")
        });
        let facts = verified.collect();
        self.runtime.block_on(self.agent().store().commit(facts)).expect("a store");
    }

    fn entry(&self, key: &str, signer: &dyn Signer, grant: Option<GrantId>) -> Fact {
        let (key, value) = (Key::parse(key).expect("a key"), Some("value".into()));
        let draft = EntryDraft { key, value, timestamp: kvgossip_agent::now(), grant };
        Fact::Entry(EntryFact::sign(self.root.public().cluster(), draft, signer).expect("a signature"))
    }

    /// Offers facts to the agent as a peer.
    pub fn relay(&self, facts: Vec<Fact>) {
        let facts: Vec<_> = facts.into_iter().map(Ok).collect();
        let verdicts = self.runtime.block_on(self.agent().offer_facts(&facts)).expect("a store");
        assert!(verdicts.iter().all(|verdict| verdict.is_taken_in()), "{verdicts:?}");
    }

    /// Writes `/fill/0000` and following keys.
    pub fn fill(&self, count: usize) {
        self.put(
            (0..count).map(|number| self.entry(&format!("/fill/{number:04}"), &self.root, None)).collect(),
        );
    }

    /// Offers a fact that is always refused.
    pub fn refuse_one(&self) {
        let stranger = SigningKey::from_pem(&self.desk.read("team.pem")).expect("a private key");
        self.put(vec![self.entry("/stranger", &stranger, None)]);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            self.runtime.block_on(agent.stop());
        }
    }
}
