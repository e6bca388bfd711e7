//! What the agent is told about gossip at its start.

use super::handlers::MAX_HANDLERS;
use super::{Discover, EventHandler, GossipError, Retry, RpcConfig, tags};
use crate::address::{Address, ParseAddressError, Resolver, towards};
use crate::peers::Peers;
use kvgossip_grants::{ClusterId, ReplicaId};
use kvgossip_membership::{Framing, IpNet, Keyring, Limits, Options, Tags, Timing, driver::LinkFilter};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where members listen unless told otherwise.
pub const DEFAULT_GOSSIP_PORT: u16 = 7946;
/// Most characters of the host's name in a member's: with the digits it stays within what Serf's agents take, 128.
const MAX_HOST_LEN: usize = 100;

/// How the agent is to take part in gossip.
#[derive(Clone)]
pub struct GossipConfig {
    /// The member's name, unique in the cluster; that of [`default_name`] if there is none.
    pub name: Option<String>,
    /// Where to listen, UDP and TCP. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// What others are told to send to, when it is not the address to listen at. Where it listens at all addresses of the
    /// machine and none is told, it is the one from which packets to the members to join leave, or else to the world.
    pub advertise: Option<SocketAddr>,
    /// What others can see of this member, beside what the agent itself announces.
    pub tags: Tags,
    /// Whom to join at the start; tried until somebody answers.
    pub join: Vec<JoinTarget>,
    /// How long joining is tried.
    pub retry: Retry,
    /// How others are found by multicast, if they are.
    pub discover: Option<Discover>,
    /// The keys of the cluster.
    pub keyring: Option<Keyring>,
    /// Where changes of the keyring are written.
    pub keyring_file: Option<PathBuf>,
    /// Whether gossip in clear is fine on an address that is not loopback.
    pub plaintext: bool,
    /// Where changes of this member's tags are written.
    pub tags_file: Option<PathBuf>,
    /// A name in clear in front of all packets, which keeps clusters apart; empty for none.
    pub label: String,
    /// Networks that members' addresses must belong to. Empty: any address is allowed.
    pub allowed: Vec<IpNet>,
    /// Whether user events from before this member joined are told, too.
    pub replay: bool,
    /// Commands that are run for what gossip tells.
    pub handlers: Vec<EventHandler>,
    /// Where the member remembers the others from one start to the next.
    pub snapshot: Option<PathBuf>,
    /// Whether the member rejoins although it left before it ended.
    pub rejoin_after_leave: bool,
    /// How Serf's RPC is served, if it is.
    pub rpc: Option<RpcConfig>,
    /// How fast everything goes.
    pub timing: Timing,
    /// How long events, queries and answers may be.
    pub limits: Limits,
    /// For fault injection.
    pub link_filter: Option<LinkFilter>,
}

impl GossipConfig {
    /// A member that listens at `bind`, with the defaults of a Serf agent in a local network.
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

    /// Whether this member is told of others, or how to find them.
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

    /// What others are told to send to.
    pub(super) async fn advertised(&self, resolver: &Resolver) -> Result<Option<SocketAddr>, GossipError> {
        if self.advertise.is_some() || !self.bind.ip().is_unspecified() {
            return Ok(self.advertise);
        }
        let mut targets = Vec::new();
        for target in &self.join {
            targets.extend(target.resolve(resolver).await.unwrap_or_default());
        }
        // Addresses for documents: nobody's, and reached by the way to everywhere.
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

/// The host's name, `-` and eight digits of the replica id: so people know it again, and two agents of one host differ.
pub fn default_name(id: ReplicaId) -> String {
    let read = |path| std::fs::read_to_string(path).ok();
    let host = read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname"));
    named_after(&host.unwrap_or_default(), id)
}

/// Characters that Serf's agents refuse in names are left out.
fn named_after(host: &str, id: ReplicaId) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || "-._".contains(*c);
    let host: String = host.chars().filter(fits).take(MAX_HOST_LEN).collect();
    let host = if host.is_empty() { "kvgossip" } else { &host };
    format!("{host}-{}", id.short())
}

/// `HOST[:PORT]`: a member to join. A name is looked up whenever it is tried, and all its addresses are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinTarget(Address);

/// Why a text names no member to join.
pub type ParseJoinError = ParseAddressError;

impl FromStr for JoinTarget {
    type Err = ParseJoinError;

    fn from_str(text: &str) -> Result<Self, ParseJoinError> {
        Address::parse(text, DEFAULT_GOSSIP_PORT).map(Self)
    }
}

impl fmt::Display for JoinTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JoinTarget {
    /// The addresses, looked up now.
    pub(super) async fn resolve(&self, resolver: &Resolver) -> io::Result<Vec<SocketAddr>> {
        self.0.resolve(resolver).await
    }
}

impl From<SocketAddr> for JoinTarget {
    fn from(address: SocketAddr) -> Self {
        Self(address.into())
    }
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
