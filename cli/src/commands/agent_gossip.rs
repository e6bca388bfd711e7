//! Options of `kvgossip agent` for gossip.

use super::agent_serf::SerfArgs;
use super::members::{join_target, pair};
use crate::codes;
use crate::error::{Failure, Result};
use crate::files;
use crate::{text, time};
use clap::Args;
use kvgossip_agent::gossip::{
    AuthKey, DEFAULT_GOSSIP_PORT, DEFAULT_RPC_PORT, Discover, GossipConfig, JoinTarget, Logs, Retry,
    RpcConfig, RpcOptions, read_keyring,
};
use kvgossip_agent::{Address, NetworkInterface, Resolver};
use kvgossip_membership::{Key, Keyring};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in the data directory in which a member remembers the other members across restarts.
const SNAPSHOT_NAME: &str = "gossip-members";

/// Options of gossip.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Gossip")]
pub(crate) struct GossipArgs {
    /// Take part in gossip, listening here (UDP and TCP) [default port: 7946].
    #[arg(long, value_name = "HOST[:PORT]", value_parser = address)]
    bind: Option<Address>,
    /// Take part in gossip, listening at an address of this network interface: its first one, IPv4 before IPv6, at the
    /// port of --bind 0.0.0.0:PORT. If --bind names an address, the interface has to have that one.
    #[arg(long, value_name = "NAME")]
    iface: Option<String>,
    /// The address to announce to others, if it differs [default with --bind 0.0.0.0: the one that leads to the
    /// members to join, or else to everywhere].
    #[arg(long, value_name = "HOST[:PORT]", value_parser = address)]
    advertise: Option<Address>,
    /// A member to join. All addresses of a name are tried, repeatedly while this member is alone. Repeatable.
    #[arg(long = "join", value_name = "HOST[:PORT]", value_parser = join_target)]
    join: Vec<JoinTarget>,
    /// Wait between attempts to join; 1s to 1h [default: waits that grow from half a second to 30s].
    #[arg(long, value_name = "DURATION", value_parser = retry_interval)]
    retry_interval: Option<Duration>,
    /// End with an error if no member has answered in this many rounds of joining at the start; 0 for never [default:
    /// 0].
    #[arg(long, value_name = "N", value_parser = text::whole::<u32>)]
    retry_max: Option<u32>,
    /// Find members by multicast (mDNS), and be found by them: all that are started with the same name on the same
    /// network, including Serf's agents (-discover). The agent joins the members that it finds, repeatedly while it is
    /// alone. The network is that of --iface, or of the address of --bind.
    #[arg(long, value_name = "NAME", value_parser = discover)]
    discover: Option<Discover>,
    /// The member's name, unique in the cluster [default: the host's name, - and eight digits of the replica's id].
    #[arg(long)]
    name: Option<String>,
    /// A tag that others can see. Repeatable.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// The cluster's gossip key in base64, as `serf keygen` prints it. Other users of this machine can see it here:
    /// prefer --keyring.
    #[arg(long, value_name = "KEY", value_parser = key, conflicts_with = "keyring")]
    encrypt: Option<Key>,
    /// A file with the cluster's gossip keys: a JSON list of base64 texts, of which the first encrypts. The agent
    /// stores changes of the keys by other members there.
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Allow gossip in clear on an address outside loopback: whoever reaches the port can forge members, and so be
    /// admitted to read everything.
    #[arg(long)]
    plaintext_gossip: bool,
    /// Leave the gossip on SIGTERM. Without this option, the others take the end of the agent for a failure until it
    /// is back as the same member.
    #[arg(long)]
    leave_on_terminate: bool,
    /// Do not leave the gossip on Ctrl-C (SIGINT). Without this option the agent leaves.
    #[arg(long)]
    skip_leave_on_interrupt: bool,
    /// Serve Serf's RPC at this address (TCP), for commands such as `serf members -rpc-addr=ADDR:PORT`; outside
    /// loopback only with --rpc-auth-file [default port: 7373].
    #[arg(long, value_name = "HOST[:PORT]", value_parser = rpc_address)]
    rpc: Option<Address>,
    /// A file with the key that clients of --rpc have to give (`serf -rpc-auth=KEY`). Without this option every user
    /// of this machine may do what Serf's RPC can: list the gossip keys, change the tags, end this agent.
    #[arg(long, value_name = "FILE")]
    rpc_auth_file: Option<PathBuf>,
    #[command(flatten)]
    serf: SerfArgs,
}

fn address(text: &str) -> std::result::Result<Address, String> {
    Address::parse(text, DEFAULT_GOSSIP_PORT).map_err(|error| error.to_string())
}

fn rpc_address(text: &str) -> std::result::Result<Address, String> {
    Address::parse(text, DEFAULT_RPC_PORT).map_err(|error| error.to_string())
}

fn discover(text: &str) -> std::result::Result<Discover, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn retry_interval(text: &str) -> std::result::Result<Duration, String> {
    let wait = time::duration(text).map_err(|fault| fault.to_string())?;
    match (Retry::MIN_INTERVAL..=Retry::MAX_INTERVAL).contains(&wait) {
        true => Ok(wait),
        false => Err("1s to 1h are allowed".to_owned()),
    }
}

/// Resolves the address that `option` gives to listen at, now.
pub(super) fn listen_at(option: &str, address: &Address) -> Result<SocketAddr> {
    address.local(&Resolver::default()).map_err(|error| {
        Failure::new(codes::AGENT_ADDRESS, format!("{option} {address} is no place to listen at: {error}"))
    })
}

/// Addresses of the gossip: where the agent listens, and what it announces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    bind: SocketAddr,
    advertise: Option<SocketAddr>,
}

impl Places {
    /// Returns the address that members send to, as far as it is known before the start.
    pub(super) fn public(&self) -> SocketAddr {
        self.advertise.unwrap_or(self.bind)
    }
}

fn key(text: &str) -> std::result::Result<Key, String> {
    // The error message does not repeat the key.
    Key::from_base64(text).map_err(|error| error.to_string())
}

impl GossipArgs {
    /// Whether there are members to join, or a way to discover them.
    pub(super) fn joins(&self) -> bool {
        !self.join.is_empty() || self.discover.is_some()
    }

    /// Returns the addresses of gossip, with names looked up; `None`: no gossip.
    pub(super) fn places(&self) -> Result<Option<Places>> {
        let Some(bind) = self.listen_at()? else { return Ok(None) };
        let advertise = self.advertise.as_ref().map(|address| {
            let found = address.look_up(&Resolver::default());
            let fits = |found: &Vec<SocketAddr>| {
                found.iter().find(|found| found.is_ipv4() == bind.is_ipv4()).or(found.first()).copied()
            };
            found.ok().as_ref().and_then(fits).ok_or_else(|| {
                Failure::new(codes::AGENT_ADDRESS, format!("--advertise {address} leads to no address"))
            })
        });
        Ok(Some(Places { bind, advertise: advertise.transpose()? }))
    }

    /// Returns the listening address of the gossip; `None`: no gossip.
    fn listen_at(&self) -> Result<Option<SocketAddr>> {
        let bind = self.bind.as_ref().map(|bind| listen_at("--bind", bind)).transpose()?;
        let Some(interface) = self.interface()? else { return Ok(bind) };
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DEFAULT_GOSSIP_PORT);
        let at = interface.listen_at(bind.unwrap_or(any));
        at.map(Some).map_err(|error| Failure::new(codes::AGENT_ADDRESS, format!("--iface: {error}")))
    }

    fn interface(&self) -> Result<Option<NetworkInterface>> {
        let found = self.iface.as_deref().map(NetworkInterface::named).transpose();
        found.map_err(|error| Failure::new(codes::AGENT_ADDRESS, format!("--iface: {error}")))
    }

    /// Returns the limits on retrying to join members.
    fn retry(&self) -> Result<Retry> {
        let given =
            [(self.retry_interval.is_some(), "--retry-interval"), (self.retry_max.is_some(), "--retry-max")];
        if let Some((_, option)) = given.iter().find(|(given, _)| *given && self.join.is_empty()) {
            let message = format!("{option} is about joining, and nobody is to be joined");
            return Err(Failure::new(codes::USAGE, message).note("write --join ADDR, or leave it out"));
        }
        Ok(Retry { interval: self.retry_interval, most: self.retry_max.unwrap_or_default() })
    }

    /// Rejects a session address at which members could not reach this agent.
    pub(super) fn check_sync(places: Option<&Places>, sync: SocketAddr) -> Result<()> {
        let Some(public) = places.map(Places::public) else { return Ok(()) };
        if sync.ip().is_unspecified() || sync.ip() == public.ip() || public.ip().is_unspecified() {
            return Ok(());
        }
        let message =
            format!("members dial the address of gossip, {}, but sessions are taken on {sync}", public.ip());
        Err(Failure::new(codes::SYNC_ELSEWHERE, message)
            .note(format!("write --sync {}, or leave it out", SocketAddr::new(public.ip(), sync.port()))))
    }

    /// Whether a listening address for gossip is given.
    pub(super) fn binds(&self) -> bool {
        self.bind.is_some() || self.iface.is_some()
    }

    /// Returns the name of an option on the command line that has no meaning without --bind; `None` if there is none.
    fn without_bind(&self) -> Option<&'static str> {
        let given = [
            (self.advertise.is_some(), "--advertise"),
            (!self.join.is_empty(), "--join"),
            (self.retry_interval.is_some(), "--retry-interval"),
            (self.retry_max.is_some(), "--retry-max"),
            (self.discover.is_some(), "--discover"),
            (self.name.is_some(), "--name"),
            (!self.tags.is_empty(), "--tag"),
            (self.encrypt.is_some(), "--encrypt"),
            (self.keyring.is_some(), "--keyring"),
            (self.plaintext_gossip, "--plaintext-gossip"),
            (self.leave_on_terminate, "--leave-on-terminate"),
            (self.skip_leave_on_interrupt, "--skip-leave-on-interrupt"),
            (self.rpc.is_some(), "--rpc"),
            (self.rpc_auth_file.is_some(), "--rpc-auth-file"),
        ];
        given
            .into_iter()
            .find(|(given, _)| *given)
            .map(|(_, option)| option)
            .or_else(|| self.serf.without_bind())
    }

    /// Whether the agent leaves on SIGTERM; Serf's default is no.
    pub(crate) fn leaves_on_terminate(&self) -> bool {
        self.leave_on_terminate
    }

    /// Whether the agent leaves on SIGINT; Serf's default is yes.
    pub(crate) fn leaves_on_interrupt(&self) -> bool {
        !self.skip_leave_on_interrupt
    }

    /// Whether Serf's RPC is served.
    pub(crate) fn serves_rpc(&self) -> bool {
        self.rpc.is_some()
    }

    /// Returns the settings of Serf's RPC; `None` if --rpc is not given.
    fn rpc(&self, logs: Option<Logs>) -> Result<Option<RpcConfig>> {
        let Some(address) = &self.rpc else {
            return match &self.rpc_auth_file {
                Some(_) => {
                    Err(Failure::new(codes::USAGE, "--rpc-auth-file is about RPC, and RPC needs --rpc")
                        .note("write --rpc ADDR, where Serf's tools are to reach this agent"))
                }
                None => Ok(None),
            };
        };
        let mut options = RpcOptions::new(listen_at("--rpc", address)?);
        if let Some(path) = &self.rpc_auth_file {
            options.auth = AuthKey::new(files::token(path)?.as_str().as_bytes());
            files::warn_if_shared(path, "key");
        }
        Ok(Some(RpcConfig { options, logs }))
    }

    /// Returns the configuration of the gossip from the options.
    pub(super) fn config(
        &self,
        places: Option<Places>,
        dir: &Path,
        logs: Option<Logs>,
    ) -> Result<Option<GossipConfig>> {
        let Some(places) = places else {
            // Settings may come from several sources: dependencies between them are checked when all are known.
            return match self.without_bind() {
                Some(option) => {
                    let message = format!("{option} is about gossip, and gossip needs --bind");
                    Err(Failure::new(codes::USAGE, message)
                        .note("write --bind ADDR, where this agent is reached"))
                }
                None => Ok(None),
            };
        };
        let mut config = GossipConfig::new(places.bind);
        config.keyring = match (&self.encrypt, &self.keyring) {
            (Some(key), _) => Some(Keyring::new(key.clone())),
            (None, Some(path)) => {
                Some(read_keyring(path).map_err(|error| Failure::new(codes::KEYRING, error.to_string()))?)
            }
            (None, None) => None,
        };
        config.keyring_file = self.keyring.clone();
        config.name = self.name.clone();
        config.advertise = places.advertise;
        config.tags =
            self.tags.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
        config.join = self.join.clone();
        config.retry = self.retry()?;
        config.discover = match (self.discover.clone(), self.interface()?) {
            (Some(discover), Some(interface)) => Some(discover.at(&interface)),
            (discover, _) => discover,
        };
        config.plaintext = self.plaintext_gossip;
        config.rpc = self.rpc(logs)?;
        config.snapshot = Some(dir.join(SNAPSHOT_NAME));
        self.serf.apply(&mut config)?;
        Ok(Some(config))
    }
}
