//! Selection of the agent, requests to it, and the exit codes of its errors.

use crate::codes;
use crate::error::{Exit, Failure, Result};
use crate::files;
use crate::output::say;
use crate::progress::SILENCE;
use crate::{text, time};
use clap::Args;
use kvgossip_api::{DEFAULT_HTTP, SOCKET_NAME};
use kvgossip_client::{
    AgentClient, Authorities, Client, ClientBuilder, ClientCertificate, ClientError, DEFAULT_TIMEOUT,
    Endpoint, OpError, Token,
};
use std::env;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Which agent to talk to.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentArgs {
    /// The agent: unix:PATH, http://HOST:PORT or https://HOST:PORT [env: KVGOSSIP_AGENT; else the socket in the data directory, else
    /// http://127.0.0.1:7948]. Commands that can ask several agents take it several times.
    #[arg(long, value_name = "URL", value_parser = endpoint, help_heading = "Agent")]
    agent: Vec<Endpoint>,
    /// The agent's data directory, where its socket is [env: KVGOSSIP_DATA_DIR].
    #[arg(long, value_name = "DIR", help_heading = "Agent", conflicts_with = "agent")]
    data_dir: Option<PathBuf>,
    /// A file with the bearer token for the agent's TCP port: the one for everything, or the one for reading [env:
    /// KVGOSSIP_TOKEN_FILE].
    #[arg(long, value_name = "FILE", help_heading = "Agent")]
    token_file: Option<PathBuf>,
    /// A file with the certificate of the authority that signed the agent's certificate, for https:// [env:
    /// KVGOSSIP_CA; else the system's authorities].
    #[arg(long, value_name = "FILE", help_heading = "Agent")]
    ca: Option<PathBuf>,
    /// A file with a client certificate, for an agent that gives the right to read by certificates, over https://
    /// [env: KVGOSSIP_CLIENT_CERT].
    #[arg(long, value_name = "CERT.pem", help_heading = "Agent")]
    client_cert: Option<PathBuf>,
    /// The private key of --client-cert [env: KVGOSSIP_CLIENT_KEY].
    #[arg(long, value_name = "KEY.pem", help_heading = "Agent")]
    client_key: Option<PathBuf>,
    /// How long to wait for each answer [default: 30s; `sync`: 1h; `diff`: 10m].
    #[arg(long, value_name = "DURATION", value_parser = time::duration, help_heading = "Agent")]
    timeout: Option<Duration>,
}

/// What commands take that keep values current.
#[derive(Clone, Debug, Args)]
pub(crate) struct LiveArgs {
    /// Verify every value here against this root key [env: KVGOSSIP_ROOT]. Without it the command believes the agent,
    /// as `get` does.
    #[arg(long, value_name = "PUB.pem", help_heading = "Agent")]
    root: Option<PathBuf>,
    /// Another agent, like a further --agent: used when the first is lost, and asked from time to time whether the
    /// first withholds something. Repeatable.
    #[arg(long, value_name = "URL", value_parser = endpoint, help_heading = "Agent")]
    fallback: Vec<Endpoint>,
}

/// What commands take that can ask several agents once.
#[derive(Clone, Debug, Args)]
pub(crate) struct UnionArgs {
    /// Ask this many of the agents that --agent names, and take the union of what they hold: what any of them knows
    /// counts.
    #[arg(long, value_name = "K", value_parser = text::within(1..=u16::MAX), help_heading = "Agent")]
    agents: Option<u16>,
    /// Verify the agents' answers against this root key; with --agents [env: KVGOSSIP_ROOT]. Without it the command
    /// believes the agents.
    #[arg(long, value_name = "PUB.pem", help_heading = "Agent")]
    root: Option<PathBuf>,
}

/// Credentials for an agent, and the authorities that the agent's certificate is checked against.
struct Credentials {
    token: Option<Token>,
    authorities: Option<Authorities>,
    certificate: Option<ClientCertificate>,
}

fn endpoint(text: &str) -> Result<Endpoint, text::TextFault> {
    text.parse().map_err(|error: kvgossip_client::EndpointError| {
        text::TextFault::whole(codes::URL_MALFORMED, "an agent's URL", &error.to_string(), text)
    })
}

impl AgentArgs {
    /// Returns a client of the selected agent. Options take precedence over the environment.
    ///
    /// # Errors
    /// When several agents are named, since all but one would be ignored.
    pub(crate) fn client(&self) -> Result<AgentClient> {
        if self.agent.len() > 1 {
            let text = "several agents are named, and one is asked: give --agent once, or say how many to ask with --agents where the command takes it";
            return Err(Failure::new(codes::USAGE, text));
        }
        self.first()
    }

    /// Returns a client of the first agent that is named.
    pub(crate) fn first(&self) -> Result<AgentClient> {
        let mut client = AgentClient::new(self.endpoint()?);
        let Credentials { token, authorities, certificate } = self.credentials()?;
        if let Some(token) = token {
            client = client.with_token(token);
        }
        if let Some(authorities) = authorities {
            client = client.with_authorities(authorities);
        }
        if let Some(certificate) = certificate {
            client = client.with_certificate(certificate);
        }
        Ok(client.with_timeout(self.timeout.unwrap_or(DEFAULT_TIMEOUT)))
    }

    /// Returns a builder of a client that keeps subscriptions, at the selected agent and its fallback agents.
    pub(crate) fn live(&self, live: &LiveArgs) -> Result<ClientBuilder> {
        self.verifying(&live.fallback, live.root.as_ref())
    }

    /// Returns a builder of a client that asks several agents once, and their number; `None` if neither that nor
    /// verification is requested.
    pub(crate) fn union(&self, union: &UnionArgs) -> Result<Option<(ClientBuilder, usize)>> {
        if union.agents.is_none() && union.root.is_none() {
            return Ok(None);
        }
        let (wanted, named) = (union.agents.map_or(1, usize::from), self.agent.len().max(1));
        if wanted > named {
            let text = format!("--agents {wanted} needs as many agents to ask: --agent names {named}");
            return Err(Failure::new(codes::USAGE, text));
        }
        Ok(Some((self.verifying(&[], union.root.as_ref())?, wanted)))
    }

    fn verifying(&self, others: &[Endpoint], root: Option<&PathBuf>) -> Result<ClientBuilder> {
        let mut builder = Client::builder().endpoint(self.endpoint()?);
        for endpoint in self.agent.iter().skip(1).chain(others) {
            builder = builder.endpoint(endpoint.clone());
        }
        let Credentials { token, authorities, certificate } = self.credentials()?;
        if let Some(token) = token {
            builder = builder.token(token);
        }
        if let Some(authorities) = authorities {
            builder = builder.authorities(authorities);
        }
        if let Some(certificate) = certificate {
            builder = builder.certificate(certificate);
        }
        builder = match root.cloned().or_else(|| files::from_env("KVGOSSIP_ROOT")) {
            Some(path) => builder.root(files::root_key(&path)?),
            None => builder.trust_agents(),
        };
        Ok(builder.timeout(self.timeout.unwrap_or(DEFAULT_TIMEOUT)))
    }

    /// Reads the credentials from the files named by options, or else by the environment.
    fn credentials(&self) -> Result<Credentials> {
        let named =
            |option: &Option<PathBuf>, variable: &str| option.clone().or_else(|| files::from_env(variable));
        let token = named(&self.token_file, "KVGOSSIP_TOKEN_FILE");
        let authorities = named(&self.ca, "KVGOSSIP_CA");
        let cert = named(&self.client_cert, "KVGOSSIP_CLIENT_CERT");
        let certificate = match (cert, named(&self.client_key, "KVGOSSIP_CLIENT_KEY")) {
            (Some(cert), Some(key)) => Some(files::client_certificate(&cert, &key)?),
            (None, None) => None,
            _ => return Err(Failure::new(codes::USAGE, "--client-cert and --client-key go together")),
        };
        Ok(Credentials {
            token: token.as_deref().map(files::token).transpose()?,
            authorities: authorities.as_deref().map(files::authorities).transpose()?,
            certificate,
        })
    }

    /// Returns the data directory, if the agent is selected by it.
    pub(crate) fn named_dir(&self) -> Option<PathBuf> {
        let by_environment = || {
            let other = env::var_os("KVGOSSIP_AGENT").is_some_and(|url| !url.is_empty());
            files::from_env("KVGOSSIP_DATA_DIR").filter(|_| !other)
        };
        if !self.agent.is_empty() { None } else { self.data_dir.clone().or_else(by_environment) }
    }

    /// Returns the timeout of --timeout, or `default`.
    pub(crate) fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }

    /// Returns the endpoint of the selected agent.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let socket = |dir: PathBuf| Endpoint::Unix(dir.join(SOCKET_NAME));
        if let Some(endpoint) = self.agent.first() {
            return Ok(endpoint.clone());
        }
        if let Some(dir) = &self.data_dir {
            return Ok(socket(dir.clone()));
        }
        if let Some(url) = env::var_os("KVGOSSIP_AGENT").filter(|url| !url.is_empty()) {
            let parsed = endpoint(&url.to_string_lossy());
            return parsed.map_err(|fault| Failure::from(&fault).note("  (from KVGOSSIP_AGENT)"));
        }
        if let Some(dir) = files::from_env("KVGOSSIP_DATA_DIR") {
            return Ok(socket(dir));
        }
        endpoint(&format!("http://{DEFAULT_HTTP}")).map_err(|fault| Failure::from(&fault))
    }
}

/// Runs a conversation with an agent; prints a notice after a second.
pub(crate) fn converse<T>(client: &AgentClient, talk: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(patiently(client, talk))
}

/// Runs a conversation with an endpoint; prints a notice after a second.
pub(crate) fn converse_at<T>(endpoint: &Endpoint, talk: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(say_if_slow(endpoint, talk))
}

/// Waits for an answer; prints a notice after a second.
async fn patiently<T>(client: &AgentClient, answer: impl Future<Output = T>) -> T {
    say_if_slow(client.endpoint(), answer).await
}

/// Waits for an answer of an endpoint; prints a notice after a second.
pub(crate) async fn say_if_slow<T>(endpoint: &Endpoint, answer: impl Future<Output = T>) -> T {
    tokio::pin!(answer);
    match tokio::time::timeout(SILENCE, &mut answer).await {
        Ok(done) => done,
        Err(_) => {
            say(&format!("waiting for the agent at {endpoint}…"));
            answer.await
        }
    }
}

/// Requests one part after the other: `next` requests a part, `show` writes it. Time spent in `show` does not count
/// as the agent's slowness.
pub(crate) fn in_parts<T>(
    client: &AgentClient,
    mut next: impl AsyncFnMut() -> Result<Option<T>>,
    mut show: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let runtime = runtime()?;
    while let Some(part) = runtime.block_on(patiently(client, next()))? {
        show(part)?;
    }
    Ok(())
}

/// Runs work that reports its own progress, until it is done or Ctrl-C is pressed. The work is dropped in both cases.
pub(crate) fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(async {
        tokio::select! {
            // Polled first, so that work which is always ready does not hide the signal.
            biased;
            signal = stopped_by_signal() => Err(signal?),
            done = work => done,
        }
    })
}

/// Runs work that normally ends by Ctrl-C, and returns `None` in that case.
fn unless_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    runtime()?.block_on(async {
        tokio::select! {
            biased;
            signal = stopped_by_signal() => signal.map(|_| None),
            done = work => done.map(Some),
        }
    })
}

/// Runs work until it is done or Ctrl-C is pressed. If the work has an end of its own, Ctrl-C is a failure, so that a
/// caller does not take it for done; otherwise it returns `None`.
pub(crate) fn until_stopped<T>(has_end: bool, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    if has_end { interruptible(work).map(Some) } else { unless_stopped(work) }
}

/// Completes on SIGINT (Ctrl-C) or SIGTERM.
pub(crate) async fn stopped_by_signal() -> Result<Failure> {
    let signals = |error| Failure::new(codes::INTERNAL, format!("no signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(Failure::new(codes::INTERRUPTED, "stopped before the end"))
}

fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(codes::INTERNAL, format!("cannot start: {error}")))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Refused { code, status, .. } => codes::exit(code).unwrap_or(of_status(*status)),
            error => codes::exit(error.code()).unwrap_or(Exit::Error),
        };
        let message = match error.advice() {
            Some(advice) => format!("{error}; {advice}"),
            None => error.to_string(),
        };
        // An error response never exits with 0, whatever its code means elsewhere.
        let exit = if exit == Exit::Ok { Exit::Error } else { exit };
        Self::with_exit(error.code(), message, exit)
    }
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Agent(error) => error.into(),
            error => Self::new(error.code().to_owned(), error.to_string()),
        }
    }
}

/// Returns the exit code for an HTTP status whose stable code is unknown to this program.
fn of_status(status: u16) -> Exit {
    match status {
        401 | 403 => Exit::NotAuthorised,
        404 => Exit::NotFound,
        409 | 412 => Exit::Conflict,
        408 | 503 | 504 => Exit::TimedOut,
        _ => Exit::Error,
    }
}
