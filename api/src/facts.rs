//! Types for keys, facts and verdicts.

use serde::{Deserialize, Serialize};

/// One key in `GET /v1/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyRow {
    /// Key, such as `/my/key`.
    pub key: String,
    /// Id of the shown entry.
    pub entry: String,
    /// Time of writing by the writer's clock.
    pub timestamp_us: u64,
    /// Id of the cited grant; null for root's entries.
    pub grant: Option<String>,
}

/// Response to `GET /v1/keys?match=GLOB&match=!GLOB&limit=&after=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeysPage {
    /// Set keys in ascending order.
    pub keys: Vec<KeyRow>,
    /// Value of `after` for the next page; null on the last page.
    pub next: Option<String>,
    /// Keys in the range of this page without a value here for which an early entry waits until it is due by this
    /// replica's clock: it is unknown whether they are set. At most 1,024.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// A signed fact as bytes, with its id, kind and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FactRow {
    /// Id of the fact.
    pub id: String,
    /// Kind of the fact: `grant`, `revocation`, `floor` or `entry`.
    pub kind: String,
    /// Key, if the fact is an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whole fact record: see "Fact records" in `docs/protocol.md`.
    pub record_b64: String,
}

/// Response to `GET /v1/facts?kind=authority|entries&match=GLOB&limit=&after=`: authority facts in an order in which
/// they can be merged, or entries by key, the newest first within each key. For `GET /v1/facts?key=KEY&entry=ID`: that
/// single entry, or none if it is not in the frontier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FactsPage {
    /// Facts of this page.
    pub facts: Vec<FactRow>,
    /// Value of `after` for the next page; null on the last page. It contains a `!` if more entries of the last key
    /// follow.
    pub next: Option<String>,
}

/// Body of `POST /v1/facts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PostFacts {
    /// Fact records in base64, at most [`crate::MAX_POST_FACTS`], in any order.
    pub records_b64: Vec<String>,
}

/// Verdict on one offered fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerdictRow {
    /// Id of the fact; null if the bytes are not a fact.
    pub id: Option<String>,
    /// The verdict: `merged`, `moot`, `not_yet`, `unjustified` or `refused`.
    pub verdict: String,
    /// Stable code of the reason; null for `merged`.
    pub code: Option<String>,
    /// Meaning of the code and what to do.
    pub message: Option<String>,
}

/// Response to `POST /v1/facts`: one verdict for each fact, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerdictsResponse {
    /// Verdicts in the order of the facts. Merged facts are durable.
    pub verdicts: Vec<VerdictRow>,
    /// Commit that made them durable: a stream that has sent everything up to this commit has sent the merged facts.
    /// See [`CommitMark`](super::CommitMark) for the format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// A live grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantRow {
    /// Id of the grant.
    pub id: String,
    /// Id of the entity that issued the grant.
    pub issuer: String,
    /// Id of the entity that received the grant.
    pub grantee: String,
    /// Pattern of keys.
    pub pattern: String,
    /// Whether the grantee may pass authority on.
    pub subgrant: bool,
    /// Id of the parent grant; null for grants that root issued.
    pub parent: Option<String>,
    /// Length of its chain of grants; 1 for grants that root issued.
    pub depth: u8,
    /// Time from which the grant itself holds.
    pub issued_at_us: u64,
    /// Time until which the grant itself holds; null: no end.
    pub expires_at_us: Option<u64>,
    /// Fact record of the grant.
    pub record_b64: String,
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevocationRow {
    /// Id of the revocation.
    pub id: String,
    /// Id of the revoked grant.
    pub grant: String,
    /// Grantee of the revoked grant.
    pub grantee: String,
    /// Pattern of the revoked grant.
    pub pattern: String,
    /// Role of the signer: `root`, `issuer` or `grantee`.
    pub by: String,
    /// Time of the revocation, for information only.
    pub revoked_at_us: u64,
}

/// Response to `GET /v1/grants?limit=&after=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantsResponse {
    /// Live grants, each after its parent.
    pub grants: Vec<GrantRow>,
    /// Revocations in force.
    pub revocations: Vec<RevocationRow>,
    /// Value of `after` for the next page; null on the last page.
    #[serde(default)]
    pub next: Option<String>,
}

/// Body of `POST /v1/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Id of the entity that would write.
    pub entity: String,
    /// Key that would be written.
    pub key: String,
}

/// One grant of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LinkRow {
    /// Id of the grant.
    pub grant: String,
    /// Entity that issued the grant.
    pub issuer: String,
    /// Entity that received the grant.
    pub grantee: String,
    /// Pattern of the grant.
    pub pattern: String,
    /// Whether the grantee may pass authority on.
    pub subgrant: bool,
    /// Start of the grant's window.
    pub issued_at_us: u64,
    /// End of the grant's window; null: no end.
    pub expires_at_us: Option<u64>,
}

/// A chain that does not allow the write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RejectedRow {
    /// Links from root's grant down to the entity's.
    pub chain: Vec<LinkRow>,
    /// Index in `chain` of the first failing link.
    pub failing: usize,
    /// Stable code of the reason.
    pub code: String,
    /// The reason as text.
    pub message: String,
}

/// Response to `POST /v1/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExplainResponse {
    /// Id of the cluster.
    pub cluster: String,
    /// Whether the entity may write the key now.
    pub accepted: bool,
    /// Whether the entity is root.
    pub is_root: bool,
    /// Accepting chain from root's grant down; its last grant is the one to cite. Empty for root and if not accepted.
    pub chain: Vec<LinkRow>,
    /// If not accepted: the failing chains, the most promising first.
    pub rejected: Vec<RejectedRow>,
    /// Agent's clock, at which the explanation holds.
    pub now_us: u64,
    /// Timestamp to use for a new entry of the key.
    pub stamp_us: u64,
    /// Id of the shown entry; null if the key is unset.
    pub current: Option<String>,
}

/// Body of `POST /v1/plan`, which asks for the grants under which `issuer` could grant `pattern`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Id of the entity that would issue the grant.
    pub issuer: String,
    /// Pattern that would be granted.
    pub pattern: String,
}

/// Response to `POST /v1/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanResponse {
    /// Id of the cluster.
    pub cluster: String,
    /// Whether the issuer is root and needs no parent.
    pub is_root: bool,
    /// Ids of the parent grants to issue under, with one new grant for each.
    pub parents: Vec<String>,
    /// Reason, if the pattern cannot be granted.
    pub refusal: Option<crate::ApiError>,
    /// A key that matches the pattern and that the issuer does not reach.
    pub counterexample: Option<String>,
    /// Agent's clock, at which the plan holds.
    pub now_us: u64,
}

/// A recently refused fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusalRow {
    /// Time of the refusal.
    pub at_us: u64,
    /// Source of the fact: a replica id, `put`, or `waiting` for a fact that had waited here until it was due.
    pub from: String,
    /// Id of the fact, if it has one.
    pub id: Option<String>,
    /// Kind of the fact: `grant`, `revocation`, `floor`, `entry` or `unknown`.
    pub kind: String,
    /// Key, if the fact is an entry.
    pub key: Option<String>,
    /// The verdict: `refused`, `unjustified` or `not_yet`.
    pub verdict: String,
    /// Stable code of the reason.
    pub code: String,
}

/// Response to `GET /v1/refusals`: a bounded list, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusalsResponse {
    /// Refused facts, newest first.
    pub refusals: Vec<RefusalRow>,
}
