//! What an agent is told at its start.

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

/// Where sessions are taken unless told otherwise.
pub const DEFAULT_SYNC_PORT: u16 = 7947;

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
    /// Lets requests over TCP read. With it, or with certificates that [`ServerTls`] asks for, reading over TCP needs a
    /// right.
    pub read_token: Option<String>,
    /// Names of services under which HTTP is asked for over TCP, beside addresses, `localhost` and the names of the
    /// certificate.
    pub http_hosts: Vec<String>,
    /// Whom to stay connected with.
    pub peers: Vec<PeerTarget>,
    /// Whose replica keys are admitted.
    pub allowed: AllowList,
    /// Whether strangers may pull.
    pub open_read: bool,
    /// The largest value that this agent takes in a direct put, in bytes; peers' facts are bound by the protocol's
    /// limit alone.
    pub max_value_bytes: usize,
    /// What the facts in the store may weigh together, in bytes; see [`View::weight`](kvgossip_engine::View::weight).
    /// `None`: whatever the disk has room for.
    pub max_store_bytes: Option<u64>,
    /// Where the files of the store are, to tell how much they take; none for a store in memory.
    pub store_dir: Option<PathBuf>,
    /// What the HTTP API is served with on TCP, instead of in clear.
    pub tls: Option<ServerTls>,
    /// How the agent takes part in gossip, if it does.
    pub gossip: Option<GossipConfig>,
    /// How names become addresses.
    pub resolver: Resolver,
    /// For fault injection: which addresses sessions can reach and be reached from.
    pub link_filter: Option<LinkFilter>,
    /// What is declined from the start: the entries that [`forget_future`](crate::forget_future) took out of the state.
    pub declined: Option<Declined>,
    /// The clock that entries are stamped with and held against, and that peers are told; another than the system's is for
    /// fault injection.
    pub clock: Clock,
    /// What peers may take in time and number.
    pub limits: Limits,
    /// What clients of the HTTP API may take in time and number.
    pub http_limits: HttpLimits,
    /// How long a commit may take, and how often a disk without room is asked again.
    pub patience: Patience,
    /// The file that remembers whether this replica was ever compared with a peer; none for a store in memory.
    pub sync_state: Option<PathBuf>,
    /// Whether there are others, though none is named here: somebody will name one later.
    pub expects_others: bool,
    /// Whether the agent is ready without a comparison with a peer: what it holds counts as all that there is.
    pub ready_alone: bool,
    /// How long an agent that was compared in an earlier run waits for a comparison before it is ready.
    pub ready_after: Duration,
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

/// `[ID@]HOST:PORT`: with an id exactly that replica, without one any that is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTarget {
    /// Where it listens. A name is looked up before each round of dials, and all its addresses are tried.
    pub address: Address,
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
