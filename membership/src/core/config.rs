//! What a member is told at its start.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

use super::{limits::Limits, snapshot::Snapshot};
use crate::wire::{
    Framing, MAX_LABEL_LEN, Text,
    memberlist::{MAX_META_LEN, MAX_NAME_LEN},
    serf::{Tags, encode_tags},
};

/// Largest packet that is sent, in bytes: memberlist's default, for networks with an ordinary MTU.
pub const PACKET_SIZE: usize = 1400;

/// How many other members are remembered unless told otherwise. Each takes up to 3 KiB: its name and tags, as they are known
/// and as they wait to be passed on.
pub const MAX_MEMBERS: usize = 16 * 1024;

/// What a member is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The member's name, unique in the cluster. At most 128 characters of `[A-Za-z0-9.-_]` keep every
    /// Serf agent content; here at most 255 bytes are enforced.
    pub name: Text,
    /// The address that others are told to send to, UDP and TCP alike. Not the unspecified address.
    pub advertise: SocketAddr,
    /// What others can see of this member. 512 bytes with all names, values and lengths.
    pub tags: Tags,
    /// Label, keys and compression.
    pub framing: Framing,
    /// How fast everything goes.
    pub timing: Timing,
    /// How long events, queries and answers may be.
    pub limits: Limits,
    /// Networks that members' addresses must belong to. Empty: any address is allowed.
    pub allowed: Vec<IpNet>,
    /// Most other members that are remembered. When there are more, whoever has been gone for longest is forgotten, and
    /// while all live, no unknown member is taken in.
    pub max_members: usize,
    /// What an earlier life of this member knew.
    pub restore: Option<Snapshot>,
    /// Whether the members of an earlier life are tried although it ended by leaving.
    pub rejoin_after_leave: bool,
}

impl Config {
    /// The default configuration of a Serf agent in a local network.
    pub fn new(name: impl Into<Text>, advertise: SocketAddr) -> Self {
        Self {
            name: name.into(),
            advertise,
            tags: Tags::new(),
            framing: Framing { compress: true, ..Framing::default() },
            timing: Timing::lan(),
            limits: Limits::default(),
            allowed: Vec::new(),
            max_members: MAX_MEMBERS,
            restore: None,
            rejoin_after_leave: false,
        }
    }

    /// Whether members may be at this address.
    pub(super) fn allows(&self, ip: IpAddr) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|net| net.contains(&ip))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() || self.name.len() > MAX_NAME_LEN {
            return Err(ConfigError::Name);
        }
        let ip = self.advertise.ip();
        if self.advertise.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
            return Err(ConfigError::Advertise(self.advertise));
        }
        if !self.allows(ip) {
            return Err(ConfigError::NotAllowed(ip));
        }
        if self.framing.label.len() > MAX_LABEL_LEN {
            return Err(ConfigError::Label);
        }
        self.timing.check()?;
        self.limits.check()?;
        check_tags(&self.tags).map(|_| ())
    }
}

/// The metadata for `tags`, if it is small enough.
pub(super) fn check_tags(tags: &Tags) -> Result<Vec<u8>, ConfigError> {
    let meta = encode_tags(tags);
    if meta.len() > MAX_META_LEN { Err(ConfigError::Tags(meta.len())) } else { Ok(meta) }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Empty or longer than 255 bytes.
    #[error("a member's name has 1 to 255 bytes")]
    Name,
    /// Nobody could send there.
    #[error("cannot advertise {0}: an address and a port that others can send to are needed")]
    Advertise(SocketAddr),
    /// This member's own address lies in none of the networks that are allowed.
    #[error("{0} is in none of the networks in which members' addresses have to lie")]
    NotAllowed(IpAddr),
    /// Longer than 255 bytes.
    #[error("a label has at most 255 bytes")]
    Label,
    /// The timeout must leave room for indirect probes.
    #[error("the probe timeout must be shorter than the probe interval")]
    ProbeTimeout,
    /// A timing with which a member floods the others, or finds nobody.
    #[error("the {what} cannot be {given}; {least} to {most} are allowed")]
    Timing {
        /// Which.
        what: &'static str,
        /// What was given.
        given: String,
        /// The least that is allowed.
        least: String,
        /// The most that is allowed.
        most: String,
    },
    /// What can be said would be too long to travel, or too short to say anything.
    #[error("the {what} size limit is {limit} bytes; {least} to {most} are allowed")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// What was given.
        limit: usize,
        /// The least that is allowed.
        least: usize,
        /// The most that is allowed.
        most: usize,
    },
    /// The tags do not fit a member's metadata.
    #[error("the tags take {0} bytes, 512 are allowed")]
    Tags(usize),
}

/// How fast everything goes. The figures are those of memberlist and Serf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// A member is probed this often.
    pub probe_interval: Duration,
    /// After this long without an ack, others and TCP are asked for help.
    pub probe_timeout: Duration,
    /// How many members are asked for help.
    pub indirect_checks: usize,
    /// Broadcasts go out this often…
    pub gossip_interval: Duration,
    /// …to this many members.
    pub gossip_fanout: usize,
    /// Multiplies log10 of the cluster's size: how often a broadcast is sent.
    pub retransmit_mult: u32,
    /// Multiplies log10 of the cluster's size and the probe interval: how long a suspect has, at least.
    pub suspicion_mult: u32,
    /// How much longer it has while nobody else suspects it.
    pub suspicion_max_mult: u32,
    /// States are compared with a random member this often; less often above 32 members.
    pub push_pull_interval: Duration,
    /// A TCP exchange takes at most this long.
    pub stream_timeout: Duration,
    /// A failed member is tried again this often.
    pub reconnect_interval: Duration,
    /// A failed member is forgotten after this long.
    pub reconnect_timeout: Duration,
    /// A member that left is forgotten after this long.
    pub tombstone_timeout: Duration,
    /// Members to be forgotten are looked for this often.
    pub reap_interval: Duration,
    /// After this long, a dead member may return with any incarnation, and with another address.
    pub dead_reclaim: Duration,
    /// Each step of leaving waits at most this long for its broadcast to be sent.
    pub broadcast_timeout: Duration,
    /// How long a member that has left still answers, so that all hear of it.
    pub leave_propagate_delay: Duration,
}

impl Timing {
    /// For a local network; what agents use unless told otherwise.
    pub fn lan() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_checks: 3,
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            retransmit_mult: 4,
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            push_pull_interval: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(10),
            reconnect_interval: Duration::from_secs(30),
            reconnect_timeout: Duration::from_secs(24 * 3600),
            tombstone_timeout: Duration::from_secs(24 * 3600),
            reap_interval: Duration::from_secs(15),
            dead_reclaim: Duration::from_secs(30),
            broadcast_timeout: Duration::from_secs(5),
            leave_propagate_delay: Duration::from_secs(1),
        }
    }

    /// For links with round trips of hundreds of milliseconds.
    pub fn wan() -> Self {
        Self {
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            gossip_interval: Duration::from_millis(500),
            gossip_fanout: 4,
            suspicion_mult: 6,
            push_pull_interval: Duration::from_secs(60),
            stream_timeout: Duration::from_secs(30),
            dead_reclaim: Duration::from_secs(60),
            leave_propagate_delay: Duration::from_secs(3),
            ..Self::lan()
        }
    }

    /// For members on one machine, and for tests.
    pub fn local() -> Self {
        Self {
            probe_timeout: Duration::from_millis(200),
            indirect_checks: 1,
            gossip_interval: Duration::from_millis(100),
            retransmit_mult: 2,
            suspicion_mult: 3,
            push_pull_interval: Duration::from_secs(15),
            stream_timeout: Duration::from_secs(1),
            dead_reclaim: Duration::from_secs(15),
            ..Self::lan()
        }
    }
}
