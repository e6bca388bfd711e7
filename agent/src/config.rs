//! The configuration of an agent.

use crate::address::{Address, ParseAddressError, Resolver};
use crate::clock::Clock;
use crate::committer::Patience;
use crate::gossip::GossipConfig;
use crate::http::{HttpLimits, ServerTls};
use crate::readiness::DEFAULT_READY_AFTER;
use kvgossip_engine::declined::Declined;
use kvgossip_grants::{MAX_VALUE_BYTES, PublicKey, ReplicaId, SigningKey};
use kvgossip_transport::{AllowList, Limits, LinkFilter, ReplicaKey};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Default UDP port for sync sessions.
pub const DEFAULT_SYNC_PORT: u16 = 7947;

/// The configuration of an agent.
pub struct Config {
    /// Public root key of the cluster.
    pub root: PublicKey,
    /// The key that proves this replica's id to its peers.
    pub replica_key: ReplicaKey,
    /// Signing key for the routes `PUT` and `DELETE`; `None`: they are refused.
    pub identity: Option<SigningKey>,
    /// UDP address for sync sessions; port 0 picks a free port.
    pub sync: SocketAddr,
    /// TCP address of the HTTP API; `None`: not on TCP.
    pub http: Option<SocketAddr>,
    /// Path of the HTTP API's Unix socket; `None`: no socket.
    pub socket: Option<PathBuf>,
    /// Bearer token that gives requests over TCP all rights of the Unix socket.
    pub token: Option<String>,
    /// Bearer token that lets requests over TCP read. If it is set, or [`ServerTls`] asks for client certificates,
    /// reading over TCP needs one of them.
    pub read_token: Option<String>,
    /// Additional host names accepted in requests over TCP, beside IP addresses, `localhost` and the names in the
    /// certificate.
    pub http_hosts: Vec<String>,
    /// Peers to stay connected with.
    pub peers: Vec<PeerTarget>,
    /// Replica ids to admit.
    pub allowed: AllowList,
    /// Whether replicas outside the allow list may pull, in read-only sessions.
    pub open_read: bool,
    /// Maximum size of a value in a direct put, in bytes. Facts from peers are limited by the protocol alone.
    pub max_value_bytes: usize,
    /// Maximum total weight of the facts in the store, in bytes; see [`View::weight`](kvgossip_engine::View::weight).
    /// `None`: unlimited.
    pub max_store_bytes: Option<u64>,
    /// Directory of the store's files, to report their size on disk; `None` for a store in memory.
    pub store_dir: Option<PathBuf>,
    /// TLS settings of the HTTP API on TCP; `None`: plain HTTP.
    pub tls: Option<ServerTls>,
    /// Gossip settings; `None`: no gossip.
    pub gossip: Option<GossipConfig>,
    /// Name resolver.
    pub resolver: Resolver,
    /// The addresses that sessions can reach and be reached from, for fault injection.
    pub link_filter: Option<LinkFilter>,
    /// Initial set of declined facts: the entries that [`forget_future`](crate::forget_future) took out of the store.
    pub declined: Option<Declined>,
    /// Clock that stamps entries, judges them and is reported to peers. Other than the system clock only for fault
    /// injection.
    pub clock: Clock,
    /// Limits on the time and the number of connections and sessions of peers.
    pub limits: Limits,
    /// Limits on the time and the number of connections and requests of HTTP clients.
    pub http_limits: HttpLimits,
    /// Limit on the duration of a commit, and the retry interval on a full disk.
    pub patience: Patience,
    /// File that remembers whether this replica was ever compared with a peer; `None` for a store in memory.
    pub sync_state: Option<PathBuf>,
    /// Whether other replicas exist although none is configured; a peer is named later.
    pub expects_others: bool,
    /// Whether the agent is ready without having been compared with a peer: what it lacks counts as absent.
    pub ready_alone: bool,
    /// How long an agent that was compared in an earlier run waits for a new comparison before it is ready.
    pub ready_after: Duration,
}

impl Config {
    /// A configuration on free loopback ports, without peers or identity.
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
            read_token: None,
            http_hosts: Vec::new(),
            peers: Vec::new(),
            allowed: std::iter::empty().collect(),
            open_read: false,
            max_value_bytes: MAX_VALUE_BYTES,
            max_store_bytes: None,
            store_dir: None,
            tls: None,
            gossip: None,
            resolver: Resolver::default(),
            link_filter: None,
            declined: None,
            clock: Clock::system(),
            limits: Limits::default(),
            http_limits: HttpLimits::default(),
            patience: Patience::default(),
            sync_state: None,
            expects_others: false,
            ready_alone: false,
            ready_after: DEFAULT_READY_AFTER,
        }
    }
}

/// A peer to dial, written `[ID@]HOST:PORT`. Without an id, any admitted replica may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTarget {
    /// Listening address. A name is looked up before each round of dials; all its addresses are tried.
    pub address: Address,
    /// Replica id that must answer; `None`: any admitted one.
    pub id: Option<ReplicaId>,
}

/// The error for a text that does not name a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePeerError {
    /// The part before `@` is not a replica id.
    #[error("{0:?} is not a replica id: 64 hexadecimal digits stand before the @")]
    Id(String),
    /// The part after `@` is not an address.
    #[error(transparent)]
    Address(#[from] ParseAddressError),
}

impl FromStr for PeerTarget {
    type Err = ParsePeerError;

    fn from_str(text: &str) -> Result<Self, ParsePeerError> {
        let (id, address) = match text.split_once('@') {
            Some((id, address)) => (Some(id.parse().map_err(|_| ParsePeerError::Id(id.into()))?), address),
            None => (None, text),
        };
        Ok(Self { address: Address::parse_with_port(address, DEFAULT_SYNC_PORT)?, id })
    }
}
