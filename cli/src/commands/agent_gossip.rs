//! What `kvgossip agent` is told about gossip.

use super::members::{join_target, pair};
use crate::codes;
use crate::error::{Failure, Result};
use crate::files;
use clap::Args;
use kvgossip_agent::gossip::{
    AuthKey, DEFAULT_GOSSIP_PORT, DEFAULT_RPC_PORT, GossipConfig, JoinTarget, Logs, RpcConfig, RpcOptions,
    read_keyring,
};
use kvgossip_membership::{Key, Keyring};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The file in the data directory by which a member finds the others again after a restart.
const SNAPSHOT_NAME: &str = "gossip-members";

/// Options of gossip.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Gossip")]
pub(crate) struct GossipArgs {
    /// Take part in gossip, listening here (UDP and TCP) [default port: 7946].
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = address)]
    bind: Option<SocketAddr>,
    /// The address that others are told, if it is another one.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = address)]
    advertise: Option<SocketAddr>,
    /// A member to join; it is tried until one answers. Repeatable.
    #[arg(long = "join", value_name = "HOST[:PORT]", value_parser = join_target)]
    join: Vec<JoinTarget>,
    /// The member's name, unique in the cluster [default: kvgossip- and eight digits of the replica's id].
    #[arg(long)]
    name: Option<String>,
    /// A tag that others can see. Repeatable.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// The cluster's gossip key in base64, as `serf keygen` prints it. Other users of this machine can see it here:
    /// better use --keyring.
    #[arg(long, value_name = "KEY", value_parser = key, conflicts_with = "keyring")]
    encrypt: Option<Key>,
    /// A file with the cluster's gossip keys: a JSON list of base64 texts, the first encrypts. Changes of the keys by
    /// other members are stored there.
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Gossip in clear on an address that is not loopback: whoever reaches the port can forge members, and so be
    /// admitted to read everything.
    #[arg(long)]
    plaintext_gossip: bool,
    /// Serve Serf's RPC here (TCP), for `serf members -rpc-addr=ADDR:PORT` and its kin; other than on a loopback address
    /// only with --rpc-auth-file [default port: 7373].
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = rpc_address)]
    rpc: Option<SocketAddr>,
    /// A file with the key that clients of --rpc have to give (`serf -rpc-auth=KEY`). Without it every user of this machine
    /// may do what Serf's RPC can: list the gossip keys, change the tags, end this agent.
    #[arg(long, value_name = "FILE")]
    rpc_auth_file: Option<PathBuf>,
}

fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    address_or_port(text, DEFAULT_GOSSIP_PORT)
}

fn rpc_address(text: &str) -> std::result::Result<SocketAddr, String> {
    address_or_port(text, DEFAULT_RPC_PORT)
}

fn address_or_port(text: &str, port: u16) -> std::result::Result<SocketAddr, String> {
    let ip = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    let malformed = |_| format!("{text:?} is no address: give ADDR or ADDR:PORT, such as 10.0.0.2:{port}");
    text.parse().or_else(|_| ip()).map_err(malformed)
}

fn key(text: &str) -> std::result::Result<Key, String> {
    // The key itself is not repeated.
    Key::from_base64(text).map_err(|error| error.to_string())
}

impl GossipArgs {
    /// Where members are told to send to; none without gossip.
    pub(crate) fn public_address(&self) -> Option<SocketAddr> {
        self.advertise.or(self.bind)
    }

    /// Refuses a place for sessions that the members could not find.
    pub(crate) fn check_sync(&self, sync: SocketAddr) -> Result<()> {
        let Some(public) = self.public_address() else { return Ok(()) };
        if sync.ip().is_unspecified() || sync.ip() == public.ip() || public.ip().is_unspecified() {
            return Ok(());
        }
        let message =
            format!("members dial the address of gossip, {}, but sessions are taken on {sync}", public.ip());
        Err(Failure::new(codes::SYNC_ELSEWHERE, message)
            .note(format!("write --sync {}, or leave it out", SocketAddr::new(public.ip(), sync.port()))))
    }

    /// An option that means nothing without --bind.
    fn without_bind(&self) -> Option<&'static str> {
        let given = [
            (self.advertise.is_some(), "--advertise"),
            (!self.join.is_empty(), "--join"),
            (self.name.is_some(), "--name"),
            (!self.tags.is_empty(), "--tag"),
            (self.encrypt.is_some(), "--encrypt"),
            (self.keyring.is_some(), "--keyring"),
            (self.plaintext_gossip, "--plaintext-gossip"),
            (self.rpc.is_some(), "--rpc"),
            (self.rpc_auth_file.is_some(), "--rpc-auth-file"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }

    /// Whether Serf's tools may come.
    pub(crate) fn serves_rpc(&self) -> bool {
        self.rpc.is_some()
    }

    /// How Serf's RPC is to be served.
    fn rpc(&self, logs: Option<Logs>) -> Result<Option<RpcConfig>> {
        let Some(address) = self.rpc else {
            return match &self.rpc_auth_file {
                Some(_) => {
                    Err(Failure::new(codes::USAGE, "--rpc-auth-file is about RPC, and RPC needs --rpc")
                        .note("write --rpc ADDR, where Serf's tools are to reach this agent"))
                }
                None => Ok(None),
            };
        };
        let mut options = RpcOptions::new(address);
        if let Some(path) = &self.rpc_auth_file {
            options.auth = AuthKey::new(files::token(path)?.as_str().as_bytes());
            files::warn_if_shared(path, "key");
        }
        Ok(Some(RpcConfig { options, logs }))
    }

    /// What the agent is to do.
    pub(crate) fn config(&self, dir: &Path, logs: Option<Logs>) -> Result<Option<GossipConfig>> {
        let Some(bind) = self.bind else {
            // Settings may come from several places: what belongs together is looked at when all are known.
            return match self.without_bind() {
                Some(option) => {
                    let message = format!("{option} is about gossip, and gossip needs --bind");
                    Err(Failure::new(codes::USAGE, message)
                        .note("write --bind ADDR, where this agent is reached"))
                }
                None => Ok(None),
            };
        };
        let mut config = GossipConfig::new(bind);
        config.keyring = match (&self.encrypt, &self.keyring) {
            (Some(key), _) => Some(Keyring::new(key.clone())),
            (None, Some(path)) => {
                Some(read_keyring(path).map_err(|error| Failure::new(codes::KEYRING, error.to_string()))?)
            }
            (None, None) => None,
        };
        config.keyring_file = self.keyring.clone();
        config.name = self.name.clone();
        config.advertise = self.advertise;
        config.tags = self.tags.iter().cloned().collect();
        config.join = self.join.clone();
        config.plaintext = self.plaintext_gossip;
        config.rpc = self.rpc(logs)?;
        config.snapshot = Some(dir.join(SNAPSHOT_NAME));
        Ok(Some(config))
    }
}
