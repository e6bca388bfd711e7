//! Types for gossip membership, events, queries and gossip keys. Names and tags of members are in printable form: bytes
//! that are not UTF-8 are written as `\xHH`.

use crate::state::{Holds, ShutOutRow, SyncReport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// This agent as a member of the cluster's gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GossipRow {
    /// Name of this agent as a member, in printable form.
    pub name: String,
    /// Address on which this agent listens for gossip.
    pub address: String,
    /// Whether this agent's gossip is encrypted with a gossip key.
    pub encrypted: bool,
}

/// A member of the gossip: a replica of this cluster, of another one, or something else, such as a Serf agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberRow {
    /// Name of the member, in printable form.
    pub name: String,
    /// Address on which the member listens for gossip.
    pub address: String,
    /// Status of the member: `alive`, `leaving`, `left` or `failed`.
    pub status: String,
    /// Whether the member is suspected of having failed.
    pub suspect: bool,
    /// Tags of the member by their names, both in printable form.
    pub tags: BTreeMap<String, String>,
    /// Whether the member is this agent itself.
    pub local: bool,
    /// Id of the replica, if the member is a replica of this cluster; else null.
    pub replica: Option<String>,
    /// Address on which the member's replica accepts sessions; null if the member is not a replica of this cluster.
    pub sync_address: Option<String>,
    /// Whether a connection between this replica and the member's replica is open.
    pub connected: bool,
    /// Measured round-trip time to the member's replica; null if unknown.
    pub rtt_us: Option<u64>,
    /// Lead of the member's clock over this replica's; negative if it is behind, null if unknown.
    #[serde(default)]
    pub clock_offset_us: Option<i64>,
    /// Root digest that the member's replica was last known to have; null if unknown.
    pub root: Option<String>,
    /// Time when `root` was received, by this replica's clock.
    pub root_at_us: Option<u64>,
    /// 0 if the member's replica holds the same facts as this replica. Otherwise the time since this replica last had
    /// the state that the member's replica is last known to have; null if it never had it.
    pub lag_us: Option<u64>,
    /// Set while this replica shuts the member's replica out because it misbehaved.
    #[serde(default)]
    pub shut_out: Option<ShutOutRow>,
    /// State of the member's replica compared with this replica's, from the last session with it.
    #[serde(default)]
    pub holds: Holds,
    /// Time since when `holds` has had its present value, by this replica's clock.
    #[serde(default)]
    pub holds_since_us: Option<u64>,
    /// State of the member's replica according to gossip since the last session, if it differs from `holds`. It is
    /// unproven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Holds>,
    /// Report of the last session with the member's replica; null if there was none.
    pub last_sync: Option<SyncReport>,
    /// Whether other members announce the same replica id, while this member's address has not proved the replica's
    /// key.
    #[serde(default)]
    pub contested: bool,
    /// Beginning of the cluster's id, if the member is a replica of another cluster; else null.
    #[serde(default)]
    pub other_cluster: Option<String>,
}

/// Response to `GET /v1/members`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MembersResponse {
    /// This agent as a member; null if it does not take part in gossip.
    pub gossip: Option<GossipRow>,
    /// Members: this agent first, then at most 2,048 others by name. If there are more, those that have proved a
    /// replica's key are preferred, then those that are alive.
    pub members: Vec<MemberRow>,
    /// Number of members that are known but not in `members`, because of its limit.
    #[serde(default)]
    pub left_out: u64,
    /// Whether this agent does not take part in gossip because it has left it.
    #[serde(default)]
    pub left: bool,
}

/// Body of `POST /v1/join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// Addresses of members to contact, each `HOST[:PORT]`; at most 64.
    pub addresses: Vec<String>,
}

/// Response to `POST /v1/join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinResponse {
    /// Number of requested addresses that answered.
    pub joined: usize,
    /// Requested addresses that did not answer, each with the reason.
    #[serde(default)]
    pub failed: Vec<String>,
}

/// Body of `POST /v1/event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventRequest {
    /// Name of the event, by which handlers distinguish events.
    pub name: String,
    /// Payload of the event, in base64. Name and payload together have at most 512 bytes, or the limit that the agent's
    /// --user-event-size-limit sets.
    #[serde(default)]
    pub payload_b64: String,
    /// Whether handlers may coalesce the event with others of the same name.
    #[serde(default)]
    pub coalesce: bool,
}

/// Body of `POST /v1/query`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// Name of the query, by which handlers distinguish queries.
    pub name: String,
    /// Payload of the query, in base64. The whole query has at most 1024 bytes.
    #[serde(default)]
    pub payload_b64: String,
    /// Names of the members to ask, in printable form; all members if empty.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Regular expressions by the name of a tag: only members whose tags match all of them are asked.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Whether each asked member acknowledges the query.
    #[serde(default)]
    pub ack: bool,
    /// Number of other members through which answers are relayed in addition, at most 5.
    #[serde(default)]
    pub relay_factor: u8,
    /// Time to wait for answers, at most 300,000 milliseconds. By default it grows with the size of the cluster.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// One response to a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResponseRow {
    /// Name of the responding member, in printable form.
    pub from: String,
    /// Payload of the response as text; absent if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Payload of the response in base64.
    pub payload_b64: String,
}

/// Response to `POST /v1/query`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryResponse {
    /// Names of the members that acknowledged the query.
    pub acks: Vec<String>,
    /// Responses of members, in the order in which they arrived.
    pub responses: Vec<ResponseRow>,
}

/// Body of `POST /v1/force-leave`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForceLeaveRequest {
    /// Name of the member that is to leave, in printable form.
    pub name: String,
    /// Whether all members forget the member at once.
    #[serde(default)]
    pub prune: bool,
}

/// Response to `POST /v1/force-leave`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForceLeaveResponse {
    /// Whether this agent sees the member as alive: such a member refutes the request and remains a member.
    #[serde(default)]
    pub alive: bool,
}

/// Body of `POST /v1/tags`: changes of this agent's own tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TagsRequest {
    /// Tags to set on this agent, with their values by name.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Names of tags to remove from this agent, in printable form.
    #[serde(default)]
    pub delete: Vec<String>,
}

/// Operation on the gossip keyrings of all members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyAction {
    /// Adds the key to each keyring: members decrypt with it from now on.
    Install,
    /// Makes the key the one with which members encrypt; all members must have it already.
    Use,
    /// Removes the key from each keyring: members no longer decrypt with it.
    Remove,
}

/// Body of `POST /v1/gossip-keys`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GossipKeyRequest {
    /// Operation to perform with `key`.
    pub action: KeyAction,
    /// Gossip key in base64; a secret.
    pub key: String,
}

/// A gossip key with the number of members that have it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyCount {
    /// Gossip key in base64; a secret.
    pub key: String,
    /// Number of members that have the key.
    pub members: u64,
}

/// Answers of the members about their gossip keys, or about a change of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GossipKeysResponse {
    /// Number of members that were asked.
    pub members: u64,
    /// Number of the asked members that answered.
    pub answered: u64,
    /// Number of the asked members at which the operation failed.
    pub failed: u64,
    /// Gossip keys of the members; empty unless the request asked for them.
    pub keys: Vec<KeyCount>,
    /// Messages of members about the operation, by the names of the members.
    pub messages: BTreeMap<String, String>,
    /// Reason why not all members have done the operation; null if all have.
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

/// Response without content: the request was carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {}
