//! Client library for kvgossip agents.
//!
//! [`Client`] is for programs: it keeps subscriptions current across several agents, verifies their answers,
//! and signs writes. `docs/client.md` states its guarantees.
//!
//! [`AgentClient`] is the HTTP API of one agent as functions: it reads, posts signed facts and makes the agent
//! act. It trusts the agent's answers; to verify them, use the facts that [`AgentClient::facts`] returns.

mod agent;
mod batch;
mod builder;
mod client;
mod clock;
mod closed;
mod endpoint;
mod error;
mod export;
mod http;
mod live;
mod members;
mod op_error;
mod query;
mod tls;
mod token;
mod unchecked;

pub use agent::{AgentClient, IfEntry, Stored, Written};
pub use builder::{BuildError, ClientBuilder};
pub use client::{Client, MAX_AGENT_AHEAD_US};
pub use closed::Closed;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ClientError, MAX_MESSAGE_CHARS};
pub use export::{EXPORT_MAGIC, EXPORT_VERSION, ExportError, ExportReader, ExportWriter};
pub use http::{CONNECT_TIMEOUT, DEFAULT_TIMEOUT, MAX_ANSWER_BYTES, MAX_IDLE_CONNECTIONS};
pub use live::handles::{Change, Matching, Subscription};
pub use live::matches::MatchStatus;
pub use live::state::{Cause, Dirty, Entry, Rejection, State, Trouble, Value};
pub use live::union::Union;
pub use live::{
    AVOIDANCE, BLAME, DEFAULT_AUDIT_INTERVAL, DEFAULT_AUDIT_PATIENCE, DEFAULT_BACKOFF, DEFAULT_GRACE,
    DEFAULT_MAX_BACKOFF, DEFAULT_SILENCE, MAX_ANSWER_EVENTS_BYTES, MAX_ANSWER_REJECTIONS, MAX_ANSWER_TIME,
    MAX_EVENT_BYTES, MAX_HANDED_BYTES, MAX_HANDED_FACTS, MAX_HELD_ENTRIES, MAX_HELD_VALUE_BYTES, MAX_LEARNED,
    MAX_LINGERING_KEYS, MAX_REJECTIONS, MAX_UNVERIFIED_KEYS, MAX_WAITING_BYTES, MAX_WAITING_ENTRIES,
    MAX_WATCHED_FILTERS, MAX_WATCHED_KEYS,
};
// Types of the API, re-exported so that a program needs no other crate.
pub use kvgossip_grants::{
    EntityId, EntryId, FactId, Filter, GrantId, Key, PublicKey, SigningKey, Timestamp,
};
pub use op_error::OpError;
pub use query::{FactKind, FactsQuery, KeysQuery};
pub use tls::{
    Authorities, AuthoritiesError, ClientCertificate, ClientCertificateError, SystemAuthoritiesError,
};
pub use token::{MAX_TOKEN_BYTES, Token, TokenError};

/// Builds the example programs of the page for application developers.
#[cfg(doctest)]
#[doc = include_str!("../../docs/client.md")]
struct Page;
