//! What a replica says of itself.

use serde::{Deserialize, Serialize};

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
    /// `equal`, `unsettled` or `failed`.
    pub outcome: String,
    /// For `unsettled`: what stood in the way (`not_yet`, `refused`, `unjustified`, `truncated`, `read_only`,
    /// `unreadable`; none: something was written meanwhile). For `failed`: the code.
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
    /// `full` or `pull_only`: what it may do here.
    pub access: Option<String>,
    /// Whether it is known to hold the same as this replica.
    pub equal: bool,
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
    /// Listed peers, then those that dialled us.
    pub peers: Vec<PeerRow>,
    /// Whether it is well.
    pub ready: bool,
    /// If not, why.
    pub reasons: Vec<String>,
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
pub struct SyncRequest {
    /// `[ID@]ADDR:PORT`, or the id (or its beginning) of a connected peer.
    pub peer: String,
    /// Confines the session to a path prefix.
    #[serde(default)]
    pub prefix: Option<String>,
}
