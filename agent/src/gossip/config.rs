//! The gossip configuration of an agent.

use super::handlers::MAX_HANDLERS;
use super::{Discover, EventHandler, GossipError, JoinTarget, Retry, RpcConfig, tags};
use crate::address::{Resolver, towards};
use crate::peers::Peers;
use kvgossip_grants::{ClusterId, ReplicaId};
use kvgossip_membership::{Framing, IpNet, Keyring, Limits, Options, Tags, Timing, driver::LinkFilter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Maximum number of characters of the host name in a member name; with the digits it stays below Serf's limit of
/// 128.
const MAX_HOST_LEN: usize = 100;

/// The gossip configuration of an agent.
#[derive(Clone)]
pub struct GossipConfig {
    /// Member name, unique in the cluster; `None`: the name by [`default_name`].
    pub name: Option<String>,
    /// Listening address, UDP and TCP; port 0 picks a free port.
    pub bind: SocketAddr,
    /// Address that other members send to, if it differs from `bind`. If it is `None` and `bind` is unspecified, it
    /// is the local address used towards the members to join, or else towards the internet.
    pub advertise: Option<SocketAddr>,
    /// Tags of this member, in addition to those that the agent sets itself.
    pub tags: Tags,
    /// Members to join at the start; joining is retried until each of them has answered.
    pub join: Vec<JoinTarget>,
    /// Limits on retrying to join.
    pub retry: Retry,
    /// Discovery by multicast; `None`: off.
    pub discover: Option<Discover>,
    /// The gossip keys; `None`: gossip in clear.
    pub keyring: Option<Keyring>,
    /// File to which changes of the keyring are written; `None`: they last until the agent ends.
    pub keyring_file: Option<PathBuf>,
    /// Whether unencrypted gossip is allowed on an address that is not loopback.
    pub plaintext: bool,
    /// File to which changes of this member's tags are written; `None`: they last until the agent ends.
    pub tags_file: Option<PathBuf>,
    /// Label in clear at the start of all packets, which separates clusters; empty: none.
    pub label: String,
    /// Networks that members' addresses must belong to. Empty: any address is allowed.
    pub allowed: Vec<IpNet>,
    /// Whether user events from before this member joined are delivered, too.
    pub replay: bool,
    /// Commands to run on gossip events, at most 64.
    pub handlers: Vec<EventHandler>,
    /// File in which the member remembers other members across restarts; `None`: it remembers none.
    pub snapshot: Option<PathBuf>,
    /// Whether the member rejoins at the start although it left before its last run ended.
    pub rejoin_after_leave: bool,
    /// Settings of Serf's RPC; `None`: RPC is not served.
    pub rpc: Option<RpcConfig>,
    /// Intervals and timeouts of the gossip protocol.
    pub timing: Timing,
    /// Limits on the size of events, queries and answers.
    pub limits: Limits,
    /// The addresses that gossip can reach, for fault injection.
    pub link_filter: Option<LinkFilter>,
}

impl GossipConfig {
    /// A configuration that listens at `bind`, with the defaults of a Serf agent in a local network.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            name: None,
            bind,
            advertise: None,
            tags: Tags::new(),
            join: Vec::new(),
            retry: Retry::default(),
            discover: None,
            keyring: None,
            keyring_file: None,
            plaintext: false,
            tags_file: None,
            label: String::new(),
            allowed: Vec::new(),
            replay: false,
            handlers: Vec::new(),
            snapshot: None,
            rejoin_after_leave: false,
            rpc: None,
            timing: Timing::lan(),
            limits: Limits::default(),
            link_filter: None,
        }
    }

    /// Whether members to join are configured, or their discovery by multicast.
    pub(crate) fn expects_others(&self) -> bool {
        !self.join.is_empty() || self.discover.is_some()
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.bind.ip().is_loopback()
    }

    pub(super) fn check(&self) -> Result<(), GossipError> {
        if self.keyring.is_none() && !self.plaintext && !self.is_loopback() {
            return Err(GossipError::Plaintext(self.bind));
        }
        self.rpc.as_ref().map_or(Ok(()), RpcConfig::check)?;
        if self.handlers.len() > MAX_HANDLERS {
            return Err(GossipError::Handlers);
        }
        match self.tags.keys().find(|name| tags::is_reserved(name)) {
            Some(name) => Err(GossipError::ReservedTag(name.clone())),
            None => Ok(()),
        }
    }

    /// Returns the address to advertise; `None`: the listening address.
    pub(super) async fn advertised(&self, resolver: &Resolver) -> Result<Option<SocketAddr>, GossipError> {
        if self.advertise.is_some() || !self.bind.ip().is_unspecified() {
            return Ok(self.advertise);
        }
        let mut targets = Vec::new();
        for target in &self.join {
            targets.extend(target.resolve(resolver).await.unwrap_or_default());
        }
        // Documentation addresses (RFC 5737, RFC 3849): they belong to nobody, and are routed like the internet.
        let world: IpAddr = match self.bind {
            SocketAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
            SocketAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        };
        targets.retain(|target| target.is_ipv4() == self.bind.is_ipv4());
        targets.push(SocketAddr::new(world, self.bind.port().max(1)));
        let mut own = targets.into_iter().filter_map(|target| towards(target).ok());
        let own = own.find(|ip| !ip.is_unspecified());
        let own = own.ok_or(GossipError::NoAdvertise(self.bind))?;
        Ok(Some(SocketAddr::new(own, self.bind.port())))
    }

    pub(super) fn options(
        &self,
        cluster: ClusterId,
        peers: &Peers,
        advertise: Option<SocketAddr>,
    ) -> Options {
        let name = self.name.clone().unwrap_or_else(|| default_name(peers.id()));
        let mut tags = self.tags.clone();
        tags.extend(tags::announce(cluster, peers.id(), peers.address().port()));
        let mut options = Options::new(name, self.bind);
        options.framing =
            Framing { keyring: self.keyring.clone(), label: self.label.clone(), ..options.framing };
        Options {
            advertise,
            tags,
            timing: self.timing.clone(),
            limits: self.limits,
            allowed: self.allowed.clone(),
            snapshot: self.snapshot.clone(),
            rejoin_after_leave: self.rejoin_after_leave,
            link_filter: self.link_filter.clone(),
            ..options
        }
    }
}

/// Returns the default member name: host name, `-`, and the first eight hexadecimal digits of the replica id. People
/// recognise it, and two agents of one host differ.
pub fn default_name(id: ReplicaId) -> String {
    let read = |path| std::fs::read_to_string(path).ok();
    let host = read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname"));
    named_after(&host.unwrap_or_default(), id)
}

/// Builds the member name `HOST-DIGITS`, without the characters of the host name that Serf's agents refuse in names.
fn named_after(host: &str, id: ReplicaId) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || "-._".contains(*c);
    let host: String = host.chars().filter(fits).take(MAX_HOST_LEN).collect();
    let host = if host.is_empty() { "kvgossip" } else { &host };
    format!("{host}-{}", id.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_is_the_hosts_name_and_eight_digits_of_the_replica_id() {
        let id = ReplicaId([0xab; 32]);
        assert_eq!(named_after("db-1.example", id), "db-1.example-abababab");
        assert_eq!(named_after("b\u{e4}h n\n", id), "bhn-abababab");
        assert_eq!(named_after("", id), "kvgossip-abababab");
        assert_eq!(named_after(&"x".repeat(300), id).len(), MAX_HOST_LEN + 9);
        assert!(default_name(id).ends_with("-abababab"));
    }

    #[tokio::test]
    async fn all_addresses_of_the_machine_are_told_as_the_one_that_leads_to_the_members() {
        let any = SocketAddr::from(([0, 0, 0, 0], 7946));
        let mut config = GossipConfig::new(any);
        config.join = vec!["127.0.0.1:9".parse().expect("an address")];
        let told = config.advertised(&Resolver::default()).await.expect("there is a way");
        assert_eq!(told, Some(([127, 0, 0, 1], 7946).into()));
        config.advertise = Some(([10, 0, 0, 1], 1).into());
        assert_eq!(config.advertised(&Resolver::default()).await.expect("given"), config.advertise);
        let one = GossipConfig::new(([127, 0, 0, 1], 1).into());
        assert_eq!(one.advertised(&Resolver::default()).await.expect("none needed"), None);
        let refused = GossipError::NoAdvertise(any).to_string();
        assert!(refused.contains("--advertise"), "{refused}");
    }
}
