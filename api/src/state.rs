//! Types for the status of a replica and its peers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The three root digests of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Digests {
    /// Digest of the whole state.
    pub root: String,
    /// Digest of grants, revocations and floors.
    pub authority: String,
    /// Digest of entries.
    pub entries: String,
}

/// Numbers of stored keys and authority facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// Number of keys with entries, including deletes.
    pub keys: u64,
    /// Number of live grants.
    pub grants: u64,
    /// Number of revocations.
    pub revocations: u64,
    /// Number of floors.
    pub floors: u64,
}

/// A key with very many entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LongKeyRow {
    /// Key with many entries.
    pub key: String,
    /// Number of entries in the frontier.
    pub entries: u64,
    /// Grants whose revocation would end most of these entries, most first.
    pub grants: Vec<HeavyGrantRow>,
}

/// A grant that many entries of one key depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeavyGrantRow {
    /// Id of the grant.
    pub grant: String,
    /// Number of the key's entries that its revocation would end.
    pub entries: u64,
}

/// Facts that a replica does not accept now or ever, and asks its peers not to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitingRow {
    /// Number of early entries that wait in memory until they are due.
    pub facts: u64,
    /// Memory of the waiting entries in bytes.
    pub bytes: u64,
    /// Time when the next early entry is due.
    pub next_due_us: Option<u64>,
    /// Number of early entries that found no room: they are requested again when they are due.
    pub without_room: u64,
    /// Number of facts that can never be accepted.
    pub refused: u64,
}

/// Weight of the facts in the store: for each entry its value, three times its key and 512 bytes; for each grant,
/// revocation and floor 2,048 bytes. Replicas with the same facts have the same weight; the size of the files on disk
/// differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreRow {
    /// Total weight in bytes.
    pub counted_bytes: u64,
    /// Maximum weight (`--max-store`) in bytes; null: no limit.
    pub limit_bytes: Option<u64>,
    /// Whether the limit is reached, so that only facts that may free space are accepted.
    pub full: bool,
    /// Grants whose entries weigh most, the greatest first; at most 16, and up to ten seconds old. Empty below three
    /// quarters of the limit.
    pub grants: Vec<GrantBytesRow>,
}

/// Weight of the entries of one grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantBytesRow {
    /// Id of the cited grant; `root` for root's own entries.
    pub grant: String,
    /// Entity that signs the entries.
    pub entity: String,
    /// Pattern of the grant.
    pub pattern: String,
    /// Number of entries.
    pub entries: u64,
    /// Weight of the entries in bytes.
    pub bytes: u64,
}

/// A replica that misbehaved and is shut out for a time, which doubles with each offence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShutOutRow {
    /// Id of the replica.
    pub replica: String,
    /// Code of its last offence, such as `peer.misbehaved` or `session.protocol`.
    pub code: String,
    /// Number of its offences that are not forgiven yet.
    pub offences: u64,
    /// Remaining time of being shut out.
    pub left_us: u64,
}

/// Traffic of one session in one direction, in bytes and facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrafficRow {
    /// Bytes of hashes, ids and framing.
    pub overhead: u64,
    /// Bytes of grants, revocations and floors.
    pub authority: u64,
    /// Bytes of entries.
    pub entries: u64,
    /// Number of grants, revocations and floors.
    pub authority_facts: u64,
    /// Number of entries.
    pub entry_facts: u64,
}

/// Report of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncReport {
    /// Replica id of the peer.
    pub peer: String,
    /// Time when the session ended.
    pub ended_at_us: u64,
    /// Duration of the session.
    pub took_us: u64,
    /// Outcome of the session.
    pub outcome: SyncOutcome,
    /// For `unsettled`: the obstacles to equality (`not_yet`, `refused`, `unjustified`, `truncated`, `read_only`,
    /// `unreadable`, `store.quota`; empty if something was written meanwhile). For `busy` and `failed`: the code.
    pub reasons: Vec<String>,
    /// Traffic sent.
    pub sent: TrafficRow,
    /// Traffic received.
    pub received: TrafficRow,
    /// Received bytes of facts that changed nothing.
    pub waste: u64,
    /// Number of flights, that is, changes of direction; two are a round trip.
    pub flights: u32,
    /// Number of rounds.
    pub rounds: u32,
    /// Number of facts merged here.
    pub merged: u64,
    /// Whether this replica began the session.
    pub initiated: bool,
}

/// Outcome of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SyncOutcome {
    /// Both replicas hold the same facts.
    Equal,
    /// The replicas still differ.
    Unsettled,
    /// The session did not begin: another session between the two was running, or there was no capacity.
    Busy,
    /// The session failed.
    Failed,
}

impl SyncOutcome {
    /// Returns the word that JSON uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Unsettled => "unsettled",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for SyncOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// State of another replica compared with this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// It held the same facts when last known.
    Same,
    /// It holds other facts.
    Differs,
    /// Its state is not known.
    #[default]
    Unknown,
}

/// A peer from the view of this replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerRow {
    /// Address at which the peer is dialled; null for a peer that dialled this replica.
    pub address: Option<String>,
    /// Whether this replica is configured to stay connected with the peer.
    #[serde(default)]
    pub listed: bool,
    /// Replica id of the peer, once known.
    pub id: Option<String>,
    /// Whether a connection to the peer is open.
    pub connected: bool,
    /// Measured round-trip time.
    pub rtt_us: Option<u64>,
    /// Lead of the peer's clock over this replica's; negative if it is behind, null if unknown.
    #[serde(default)]
    pub clock_offset_us: Option<i64>,
    /// Access that the peer has here: `full` or `pull_only`.
    pub access: Option<String>,
    /// Whether the peer is known to hold the same facts as this replica, and is connected.
    pub equal: bool,
    /// Last known state of the peer compared with this replica's.
    #[serde(default)]
    pub holds: Holds,
    /// Time since when `holds` applies.
    #[serde(default)]
    pub holds_since_us: Option<u64>,
    /// Report of the last session.
    pub last_sync: Option<SyncReport>,
    /// Last failure to connect or to sync, if nothing has succeeded since.
    pub last_error: Option<crate::ApiError>,
}

/// Response to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusResponse {
    /// Version of the program.
    pub version: String,
    /// Id of the cluster.
    pub cluster: String,
    /// Entity id of root.
    pub root: String,
    /// Public key of root as PEM.
    pub root_pem: String,
    /// Id of this replica.
    pub replica: String,
    /// Entity as which this agent signs, if it has an identity.
    pub identity: Option<String>,
    /// Current time by this replica's clock.
    pub now_us: u64,
    /// Time when the agent was started.
    pub started_at_us: u64,
    /// Address on which the agent accepts sessions.
    pub sync_address: String,
    /// TCP address of the HTTP API, if it is served on TCP.
    pub http_address: Option<String>,
    /// Root digests.
    pub digests: Digests,
    /// Numbers of keys and authority facts.
    pub counts: Counts,
    /// Keys with more than 64 entries, which are expensive for every reader; at most 64 of them.
    #[serde(default)]
    pub long_keys: Vec<LongKeyRow>,
    /// Facts that are not accepted now or ever.
    #[serde(default)]
    pub waiting: WaitingRow,
    /// Weight of the facts in the store, and its limit.
    #[serde(default)]
    pub store: StoreRow,
    /// Replicas that are shut out because they misbehaved, the longest remaining time first; at most 64.
    #[serde(default)]
    pub shut_out: Vec<ShutOutRow>,
    /// Peers: the listed ones, then those that dialled this replica.
    pub peers: Vec<PeerRow>,
    /// Time when this replica was last known to hold the same facts as a peer.
    #[serde(default)]
    pub last_equal_us: Option<u64>,
    /// Whether `last_equal_us` is unreliable because the clock was set back since.
    #[serde(default)]
    pub last_equal_unsure: bool,
    /// Whether the agent is ready, as in `/readyz`.
    pub ready: bool,
    /// Reasons why the agent is not simply well, the gravest first; empty if it is.
    pub reasons: Vec<ReasonRow>,
}

/// A reason why an agent is not simply well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReasonRow {
    /// Stable code, listed in `docs/errors.md`.
    pub code: String,
    /// Meaning of the reason here, and what to do.
    pub message: String,
    /// Gravity of the reason.
    pub grade: Grade,
}

/// Gravity of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// A consequence of how the agent was started. It is reported because the agent cannot be known to be well.
    Note,
    /// The agent serves requests, but something is wrong.
    Unwell,
    /// The agent is not ready.
    Unready,
}

impl Grade {
    /// All grades in ascending order.
    pub const ALL: [Self; 3] = [Self::Note, Self::Unwell, Self::Unready];

    /// Returns `note`, `unwell` or `unready`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Unwell => "unwell",
            Self::Unready => "unready",
        }
    }
}

/// Response to `GET /v1/digest?prefix=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DigestResponse {
    /// Path prefix; `/` means all keys.
    pub prefix: String,
    /// Digest of the entries under the prefix.
    pub entries: String,
    /// Number of keys under the prefix.
    pub keys: u64,
    /// Digest of grants, revocations and floors.
    pub authority: String,
    /// Root digest of the whole state; only for the prefix `/`.
    pub root: Option<String>,
}

/// Body of `POST /v1/diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// Peer: `[ID@]ADDR:PORT`, or the id (or its beginning) of a connected peer.
    pub peer: String,
    /// Path prefix that limits the comparison of entries; authority facts are always compared.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// A fact that one replica has and the other lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffRow {
    /// Kind of the fact: `authority` (a grant, revocation or floor) or `entry`.
    pub kind: String,
    /// Id of the fact.
    pub id: String,
    /// Key, if the fact is an entry.
    pub key: Option<String>,
    /// Time of writing, if the fact is an entry.
    pub timestamp_us: Option<u64>,
    /// Whether the fact is an entry that deletes its key's value.
    pub is_delete: bool,
}

/// Response to `POST /v1/diff`. An entry that a newer one on the other side supersedes is not listed, since a sync
/// would not transfer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffResponse {
    /// Replica id of the peer.
    pub peer: String,
    /// Path prefix; `/` means all keys.
    pub prefix: String,
    /// Whether both replicas hold the same facts.
    pub equal: bool,
    /// Facts that only this replica has and a sync would send.
    pub here: Vec<DiffRow>,
    /// Facts that only the peer has and a sync would fetch.
    pub there: Vec<DiffRow>,
    /// Whether there are more differences than are listed.
    pub truncated: bool,
    /// Bytes sent for the comparison.
    pub sent_bytes: u64,
    /// Bytes received for the comparison.
    pub received_bytes: u64,
    /// Number of flights, that is, changes of direction; two are a round trip.
    pub flights: u32,
}

/// Body of `POST /v1/sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// Peer: `[ID@]ADDR:PORT`, or the id (or its beginning) of a connected peer.
    pub peer: String,
    /// Path prefix that limits the session.
    #[serde(default)]
    pub prefix: Option<String>,
}
