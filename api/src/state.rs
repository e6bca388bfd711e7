//! Types for the status of a replica and its peers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The three root digests of a replica, each 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Digests {
    /// Digest of the whole state, over the two other digests: equal exactly if two replicas hold the same facts.
    pub root: String,
    /// Digest of all grants, revocations and floors.
    pub authority: String,
    /// Digest of all entries.
    pub entries: String,
}

/// Numbers of keys and authority facts that a replica holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// Number of keys with entries, including keys of which only deletes are left.
    pub keys: u64,
    /// Number of live grants, including expired ones.
    pub grants: u64,
    /// Number of revocations in force.
    pub revocations: u64,
    /// Number of floors in force.
    pub floors: u64,
}

/// A key with more than 64 entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LongKeyRow {
    /// Key that has the entries.
    pub key: String,
    /// Number of entries in the key's frontier.
    pub entries: u64,
    /// Grants whose revocation would end most of the key's entries, the most first; at most 4.
    pub grants: Vec<HeavyGrantRow>,
}

/// A grant that many entries of one key depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeavyGrantRow {
    /// Id of the grant, which the entries cite directly or through a grant below it.
    pub grant: String,
    /// Number of the key's entries that a revocation of the grant would end.
    pub entries: u64,
}

/// Facts that a replica does not accept now or ever, and asks its peers not to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitingRow {
    /// Number of early entries that wait in memory until they are due.
    pub facts: u64,
    /// Memory that the waiting entries take, in bytes.
    pub bytes: u64,
    /// Time by this replica's clock when the next early entry is due; null if none waits.
    pub next_due_us: Option<u64>,
    /// Number of early entries for which the waiting room had no place: they are requested from peers again when they
    /// are due.
    pub without_room: u64,
    /// Number of remembered facts that can never be accepted.
    pub refused: u64,
}

/// Weight of the facts in the store: for each entry its value, three times its key and 512 bytes; for each grant,
/// revocation and floor 2,048 bytes. Replicas with the same facts have the same weight; the size of the files on disk
/// differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreRow {
    /// Total weight of all facts, in bytes.
    pub counted_bytes: u64,
    /// Maximum weight (`--max-store`) in bytes; null: no limit.
    pub limit_bytes: Option<u64>,
    /// Whether the weight has reached the limit, so that only facts that may free space are accepted.
    pub full: bool,
    /// Grants whose entries weigh most, the greatest first; at most 16, and up to ten seconds old. Empty while the
    /// weight is below three quarters of the limit.
    pub grants: Vec<GrantBytesRow>,
}

/// Weight of all entries that cite one grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantBytesRow {
    /// Id of the cited grant; `root` for root's own entries.
    pub grant: String,
    /// Id of the entity that signs these entries: the grantee, or root.
    pub entity: String,
    /// Pattern of the keys that the grant covers.
    pub pattern: String,
    /// Number of entries that cite the grant.
    pub entries: u64,
    /// Total weight of these entries, in bytes.
    pub bytes: u64,
}

/// A replica that misbehaved and is shut out for a time, which doubles with each offence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShutOutRow {
    /// Id of the replica that is shut out.
    pub replica: String,
    /// Code of the replica's last offence, such as `peer.misbehaved` or `session.protocol`.
    pub code: String,
    /// Number of the replica's offences that are not forgiven yet.
    pub offences: u64,
    /// Remaining time until the replica is admitted again.
    pub left_us: u64,
}

/// Traffic of one session in one direction, in bytes and facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrafficRow {
    /// Bytes of hashes, ids and framing, that is, all bytes that are not facts.
    pub overhead: u64,
    /// Bytes of the transferred grants, revocations and floors.
    pub authority: u64,
    /// Bytes of the transferred entries, with their values.
    pub entries: u64,
    /// Number of grants, revocations and floors that were transferred.
    pub authority_facts: u64,
    /// Number of entries that were transferred.
    pub entry_facts: u64,
}

/// Report of one session of this replica with a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncReport {
    /// Id of the replica with which the session was held.
    pub peer: String,
    /// Time when the session ended, by this replica's clock.
    pub ended_at_us: u64,
    /// Duration of the session in microseconds.
    pub took_us: u64,
    /// Result of the session: whether the replicas are equal, or why not.
    pub outcome: SyncOutcome,
    /// For `unsettled`: the obstacles to equality (`not_yet`, `refused`, `unjustified`, `truncated`, `read_only`,
    /// `unreadable`, `store.quota`; empty if something was written during the session). For `busy` and `failed`: the
    /// code.
    pub reasons: Vec<String>,
    /// Traffic that this replica sent in the session.
    pub sent: TrafficRow,
    /// Traffic that this replica received in the session.
    pub received: TrafficRow,
    /// Bytes of received facts that changed nothing here.
    pub waste: u64,
    /// Number of flights of the session, that is, of changes of direction; two are a round trip.
    pub flights: u32,
    /// Number of rounds of the session, in each of which the replicas compare their states; at most 3.
    pub rounds: u32,
    /// Number of received facts that were merged here.
    pub merged: u64,
    /// Whether this replica began the session.
    pub initiated: bool,
}

/// Result of a session between this replica and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SyncOutcome {
    /// Both replicas hold the same facts in the scope of the session.
    Equal,
    /// The session ended, and the replicas still differ.
    Unsettled,
    /// The session did not begin: another session between the two replicas was running, or one of them had no capacity.
    Busy,
    /// The session began and was ended by an error.
    Failed,
}

impl SyncOutcome {
    /// Returns the word that JSON uses: `equal`, `unsettled`, `busy` or `failed`.
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
    /// The other replica held the same facts as this one when last known.
    Same,
    /// The other replica holds other facts than this one.
    Differs,
    /// The state of the other replica is not known.
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
    /// Replica id of the peer; null until it is known.
    pub id: Option<String>,
    /// Whether a connection to the peer is open.
    pub connected: bool,
    /// Measured round-trip time to the peer; null if unknown.
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
    /// Time since when `holds` has had its present value, by this replica's clock.
    #[serde(default)]
    pub holds_since_us: Option<u64>,
    /// Report of the last session with the peer; null if there was none.
    pub last_sync: Option<SyncReport>,
    /// Last failure to connect to the peer or to sync with it; null if one has succeeded since.
    pub last_error: Option<crate::ApiError>,
}

/// Response to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusResponse {
    /// Version of the agent's program.
    pub version: String,
    /// Id of the agent's cluster.
    pub cluster: String,
    /// Entity id of the cluster's root.
    pub root: String,
    /// Public key of the cluster's root as PEM.
    pub root_pem: String,
    /// Id of this replica.
    pub replica: String,
    /// Id of the entity as which this agent signs; null if it has no identity.
    pub identity: Option<String>,
    /// Current time by this replica's clock.
    pub now_us: u64,
    /// Time when the agent was started, by this replica's clock.
    pub started_at_us: u64,
    /// Address on which the agent accepts sessions of peers.
    pub sync_address: String,
    /// TCP address of the HTTP API; null if it is not served on TCP.
    pub http_address: Option<String>,
    /// Root digests of this replica.
    pub digests: Digests,
    /// Numbers of keys and authority facts that this replica holds.
    pub counts: Counts,
    /// Keys with more than 64 entries, which are expensive for every reader; at most 64 of them.
    #[serde(default)]
    pub long_keys: Vec<LongKeyRow>,
    /// Facts that this replica does not accept now or ever.
    #[serde(default)]
    pub waiting: WaitingRow,
    /// Weight of the facts in this replica's store, and its limit.
    #[serde(default)]
    pub store: StoreRow,
    /// Replicas that are shut out because they misbehaved, the longest remaining time first; at most 64.
    #[serde(default)]
    pub shut_out: Vec<ShutOutRow>,
    /// Peers: the listed ones, then those that dialled this replica.
    pub peers: Vec<PeerRow>,
    /// Time by this replica's clock when it was last known to hold the same facts as a peer; null if never.
    #[serde(default)]
    pub last_equal_us: Option<u64>,
    /// Whether `last_equal_us` is unreliable because this replica's clock was set back since.
    #[serde(default)]
    pub last_equal_unsure: bool,
    /// Whether the agent is ready to answer requests, as `/readyz` reports.
    pub ready: bool,
    /// Reasons why the agent is not simply well, the gravest first; empty if it is.
    pub reasons: Vec<ReasonRow>,
}

/// A reason why an agent is not simply well, as part of its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReasonRow {
    /// Stable code of the reason, listed in `docs/errors.md`.
    pub code: String,
    /// Meaning of the reason in this agent's case, and what to do.
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
    /// The agent is not ready to answer requests.
    Unready,
}

impl Grade {
    /// All grades in ascending order of gravity.
    pub const ALL: [Self; 3] = [Self::Note, Self::Unwell, Self::Unready];

    /// Returns the word that JSON uses: `note`, `unwell` or `unready`.
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
    /// Path prefix of the digest; `/` means all keys.
    pub prefix: String,
    /// Digest of the entries of all keys under the prefix.
    pub entries: String,
    /// Number of keys with entries under the prefix.
    pub keys: u64,
    /// Digest of all grants, revocations and floors, whatever the prefix.
    pub authority: String,
    /// Root digest of the whole state; only for the prefix `/`.
    pub root: Option<String>,
}

/// Body of `POST /v1/diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// Peer: `[ID@]HOST:PORT` with the whole id, or 8 or more first digits of the id of one connected peer.
    pub peer: String,
    /// Path prefix that limits the comparison of entries, such as `/a`; authority facts are always compared.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// A fact that one of the two compared replicas has and the other lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffRow {
    /// Kind of the fact: `authority` (a grant, revocation or floor) or `entry`.
    pub kind: String,
    /// Id of the fact, as 64 hexadecimal digits.
    pub id: String,
    /// Key of the entry; null for authority facts.
    pub key: Option<String>,
    /// Time at which the entry was written; null for authority facts.
    pub timestamp_us: Option<u64>,
    /// Whether the fact is an entry that deletes its key's value.
    pub is_delete: bool,
}

/// Response to `POST /v1/diff`. An entry that a newer one on the other side supersedes is not listed, since a sync
/// would not transfer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffResponse {
    /// Replica id of the peer with which this replica was compared.
    pub peer: String,
    /// Path prefix to which the comparison of entries was limited; `/` means all keys.
    pub prefix: String,
    /// Whether both replicas hold the same authority facts, and the same entries under the prefix.
    pub equal: bool,
    /// Facts that only this replica has and a sync would send.
    pub here: Vec<DiffRow>,
    /// Facts that only the peer has and a sync would fetch.
    pub there: Vec<DiffRow>,
    /// Whether there are more differences than `here` and `there` list.
    pub truncated: bool,
    /// Number of bytes that this replica sent for the comparison.
    pub sent_bytes: u64,
    /// Number of bytes that this replica received for the comparison.
    pub received_bytes: u64,
    /// Number of flights of the comparison, that is, of changes of direction; two are a round trip.
    pub flights: u32,
}

/// Body of `POST /v1/sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// Peer: `[ID@]HOST:PORT` with the whole id, or 8 or more first digits of the id of one connected peer.
    pub peer: String,
    /// Path prefix that limits the exchange of entries: `/a` is the key `/a` and all below it; null: all keys.
    #[serde(default)]
    pub prefix: Option<String>,
}
