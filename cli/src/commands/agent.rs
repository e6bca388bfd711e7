//! `kvgossip agent`: runs one replica until it is stopped.

use super::agent_access::AccessArgs;
use super::agent_files::{allow_list, make_dir, remember_root, replica_key};
use super::agent_forgetting::forget_future;
use super::agent_gossip::{GossipArgs, listen_at};
use super::agent_log::LogArgs;
use crate::codes;
use crate::dev::Dev;
use crate::error::{Exit, Failure, Result, without_words_on_panic};
use crate::files::{self, Keeper};
use crate::output;
use crate::text::{self, parse_bytes};
use clap::Args;
use kvgossip_agent::gossip::Logs;
use kvgossip_agent::http::ServerTls;
use kvgossip_agent::{
    Address, Agent, Config, DEFAULT_SYNC_PORT, Opened, PeerTarget, Recovery, STOP_LIMIT, SYNC_STATE_NAME,
    StartError,
};
use kvgossip_api::{DEFAULT_HTTP, SOCKET_NAME};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

/// Address that makes the system choose a free port, on loopback.
const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Name of the directory of the store, in the data directory.
const STORE_DIR: &str = "store";
/// Maximum time that leaving the gossip may take when the agent ends, as with Serf's agents.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// Maximum time to wait for blocked threads when the agent ends. They have nothing to lose, since all acknowledged
/// writes are durable.
const THREADS_LIMIT: Duration = Duration::from_millis(300);
/// Default port of HTTP, for error messages about --http.
const DEFAULT_HTTP_PORT: u16 = 7948;

/// Run one replica of a cluster until Ctrl-C.
///
/// The data directory has the store, the replica's key and the socket that the other commands use. The agent makes it
/// at the first start. The log goes to standard error.
///
/// Every option can also be set in the environment (--http as KVGOSSIP_HTTP, a list with commas) and in the file of
/// --config (http = "127.0.0.1:7948"). Options take precedence over the environment, the environment over the file,
/// and the file over files of Serf (--serf-config).
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentArgs {
    /// A file of settings in TOML: the long options without their dashes [env: KVGOSSIP_CONFIG].
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// A configuration file of Serf, or a directory of them (*.json). All other settings take precedence over it. Keys
    /// without a meaning here are named at the start. Repeatable: if a key is in several files, the last one counts,
    /// and lists are joined [env: KVGOSSIP_SERF_CONFIG].
    #[arg(long, value_name = "FILE|DIR")]
    serf_config: Vec<PathBuf>,
    /// Make a root, an identity, a data directory and free ports for trying things out, and remove them at the end.
    #[arg(long, conflicts_with_all = ["root", "identity", "data_dir", "move_damaged_aside", "accept_rollback"])]
    dev: bool,
    /// Directory of the replica's store and keys [env: KVGOSSIP_DATA_DIR].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The public key of the cluster's root.
    #[arg(long, value_name = "PUB.pem")]
    root: Option<PathBuf>,
    /// The private key that the replica proves to its peers [default: replica.pem in the data directory, made at the
    /// first start].
    #[arg(long, value_name = "K.pem")]
    replica_key: Option<PathBuf>,
    /// A private key with which `set` and `del` may sign over the socket [env: KVGOSSIP_IDENTITY].
    #[arg(long, value_name = "K.pem")]
    identity: Option<PathBuf>,
    /// Address for sessions with peers (UDP) [default: port 7947 at the address of --bind, else 127.0.0.1:7947].
    #[arg(long, value_name = "HOST:PORT", value_parser = sync_address)]
    sync: Option<Address>,
    /// Address for HTTP (TCP); outside loopback only with --tls-cert and --tls-key [default: 127.0.0.1:7948].
    #[arg(long, value_name = "HOST:PORT", value_parser = http_address)]
    http: Option<Address>,
    /// The Unix socket of the HTTP API [default: agent.sock in the data directory].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    /// Maximum number of HTTP connections at a time, for TCP and for the socket each; 1 to 65535. Every watcher takes
    /// a connection, and every connection a file descriptor [default: 512 over TCP and 256 over the socket].
    #[arg(long, value_name = "N", value_parser = text::within(1..=u16::MAX))]
    max_connections: Option<u16>,
    /// A replica to stay connected with: with an id exactly that replica, without an id any admitted one. A name is
    /// looked up before each round of dials, and all its addresses are tried. Repeatable.
    #[arg(long = "peer", value_name = "[ID@]HOST:PORT", value_parser = peer)]
    peers: Vec<PeerTarget>,
    /// A file with the ids of the admitted replicas, one a line. Read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    allow_peers: Option<PathBuf>,
    /// Maximum weight of the facts in the store, in bytes, at least 1M; K, M, G and T stand for KiB, MiB, GiB and TiB.
    /// Beyond the limit the agent takes in only facts that may free room (deletes, revocations, floors), and reading
    /// goes on. `status` names the grants by bytes [default: no limit].
    #[arg(long, value_name = "BYTES", value_parser = store_limit)]
    max_store: Option<u64>,
    /// Let any replica that dials in pull everything. Such replicas never push.
    #[arg(long)]
    open_read: bool,
    /// Be ready without a comparison with a peer, even if this data directory was never compared: its content counts
    /// as complete. For the first replica of a cluster that is told of others, and for a last survivor.
    #[arg(long)]
    ready_alone: bool,
    /// Seconds for which a data directory that was compared in an earlier run waits for another comparison before the
    /// agent is ready [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = text::whole::<u32>)]
    ready_after: Option<u32>,
    /// Read the whole store. If it is damaged, or older than what it acknowledged: keep it as store.damaged-N, begin
    /// with an empty one and let peers fill that. Facts that no peer has are lost.
    #[arg(long)]
    move_damaged_aside: bool,
    /// If the store is older than what it acknowledged (its last writes are gone): check the rest, go on from there
    /// and let peers send what is missing. Facts that no peer has are lost.
    #[arg(long)]
    accept_rollback: bool,
    /// Remove entries that are more than 2 minutes ahead of the clock from the store, now that the clock is right.
    /// They wait until they are due, and peers send back the entries that they had superseded. Without --join and
    /// --peer nothing comes back: the agent lists the keys that would be unset and ends, unless --yes is given as
    /// well.
    #[arg(long, conflicts_with = "dev")]
    forget_future: bool,
    /// With --forget-future: forget even if no peer can send anything back.
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    log: LogArgs,
    // The last one, because its heading applies to all that follow.
    #[command(flatten)]
    gossip: GossipArgs,
}

impl AgentArgs {
    /// Whether peers or members to join are configured.
    fn has_peers(&self) -> bool {
        !self.peers.is_empty() || self.gossip.joins()
    }
}

fn address(text: &str) -> Result<SocketAddr> {
    text.parse().map_err(|error| Failure::new(codes::INTERNAL, format!("{text}: {error}")))
}

fn sync_address(text: &str) -> std::result::Result<Address, String> {
    Address::parse_with_port(text, DEFAULT_SYNC_PORT).map_err(|error| error.to_string())
}

fn http_address(text: &str) -> std::result::Result<Address, String> {
    Address::parse_with_port(text, DEFAULT_HTTP_PORT).map_err(|error| error.to_string())
}

fn peer(text: &str) -> std::result::Result<PeerTarget, String> {
    text.parse().map_err(|error: kvgossip_agent::ParsePeerError| error.to_string())
}

/// Parses the store limit; rejects one so small that the store would be full at once.
fn store_limit(text: &str) -> std::result::Result<u64, String> {
    const MIN: u64 = 1 << 20;
    match parse_bytes(text) {
        Some(bytes) if bytes >= MIN => Ok(bytes),
        Some(_) => Err("the least limit is 1M (1 MiB)".into()),
        None => Err("write a number of bytes, or one with K, M, G or T behind it, such as 512M".into()),
    }
}

/// Runs the agent.
pub(crate) fn agent(args: &AgentArgs) -> Result<Exit> {
    // Log lines are kept only if RPC clients can monitor them.
    let logs = args.gossip.serves_rpc().then(Logs::default);
    args.log.begin(logs.clone())?;
    if !args.dev {
        return serve(args, None, logs);
    }
    let dev = Dev::make()?;
    let mut args = args.clone();
    args.data_dir = Some(dev.data_dir());
    args.root = Some(dev.root_path());
    args.identity = Some(dev.identity_path());
    // Free ports, so that it runs beside other agents.
    args.sync = args.sync.or(Some(FREE.into()));
    args.http = args.http.or(Some(FREE.into()));
    serve(&args, Some(&dev), logs)
}

fn serve(args: &AgentArgs, dev: Option<&Dev>, logs: Option<Logs>) -> Result<Exit> {
    let dir = data_dir(args)?;
    let mut config = config(args, &dir, logs)?;
    let mut opened = open_store(args, &dir, &config)?;
    if args.forget_future {
        config.declined = Some(forget_future(&mut opened, args.has_peers(), args.yes)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(codes::INTERNAL, format!("no runtime: {error}")))?;
    let ended = runtime.block_on(run(args, config, opened, dev));
    runtime.shutdown_timeout(THREADS_LIMIT);
    ended.map(|()| Exit::Ok)
}

async fn run(args: &AgentArgs, config: Config, opened: Opened, dev: Option<&Dev>) -> Result<()> {
    let signals = |error: io::Error| Failure::new(codes::INTERNAL, format!("no signals: {error}"));
    let mut hangup = signal(SignalKind::hangup()).map_err(signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let (root, socket) = (config.root.clone(), config.socket.clone().unwrap_or_default());
    let agent = Agent::start_loaded(config, opened.replica, Box::new(opened.storage)).await;
    let agent = agent.map_err(|error| not_started(args, &error))?;
    let view = agent.store().view();
    tracing::info!(
        cluster = %root.cluster(), keys = view.entries().len(), root = %view.root(),
        "replica {} takes sessions on {}", agent.peers().id(), agent.peers().address()
    );
    if let Ok(gossip) = agent.gossip() {
        tracing::info!("gossip on {}", gossip.address());
        if let Some(rpc) = gossip.rpc_address() {
            tracing::info!("Serf's RPC on {rpc}");
        }
    }
    if let Some(http) = agent.http_address() {
        let scheme = if agent.tls().is_some() { "https" } else { "http" };
        tracing::info!("HTTP on {scheme}://{http} and in {}", socket.display());
    }
    if let Some(dev) = dev {
        dev.grant(&agent).await?;
        output::text(&dev.hint())?;
    }
    let leaves = loop {
        tokio::select! {
            _ = interrupt.recv() => break args.gossip.leaves_on_interrupt(),
            _ = terminate.recv() => break args.gossip.leaves_on_terminate(),
            _ = hangup.recv() => reload(args, &agent),
            () = agent.told_to_end() => {
                match given_up(&agent) {
                    Some(_) => tracing::info!("there is nobody to join"),
                    None => tracing::info!("an RPC client had this agent leave"),
                }
                break false;
            }
        }
    };
    tracing::info!("stopping");
    let given_up = given_up(&agent);
    let end = async {
        let deadline = Instant::now() + STOP_LIMIT;
        if leaves {
            leave(&agent).await;
        }
        agent.stop_by(deadline).await;
    };
    tokio::select! {
        () = end => {}
        _ = interrupt.recv() => tracing::warn!("stopped at once; everything acknowledged is durable"),
        _ = terminate.recv() => tracing::warn!("stopped at once; everything acknowledged is durable"),
    }
    given_up.map_or(Ok(()), Err)
}

/// Returns the failure if the agent ended because it gave up joining the gossip; `None` otherwise.
fn given_up(agent: &Agent) -> Option<Failure> {
    let error = agent.gossip().ok()?.gave_up()?;
    Some(
        Failure::new(error.code(), error.to_string())
            .note("--retry-max says how often it is tried; 0 for ever"),
    )
}

fn not_started(args: &AgentArgs, error: &StartError) -> Failure {
    let failure = Failure::new(error.code(), error.to_string());
    match error {
        StartError::Storage(_) => Failure::advised(error.code(), error.to_string()),
        StartError::Transport(_) => failure.note(match (&args.sync, args.gossip.binds()) {
            (Some(_), _) => "  the address is that of --sync",
            (None, true) => {
                "  the address is that of --bind, with the port for sessions: --sync gives another port"
            }
            (None, false) => "  the address is the one without --sync: give another with it",
        }),
        _ => failure,
    }
}

/// Leaves the gossip, if the agent takes part in it.
async fn leave(agent: &Agent) {
    let Ok(gossip) = agent.gossip() else { return };
    match timeout(LEAVE_LIMIT, gossip.leave()).await {
        Ok(Ok(())) => tracing::info!("left the gossip"),
        Ok(Err(error)) => tracing::debug!("not left: {error}"),
        Err(_) => tracing::warn!("not all members may have heard that this one leaves"),
    }
}

/// Reloads the list of admitted replicas and the certificate. A faulty file changes nothing.
fn reload(args: &AgentArgs, agent: &Agent) {
    match agent.tls().map(ServerTls::reload) {
        Some(Ok(())) => tracing::info!("the certificate was read again"),
        Some(Err(error)) => tracing::error!(code = error.code(), "the certificate stays as it was: {error}"),
        None => {}
    }
    match allow_list(args.allow_peers.as_deref(), Keeper::Program) {
        Ok(allowed) => {
            tracing::info!(admitted = allowed.len(), "the list of admitted replicas was read again");
            agent.peers().set_allowed(allowed);
        }
        Err(failure) => {
            tracing::error!("the list of admitted replicas stays as it was: {}", failure.message())
        }
    }
}

fn data_dir(args: &AgentArgs) -> Result<PathBuf> {
    let dir = args.data_dir.clone().or_else(|| files::from_env("KVGOSSIP_DATA_DIR"));
    dir.ok_or_else(|| {
        Failure::new(codes::USAGE, "no data directory is given")
            .note("write --data-dir DIR, or set KVGOSSIP_DATA_DIR")
    })
}

fn config(args: &AgentArgs, dir: &Path, logs: Option<Logs>) -> Result<Config> {
    let tls = args.access.tls()?;
    let http = match &args.http {
        Some(given) => listen_at("--http", given)?,
        None => address(DEFAULT_HTTP)?,
    };
    args.access.check(http)?;
    let root = args.root.as_deref().ok_or_else(|| {
        Failure::new(codes::USAGE, "no root is given")
            .note("write --root PUB.pem; for trying things out, --dev makes one")
    })?;
    let (key, is_private) = files::public_half(root).map_err(|failure| match failure.code() {
        codes::FILE_READ => failure.note(
            "it is the public key of the cluster's root: `kvgossip keygen -y root.pem > root.pub` where the root key is kept",
        ),
        _ => failure,
    })?;
    if is_private {
        tracing::warn!(
            "{} is a private key, and a replica needs the public one alone: give what `kvgossip keygen -y` prints, and keep \
             root's key elsewhere",
            files::name(root)
        );
    }
    let identity = args.identity.clone().or_else(|| files::from_env("KVGOSSIP_IDENTITY"));
    let identity = identity.as_deref().map(files::signing_key).transpose()?;
    let token = args.access.token()?;
    let read_token = args.access.read_token()?;
    let allowed = allow_list(args.allow_peers.as_deref(), Keeper::Program)?;
    let places = args.gossip.places()?;
    let default_ip = places.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |places| places.public().ip());
    let sync = match &args.sync {
        Some(given) => listen_at("--sync", given)?,
        None => SocketAddr::new(default_ip, DEFAULT_SYNC_PORT),
    };
    GossipArgs::check_sync(places.as_ref(), sync)?;
    let open_target = args.peers.iter().find(|peer| peer.id.is_none());
    if let Some(open) = open_target.filter(|_| allowed.is_empty() && places.is_none()) {
        let message = format!("no replica may answer at {}: none is admitted", open.address);
        return Err(Failure::new(codes::ALLOWED_NOBODY, message)
            .note("write --peer ID@ADDR, or list the ids of your replicas in a file for --allow-peers"));
    }
    make_dir(dir)?;
    let mut config = Config::new(key, replica_key(args.replica_key.as_deref(), dir)?);
    config.identity = identity;
    config.sync = sync;
    config.gossip = args.gossip.config(places, dir, logs)?;
    config.http = Some(http);
    config.tls = tls;
    config.store_dir = Some(dir.join(STORE_DIR));
    config.socket = Some(args.socket.clone().unwrap_or_else(|| dir.join(SOCKET_NAME)));
    (config.token, config.read_token) = (token, read_token);
    config.http_hosts = args.access.hosts();
    config.peers = args.peers.clone();
    config.allowed = allowed;
    config.open_read = args.open_read;
    config.max_store_bytes = args.max_store;
    config.sync_state = Some(dir.join(SYNC_STATE_NAME));
    config.ready_alone = args.ready_alone;
    if let Some(seconds) = args.ready_after {
        config.ready_after = Duration::from_secs(seconds.into());
    }
    if let Some(most) = args.max_connections {
        let most = usize::from(most);
        (config.http_limits.tcp_connections, config.http_limits.socket_connections) = (most, most);
    }
    Ok(config)
}

fn open_store(args: &AgentArgs, dir: &Path, config: &Config) -> Result<Opened> {
    let recovery =
        Recovery { accept_rollback: args.accept_rollback, move_damaged_aside: args.move_damaged_aside };
    let opened = without_words_on_panic(|| kvgossip_agent::open_store(dir, &config.root, recovery));
    let opened =
        opened.map_err(|error| Failure::advised(error.code(), format!("{}: {error}", files::name(dir))))?;
    remember_root(dir, &config.root);
    Ok(opened)
}
