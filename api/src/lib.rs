//! The HTTP API's types, shared by agent and client; nothing else.
//!
//! Ids are 64 hexadecimal digits. Times are microseconds since 1970 and end in `_us`. Bytes are standard base64 and
//! end in `_b64`. Fields may be added; readers skip what they do not know.

mod error;
mod facts;
mod gossip;
mod state;
mod watch;

pub use error::ApiError;
pub use facts::{
    ExplainRequest, ExplainResponse, FactRow, FactsPage, GrantRow, GrantsResponse, KeyRow, KeysPage, LinkRow,
    PlanRequest, PlanResponse, PostFacts, RefusalRow, RefusalsResponse, RejectedRow, RevocationRow,
    VerdictRow, VerdictsResponse,
};
pub use gossip::{
    Done, EventRequest, GossipRow, JoinRequest, JoinResponse, MemberRow, MembersResponse, QueryRequest,
    QueryResponse, ResponseRow,
};
pub use state::{
    Counts, DiffRequest, DiffResponse, DiffRow, DigestResponse, Digests, PeerRow, StatusResponse, SyncReport,
    SyncRequest, TrafficRow,
};

pub use watch::{
    AuthorityEvent, CauseRow, GapEvent, HeldRow, KeyEvent, MAX_WATCH_FILTERS, MAX_WATCH_KEYS, SyncedEvent,
    WatchForm, WatchRequest, event,
};

/// Where an agent listens on TCP unless told otherwise.
pub const DEFAULT_HTTP: &str = "127.0.0.1:7948";
/// The socket's name inside the data directory.
pub const SOCKET_NAME: &str = "agent.sock";
/// The most facts in one `POST /v1/facts`.
pub const MAX_POST_FACTS: usize = 4096;
/// The largest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 8 << 20;
/// The most rows of one page.
pub const MAX_PAGE_ROWS: usize = 10_000;
/// Rows of a page unless the request says otherwise.
pub const DEFAULT_PAGE_ROWS: usize = 1_000;

/// Headers of `GET /v1/kv{key}` and of the answers to `PUT` and `DELETE`.
pub mod header {
    /// The entry's id.
    pub const ENTRY: &str = "kvgossip-entry";
    /// When it was written, in microseconds since 1970.
    pub const TIMESTAMP: &str = "kvgossip-timestamp-us";
    /// The grant it cites, or `root`.
    pub const GRANT: &str = "kvgossip-grant";
    /// On `PUT` and `DELETE`: the entry that must be the current one at this agent (`none`: the key must be unset).
    pub const IF_ENTRY: &str = "kvgossip-if-entry";
}
