//! The configuration that concerns the other replicas.

use super::target::PeerTarget;
use crate::address::Resolver;
use crate::clock::Clock;
use crate::readiness::ReadinessConfig;
use kvgossip_transport::{AllowList, Limits, LinkFilter, ReplicaKey};
use std::net::SocketAddr;

/// The part of an agent's configuration that concerns the other replicas.
pub(crate) struct PeersConfig {
    /// Where sessions are taken; port 0 takes a free one.
    pub(crate) address: SocketAddr,
    /// What this replica proves to its peers.
    pub(crate) replica_key: ReplicaKey,
    /// Whom to stay connected with.
    pub(crate) listed: Vec<PeerTarget>,
    /// Whether this replica was told of members to join.
    pub(crate) joins: bool,
    /// Whose replica keys are admitted.
    pub(crate) allowed: AllowList,
    /// Whether strangers may pull.
    pub(crate) open_read: bool,
    /// What peers may take in time and number.
    pub(crate) limits: Limits,
    /// How names become addresses.
    pub(crate) resolver: Resolver,
    /// The clock that peers are told.
    pub(crate) clock: Clock,
    /// For fault injection: which addresses sessions can reach and be reached from.
    pub(crate) link_filter: Option<LinkFilter>,
    /// What decides whether this replica is ready.
    pub(crate) readiness: ReadinessConfig,
}
