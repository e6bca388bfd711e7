//! `kvgossip agent`: one replica, until it is told to stop.

use super::agent_gossip::GossipArgs;
use crate::codes;
use crate::commands::key;
use crate::dev::Dev;
use crate::error::{Exit, Failure, Result, without_words_on_panic};
use crate::{files, monitor, output};
use clap::{Args, ValueEnum};
use kvgossip_agent::gossip::Logs;
use kvgossip_agent::http::ServerTls;
use kvgossip_agent::{Agent, Config, Opened, PeerTarget, Recovery};
use kvgossip_api::{DEFAULT_HTTP, SOCKET_NAME};
use kvgossip_engine::StorageError;
use kvgossip_grants::{PublicKey, Signer};
use kvgossip_transport::{AllowList, ReplicaKey};
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Some free port of the loopback.
const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// The store's place in the data directory.
const STORE_DIR: &str = "store";
/// Bits of the replica key that is made at the first start.
const REPLICA_KEY_BITS: usize = 2048;
/// Where sessions are taken unless told otherwise.
const DEFAULT_SYNC_PORT: u16 = 7947;

/// The public key of the cluster's root, in the data directory.
pub(crate) const ROOT_NAME: &str = "root.pub.pem";

/// Run one replica of a cluster until Ctrl-C.
///
/// The data directory keeps the store, the replica's key and the socket that the other commands use; it is made
/// at the first start. The agent's log goes to standard error.
///
/// Every option can also be set in the environment (--http as KVGOSSIP_HTTP, a list with commas) and in the file of
/// --config (http = "127.0.0.1:7948"). Options count before the environment, and that before the file.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentArgs {
    /// A file of settings in TOML: the long options without their dashes [env: KVGOSSIP_CONFIG].
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Make a root, an identity, a data directory and free ports for trying things out, and throw all of it away at the end.
    #[arg(long, conflicts_with_all = ["root", "identity", "data_dir", "move_damaged_aside", "accept_rollback"])]
    dev: bool,
    /// Where the replica keeps everything [env: KVGOSSIP_DATA_DIR].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The public key of the cluster's root.
    #[arg(long, value_name = "PUB.pem")]
    root: Option<PathBuf>,
    /// The private key that the replica proves to its peers [default: replica.pem in the data directory, made at the
    /// first start].
    #[arg(long, value_name = "K.pem")]
    replica_key: Option<PathBuf>,
    /// A private key that `set` and `del` may sign with over the socket [env: KVGOSSIP_IDENTITY].
    #[arg(long, value_name = "K.pem")]
    identity: Option<PathBuf>,
    /// Where sessions with peers are taken (UDP) [default: port 7947 at the address of --bind, else
    /// 127.0.0.1:7947].
    #[arg(long, value_name = "ADDR:PORT")]
    sync: Option<SocketAddr>,
    /// Where HTTP is served (TCP); other than on a loopback address only with --tls-cert and --tls-key
    /// [default: 127.0.0.1:7948].
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<SocketAddr>,
    /// The Unix socket of the HTTP API [default: agent.sock in the data directory].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A file with a token that lets requests over TCP do what the socket may.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A certificate to serve HTTPS with instead of HTTP, followed by those that lead to its authority; read again on
    /// SIGHUP.
    #[arg(long, value_name = "CERT.pem")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key.
    #[arg(long, value_name = "KEY.pem")]
    tls_key: Option<PathBuf>,
    /// HTTP connections at a time, over TCP and over the socket each. Every watcher takes one, and every connection a file
    /// descriptor [default: 512 over TCP and 256 over the socket].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: Option<u16>,
    /// A replica to stay connected with: with an id exactly that one, without one any that is admitted. Repeatable.
    #[arg(long = "peer", value_name = "[ID@]ADDR:PORT", value_parser = peer)]
    peers: Vec<PeerTarget>,
    /// A file with the ids of the replicas that are admitted, one a line; read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    allow_peers: Option<PathBuf>,
    /// Let strangers pull everything. They never push.
    #[arg(long)]
    open_read: bool,
    /// Read the whole store, and if it is damaged, or older than it was: keep it as store.damaged-N, begin with an empty
    /// one and let peers fill it. What no peer has is lost.
    #[arg(long)]
    move_damaged_aside: bool,
    /// If the store is older than it was (its last writes are gone): check what is left, go on from there and let peers
    /// bring the rest. What no peer has is lost.
    #[arg(long)]
    accept_rollback: bool,
    /// How the log is written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// How much is written: error, warn, info, debug, trace, off, or a filter by module [env: KVGOSSIP_LOG].
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    // Last: its heading is for whatever follows it.
    #[command(flatten)]
    gossip: GossipArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn address(text: &str) -> Result<SocketAddr> {
    text.parse().map_err(|error| Failure::new(codes::INTERNAL, format!("{text}: {error}")))
}

fn peer(text: &str) -> std::result::Result<PeerTarget, String> {
    text.parse().map_err(|error: kvgossip_agent::ParsePeerError| error.to_string())
}

/// Runs the agent.
pub(crate) fn agent(args: &AgentArgs) -> Result<Exit> {
    // Lines are kept for monitors only if there can be any.
    let logs = args.gossip.serves_rpc().then(Logs::default);
    log_to_stderr(args, logs.clone())?;
    if !args.dev {
        return serve(args, None, logs);
    }
    let dev = Dev::make()?;
    let mut args = args.clone();
    args.data_dir = Some(dev.data_dir());
    args.root = Some(dev.root_path());
    args.identity = Some(dev.identity_path());
    // Beside whatever else runs here.
    args.sync = args.sync.or(Some(FREE));
    args.http = args.http.or(Some(FREE));
    serve(&args, Some(&dev), logs)
}

fn serve(args: &AgentArgs, dev: Option<&Dev>, logs: Option<Logs>) -> Result<Exit> {
    let dir = data_dir(args)?;
    let config = config(args, &dir, logs)?;
    let opened = open_store(args, &dir, &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(codes::INTERNAL, format!("no runtime: {error}")))?;
    runtime.block_on(run(args, config, opened, dev))?;
    // What still blocks a thread has nothing to lose: everything acknowledged is durable.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Ok(Exit::Ok)
}

async fn run(args: &AgentArgs, config: Config, opened: Opened, dev: Option<&Dev>) -> Result<()> {
    let signals = |error: io::Error| Failure::new(codes::INTERNAL, format!("no signals: {error}"));
    let mut hangup = signal(SignalKind::hangup()).map_err(signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let (root, socket) = (config.root.clone(), config.socket.clone().unwrap_or_default());
    let agent = Agent::start_loaded(config, opened.replica, Box::new(opened.storage)).await;
    let agent = agent.map_err(|error| Failure::new(error.code(), error.to_string()))?;
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
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => reload(args, &agent),
            () = agent.told_to_end() => {
                tracing::info!("an RPC client had this agent leave");
                break;
            }
        }
    }
    tracing::info!("stopping");
    tokio::select! {
        () = agent.stop() => {}
        _ = interrupt.recv() => tracing::warn!("stopped at once; everything acknowledged is durable"),
        _ = terminate.recv() => tracing::warn!("stopped at once; everything acknowledged is durable"),
    }
    Ok(())
}

/// Reads the list of admitted replicas and the certificate again. A bad file changes nothing.
fn reload(args: &AgentArgs, agent: &Agent) {
    match agent.tls().map(ServerTls::reload) {
        Some(Ok(())) => tracing::info!("the certificate was read again"),
        Some(Err(error)) => tracing::error!(code = error.code(), "the certificate stays as it was: {error}"),
        None => {}
    }
    match allow_list(args.allow_peers.as_deref()) {
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

pub(super) fn allow_list(path: Option<&Path>) -> Result<AllowList> {
    let Some(path) = path else { return Ok(std::iter::empty().collect()) };
    AllowList::read(path)
        .map_err(|error| Failure::new(codes::ALLOW_LIST, format!("{}: {error}", files::name(path))))
}

fn config(args: &AgentArgs, dir: &Path, logs: Option<Logs>) -> Result<Config> {
    let tls = tls(args)?;
    let http = args.http.map_or_else(|| address(DEFAULT_HTTP), Ok)?;
    if tls.is_none() && !http.ip().is_loopback() {
        let message = format!("HTTP on {http} would be open to the network in clear");
        return Err(Failure::new(codes::HTTP_NOT_LOOPBACK, message)
            .note("give --tls-cert and --tls-key, or a loopback address"));
    }
    let root = args.root.as_deref().ok_or_else(|| {
        Failure::new(codes::USAGE, "no root is given")
            .note("write --root PUB.pem; for trying things out, --dev makes one")
    })?;
    let key = files::public_key(root).map_err(|failure| match failure.code() {
        codes::FILE_READ => failure.note(
            "it is the public key of the cluster's root: `kvgossip keygen -y root.pem > root.pub` where the root key is kept",
        ),
        _ => failure,
    })?;
    if files::holds_private_key(root) {
        tracing::warn!(
            "{} is a private key, and a replica needs the public one alone: give what `kvgossip keygen -y` prints, and keep \
             root's key elsewhere",
            files::name(root)
        );
    }
    let identity = args.identity.clone().or_else(|| files::from_env("KVGOSSIP_IDENTITY"));
    let identity = identity.as_deref().map(files::signing_key).transpose()?;
    let token = args.token_file.as_deref().map(files::token).transpose()?;
    let allowed = allow_list(args.allow_peers.as_deref())?;
    let default_ip = args.gossip.public_address().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
    let sync = args.sync.unwrap_or(SocketAddr::new(default_ip, DEFAULT_SYNC_PORT));
    args.gossip.check_sync(sync)?;
    let open_target = args.peers.iter().find(|peer| peer.id.is_none());
    if let Some(open) = open_target.filter(|_| allowed.is_empty() && args.gossip.public_address().is_none()) {
        let message = format!("no replica may answer at {}: none is admitted", open.address);
        return Err(Failure::new(codes::ALLOWED_NOBODY, message)
            .note("write --peer ID@ADDR, or list the ids of your replicas in a file for --allow-peers"));
    }
    make_dir(dir)?;
    let mut config = Config::new(key, replica_key(args.replica_key.as_deref(), dir)?);
    config.identity = identity;
    config.sync = sync;
    config.gossip = args.gossip.config(dir, logs)?;
    config.http = Some(http);
    config.tls = tls;
    config.store_dir = Some(dir.join(STORE_DIR));
    config.socket = Some(args.socket.clone().unwrap_or_else(|| dir.join(SOCKET_NAME)));
    config.token = token.map(|token| token.as_str().to_owned());
    config.peers = args.peers.clone();
    config.allowed = allowed;
    config.open_read = args.open_read;
    if let Some(most) = args.max_connections {
        let most = usize::from(most);
        (config.http_limits.tcp_connections, config.http_limits.socket_connections) = (most, most);
    }
    Ok(config)
}

/// The certificate and its key, if HTTP is to be served with TLS.
fn tls(args: &AgentArgs) -> Result<Option<ServerTls>> {
    let (cert, key) = match (&args.tls_cert, &args.tls_key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        _ => return Err(Failure::new(codes::USAGE, "--tls-cert and --tls-key go together")),
    };
    let loaded = ServerTls::load(cert, key).map_err(|error| Failure::new(error.code(), error.to_string()));
    loaded.map(Some)
}

/// Made for this user alone: it holds the replica's private key.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        Failure::new(
            codes::FILE_WRITE,
            format!("the data directory {} cannot be made: {error}", files::name(dir)),
        )
    })
}

/// The replica's key: the given one, or the one in the data directory, made if it is not there.
pub(super) fn replica_key(given: Option<&Path>, dir: &Path) -> Result<ReplicaKey> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => {
            let path = dir.join("replica.pem");
            if !path.exists() {
                tracing::info!("making the replica's key, {}", path.display());
                let (_, pem) = key::generate(REPLICA_KEY_BITS)?;
                files::create(&path, files::Readers::Owner, pem.as_bytes())?;
            }
            path
        }
    };
    // Read as a signing key first, for its clear errors.
    let signing = files::signing_key(&path)?;
    tracing::debug!(bits = signing.public().bits(), "replica key {}", path.display());
    let pem = std::fs::read(&path)
        .map_err(|error| Failure::new(codes::FILE_READ, format!("{}: {error}", files::name(&path))))?;
    ReplicaKey::from_pem(&pem)
        .map_err(|error| Failure::new(codes::PEM_INVALID, format!("{}: {error}", files::name(&path))))
}

fn open_store(args: &AgentArgs, dir: &Path, config: &Config) -> Result<Opened> {
    let recovery =
        Recovery { accept_rollback: args.accept_rollback, move_damaged_aside: args.move_damaged_aside };
    let opened = without_words_on_panic(|| kvgossip_agent::open_store(dir, &config.root, recovery));
    let opened = opened.map_err(|error| {
        let failure = Failure::new(error.code(), format!("{}: {error}", files::name(dir)));
        match error {
            StorageError::RolledBack { .. } => failure
                .note("--accept-rollback goes on from what is left, and peers bring the rest")
                .note(MOVE_ASIDE),
            StorageError::Damaged(_) => failure.note(MOVE_ASIDE),
            _ => failure,
        }
    })?;
    remember_root(dir, &config.root);
    Ok(opened)
}

const MOVE_ASIDE: &str = "--move-damaged-aside keeps this store under another name and begins with an empty one, which \
                          peers fill; what no peer has is lost";

/// Leaves the root's public key beside the store, for commands that work on the directory. It is checked against
/// the store's cluster by whoever reads it.
pub(super) fn remember_root(dir: &Path, root: &PublicKey) {
    let (path, pem) = (dir.join(ROOT_NAME), root.to_pem());
    if std::fs::read(&path).is_ok_and(|there| there == pem.as_bytes()) {
        return;
    }
    if let Err(error) = std::fs::write(&path, pem) {
        tracing::warn!("{}: {error}", path.display());
    }
}

fn log_to_stderr(args: &AgentArgs, logs: Option<Logs>) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log_level).map_err(|error| {
        Failure::new(codes::LOG_FILTER, format!("{:?} is no log level: {error}", args.log_level)).note(
            "give error, warn, info, debug, trace or off; or a filter such as info,kvgossip_agent=debug",
        )
    })?;
    // A log that nobody takes any more is no reason to stop: the default would panic.
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let log = log.with_ansi(io::stderr().is_terminal());
    let log = match args.log_format {
        LogFormat::Text => log.with_target(false).boxed(),
        LogFormat::Json => log.json().boxed(),
    };
    tracing_subscriber::registry().with(filter).with(log).with(logs.map(monitor::layer)).init();
    Ok(())
}
