//! A client of several agents: live subscriptions, reads and signed writes.

use crate::agent::{AgentClient, Written};
use crate::clock::{self, Clock};
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::live::driver::{Driver, Settings};
use crate::live::handles::{Matching, Subscription};
use crate::live::registry::Shared;
use crate::live::state::{Entry, Rejection, Trouble};
use crate::live::{DEFAULT_BACKOFF, DEFAULT_GRACE, DEFAULT_MAX_BACKOFF, DEFAULT_SILENCE};
use crate::op_error::OpError;
use crate::tls::Authorities;
use crate::token::Token;
use bytes::Bytes;
use kvgossip_api::{ExplainResponse, StatusResponse, VerdictRow};
use kvgossip_grants::{
    ClusterId, EntityId, EntryFact, Fact, Filter, FilterError, GrantId, Key, Op, PublicKey, RsaVerifier,
    Signer, SigningKey, Timestamp, Verifier,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How far an agent's clock may be ahead of this machine's before nothing is signed, in microseconds. A time from the far
/// future would win over every later write.
pub const MAX_AGENT_AHEAD_US: u64 = 10 * 60 * 1_000_000;
/// How often a write that another one overtook is stamped anew.
const MAX_STAMPS: usize = 8;

/// Makes a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    endpoints: Vec<Endpoint>,
    root: Option<PublicKey>,
    trust_agents: bool,
    token: Option<Token>,
    authorities: Option<Authorities>,
    timeout: Duration,
    settings: Settings,
}

/// Why there is no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No endpoint.
    #[error("no agent is named: give at least one endpoint")]
    NoEndpoint,
    /// Neither a root key nor the explicit wish to do without.
    #[error("no root key is given to verify with: give root(), or say trust_agents()")]
    NoRoot,
    /// Outside of a tokio runtime.
    #[error("a client needs a tokio runtime: build it inside one")]
    NoRuntime,
}

/// Talks to the agents of one cluster. Clones share everything; when the last is dropped, subscriptions stop.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agents: Vec<AgentClient>,
    root: Option<PublicKey>,
    shared: Arc<Shared>,
    timeout: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
    }
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            root: None,
            trust_agents: false,
            token: None,
            authorities: None,
            timeout: crate::DEFAULT_TIMEOUT,
            settings: Settings {
                grace: DEFAULT_GRACE,
                silence: DEFAULT_SILENCE,
                backoff: DEFAULT_BACKOFF,
                max_backoff: DEFAULT_MAX_BACKOFF,
                clock: Clock::default(),
            },
        }
    }
}

impl ClientBuilder {
    /// One more agent. They are tried in order; all have to be of the same cluster.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// The cluster's root key: whatever is shown has been verified against it.
    #[must_use]
    pub fn root(mut self, root: PublicKey) -> Self {
        self.root = Some(root);
        self
    }

    /// Does without verifying signatures: whoever controls an agent, or the way to it, controls what is shown.
    #[must_use]
    pub fn trust_agents(mut self) -> Self {
        self.trust_agents = true;
        self
    }

    /// The bearer token that agents ask for on TCP.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// The authorities that the certificates of `https://` agents have to lead to; without them those of the system.
    #[must_use]
    pub fn authorities(mut self, authorities: Authorities) -> Self {
        self.authorities = Some(authorities);
        self
    }

    /// How long a read or a write may take; 30 s unless told otherwise.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How long what nobody subscribes any more is kept current; 30 s unless told otherwise.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// How long an agent may be silent before it counts as lost; 15 s unless told otherwise.
    #[must_use]
    pub fn silence(mut self, limit: Duration) -> Self {
        self.settings.silence = limit;
        self
    }

    /// The pause before an agent that failed is tried again: the first, and the longest of those that follow, each twice
    /// as long as the one before and shortened at random by up to a half.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.settings.backoff, self.settings.max_backoff) = (first, longest);
        self
    }

    /// Another clock than the system's, by which grants expire: for tests of programs. It is looked at once a second and
    /// at each event.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.settings.clock = Clock::new(now);
        self
    }

    /// Makes the client. Nothing is connected before the first question or subscription.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<Client, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        if self.endpoints.is_empty() {
            return Err(BuildError::NoEndpoint);
        }
        if self.root.is_none() && !self.trust_agents {
            return Err(BuildError::NoRoot);
        }
        let agent = |endpoint| {
            let mut agent = AgentClient::new(endpoint).with_timeout(self.timeout);
            if let Some(authorities) = &self.authorities {
                agent = agent.with_authorities(authorities.clone());
            }
            self.token.clone().map_or(agent.clone(), |token| agent.with_token(token))
        };
        let agents: Vec<AgentClient> = self.endpoints.into_iter().map(agent).collect();
        let verifier: Box<dyn Verifier> =
            if self.trust_agents { Box::new(Unchecked) } else { Box::new(RsaVerifier) };
        let shared = Arc::new(Shared::new());
        let driver = Driver::new(shared.clone(), self.settings, agents.clone(), self.root.clone(), verifier);
        runtime.spawn(driver.run());
        Ok(Client(Arc::new(Inner { agents, root: self.root, shared, timeout: self.timeout })))
    }
}

/// Accepts every signature: for those who trust their agents.
struct Unchecked;

impl Verifier for Unchecked {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

impl Client {
    /// Begins to make a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Keeps a key current, set or not. Subscriptions to the same key share one interest.
    pub fn subscribe(&self, key: &Key) -> Subscription {
        Subscription::new(self.0.shared.clone(), key)
    }

    /// Keeps the keys current that an ordered filter includes, such as `["/my/**", "!/my/tmp/**"]`.
    ///
    /// # Errors
    /// When a text is no glob, or there are too many.
    pub fn subscribe_matching<I>(&self, globs: I) -> Result<Matching, FilterError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Ok(self.subscribe_filter(&Filter::parse(globs)?))
    }

    /// The same for a filter that was read before.
    pub fn subscribe_filter(&self, filter: &Filter) -> Matching {
        Matching::new(self.0.shared.clone(), filter)
    }

    /// What agents said that did not verify: how often in all, and the last of it, oldest first.
    pub fn rejections(&self) -> (u64, Vec<Rejection>) {
        self.0.shared.rejections.borrow().clone()
    }

    /// Signals each change of [`Client::rejections`].
    pub fn watch_rejections(&self) -> tokio::sync::watch::Receiver<(u64, Vec<Rejection>)> {
        self.0.shared.rejections.subscribe()
    }

    /// The agent that subscriptions come from now; signals each change.
    pub fn watch_connection(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.0.shared.connected.subscribe()
    }

    /// What went wrong with an agent last; `None` since one is in step. Signals each change.
    pub fn watch_trouble(&self) -> tokio::sync::watch::Receiver<Option<Trouble>> {
        self.0.shared.trouble.subscribe()
    }

    /// The verified entry that sets a key now; `None`: it is unset. The key stays watched for the grace delay, so that
    /// reading it again is immediate.
    ///
    /// # Errors
    /// [`OpError::NotReady`] when no agent gives a verified answer in time.
    pub async fn get(&self, key: &Key) -> Result<Option<Entry>, OpError> {
        let mut subscription = self.subscribe(key);
        let ready = tokio::time::timeout(self.0.timeout, subscription.ready()).await;
        let state = ready.map_err(|_| self.not_ready(key.to_string()))??;
        Ok(state.value.entry().cloned())
    }

    /// The verified entries of all keys that a filter includes. Up to 1024 of them stay watched for the grace delay; more
    /// are told again next time.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list(&self, filter: &Filter) -> Result<BTreeMap<Key, Entry>, OpError> {
        let mut matching = Matching::for_a_look(self.0.shared.clone(), filter);
        let ready = tokio::time::timeout(self.0.timeout, matching.ready()).await;
        ready.map_err(|_| self.not_ready(format!("{filter:?}")))??;
        Ok(matching.entries())
    }

    fn not_ready(&self, what: String) -> OpError {
        OpError::NotReady { what, after: self.0.timeout }
    }

    /// Sets a key, signed here: the private key never leaves the process. The grant to cite is found by asking. When this
    /// returns, the entry is durable at one agent.
    ///
    /// # Errors
    /// When no agent can be reached, the signer may not write the key, or the entry was not taken.
    pub async fn set(
        &self,
        key: &Key,
        value: impl Into<Bytes>,
        signer: &SigningKey,
    ) -> Result<Written, OpError> {
        self.write(key, Some(value.into()), signer).await
    }

    /// Unsets a key, signed here.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn delete(&self, key: &Key, signer: &SigningKey) -> Result<Written, OpError> {
        self.write(key, None, signer).await
    }

    async fn write(&self, key: &Key, value: Option<Bytes>, signer: &SigningKey) -> Result<Written, OpError> {
        let mut refusal = None;
        for _ in 0..MAX_STAMPS {
            let fact = self.sign(key, value.clone(), signer).await?;
            let (id, timestamp, grant) = (fact.id(), fact.entry().timestamp, fact.entry().grant);
            let facts: Arc<[Fact]> = [Fact::Entry(fact)].into();
            // The same signed entry may be posted twice, so another agent can be asked when one fails.
            let verdicts = self
                .ask(|agent| {
                    let facts = facts.clone();
                    async move { agent.post_facts(&facts).await }
                })
                .await?;
            match verdicts.first().map(|row| (row, row.code.as_deref())) {
                None | Some((_, Some("fact.known"))) => return Ok(Written { entry: id, timestamp, grant }),
                Some((row, _)) if row.verdict == "merged" => {
                    return Ok(Written { entry: id, timestamp, grant });
                }
                // Another write came in between and took the same stamp, or a later one.
                Some((row, Some("entry.dominated"))) => refusal = Some(row.clone()),
                Some((row, _)) => return Err(not_taken(row)),
            }
        }
        Err(refusal.as_ref().map_or(OpError::Signing, not_taken))
    }

    async fn sign(&self, key: &Key, value: Option<Bytes>, signer: &SigningKey) -> Result<EntryFact, OpError> {
        let entity = signer.public().entity();
        let told = self.explain(entity, key).await?;
        let cluster: ClusterId = told.cluster.parse().map_err(|_| OpError::ForeignCluster)?;
        if self.0.root.as_ref().is_some_and(|root| root.cluster() != cluster) {
            return Err(OpError::ForeignCluster);
        }
        if !told.accepted {
            let first = told.rejected.first();
            return Err(OpError::NotAuthorised {
                entity,
                key: key.clone(),
                code: first.map_or("grant.unknown", |row| &row.code).to_owned(),
                message: first.map_or("no grant to it is known at the agent", |row| &row.message).to_owned(),
            });
        }
        let limit = clock::system().saturating_add(MAX_AGENT_AHEAD_US);
        let timestamp = Timestamp::from_micros(told.stamp_us).ok().filter(|time| *time <= limit);
        let timestamp = timestamp.ok_or(OpError::ClockSkew)?;
        let grant: Option<GrantId> = match told.chain.last() {
            Some(link) => Some(link.grant.parse().map_err(|_| OpError::Signing)?),
            None => None,
        };
        let op = value.as_deref().map_or(Op::Delete, Op::set);
        let entry = kvgossip_grants::Entry { key: key.clone(), timestamp, op, signer: entity, grant };
        EntryFact::sign(cluster, entry, value.unwrap_or_default(), signer).map_err(|_| OpError::Signing)
    }

    /// Whether and why `entity` may write `key`, as an agent sees it.
    ///
    /// # Errors
    /// When no agent can be reached.
    pub async fn explain(&self, entity: EntityId, key: &Key) -> Result<ExplainResponse, OpError> {
        self.ask(|agent| {
            let key = key.clone();
            async move { agent.explain(entity, &key).await }
        })
        .await
    }

    /// What the first agent that answers says of itself.
    ///
    /// # Errors
    /// When no agent can be reached.
    pub async fn status(&self) -> Result<StatusResponse, OpError> {
        self.ask(|agent| async move { agent.status().await }).await
    }

    /// Asks the agents in order until one answers, yes or no.
    async fn ask<T, F>(&self, question: impl Fn(AgentClient) -> F) -> Result<T, OpError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut last = None;
        for agent in &self.0.agents {
            match question(agent.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error @ ClientError::Refused { status, .. }) if status < 500 => return Err(error.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| self.not_ready("anything".to_owned()), OpError::from))
    }
}

fn not_taken(row: &VerdictRow) -> OpError {
    let code = row.code.clone().unwrap_or_else(|| row.verdict.clone());
    OpError::NotTaken { message: row.message.clone().unwrap_or_else(|| code.clone()), code }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program awaits has to run in spawned tasks.
    #[test]
    fn every_operation_can_be_spawned() {
        fn spawnable<T: Send>(_: impl Fn(&'static Client, &'static Key, &'static SigningKey) -> T) {}
        spawnable(|client, key, _| client.get(key));
        spawnable(|client, key, signer| client.set(key, "v", signer));
        spawnable(|client, key, signer| client.delete(key, signer));
        spawnable(|client, key, signer| client.explain(signer.public().entity(), key));
        spawnable(|client, _, _| client.status());
    }
}
