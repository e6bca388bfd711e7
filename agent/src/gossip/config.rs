//! What the agent is told about gossip at its start.

use super::{GossipError, RpcConfig, tags};
use crate::peers::Peers;
use kvgossip_grants::ClusterId;
use kvgossip_membership::{Framing, Keyring, Options, Tags, Timing, driver::LinkFilter};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where members listen unless told otherwise.
pub const DEFAULT_GOSSIP_PORT: u16 = 7946;

/// How the agent is to take part in gossip.
#[derive(Clone)]
pub struct GossipConfig {
    /// The member's name, unique in the cluster; `kvgossip-` and eight digits of the replica id if there is none.
    pub name: Option<String>,
    /// Where to listen, UDP and TCP. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// What others are told to send to, when it is not the address to listen at.
    pub advertise: Option<SocketAddr>,
    /// What others can see of this member, beside what the agent itself announces.
    pub tags: Tags,
    /// Whom to join at the start; tried until somebody answers.
    pub join: Vec<JoinTarget>,
    /// The keys of the cluster.
    pub keyring: Option<Keyring>,
    /// Where changes of the keyring are written.
    pub keyring_file: Option<PathBuf>,
    /// Whether gossip in clear is fine on an address that is not loopback.
    pub plaintext: bool,
    /// Where the member remembers the others from one start to the next.
    pub snapshot: Option<PathBuf>,
    /// How Serf's RPC is served, if it is.
    pub rpc: Option<RpcConfig>,
    /// How fast everything goes.
    pub timing: Timing,
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
            keyring: None,
            keyring_file: None,
            plaintext: false,
            snapshot: None,
            rpc: None,
            timing: Timing::lan(),
            link_filter: None,
        }
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.bind.ip().is_loopback()
    }

    pub(super) fn check(&self) -> Result<(), GossipError> {
        if self.keyring.is_none() && !self.plaintext && !self.is_loopback() {
            return Err(GossipError::Plaintext(self.bind));
        }
        self.rpc.as_ref().map_or(Ok(()), RpcConfig::check)?;
        match self.tags.keys().find(|name| tags::is_reserved(name)) {
            Some(name) => Err(GossipError::ReservedTag(name.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn options(&self, cluster: ClusterId, peers: &Peers) -> Options {
        let name = self.name.clone().unwrap_or_else(|| format!("kvgossip-{}", peers.id().short()));
        let mut tags = self.tags.clone();
        tags.extend(tags::announce(cluster, peers.id(), peers.address().port()));
        let mut options = Options::new(name, self.bind);
        options.framing = Framing { keyring: self.keyring.clone(), ..options.framing };
        Options {
            advertise: self.advertise,
            tags,
            timing: self.timing.clone(),
            snapshot: self.snapshot.clone(),
            link_filter: self.link_filter.clone(),
            ..options
        }
    }
}

/// `HOST[:PORT]`: a member to join. A name is looked up whenever it is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinTarget {
    host: String,
    port: u16,
}

/// Why a text names no member to join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: give HOST or HOST:PORT, such as 10.0.0.2:7946")]
pub struct ParseJoinError(String);

impl FromStr for JoinTarget {
    type Err = ParseJoinError;

    fn from_str(text: &str) -> Result<Self, ParseJoinError> {
        let error = || ParseJoinError(text.to_owned());
        let default = DEFAULT_GOSSIP_PORT;
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
            return Ok(Self { host: ip.to_string(), port: default });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| error())?),
            None => (text, default),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for JoinTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl JoinTarget {
    /// The address, looked up now.
    pub(super) async fn resolve(&self) -> io::Result<SocketAddr> {
        let mut found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }
}

impl From<SocketAddr> for JoinTarget {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_targets_have_a_default_port() {
        let show = |text: &str| text.parse::<JoinTarget>().map(|target| target.to_string());
        for (text, shown) in [
            ("10.0.0.2", "10.0.0.2:7946"),
            ("10.0.0.2:1", "10.0.0.2:1"),
            ("host-1.example", "host-1.example:7946"),
            ("host:80", "host:80"),
            ("::1", "[::1]:7946"),
            ("[::1]", "[::1]:7946"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(show(text).as_deref(), Ok(shown), "{text}");
        }
        for bad in ["", ":1", "host:", "host:99999", "a b", "host:1:2", "http://host"] {
            assert!(show(bad).is_err(), "{bad:?}");
        }
    }
}
