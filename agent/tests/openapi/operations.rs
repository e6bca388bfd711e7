//! What the agent serves, in one table.

#![allow(unreachable_pub, reason = "a module of a test program")]

use kvgossip_api as api;
use schemars::generate::SchemaGenerator;
use serde_json::Value;

/// Adds a type's schema and gives a reference to it.
pub type Schema = fn(&mut SchemaGenerator) -> Value;

pub fn of<T: schemars::JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

/// What a body is.
pub enum Body {
    None,
    Json(Schema),
    /// Bytes of this content type.
    Raw(&'static str),
    /// Server-sent events of a watch.
    Events,
}
pub use Body::{Events, Json, Raw};

pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    /// Parameters of the query.
    pub query: &'static [&'static str],
    pub takes: Body,
    pub gives: Body,
    /// Whether TCP needs the token.
    pub token: bool,
}

pub const fn op(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: &'static [&'static str],
    takes: Body,
    gives: Body,
) -> Operation {
    Operation { method, path, summary, query, takes, gives, token: false }
}

pub const fn privileged(operation: Operation) -> Operation {
    Operation { token: true, ..operation }
}

pub const VALUE: &str = "application/octet-stream";
pub const EVENTS: &str = "text/event-stream";
pub const WATCH: &str = "/v1/watch";
pub const KV: &str = "/v1/kv/{key}";

impl Operation {
    /// Whether it needs no right anywhere.
    pub fn is_open(&self) -> bool {
        ["/healthz", "/readyz"].contains(&self.path)
    }
}

/// Whether a parameter may stand in a query several times.
pub fn is_repeatable(path: &str, name: &str) -> bool {
    name == "match" || (name == "key" && path == WATCH)
}

pub fn operations() -> Vec<Operation> {
    vec![
        op("get", KV, "The value of a key; the entry stands in headers", &[], Body::None, Raw(VALUE)),
        privileged(op("put", KV, "Sets a key, signed as the agent", &[], Raw(VALUE), Body::None)),
        privileged(op("delete", KV, "Unsets a key, signed as the agent", &[], Body::None, Body::None)),
        op(
            "get",
            "/v1/keys",
            "Set keys, by key",
            &["match", "limit", "after"],
            Body::None,
            Json(of::<api::KeysPage>),
        ),
        op(
            "get",
            "/v1/facts",
            "Signed facts",
            &["kind", "match", "limit", "after", "key", "entry"],
            Body::None,
            Json(of::<api::FactsPage>),
        ),
        op(
            "post",
            "/v1/facts",
            "Offers signed facts; one verdict each. They are judged like a peer's, unless direct says that they were signed \
             just now: then expired chains, floors in the future and values over the agent's own limit are refused, too",
            &["direct"],
            Json(of::<api::PostFacts>),
            Json(of::<api::VerdictsResponse>),
        ),
        op(
            "get",
            "/v1/grants",
            "Live grants, and the revocations that stand",
            &["limit", "after"],
            Body::None,
            Json(of::<api::GrantsResponse>),
        ),
        op(
            "post",
            "/v1/explain",
            "Whether and why an entity may write a key",
            &[],
            Json(of::<api::ExplainRequest>),
            Json(of::<api::ExplainResponse>),
        ),
        op(
            "post",
            "/v1/plan",
            "Under which grants an issuer could give a pattern away",
            &[],
            Json(of::<api::PlanRequest>),
            Json(of::<api::PlanResponse>),
        ),
        op(
            "get",
            "/v1/watch",
            "Keys as server-sent events; Last-Event-ID resumes",
            &["key", "match", "form", "authority", "heartbeat_ms"],
            Body::None,
            Events,
        ),
        op("post", "/v1/watch", "The same, for many keys", &[], Json(of::<api::WatchRequest>), Events),
        op(
            "get",
            "/v1/refusals",
            "Facts that were refused lately, newest first",
            &[],
            Body::None,
            Json(of::<api::RefusalsResponse>),
        ),
        op(
            "get",
            "/v1/status",
            "What the agent says of itself",
            &[],
            Body::None,
            Json(of::<api::StatusResponse>),
        ),
        op(
            "get",
            "/v1/digest",
            "The digest over a path prefix",
            &["prefix"],
            Body::None,
            Json(of::<api::DigestResponse>),
        ),
        privileged(op(
            "post",
            "/v1/sync",
            "Syncs with a peer now",
            &[],
            Json(of::<api::SyncRequest>),
            Json(of::<api::SyncReport>),
        )),
        privileged(op(
            "post",
            "/v1/diff",
            "What differs from a peer; nothing is moved",
            &[],
            Json(of::<api::DiffRequest>),
            Json(of::<api::DiffResponse>),
        )),
        op(
            "get",
            "/v1/members",
            "The members of the cluster",
            &[],
            Body::None,
            Json(of::<api::MembersResponse>),
        ),
        privileged(op(
            "post",
            "/v1/join",
            "Joins a cluster through its members",
            &[],
            Json(of::<api::JoinRequest>),
            Json(of::<api::JoinResponse>),
        )),
        privileged(op("post", "/v1/leave", "Leaves the cluster", &[], Body::None, Json(of::<api::Done>))),
        privileged(op(
            "post",
            "/v1/force-leave",
            "Declares that a failed member has left",
            &[],
            Json(of::<api::ForceLeaveRequest>),
            Json(of::<api::ForceLeaveResponse>),
        )),
        privileged(op(
            "post",
            "/v1/tags",
            "Changes the agent's own tags",
            &[],
            Json(of::<api::TagsRequest>),
            Json(of::<api::Done>),
        )),
        privileged(op(
            "post",
            "/v1/gossip-keys",
            "Has all members install, use or remove a gossip key",
            &[],
            Json(of::<api::GossipKeyRequest>),
            Json(of::<api::GossipKeysResponse>),
        )),
        privileged(op(
            "post",
            "/v1/gossip-keys/list",
            "Which gossip keys the members have; the keys are secrets",
            &[],
            Body::None,
            Json(of::<api::GossipKeysResponse>),
        )),
        privileged(op(
            "post",
            "/v1/event",
            "Sends an event to all members",
            &[],
            Json(of::<api::EventRequest>),
            Json(of::<api::Done>),
        )),
        privileged(op(
            "post",
            "/v1/query",
            "Asks members and gathers their answers",
            &[],
            Json(of::<api::QueryRequest>),
            Json(of::<api::QueryResponse>),
        )),
        op("get", "/v1/openapi.json", "This description", &[], Body::None, Raw("application/json")),
        op("get", "/healthz", "Whether the process answers", &[], Body::None, Raw("text/plain")),
        op(
            "get",
            "/readyz",
            "Whether the agent is ready; 503 with the reasons if not",
            &[],
            Body::None,
            Raw("text/plain"),
        ),
        op("get", "/metrics", "Metrics for Prometheus", &[], Body::None, Raw("application/openmetrics-text")),
    ]
}
