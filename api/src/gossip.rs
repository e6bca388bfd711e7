//! Types for gossip membership, events, queries and gossip keys. Names and tags of members are in printable form: bytes
//! that are not UTF-8 are written as `\xHH`.

use crate::state::{Holds, ShutOutRow, SyncReport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// This agent as a member of the gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GossipRow {
    /// Name of the member, in printable form.
    pub name: String,
    /// Address on which it listens for gossip.
    pub address: String,
    /// Whether gossip is encrypted.
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
    /// Tags of the member, in printable form.
    pub tags: BTreeMap<String, String>,
    /// Whether the member is this agent itself.
    pub local: bool,
    /// Replica id, if the member is a replica of this cluster.
    pub replica: Option<String>,
    /// Address on which that replica accepts sessions.
    pub sync_address: Option<String>,
    /// Whether a connection to the replica is open.
    pub connected: bool,
    /// Measured round-trip time.
    pub rtt_us: Option<u64>,
    /// Lead of the replica's clock over this replica's; negative if it is behind, null if unknown.
    #[serde(default)]
    pub clock_offset_us: Option<i64>,
    /// Last known root digest of the replica.
    pub root: Option<String>,
    /// Time when this root digest was received.
    pub root_at_us: Option<u64>,
    /// 0 if the replica holds the same facts as this replica. Otherwise the time since this replica last had the state
    /// that the other one is last known to have; null if it never had it.
    pub lag_us: Option<u64>,
    /// Set while the replica is shut out because it misbehaved.
    #[serde(default)]
    pub shut_out: Option<ShutOutRow>,
    /// State of the replica compared with this replica's, from the last session with it.
    #[serde(default)]
    pub holds: Holds,
    /// Time since when `holds` applies.
    #[serde(default)]
    pub holds_since_us: Option<u64>,
    /// State of the replica according to gossip since the last session, if it differs from `holds`. It is unproven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Holds>,
    /// Report of the last session with the replica.
    pub last_sync: Option<SyncReport>,
    /// Whether other members announce the same replica id, while this member's address has not proved the replica's
    /// key.
    #[serde(default)]
    pub contested: bool,
    /// Beginning of the cluster's id, if the member is a replica of another cluster.
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
    /// Number of members that are left out.
    #[serde(default)]
    pub left_out: u64,
    /// Whether this agent does not take part because it has left.
    #[serde(default)]
    pub left: bool,
}

/// Body of `POST /v1/join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// Addresses of members, each `HOST[:PORT]`.
    pub addresses: Vec<String>,
}

/// Response to `POST /v1/join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinResponse {
    /// Number of addresses that answered.
    pub joined: usize,
    /// Addresses that did not answer, each with the reason.
    #[serde(default)]
    pub failed: Vec<String>,
}

/// Body of `POST /v1/event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventRequest {
    /// Name of the event.
    pub name: String,
    /// Payload. Name and payload together have at most 512 bytes, or the limit that the agent's --user-event-size-limit
    /// sets.
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
    /// Name of the query.
    pub name: String,
    /// Payload. The whole query has at most 1024 bytes.
    #[serde(default)]
    pub payload_b64: String,
    /// Names of the members to ask, in printable form; all members if empty.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Regular expressions that the tags of the members to ask must match.
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
    /// Payload of the response, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Payload of the response.
    pub payload_b64: String,
}

/// Response to `POST /v1/query`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryResponse {
    /// Names of the members that acknowledged the query.
    pub acks: Vec<String>,
    /// Responses of members.
    pub responses: Vec<ResponseRow>,
}

/// Body of `POST /v1/force-leave`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForceLeaveRequest {
    /// Name of the member, in printable form.
    pub name: String,
    /// Whether all members forget the member at once.
    #[serde(default)]
    pub prune: bool,
}

/// Response to `POST /v1/force-leave`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForceLeaveResponse {
    /// Whether this agent sees the member as alive: such a member refutes the request and stays.
    #[serde(default)]
    pub alive: bool,
}

/// Body of `POST /v1/tags`: changes of this agent's own tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TagsRequest {
    /// Tags to set, with their values.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Names of tags to remove, in printable form.
    #[serde(default)]
    pub delete: Vec<String>,
}

/// Operation on the keyrings of all members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyAction {
    /// Adds the key, which decrypts from now on.
    Install,
    /// Makes the key, which all members must have, the one that encrypts.
    Use,
    /// Removes the key, which no longer decrypts.
    Remove,
}

/// Body of `POST /v1/gossip-keys`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GossipKeyRequest {
    /// Operation to perform.
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
    /// Number of members asked.
    pub members: u64,
    /// Number of members that answered.
    pub answered: u64,
    /// Number of members at which the operation failed.
    pub failed: u64,
    /// Keys of the members; only if the request asked for them.
    pub keys: Vec<KeyCount>,
    /// Messages of members, by their names.
    pub messages: BTreeMap<String, String>,
    /// Reason why the operation is not complete; null if all members have done it.
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
