//! Finding the agent, asking it, and what its refusals make the process end with.

use crate::codes;
use crate::error::{Exit, Failure, Result};
use crate::files;
use crate::output::say;
use crate::progress::SILENCE;
use crate::{text, time};
use clap::Args;
use kvgossip_api::{DEFAULT_HTTP, SOCKET_NAME};
use kvgossip_client::{AgentClient, Client, ClientBuilder, ClientError, DEFAULT_TIMEOUT, Endpoint};
use std::env;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Which agent to talk to.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentArgs {
    /// The agent: unix:PATH, http://HOST:PORT or https://HOST:PORT [env: KVGOSSIP_AGENT; else the socket in the data directory, else
    /// http://127.0.0.1:7948].
    #[arg(long, value_name = "URL", value_parser = endpoint, help_heading = "Agent")]
    agent: Option<Endpoint>,
    /// The agent's data directory, where its socket is [env: KVGOSSIP_DATA_DIR].
    #[arg(long, value_name = "DIR", help_heading = "Agent", conflicts_with = "agent")]
    data_dir: Option<PathBuf>,
    /// A file with the bearer token that the agent asks for on TCP [env: KVGOSSIP_TOKEN_FILE].
    #[arg(long, value_name = "FILE", help_heading = "Agent")]
    token_file: Option<PathBuf>,
    /// A file with the certificate of the authority that signed the agent's, for https:// [env: KVGOSSIP_CA; else the
    /// system's authorities].
    #[arg(long, value_name = "FILE", help_heading = "Agent")]
    ca: Option<PathBuf>,
    /// How long to wait for each answer [default: 30s; `sync`: 1h; `diff`: 10m].
    #[arg(long, value_name = "DURATION", value_parser = time::duration, help_heading = "Agent")]
    timeout: Option<Duration>,
}

/// What commands take that keep values current.
#[derive(Clone, Debug, Args)]
pub(crate) struct LiveArgs {
    /// Verify every value here against this root key [env: KVGOSSIP_ROOT]. Without it the agent's word is taken, as `get`
    /// does.
    #[arg(long, value_name = "PUB.pem", help_heading = "Agent")]
    root: Option<PathBuf>,
    /// Another agent, for when the first is lost; may be repeated.
    #[arg(long, value_name = "URL", value_parser = endpoint, help_heading = "Agent")]
    fallback: Vec<Endpoint>,
}

fn endpoint(text: &str) -> Result<Endpoint, text::TextFault> {
    text.parse().map_err(|error: kvgossip_client::EndpointError| {
        text::TextFault::whole(codes::URL_MALFORMED, "an agent's URL", &error.to_string(), text)
    })
}

impl AgentArgs {
    /// The agent that is meant. Options count before the environment.
    pub(crate) fn client(&self) -> Result<AgentClient> {
        let mut client = AgentClient::new(self.endpoint()?);
        if let Some(path) = self.token_file.clone().or_else(|| files::from_env("KVGOSSIP_TOKEN_FILE")) {
            client = client.with_token(files::token(&path)?);
        }
        if let Some(path) = self.ca.clone().or_else(|| files::from_env("KVGOSSIP_CA")) {
            client = client.with_authorities(files::authorities(&path)?);
        }
        Ok(client.with_timeout(self.timeout.unwrap_or(DEFAULT_TIMEOUT)))
    }

    /// A client that keeps subscriptions, of the agent that is meant and of others to fall back on.
    pub(crate) fn live(&self, live: &LiveArgs) -> Result<ClientBuilder> {
        let mut builder = Client::builder().endpoint(self.endpoint()?);
        for endpoint in &live.fallback {
            builder = builder.endpoint(endpoint.clone());
        }
        if let Some(path) = self.token_file.clone().or_else(|| files::from_env("KVGOSSIP_TOKEN_FILE")) {
            builder = builder.token(files::token(&path)?);
        }
        if let Some(path) = self.ca.clone().or_else(|| files::from_env("KVGOSSIP_CA")) {
            builder = builder.authorities(files::authorities(&path)?);
        }
        builder = match live.root.clone().or_else(|| files::from_env("KVGOSSIP_ROOT")) {
            Some(path) => builder.root(files::public_key(&path)?),
            None => builder.trust_agents(),
        };
        Ok(builder.timeout(self.timeout.unwrap_or(DEFAULT_TIMEOUT)))
    }

    /// The data directory that was named, if that is what says which agent is meant.
    pub(crate) fn named_dir(&self) -> Option<PathBuf> {
        let by_environment = || {
            let other = env::var_os("KVGOSSIP_AGENT").is_some_and(|url| !url.is_empty());
            files::from_env("KVGOSSIP_DATA_DIR").filter(|_| !other)
        };
        if self.agent.is_some() { None } else { self.data_dir.clone().or_else(by_environment) }
    }

    /// The limit of time that was asked for.
    pub(crate) fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }

    /// Where the agent that is meant is looked for first.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let socket = |dir: PathBuf| Endpoint::Unix(dir.join(SOCKET_NAME));
        if let Some(endpoint) = &self.agent {
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

/// Runs a command's conversation with an agent; says so if it takes more than a second.
pub(crate) fn converse<T>(client: &AgentClient, talk: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(patiently(client, talk))
}

/// Waits for one answer; says so if it takes more than a second.
async fn patiently<T>(client: &AgentClient, answer: impl Future<Output = T>) -> T {
    say_if_slow(client.endpoint(), answer).await
}

/// The same for whoever keeps asking: what an agent that does not answer looks like from outside.
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

/// Asks an agent for one part after the other; `next` asks for a part, `show` writes it. A reader of the output who takes
/// their time is not the agent's slowness.
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

/// Runs work that tells itself how far it is, until it is done or until Ctrl-C. What the work holds is let go of either way.
pub(crate) fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(async {
        tokio::select! {
            // First: work that is always ready must not hide it.
            biased;
            signal = stopped_by_signal() => Err(signal?),
            done = work => done,
        }
    })
}

/// Runs work that goes on until Ctrl-C, which is its ordinary end: then `None`.
pub(crate) fn unless_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    runtime()?.block_on(async {
        tokio::select! {
            biased;
            signal = stopped_by_signal() => signal.map(|_| None),
            done = work => done.map(Some),
        }
    })
}

/// Ends on Ctrl-C, or when the process is told to terminate.
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
        // A refusal is an error, whatever its code means where it is no refusal.
        let exit = if exit == Exit::Ok { Exit::Error } else { exit };
        Self::with_exit(error.code(), message, exit)
    }
}

/// The exit code for an HTTP status whose stable code this program does not know.
fn of_status(status: u16) -> Exit {
    match status {
        401 | 403 => Exit::NotAuthorised,
        404 => Exit::NotFound,
        409 | 412 => Exit::Conflict,
        408 | 503 | 504 => Exit::TimedOut,
        _ => Exit::Error,
    }
}
