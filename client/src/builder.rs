//! Builder of a [`Client`].

use crate::agent::AgentClient;
use crate::client::{Client, Inner};
use crate::clock::Clock;
use crate::endpoint::Endpoint;
use crate::live::audit::Pace;
use crate::live::driver::{Driver, Settings};
use crate::live::registry::Shared;
use crate::live::{
    DEFAULT_AUDIT_INTERVAL, DEFAULT_AUDIT_PATIENCE, DEFAULT_BACKOFF, DEFAULT_GRACE, DEFAULT_MAX_BACKOFF,
    DEFAULT_SILENCE,
};
use crate::tls::{Authorities, ClientCertificate};
use crate::token::Token;
use crate::unchecked::Unchecked;
use kvgossip_grants::{PublicKey, RsaVerifier, Timestamp, Verifier};
use std::sync::Arc;
use std::time::Duration;

/// Builder of a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    endpoints: Vec<Endpoint>,
    root: Option<PublicKey>,
    trust_agents: bool,
    token: Option<Token>,
    authorities: Option<Authorities>,
    certificate: Option<ClientCertificate>,
    timeout: Duration,
    settings: Settings,
}

/// Error of [`ClientBuilder::build`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No endpoint is given.
    #[error("no agent is named: give at least one endpoint")]
    NoEndpoint,
    /// Neither a root key nor `trust_agents()` is given.
    #[error("no root key is given to verify with: give root(), or say trust_agents()")]
    NoRoot,
    /// The call is outside of a tokio runtime.
    #[error("a client needs a tokio runtime: build it inside one")]
    NoRuntime,
}

impl Client {
    /// Creates a builder.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
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
            certificate: None,
            timeout: crate::DEFAULT_TIMEOUT,
            settings: Settings {
                grace: DEFAULT_GRACE,
                silence: DEFAULT_SILENCE,
                backoff: DEFAULT_BACKOFF,
                max_backoff: DEFAULT_MAX_BACKOFF,
                clock: Clock::default(),
                pace: Pace { interval: DEFAULT_AUDIT_INTERVAL, patience: DEFAULT_AUDIT_PATIENCE },
            },
        }
    }
}

impl ClientBuilder {
    /// Adds an agent. Agents are tried in the order of addition, and all must belong to one cluster.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Sets the cluster's root key, against which everything shown is verified.
    #[must_use]
    pub fn root(mut self, root: PublicKey) -> Self {
        self.root = Some(root);
        self
    }

    /// Disables signature verification: whoever controls an agent, or the network path to it, controls what is
    /// shown.
    #[must_use]
    pub fn trust_agents(mut self) -> Self {
        self.trust_agents = true;
        self
    }

    /// Sets the bearer token that agents require on TCP, either the one for all requests or the one for reads.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Sets the certificate authorities for `https://` agents; the default is the system's.
    #[must_use]
    pub fn authorities(mut self, authorities: Authorities) -> Self {
        self.authorities = Some(authorities);
        self
    }

    /// Sets the certificate to present to `https://` agents that grant the right to read by certificate.
    #[must_use]
    pub fn certificate(mut self, certificate: ClientCertificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Sets the time limit of a read or a write; default 30 s.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Sets how long a key or filter is kept current after its last subscription is dropped; default 30 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Sets how long an agent may be silent before it counts as lost; default 15 s.
    #[must_use]
    pub fn silence(mut self, limit: Duration) -> Self {
        self.settings.silence = limit;
        self
    }

    /// Sets the back-off before a failed agent is tried again: the first pause and the longest one. Each pause
    /// is twice as long as the previous one, minus a random part of up to a half.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.settings.backoff, self.settings.max_backoff) = (first, longest);
        self
    }

    /// Sets how a client with several agents audits them. It compares the agents that it is not connected with
    /// at random intervals between `interval / 2` and `interval`, default 24 s. The connected agent must show
    /// facts that it lacked and was handed within `patience`, default 5 s.
    #[must_use]
    pub fn audit(mut self, interval: Duration, patience: Duration) -> Self {
        self.settings.pace = Pace { interval, patience };
        self
    }

    /// Replaces the system clock, which decides when grants expire, for tests of programs. It is read once a
    /// second and at each event.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.settings.clock = Clock::new(now);
        self
    }

    /// Creates the client. It connects on the first read, write or subscription.
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
            if let Some(certificate) = &self.certificate {
                agent = agent.with_certificate(certificate.clone());
            }
            self.token.clone().map_or(agent.clone(), |token| agent.with_token(token))
        };
        let agents: Vec<AgentClient> = self.endpoints.into_iter().map(agent).collect();
        let verifier: Box<dyn Verifier> =
            if self.trust_agents { Box::new(Unchecked) } else { Box::new(RsaVerifier) };
        let shared = Arc::new(Shared::new());
        let clock = self.settings.clock.clone();
        let driver = Driver::new(shared.clone(), self.settings, agents.clone(), self.root.clone(), verifier);
        runtime.spawn(driver.run());
        Ok(Client(Arc::new(Inner { agents, root: self.root, shared, timeout: self.timeout, clock })))
    }
}
