//! Types for keys, facts and verdicts.

use serde::{Deserialize, Serialize};

/// A key that has a value, as `GET /v1/keys` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyRow {
    /// Key in its spelling, such as `/my/key`.
    pub key: String,
    /// Id of the entry that is shown for the key, as 64 hexadecimal digits.
    pub entry: String,
    /// Time at which the shown entry was written, by the writer's clock.
    pub timestamp_us: u64,
    /// Id of the grant that the shown entry cites; null if root signed it.
    pub grant: Option<String>,
}

/// Response to `GET /v1/keys?match=GLOB&match=!GLOB&limit=&after=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeysPage {
    /// Keys that have a value, in ascending order; at most `limit`.
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
    /// Id of the fact, as 64 hexadecimal digits.
    pub id: String,
    /// Kind of the fact: `grant`, `revocation`, `floor` or `entry`.
    pub kind: String,
    /// Key of the entry; absent for other kinds of fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whole fact record, with signature and value: see "Fact records" in `docs/protocol.md`.
    pub record_b64: String,
}

/// Response to `GET /v1/facts?kind=authority|entries&match=GLOB&limit=&after=`: authority facts in an order in which
/// they can be merged, or entries by key, the newest first within each key. For `GET /v1/facts?key=KEY&entry=ID`: that
/// single entry, or none if it is not in the frontier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FactsPage {
    /// Facts of this page, at most `limit`.
    pub facts: Vec<FactRow>,
    /// Value of `after` for the next page; null on the last page. It contains a `!` if more entries of the last entry's
    /// key follow.
    pub next: Option<String>,
}

/// Body of `POST /v1/facts`: facts to merge into the agent's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PostFacts {
    /// Fact records in base64, at most [`crate::MAX_POST_FACTS`], in any order.
    pub records_b64: Vec<String>,
}

/// Verdict on one fact that was offered in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerdictRow {
    /// Id of the fact; null if the bytes are not a fact.
    pub id: Option<String>,
    /// The verdict: `merged`, `moot`, `not_yet`, `unjustified` or `refused`.
    pub verdict: String,
    /// Stable code of the reason for the verdict; null for `merged`.
    pub code: Option<String>,
    /// Meaning of the code and what to do, as text for people; null for `merged`.
    pub message: Option<String>,
}

/// Response to `POST /v1/facts`: one verdict for each fact, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerdictsResponse {
    /// Verdicts, one for each offered fact, in the order of the request. Merged facts are durable.
    pub verdicts: Vec<VerdictRow>,
    /// Commit that made the merged facts durable: a stream that has sent everything up to this commit has sent them.
    /// See [`CommitMark`](super::CommitMark) for the format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// A grant that is live: neither it nor a grant above it is revoked. It may have expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantRow {
    /// Id of the grant, as 64 hexadecimal digits.
    pub id: String,
    /// Id of the entity that issued the grant.
    pub issuer: String,
    /// Id of the entity that received the grant.
    pub grantee: String,
    /// Pattern of the keys that the grant covers.
    pub pattern: String,
    /// Whether the grantee may issue grants under this grant.
    pub subgrant: bool,
    /// Id of the parent grant; null for grants that root issued.
    pub parent: Option<String>,
    /// Number of grants in its chain, itself included: 1 for grants that root issued, at most 16.
    pub depth: u8,
    /// Start of the grant's own window; the window of its chain may begin later.
    pub issued_at_us: u64,
    /// End of the grant's own window; null: no end. The window of its chain may end earlier.
    pub expires_at_us: Option<u64>,
    /// Whole fact record of the grant, with signature.
    pub record_b64: String,
}

/// A revocation in force: the permanent end of a grant and of everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevocationRow {
    /// Id of the revocation itself, as 64 hexadecimal digits.
    pub id: String,
    /// Id of the revoked grant.
    pub grant: String,
    /// Id of the entity that is the grantee of the revoked grant.
    pub grantee: String,
    /// Pattern of the keys that the revoked grant covered.
    pub pattern: String,
    /// Role of the signer: `root`, `issuer` or `grantee`.
    pub by: String,
    /// Time of the revocation by the signer's clock, for information only.
    pub revoked_at_us: u64,
}

/// Response to `GET /v1/grants?limit=&after=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantsResponse {
    /// Live grants, each after its parent.
    pub grants: Vec<GrantRow>,
    /// Revocations in force, those that no other revocation of the same grant supersedes.
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

/// One grant of a chain, as explanations show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LinkRow {
    /// Id of the grant, as 64 hexadecimal digits.
    pub grant: String,
    /// Id of the entity that issued the grant.
    pub issuer: String,
    /// Id of the entity that received the grant.
    pub grantee: String,
    /// Pattern of the keys that the grant covers.
    pub pattern: String,
    /// Whether the grantee may issue grants under this grant.
    pub subgrant: bool,
    /// Start of the grant's own window.
    pub issued_at_us: u64,
    /// End of the grant's own window; null: no end.
    pub expires_at_us: Option<u64>,
}

/// A chain of grants to the entity that does not allow it to write the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RejectedRow {
    /// Links from the grant that root issued down to the grant of the entity.
    pub chain: Vec<LinkRow>,
    /// Index in `chain` of the first failing link, counted from 0 at root's grant.
    pub failing: usize,
    /// Stable code of the reason why that link fails.
    pub code: String,
    /// The reason why that link fails, as text for people.
    pub message: String,
}

/// Response to `POST /v1/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExplainResponse {
    /// Id of the agent's cluster.
    pub cluster: String,
    /// Whether the entity may write the key now.
    pub accepted: bool,
    /// Whether the entity is root, which may write every key without a grant.
    pub is_root: bool,
    /// Accepting chain from root's grant down; its last grant is the one to cite. Empty for root and if not accepted.
    pub chain: Vec<LinkRow>,
    /// If not accepted: the failing chains, the most promising first, at most 64.
    pub rejected: Vec<RejectedRow>,
    /// Time by the agent's clock for which the explanation holds.
    pub now_us: u64,
    /// Timestamp to use for a new entry of the key: newer than all known entries of the key, and not below a floor on
    /// it.
    pub stamp_us: u64,
    /// Id of the entry that is shown for the key; null if the key is unset.
    pub current: Option<String>,
}

/// Body of `POST /v1/plan`, which asks for the grants under which `issuer` could grant `pattern`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Id of the entity that would issue the grant.
    pub issuer: String,
    /// Pattern of the keys that the grant would cover.
    pub pattern: String,
}

/// Response to `POST /v1/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanResponse {
    /// Id of the agent's cluster.
    pub cluster: String,
    /// Whether the issuer is root and needs no parent.
    pub is_root: bool,
    /// Ids of the grants to issue under: one new grant under each of them, all with the asked pattern. Empty for root,
    /// and if the pattern cannot be granted.
    pub parents: Vec<String>,
    /// Reason why the issuer cannot grant the pattern; null if it can.
    pub refusal: Option<crate::ApiError>,
    /// A key that matches the pattern and that no grant of the issuer reaches, if that is the reason; else null.
    pub counterexample: Option<String>,
    /// Time by the agent's clock for which the plan holds.
    pub now_us: u64,
}

/// A fact that this replica refused recently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusalRow {
    /// Time of the refusal by this replica's clock.
    pub at_us: u64,
    /// Source of the fact: the id of the replica that sent it, `put`, or `waiting` for a fact that had waited here
    /// until it was due.
    pub from: String,
    /// Id of the fact; null if the bytes are not a fact.
    pub id: Option<String>,
    /// Kind of the fact: `grant`, `revocation`, `floor`, `entry` or `unknown`.
    pub kind: String,
    /// Key of the entry; null for other kinds of fact.
    pub key: Option<String>,
    /// Verdict on the fact: `refused`, `unjustified` or `not_yet`.
    pub verdict: String,
    /// Stable code of the reason for the verdict.
    pub code: String,
}

/// Response to `GET /v1/refusals`: at most 1,024 refused facts, of which at most 128 are from one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusalsResponse {
    /// Refused facts, newest first.
    pub refusals: Vec<RefusalRow>,
}
