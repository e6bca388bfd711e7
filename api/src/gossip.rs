//! Membership: who is there, and what members tell each other.

use crate::state::SyncReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// This agent's part in gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GossipRow {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Whether it has keys.
    pub encrypted: bool,
}

/// A member of the gossip: a replica of this cluster, of another one, or something else, such as a Serf agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// Where it listens for gossip.
    pub address: String,
    /// `alive`, `leaving`, `left` or `failed`.
    pub status: String,
    /// Whether it is suspected of having failed.
    pub suspect: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it is this agent itself.
    pub local: bool,
    /// Its replica id, if it is a replica of this cluster.
    pub replica: Option<String>,
    /// Where it takes sessions then.
    pub sync_address: Option<String>,
    /// Whether a connection stands.
    pub connected: bool,
    /// The measured round trip.
    pub rtt_us: Option<u64>,
    /// The root over everything that it was last known to hold.
    pub root: Option<String>,
    /// When that was heard.
    pub root_at_us: Option<u64>,
    /// 0: it holds what this replica holds. Else for how long this replica has held something else than what the other
    /// is last known to hold; none if that was never held here.
    pub lag_us: Option<u64>,
    /// The last session with it.
    pub last_sync: Option<SyncReport>,
}

/// `GET /v1/members`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MembersResponse {
    /// This agent's part; none if it takes none.
    pub gossip: Option<GossipRow>,
    /// This agent first, then the others by name.
    pub members: Vec<MemberRow>,
}

/// The body of `POST /v1/join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinRequest {
    /// `HOST[:PORT]` each.
    pub addresses: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinResponse {
    /// How many answered.
    pub joined: usize,
}

/// The body of `POST /v1/event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventRequest {
    /// The event's name.
    pub name: String,
    /// What it carries; name and payload together have at most 512 bytes.
    #[serde(default)]
    pub payload_b64: String,
    /// Whether handlers may merge it with its like.
    #[serde(default)]
    pub coalesce: bool,
}

/// The body of `POST /v1/query`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryRequest {
    /// The query's name.
    pub name: String,
    /// What is asked; the whole query has at most 1024 bytes.
    #[serde(default)]
    pub payload_b64: String,
    /// Only these members are asked; all when empty.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Only members whose tags match these regular expressions.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Whether each member that is asked acknowledges.
    #[serde(default)]
    pub ack: bool,
    /// Through how many others answers are sent in addition, at most 5.
    #[serde(default)]
    pub relay_factor: u8,
    /// How long answers are waited for; grows with the cluster if it is not given.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// One answer to a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResponseRow {
    /// Who answers.
    pub from: String,
    /// The answer, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The answer.
    pub payload_b64: String,
}

/// What came of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryResponse {
    /// Who acknowledged.
    pub acks: Vec<String>,
    /// Who answered.
    pub responses: Vec<ResponseRow>,
}

/// The answer to a request that has nothing to tell but that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {}
