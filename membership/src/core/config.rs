//! Configuration of a member.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

use super::{config_error::ConfigError, limits::Limits, snapshot::Snapshot};
use crate::wire::{
    Framing, MAX_LABEL_LEN, Text,
    memberlist::{MAX_META_LEN, MAX_NAME_LEN},
    serf::{Tags, encode_tags},
};

/// Maximum size of a packet that is sent, in bytes; memberlist's default, for networks with an ordinary MTU.
pub const PACKET_SIZE: usize = 1400;

/// Default maximum number of other members in the table. Each takes up to 3 KiB: its name and tags, in the
/// table and in messages that wait to be passed on.
pub const MAX_MEMBERS: usize = 16 * 1024;

/// Configuration of a member.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the member, unique in the cluster. Serf agents accept at most 128 characters of
    /// `[A-Za-z0-9.-_]`; this implementation accepts 1 to 255 bytes of any value.
    pub name: Text,
    /// Address advertised to other members, for both UDP and TCP. Its IP
    /// address must be neither unspecified nor multicast, its port not 0.
    pub advertise: SocketAddr,
    /// Tags of this member, visible to all members. Encoded, with all names, values and lengths, they take at
    /// most 512 bytes.
    pub tags: Tags,
    /// Cluster label, encryption keys and compression of packets and streams.
    pub framing: Framing,
    /// Intervals, timeouts and multipliers of probing, gossip and state exchanges.
    pub timing: Timing,
    /// Maximum sizes of events, queries and responses.
    pub limits: Limits,
    /// Networks to which members' addresses, this one's included, must belong; empty allows any address.
    pub allowed: Vec<IpNet>,
    /// Maximum number of other members in the table. When it is full, the member that has been dead or departed
    /// longest is forgotten; if all are active, unknown members are not added.
    pub max_members: usize,
    /// Snapshot of an earlier run of this member; `None` starts without one.
    pub restore: Option<Snapshot>,
    /// Whether to try the members in the snapshot of an earlier run although that run left the cluster.
    pub rejoin_after_leave: bool,
}

impl Config {
    /// Creates a configuration with the defaults of a Serf agent in a local network.
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

    /// Returns whether members may have this address: it is in one of the allowed networks, or none are
    /// configured.
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

/// Encodes `tags` as metadata; fails if the result exceeds 512 bytes.
pub(super) fn check_tags(tags: &Tags) -> Result<Vec<u8>, ConfigError> {
    let meta = encode_tags(tags);
    if meta.len() > MAX_META_LEN { Err(ConfigError::Tags(meta.len())) } else { Ok(meta) }
}

/// Intervals, timeouts and multipliers. The defaults are those of memberlist and Serf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Interval between probes, each of one member.
    pub probe_interval: Duration,
    /// Time without an ack after which a probe also uses other members and TCP.
    pub probe_timeout: Duration,
    /// Number of other members that are asked to ping the target of a probe.
    pub indirect_checks: usize,
    /// Interval between gossip rounds.
    pub gossip_interval: Duration,
    /// Number of members that each gossip round sends to.
    pub gossip_fanout: usize,
    /// Number of times a broadcast is sent, as a multiple of log10 of the cluster's size.
    pub retransmit_mult: u32,
    /// Minimum suspicion timeout, as a multiple of log10 of the cluster's size times the probe interval.
    pub suspicion_mult: u32,
    /// Suspicion timeout without confirmations, as a multiple of the minimum.
    pub suspicion_max_mult: u32,
    /// Interval between state exchanges with a random member; it is longer in clusters of more than 32 members.
    pub push_pull_interval: Duration,
    /// Maximum duration of a TCP exchange.
    pub stream_timeout: Duration,
    /// Interval between attempts to reconnect to failed members.
    pub reconnect_interval: Duration,
    /// Time after a member's failure at which it is forgotten.
    pub reconnect_timeout: Duration,
    /// Time after a member's leaving at which it is forgotten.
    pub tombstone_timeout: Duration,
    /// Interval between searches for members to forget.
    pub reap_interval: Duration,
    /// Time after which a dead member may return with any incarnation and with another address.
    pub dead_reclaim: Duration,
    /// Maximum time that leaving waits for the leave intent to be sent, and then for the dead message.
    pub broadcast_timeout: Duration,
    /// Time for which this member still answers after it has left, so that all members receive the news.
    pub leave_propagate_delay: Duration,
}

impl Timing {
    /// Values for a local network; the default of agents.
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

    /// Values for links with round trips of hundreds of milliseconds.
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

    /// Values for members on one machine, and for tests.
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
