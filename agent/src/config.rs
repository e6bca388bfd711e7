//! What an agent is told at its start.

use crate::committer::Patience;
use crate::gossip::GossipConfig;
use crate::http::{HttpLimits, ServerTls};
use kvgossip_grants::{MAX_VALUE_BYTES, PublicKey, SigningKey};
use kvgossip_transport::{AllowList, Limits, LinkFilter, ReplicaId, ReplicaKey};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// How an agent is to run.
pub struct Config {
    /// The cluster's root.
    pub root: PublicKey,
    /// What this replica proves to its peers.
    pub replica_key: ReplicaKey,
    /// What `PUT` and `DELETE` sign with.
    pub identity: Option<SigningKey>,
    /// Where sessions are taken; port 0 takes a free one.
    pub sync: SocketAddr,
    /// Where HTTP is served on TCP.
    pub http: Option<SocketAddr>,
    /// Where the Unix socket of the HTTP API lies.
    pub socket: Option<PathBuf>,
    /// Lets requests over TCP do what the Unix socket may.
    pub token: Option<String>,
    /// Whom to stay connected with.
    pub peers: Vec<PeerTarget>,
    /// Whose replica keys are admitted.
    pub allowed: AllowList,
    /// Whether strangers may pull.
    pub open_read: bool,
    /// The largest value that this agent takes in a direct put, in bytes; peers' facts are bound by the protocol's
    /// limit alone.
    pub max_value_bytes: usize,
    /// Where the files of the store are, to tell how much they take; none for a store in memory.
    pub store_dir: Option<PathBuf>,
    /// What the HTTP API is served with on TCP, instead of in clear.
    pub tls: Option<ServerTls>,
    /// How the agent takes part in gossip, if it does.
    pub gossip: Option<GossipConfig>,
    /// For fault injection: which addresses sessions can reach and be reached from.
    pub link_filter: Option<LinkFilter>,
    /// What peers may take in time and number.
    pub limits: Limits,
    /// What clients of the HTTP API may take in time and number.
    pub http_limits: HttpLimits,
    /// How long a commit may take, and how often a disk without room is asked again.
    pub patience: Patience,
}

impl Config {
    /// An agent on free ports of the loopback, without peers or identity.
    pub fn new(root: PublicKey, replica_key: ReplicaKey) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            root,
            replica_key,
            identity: None,
            sync: loopback,
            http: Some(loopback),
            socket: None,
            token: None,
            peers: Vec::new(),
            allowed: std::iter::empty().collect(),
            open_read: false,
            max_value_bytes: MAX_VALUE_BYTES,
            store_dir: None,
            tls: None,
            gossip: None,
            link_filter: None,
            limits: Limits::default(),
            http_limits: HttpLimits::default(),
            patience: Patience::default(),
        }
    }
}

/// `[ID@]ADDR:PORT`: with an id exactly that replica, without one any that is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerTarget {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who has to answer.
    pub id: Option<ReplicaId>,
}

/// Why a text names no peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePeerError {
    /// The part before `@`.
    #[error("{0:?} is not a replica id: 64 hexadecimal digits stand before the @")]
    Id(String),
    /// The part after it.
    #[error("{0:?} is not an address: give HOST:PORT, such as 10.0.0.2:7947")]
    Address(String),
}

impl FromStr for PeerTarget {
    type Err = ParsePeerError;

    /// Resolves a host name once.
    fn from_str(text: &str) -> Result<Self, ParsePeerError> {
        let (id, address) = match text.split_once('@') {
            Some((id, address)) => (Some(id.parse().map_err(|_| ParsePeerError::Id(id.into()))?), address),
            None => (None, text),
        };
        let resolved = address.to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = resolved.ok_or_else(|| ParsePeerError::Address(address.into()))?;
        Ok(Self { address, id })
    }
}
