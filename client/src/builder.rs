//! Making a [`Client`].

use crate::agent::AgentClient;
use crate::client::{Client, Inner, Unchecked};
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
use kvgossip_grants::{PublicKey, RsaVerifier, Timestamp, Verifier};
use std::sync::Arc;
use std::time::Duration;

/// Makes a [`Client`].
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

    /// The bearer token that agents ask for on TCP: that for everything, or that for reading.
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

    /// The certificate that is shown to `https://` agents which give the right to read by them.
    #[must_use]
    pub fn certificate(mut self, certificate: ClientCertificate) -> Self {
        self.certificate = Some(certificate);
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

    /// How often a client of several agents asks those that it is not connected with whether they hold the same: after
    /// `interval` at most, 24 s unless told otherwise, and after half of it at least. The connected one may take
    /// `patience`, 5 s unless told otherwise, to tell what it lacked and was handed.
    #[must_use]
    pub fn audit(mut self, interval: Duration, patience: Duration) -> Self {
        self.settings.pace = Pace { interval, patience };
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
