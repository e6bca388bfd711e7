//! What a replica says of itself.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The three roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Digests {
    /// Over everything.
    pub root: String,
    /// Over grants, revocations and floors.
    pub authority: String,
    /// Over entries.
    pub entries: String,
}

/// How much is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// Keys that have entries, deletes included.
    pub keys: u64,
    /// Live grants.
    pub grants: u64,
    /// Revocations that stand.
    pub revocations: u64,
    /// Floors that stand.
    pub floors: u64,
}

/// A key with very many entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LongKeyRow {
    /// The key.
    pub key: String,
    /// How many entries stand.
    pub entries: u64,
    /// Grants whose revocation ends most of these, the most first.
    pub grants: Vec<HeavyGrantRow>,
}

/// A grant that many entries of one key stand on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeavyGrantRow {
    /// The grant.
    pub grant: String,
    /// How many entries of the key its revocation ends.
    pub entries: u64,
}

/// What a replica cannot take in now, or ever, and asks its peers not to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitingRow {
    /// Early entries that wait in memory until they are due.
    pub facts: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// When the next early entry is due.
    pub next_due_us: Option<u64>,
    /// Early entries that found no room: they are asked for again when they are due.
    pub without_room: u64,
    /// Facts that can never be taken in.
    pub refused: u64,
}

/// What the facts in the store weigh: for each entry its value, three times its key and 512 bytes; for each grant,
/// revocation and floor 2,048. Replicas that hold the same count the same; the files on the disk take more or less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreRow {
    /// The weight of all.
    pub counted_bytes: u64,
    /// What it may be (`--max-store`), if there is a limit.
    pub limit_bytes: Option<u64>,
    /// Whether the limit is reached, so that only what may free room is taken in.
    pub full: bool,
    /// From three quarters of the limit on: the grants whose entries weigh most, the greatest first; at most 16, and up
    /// to ten seconds old.
    pub grants: Vec<GrantBytesRow>,
}

/// What the entries of one grant weigh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantBytesRow {
    /// The grant that they cite; `root` for root's own.
    pub grant: String,
    /// Whose entries they are.
    pub entity: String,
    /// The grant's pattern.
    pub pattern: String,
    /// How many there are.
    pub entries: u64,
    /// Their weight.
    pub bytes: u64,
}

/// A replica that misbehaved and is not talked with for a time, which doubles with each offence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShutOutRow {
    /// Its id.
    pub replica: String,
    /// What it did last: `peer.misbehaved`, `session.protocol` and others.
    pub code: String,
    /// How many of its offences are not forgiven.
    pub offences: u64,
    /// For how long it is still shut out.
    pub left_us: u64,
}

/// Bytes of one session, one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrafficRow {
    /// Hashes, ids and framing.
    pub overhead: u64,
    /// Grants, revocations and floors.
    pub authority: u64,
    /// Entries.
    pub entries: u64,
    /// How many grants, revocations and floors.
    pub authority_facts: u64,
    /// How many entries.
    pub entry_facts: u64,
}

/// How one session went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncReport {
    /// The peer's replica id.
    pub peer: String,
    /// When it ended.
    pub ended_at_us: u64,
    /// How long it took.
    pub took_us: u64,
    /// How it ended.
    pub outcome: SyncOutcome,
    /// For `unsettled`: what stood in the way (`not_yet`, `refused`, `unjustified`, `truncated`, `read_only`,
    /// `unreadable`, `store.quota`; none: something was written meanwhile). For `busy` and `failed`: the code.
    pub reasons: Vec<String>,
    /// Sent.
    pub sent: TrafficRow,
    /// Received.
    pub received: TrafficRow,
    /// Received bytes of facts that changed nothing.
    pub waste: u64,
    /// Changes of direction; two are a round trip.
    pub flights: u32,
    /// Rounds.
    pub rounds: u32,
    /// Facts merged here.
    pub merged: u64,
    /// Whether this replica began it.
    pub initiated: bool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SyncOutcome {
    /// Both replicas hold the same.
    Equal,
    /// They still differ.
    Unsettled,
    /// It did not begin: another session between the two was under way, or there was no room for one.
    Busy,
    /// It broke.
    Failed,
}

impl SyncOutcome {
    /// The same word as in JSON.
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

/// What is known of what another replica holds, beside what this one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// The same, when it was heard last.
    Same,
    /// Something else.
    Differs,
    /// Nothing was heard of it.
    #[default]
    Unknown,
}

/// A peer as this replica sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerRow {
    /// Where it is dialled; none for one that dialled us.
    pub address: Option<String>,
    /// Whether this replica was told to stay connected with it.
    #[serde(default)]
    pub listed: bool,
    /// Its replica id, once known.
    pub id: Option<String>,
    /// Whether a connection stands.
    pub connected: bool,
    /// The measured round trip.
    pub rtt_us: Option<u64>,
    /// How far its clock is ahead of this replica's; less than 0: it is behind; none: not known.
    #[serde(default)]
    pub clock_offset_us: Option<i64>,
    /// `full` or `pull_only`: what it may do here.
    pub access: Option<String>,
    /// Whether it is known to hold the same as this replica, over a connection that stands.
    pub equal: bool,
    /// What it was last known to hold.
    #[serde(default)]
    pub holds: Holds,
    /// Since when.
    #[serde(default)]
    pub holds_since_us: Option<u64>,
    /// The last session.
    pub last_sync: Option<SyncReport>,
    /// The last failure to connect or to sync, if nothing has succeeded since.
    pub last_error: Option<crate::ApiError>,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusResponse {
    /// The program's version.
    pub version: String,
    /// The cluster.
    pub cluster: String,
    /// Root's entity id.
    pub root: String,
    /// Root's public key.
    pub root_pem: String,
    /// This replica's id.
    pub replica: String,
    /// The entity that this agent signs as, if it has an identity.
    pub identity: Option<String>,
    /// This replica's clock.
    pub now_us: u64,
    /// When it was started.
    pub started_at_us: u64,
    /// Where it takes sessions.
    pub sync_address: String,
    /// Where it serves HTTP on TCP.
    pub http_address: Option<String>,
    /// The three roots.
    pub digests: Digests,
    /// How much is stored.
    pub counts: Counts,
    /// Keys with more than 64 entries, which costs everybody who reads them; at most 64 of them.
    #[serde(default)]
    pub long_keys: Vec<LongKeyRow>,
    /// What cannot be taken in now.
    #[serde(default)]
    pub waiting: WaitingRow,
    /// What the facts in the store weigh against its limit.
    #[serde(default)]
    pub store: StoreRow,
    /// Replicas that misbehaved and are not talked with for a time, the longest first; at most 64.
    #[serde(default)]
    pub shut_out: Vec<ShutOutRow>,
    /// Listed peers, then those that dialled us.
    pub peers: Vec<PeerRow>,
    /// When this replica was last known to hold the same as some peer.
    #[serde(default)]
    pub last_equal_us: Option<u64>,
    /// Whether that may have been at any time before: the clock was set back since.
    #[serde(default)]
    pub last_equal_unsure: bool,
    /// Whether it is ready, as `/readyz` says it.
    pub ready: bool,
    /// Why it is not simply well, the gravest first; none: it is.
    pub reasons: Vec<ReasonRow>,
}

/// A reason for which an agent is not simply well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReasonRow {
    /// A stable code, listed in `docs/errors.md`.
    pub code: String,
    /// What that means here, and what to do.
    pub message: String,
    /// How grave it is.
    pub grade: Grade,
}

/// How grave a reason is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it was started; it is said because nobody can say that all is well.
    Note,
    /// The agent serves, and something is wrong.
    Unwell,
    /// The agent is not ready.
    Unready,
}

impl Grade {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Note, Self::Unwell, Self::Unready];

    /// `note`, `unwell` or `unready`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Unwell => "unwell",
            Self::Unready => "unready",
        }
    }
}

/// `GET /v1/digest?prefix=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DigestResponse {
    /// The path prefix; `/` is everything.
    pub prefix: String,
    /// Digest over the entries under it.
    pub entries: String,
    /// How many keys that is.
    pub keys: u64,
    /// Digest over grants, revocations and floors.
    pub authority: String,
    /// For the prefix `/`: the digest over everything.
    pub root: Option<String>,
}

/// The body of `POST /v1/diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// `[ID@]ADDR:PORT`, or the id (or its beginning) of a connected peer.
    pub peer: String,
    /// Confines the comparison of entries to a path prefix; authority is always compared.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// A fact that one of two replicas has and the other lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffRow {
    /// `authority` (a grant, revocation or floor) or `entry`.
    pub kind: String,
    /// The fact's id.
    pub id: String,
    /// The key of an entry.
    pub key: Option<String>,
    /// When an entry was written.
    pub timestamp_us: Option<u64>,
    /// Whether an entry unsets its key.
    pub is_delete: bool,
}

/// The answer to `POST /v1/diff`. An entry that a newer one on the other side supersedes is not listed: a sync would not
/// move it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffResponse {
    /// The peer's replica id.
    pub peer: String,
    /// The path prefix; `/` is everything.
    pub prefix: String,
    /// Whether both hold the same.
    pub equal: bool,
    /// What this replica has and a sync would send.
    pub here: Vec<DiffRow>,
    /// What the peer has and a sync would bring.
    pub there: Vec<DiffRow>,
    /// Whether there is more than is listed.
    pub truncated: bool,
    /// Bytes sent for the comparison.
    pub sent_bytes: u64,
    /// Bytes received for it.
    pub received_bytes: u64,
    /// Changes of direction; two are a round trip.
    pub flights: u32,
}

/// The body of `POST /v1/sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// `[ID@]ADDR:PORT`, or the id (or its beginning) of a connected peer.
    pub peer: String,
    /// Confines the session to a path prefix.
    #[serde(default)]
    pub prefix: Option<String>,
}
