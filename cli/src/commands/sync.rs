//! `sync`: runs a session with a peer, by a running agent, or on a data directory that no agent has open.

use super::agent_files::{ROOT_NAME, allow_list, make_dir, remember_root, replica_key};
use crate::codes;
use crate::connect::{AgentArgs, converse, stopped_by_signal};
use crate::error::{Exit, Failure, Result, without_words_on_panic};
use crate::files::{self, Keeper};
use crate::output::{self, Format, counted, printable, say, short, table};
use crate::progress::SILENCE;
use crate::text::show_bytes;
use crate::{text, time};
use clap::Args;
use kvgossip_agent::{Agent, Config, Opened, PeerTarget, Recovery, Resolver, SYNC_STATE_NAME};
use kvgossip_api::{SOCKET_NAME, SyncOutcome, SyncReport, TrafficRow};
use kvgossip_client::{ClientError, Endpoint};
use kvgossip_grants::{PathPrefix, PublicKey};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Default timeout of `sync`.
const SYNC_TIMEOUT: Duration = Duration::from_secs(3600);
/// Code by which a peer refuses a replica that is not admitted.
const NOT_ADMITTED: &str = "peer.not_admitted";

/// Sync with a peer now.
///
/// The agent runs the session. If no agent runs, and --data-dir names a directory, this process runs the session on
/// that directory. Ends with 7 if the two still differ afterwards.
#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// The peer: ADDR:PORT or ID@ADDR:PORT; while an agent runs, also the beginning of a connected peer's id.
    peer: String,
    /// Sync only the entries under this path prefix, and all grants.
    #[arg(value_parser = text::prefix)]
    prefix: Option<PathPrefix>,
    /// Without an agent: the public key of the cluster's root [default: root.pub.pem in the data directory].
    #[arg(long, value_name = "PUB.pem", help_heading = "Without an agent")]
    root: Option<PathBuf>,
    /// Without an agent: the private key that the replica proves to its peer [default: replica.pem in the data directory,
    /// made if it is not there].
    #[arg(long, value_name = "K.pem", help_heading = "Without an agent")]
    replica_key: Option<PathBuf>,
    /// Without an agent: a file with the ids of the admitted replicas, one a line. Not needed for ID@ADDR:PORT.
    #[arg(long, value_name = "FILE", help_heading = "Without an agent")]
    allow_peers: Option<PathBuf>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs `sync`.
pub(crate) fn sync(args: &SyncArgs, format: Format) -> Result<Exit> {
    let limit = args.agent.timeout_or(SYNC_TIMEOUT);
    let report = match by_agent(args, limit)? {
        Some(report) => report,
        None => by_ourselves(args, limit)?,
    };
    match format {
        Format::Json => output::json(&report)?,
        Format::Text => output::text(&report_text(&report))?,
    }
    match report.outcome {
        SyncOutcome::Equal => Ok(Exit::Ok),
        SyncOutcome::Unsettled => Ok(Exit::TimedOut),
        SyncOutcome::Busy | SyncOutcome::Failed => Err(failed(&report)),
    }
}

/// Returns the failure of a session that failed.
fn failed(report: &SyncReport) -> Failure {
    let code = report.reasons.first().map_or(codes::INTERNAL, String::as_str);
    let help = codes::help(code).map_or(String::new(), |help| format!(": {help}"));
    let text = format!("the session with {} {}{help}", short(&report.peer), report.outcome);
    Failure::with_exit(code, text, codes::exit(code).unwrap_or(Exit::Error))
}

/// Lets the agent sync; `None`: no agent listens at the named data directory.
fn by_agent(args: &SyncArgs, limit: Duration) -> Result<Option<SyncReport>> {
    let client = args.agent.client()?;
    let named =
        args.agent.named_dir().is_some_and(|dir| *client.endpoint() == Endpoint::Unix(dir.join(SOCKET_NAME)));
    converse(&client, async {
        match client.sync(&args.peer, args.prefix.as_ref(), limit).await {
            Ok(report) => Ok(Some(report)),
            Err(ClientError::Unreachable { source, .. }) if named && is_absent(&source) => Ok(None),
            Err(error) => Err(hint_at_lists(error.into())),
        }
    })
}

/// Adds to a failure, where one of two replicas does not admit the other, what to do about it.
pub(super) fn hint_at_lists(failure: Failure) -> Failure {
    match failure.code() {
        NOT_ADMITTED => failure.note(
            "list each replica's id in the other's --allow-peers file, or have both take part in the same gossip (--bind, \
             --join)",
        ),
        _ => failure,
    }
}

/// Whether no agent listens, as opposed to one that this user may not access.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

/// Runs a session in this process on the data directory, locked against agents.
fn by_ourselves(args: &SyncArgs, limit: Duration) -> Result<SyncReport> {
    let dir = args.agent.named_dir().unwrap_or_default();
    let root = root_of(args, &dir)?;
    let peer: PeerTarget = args.peer.parse().map_err(|error| {
        Failure::new("peer.malformed", format!("without an agent the peer is named by its address: {error}"))
    })?;
    let allowed = allow_list(args.allow_peers.as_deref(), Keeper::Person)?;
    if peer.id.is_none() && allowed.is_empty() {
        let text = format!("no replica may answer at {}: none is admitted", peer.address);
        return Err(Failure::new(codes::ALLOWED_NOBODY, text)
            .note("write ID@ADDR:PORT, or list the ids of your replicas in a file for --allow-peers"));
    }
    let found = peer.address.look_up(&Resolver::default()).map_err(|error| {
        Failure::new("peer.cannot_dial", format!("{} is not found: {error}", peer.address))
    })?;
    if !dir.exists() {
        say(&format!("{} is not there yet: a new replica begins in it", files::name(&dir)));
    }
    make_dir(&dir)?;
    let key = replica_key(args.replica_key.as_deref(), &dir)?;
    let id = key.id();
    let opened = without_words_on_panic(|| kvgossip_agent::open_store(&dir, &root, Recovery::default()))
        .map_err(|error| Failure::advised(error.code(), format!("{}: {error}", files::name(&dir))))?;
    remember_root(&dir, &root);
    let mut config = Config::new(root, key);
    config.sync = any_port_towards(&found);
    config.http = None;
    (config.sync_state, config.expects_others) = (Some(dir.join(SYNC_STATE_NAME)), true);
    config.allowed = allowed;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(codes::INTERNAL, format!("cannot start: {error}")))?;
    let report = runtime.block_on(session(config, opened, args, limit));
    report.map_err(|failure| match failure.code() {
        NOT_ADMITTED => failure.note(format!("this replica's id is {id}: list it at the peer, too")),
        _ => failure,
    })
}

fn root_of(args: &SyncArgs, dir: &Path) -> Result<PublicKey> {
    if let Some(path) = &args.root {
        return files::root_key(path);
    }
    let kept = dir.join(ROOT_NAME);
    if files::stands(&kept) {
        return files::kept_public_key(&kept);
    }
    let text =
        format!("no agent listens in {}, and it does not say whose cluster it belongs to", files::name(dir));
    Err(Failure::new("agent.unreachable", text).note(
        "start the agent, or name the public key of the cluster's root with --root to sync without one",
    ))
}

/// Returns the local address to receive a peer's answers at: a loopback address if all its addresses are.
fn any_port_towards(found: &[SocketAddr]) -> SocketAddr {
    let v4 = || found.iter().filter(|address| address.is_ipv4());
    let only_v4 = v4().count() == found.len();
    let both: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
    // A dual-stack socket, where the system has one, reaches addresses of both families.
    let mixed = v4().next().is_some() && !only_v4;
    if mixed && std::net::UdpSocket::bind(both).is_ok() {
        return both;
    }
    let loopback = found.iter().all(|address| address.ip().is_loopback());
    let ip: IpAddr = match (only_v4 || mixed, loopback) {
        (true, true) => Ipv4Addr::LOCALHOST.into(),
        (true, false) => Ipv4Addr::UNSPECIFIED.into(),
        (false, true) => Ipv6Addr::LOCALHOST.into(),
        (false, false) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

async fn session(config: Config, opened: Opened, args: &SyncArgs, limit: Duration) -> Result<SyncReport> {
    let agent = Agent::start_loaded(config, opened.replica, Box::new(opened.storage)).await;
    let agent = agent.map_err(|error| Failure::new(error.code(), error.to_string()))?;
    let prefix = args.prefix.clone().unwrap_or_else(PathPrefix::root);
    let done = {
        let work = tokio::time::timeout(limit, agent.sync_with(&args.peer, prefix));
        tokio::pin!(work);
        let patient = async {
            if let Ok(done) = tokio::time::timeout(SILENCE, &mut work).await {
                return done;
            }
            say(&format!("syncing with {}…", args.peer));
            work.await
        };
        tokio::select! {
            biased;
            signal = stopped_by_signal() => Err(signal?.note("what was merged stays; the next sync moves only the rest")),
            done = patient => Ok(done),
        }
    };
    agent.stop().await;
    match done? {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(Failure::new(error.code, error.message)),
        Err(_) => Err(Failure::new(
            "session.cancelled",
            format!(
                "not done within {} s; what was merged stays; give it more time with --timeout",
                limit.as_secs_f64()
            ),
        )),
    }
}

/// Describes a reason of a session report: why the two replicas do not hold the same facts.
fn why(reason: &str) -> &str {
    match reason {
        "not_yet" => "entries are ahead of a replica's clock, and wait there (not_yet)",
        "refused" => "facts were refused; see `kvgossip refusals` on both sides (refused)",
        "unjustified" => "facts lack the grants that they depend on (unjustified)",
        "truncated" => "more differs than one session can name; sync again (truncated)",
        "read_only" => "one side only reads, so what it has more stays there (read_only)",
        "unreadable" => {
            "a replica cannot read all of its store; see `kvgossip status` on both sides (unreadable)"
        }
        other => other,
    }
}

fn report_text(report: &SyncReport) -> String {
    let peer = short(&report.peer);
    let reasons: Vec<_> = report.reasons.iter().map(|reason| why(reason)).collect();
    let reasons = reasons.join("; ");
    let outcome = match report.outcome {
        SyncOutcome::Equal => format!("equal with {peer}"),
        SyncOutcome::Unsettled if report.reasons.is_empty() => {
            format!("still different from {peer}: something was written meanwhile")
        }
        SyncOutcome::Unsettled => format!("still different from {peer}: {reasons}"),
        SyncOutcome::Busy | SyncOutcome::Failed => {
            format!("{} with {peer}: {reasons}", report.outcome)
        }
    };
    let mut text = printable(&outcome) + "\n";
    let way = |name: &str, traffic: &TrafficRow| {
        [
            name.to_owned(),
            format!("{} ({})", counted(traffic.entry_facts, "entry", "entries"), show_bytes(traffic.entries)),
            format!(
                "{} ({})",
                counted(traffic.authority_facts, "authority fact", "authority facts"),
                show_bytes(traffic.authority)
            ),
            format!("{} of overhead", show_bytes(traffic.overhead)),
        ]
    };
    text.push_str(&table([""; 4], &[way("sent", &report.sent), way("received", &report.received)]));
    let took = time::show_duration(report.took_us);
    text.push_str(&format!(
        "{} merged here, {} received without effect; {took}, {}, {}\n",
        report.merged,
        show_bytes(report.waste),
        counted(report.flights.into(), "flight", "flights"),
        counted(report.rounds.into(), "round", "rounds")
    ));
    text
}
