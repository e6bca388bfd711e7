//! Keys, facts and what came of them.

use serde::{Deserialize, Serialize};

/// A row of `GET /v1/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyRow {
    /// The key.
    pub key: String,
    /// The entry that is shown.
    pub entry: String,
    /// When it was written.
    pub timestamp_us: u64,
    /// The grant it cites; none for root.
    pub grant: Option<String>,
}

/// `GET /v1/keys?match=GLOB&match=!GLOB&limit=&after=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeysPage {
    /// In ascending order of the keys.
    pub keys: Vec<KeyRow>,
    /// Give this as `after` for the next page; none after the last one.
    pub next: Option<String>,
    /// Keys of this part of the list without a value here, of which an entry waits until it is due by this replica's clock: it
    /// is not known whether they are set. At most 1,024.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// A signed fact as bytes, with what is needed to tell facts apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FactRow {
    /// The fact's id.
    pub id: String,
    /// `grant`, `revocation`, `floor` or `entry`.
    pub kind: String,
    /// The key of an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The whole fact: see "Fact records" in `docs/protocol.md`.
    pub record_b64: String,
}

/// `GET /v1/facts?kind=authority|entries&match=GLOB&limit=&after=`: authority facts in an order in which they can be
/// taken in, or entries by key, and the newest first within each key. `GET /v1/facts?key=KEY&entry=ID`: that one entry, or
/// none if it does not stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FactsPage {
    /// The facts.
    pub facts: Vec<FactRow>,
    /// Give this as `after` for the next page; none after the last one. It has a `!` if entries of the last key follow.
    pub next: Option<String>,
}

/// The body of `POST /v1/facts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PostFacts {
    /// Facts as base64 of their bytes, at most [`crate::MAX_POST_FACTS`]; they may be in any order.
    pub records_b64: Vec<String>,
}

/// What came of one offered fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerdictRow {
    /// The fact's id; none if the bytes are no fact.
    pub id: Option<String>,
    /// `merged`, `moot`, `not_yet`, `unjustified` or `refused`.
    pub verdict: String,
    /// The stable code; none for `merged`.
    pub code: Option<String>,
    /// What that means and what to do.
    pub message: Option<String>,
}

/// The answer to `POST /v1/facts`: one row for each fact, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerdictsResponse {
    /// The verdicts. Merged facts are durable.
    pub verdicts: Vec<VerdictRow>,
    /// The commit by which they are: a stream that has told everything up to it has told what was merged. See
    /// [`CommitMark`](super::CommitMark) for the form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// A live grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantRow {
    /// Its id.
    pub id: String,
    /// Who gave it.
    pub issuer: String,
    /// Who received it.
    pub grantee: String,
    /// The keys it speaks of.
    pub pattern: String,
    /// Whether it may be passed on.
    pub subgrant: bool,
    /// The grant above it.
    pub parent: Option<String>,
    /// How many grants its chain has.
    pub depth: u8,
    /// From when on it holds.
    pub issued_at_us: u64,
    /// Until when it holds.
    pub expires_at_us: Option<u64>,
    /// The signed grant.
    pub record_b64: String,
}

/// A revocation that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevocationRow {
    /// Its id.
    pub id: String,
    /// The grant that it ends.
    pub grant: String,
    /// The grantee of that grant.
    pub grantee: String,
    /// The pattern of that grant.
    pub pattern: String,
    /// `root`, `issuer` or `grantee`.
    pub by: String,
    /// When, for people.
    pub revoked_at_us: u64,
}

/// `GET /v1/grants?limit=&after=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantsResponse {
    /// Live grants, each after the one above it.
    pub grants: Vec<GrantRow>,
    /// Revocations that stand.
    pub revocations: Vec<RevocationRow>,
    /// Give this as `after` for the next page; none after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

/// The body of `POST /v1/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Who.
    pub entity: String,
    /// Which key.
    pub key: String,
}

/// A grant of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LinkRow {
    /// The grant.
    pub grant: String,
    /// Who gave it.
    pub issuer: String,
    /// Who received it.
    pub grantee: String,
    /// Its pattern.
    pub pattern: String,
    /// Whether it may be passed on.
    pub subgrant: bool,
    /// From when on it holds.
    pub issued_at_us: u64,
    /// Until when it holds.
    pub expires_at_us: Option<u64>,
}

/// A chain that does not carry the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RejectedRow {
    /// From root's grant down.
    pub chain: Vec<LinkRow>,
    /// Index of the first link that fails.
    pub failing: usize,
    /// Why.
    pub code: String,
    /// The same for people.
    pub message: String,
}

/// The answer to `POST /v1/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExplainResponse {
    /// The cluster.
    pub cluster: String,
    /// Whether the entity may write the key now.
    pub accepted: bool,
    /// Whether that is because the entity is root.
    pub is_root: bool,
    /// The accepting chain from root's grant down; its last grant is the one to cite. Empty for root.
    pub chain: Vec<LinkRow>,
    /// Where not accepted: chains that fail, the one that gets furthest first.
    pub rejected: Vec<RejectedRow>,
    /// The clock by which that is so: the agent's.
    pub now_us: u64,
    /// The timestamp to put on a new entry of the key.
    pub stamp_us: u64,
    /// The entry that is shown now.
    pub current: Option<String>,
}

/// The body of `POST /v1/plan`: under what could `issuer` give `pattern` away?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Who would issue.
    pub issuer: String,
    /// What would be given.
    pub pattern: String,
}

/// The answer to `POST /v1/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanResponse {
    /// The cluster.
    pub cluster: String,
    /// Whether the issuer is root and needs no parent.
    pub is_root: bool,
    /// The grants to issue under, one new grant for each.
    pub parents: Vec<String>,
    /// When it cannot be given: why.
    pub refusal: Option<crate::ApiError>,
    /// A key of the pattern that the issuer does not reach.
    pub counterexample: Option<String>,
    /// This replica's clock.
    pub now_us: u64,
}

/// A fact that was refused lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusalRow {
    /// When.
    pub at_us: u64,
    /// Who offered it: a replica id, `put`, or `waiting` for what had waited here until it was due.
    pub from: String,
    /// The fact's id, where it has one.
    pub id: Option<String>,
    /// `grant`, `revocation`, `floor`, `entry` or `unknown`.
    pub kind: String,
    /// The key of an entry.
    pub key: Option<String>,
    /// `refused`, `unjustified` or `not_yet`.
    pub verdict: String,
    /// The stable code.
    pub code: String,
}

/// `GET /v1/refusals`: a bounded list, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusalsResponse {
    /// The refusals.
    pub refusals: Vec<RefusalRow>,
}
