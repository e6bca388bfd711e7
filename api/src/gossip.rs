//! Membership: who is there, and what members tell each other.

use crate::state::{Holds, ShutOutRow, SyncReport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// This agent's part in gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GossipRow {
    /// Its name, as it is shown.
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
    /// Its name, as it is shown.
    pub name: String,
    /// Where it listens for gossip.
    pub address: String,
    /// `alive`, `leaving`, `left` or `failed`.
    pub status: String,
    /// Whether it is suspected of having failed.
    pub suspect: bool,
    /// Its tags, as they are shown.
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
    /// How far its clock is ahead of this replica's; less than 0: it is behind; none: not known.
    #[serde(default)]
    pub clock_offset_us: Option<i64>,
    /// The root over everything that it was last known to hold.
    pub root: Option<String>,
    /// When that was heard.
    pub root_at_us: Option<u64>,
    /// 0: it holds what this replica holds. Else for how long this replica has held something else than what the other
    /// is last known to hold; none if that was never held here.
    pub lag_us: Option<u64>,
    /// If it misbehaved: until when it is not talked with, and why.
    #[serde(default)]
    pub shut_out: Option<ShutOutRow>,
    /// What it holds beside what this replica holds, by the last session with it.
    #[serde(default)]
    pub holds: Holds,
    /// Since when.
    #[serde(default)]
    pub holds_since_us: Option<u64>,
    /// What was said of it in gossip since the last session with it, if that is something else. Nobody has proved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Holds>,
    /// The last session with it.
    pub last_sync: Option<SyncReport>,
    /// Whether other members announce the same replica id, and this one's address has not proved the replica's key.
    #[serde(default)]
    pub contested: bool,
    /// The beginning of the id of the cluster that it is a replica of, if that is another one than this agent's.
    #[serde(default)]
    pub other_cluster: Option<String>,
}

/// `GET /v1/members`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MembersResponse {
    /// This agent's part; none if it takes none.
    pub gossip: Option<GossipRow>,
    /// This agent first, then the others by name; at most 2,048 others: those that have proved a replica's key first of all,
    /// then those that live.
    pub members: Vec<MemberRow>,
    /// How many more there are.
    #[serde(default)]
    pub left_out: u64,
    /// Whether this agent takes no part because it has left.
    #[serde(default)]
    pub left: bool,
}

/// The body of `POST /v1/join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
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
    /// Which did not, and why.
    #[serde(default)]
    pub failed: Vec<String>,
}

/// The body of `POST /v1/event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventRequest {
    /// The event's name.
    pub name: String,
    /// What it carries; name and payload together have at most 512 bytes, or as many as the agent's --user-event-size-limit says.
    #[serde(default)]
    pub payload_b64: String,
    /// Whether handlers may merge it with its like.
    #[serde(default)]
    pub coalesce: bool,
}

/// The body of `POST /v1/query`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// The query's name.
    pub name: String,
    /// What is asked; the whole query has at most 1024 bytes.
    #[serde(default)]
    pub payload_b64: String,
    /// Only these members are asked, by their names as they are shown; all when empty.
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
    /// How long answers are waited for, at most 300,000 milliseconds; grows with the cluster if it is not given.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// One answer to a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResponseRow {
    /// Who answers, as it is shown.
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

/// The body of `POST /v1/force-leave`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForceLeaveRequest {
    /// The member's name, as it is shown.
    pub name: String,
    /// Whether it is forgotten at once, by all members.
    #[serde(default)]
    pub prune: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForceLeaveResponse {
    /// Whether the member is alive as this agent sees it: it refutes this then, and stays.
    #[serde(default)]
    pub alive: bool,
}

/// The body of `POST /v1/tags`: changes of this agent's own tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TagsRequest {
    /// Tags that are set, each to a value.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Tags that are taken away, by their names as they are shown.
    #[serde(default)]
    pub delete: Vec<String>,
}

/// How all members are to change their keyrings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyAction {
    /// The key decrypts from now on.
    Install,
    /// The key, which all have, encrypts from now on.
    Use,
    /// The key no longer decrypts.
    Remove,
}

/// The body of `POST /v1/gossip-keys`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GossipKeyRequest {
    /// What is done with it.
    pub action: KeyAction,
    /// The key in base64; a secret.
    pub key: String,
}

/// A gossip key, and how many members have it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyCount {
    /// The key in base64; a secret.
    pub key: String,
    /// How many members have it.
    pub members: u64,
}

/// What the members say of their gossip keys, or of a change of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GossipKeysResponse {
    /// How many members were asked.
    pub members: u64,
    /// How many have answered.
    pub answered: u64,
    /// How many could not do it.
    pub failed: u64,
    /// Which keys they have; only where that was asked.
    pub keys: Vec<KeyCount>,
    /// What members say of it, by their names.
    pub messages: BTreeMap<String, String>,
    /// Why it does not count as done; none if all members have done it.
    pub failure: Option<String>,
}

impl fmt::Debug for GossipKeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipKeyRequest").field("action", &self.action).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCount").field("members", &self.members).finish_non_exhaustive()
    }
}

/// The answer to a request that has nothing to tell but that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {}
