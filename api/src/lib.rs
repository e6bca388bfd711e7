//! Types of the HTTP API, shared by agent and client, and the conversion of explanations of authority to them.
//!
//! Ids are 64 hexadecimal digits. Times are microseconds since 1970 and end in `_us`. Bytes are standard base64 and end
//! in `_b64`. Fields may be added. Readers of responses and events ignore unknown fields; an agent refuses a request
//! with an unknown field (400, `http.body`), since it could not do what was asked for. So a client omits the fields
//! that it does not use.

pub mod codes;
mod error;
mod explain;
mod facts;
mod gossip;
mod state;
mod watch;

pub use error::ApiError;
pub use explain::Shown;
pub use facts::{
    ExplainRequest, ExplainResponse, FactRow, FactsPage, GrantRow, GrantsResponse, KeyRow, KeysPage, LinkRow,
    PlanRequest, PlanResponse, PostFacts, RefusalRow, RefusalsResponse, RejectedRow, RevocationRow,
    VerdictRow, VerdictsResponse,
};
pub use gossip::{
    Done, EventRequest, ForceLeaveRequest, ForceLeaveResponse, GossipKeyRequest, GossipKeysResponse,
    GossipRow, JoinRequest, JoinResponse, KeyAction, KeyCount, MemberRow, MembersResponse, QueryRequest,
    QueryResponse, ResponseRow, TagsRequest,
};
pub use state::{
    Counts, DiffRequest, DiffResponse, DiffRow, DigestResponse, Digests, Grade, GrantBytesRow, HeavyGrantRow,
    Holds, LongKeyRow, PeerRow, ReasonRow, ShutOutRow, StatusResponse, StoreRow, SyncOutcome, SyncReport,
    SyncRequest, TrafficRow, WaitingRow,
};

pub use watch::{
    AuthorityEvent, CauseRow, CommitMark, GapEvent, HeldRow, KeyEvent, MAX_WATCH_FILTERS, MAX_WATCH_KEYS,
    PartRow, PlaceRow, SyncedEvent, WatchForm, WatchRequest, event,
};

/// Error code of a replica that has never been compared with a peer although it knows of peers. Its state may be
/// incomplete, so it does not answer reads from that state.
pub const FIRST_SYNC: &str = "sync.first";
/// Default TCP address of an agent's HTTP API.
pub const DEFAULT_HTTP: &str = "127.0.0.1:7948";
/// File name of the agent's Unix socket in its data directory.
pub const SOCKET_NAME: &str = "agent.sock";
/// Maximum number of facts in one `POST /v1/facts`.
pub const MAX_POST_FACTS: usize = 4096;
/// Maximum size of the body of an HTTP request, in bytes: 8 MiB.
pub const MAX_BODY_BYTES: usize = 8 << 20;
/// Maximum number of rows that one page of a response has.
pub const MAX_PAGE_ROWS: usize = 10_000;
/// Number of rows of one page, if the request names no limit.
pub const DEFAULT_PAGE_ROWS: usize = 1_000;

/// Minimum interval between the heartbeats of a watch, in milliseconds.
pub const MIN_HEARTBEAT_MS: u64 = 100;
/// Maximum interval between the heartbeats of a watch, in milliseconds.
pub const MAX_HEARTBEAT_MS: u64 = 60_000;
/// Maximum number of addresses in one request to join.
pub const MAX_JOINS: usize = 64;
/// Maximum time that a query waits for responses, in milliseconds.
pub const MAX_QUERY_MS: u64 = 300_000;

/// Headers of the responses to `GET`, `PUT` and `DELETE` on `/v1/kv{key}`, in addition to `ETag`, which contains the
/// entry's id in quotes.
pub mod header {
    /// Id of the entry that was read or written, as 64 hexadecimal digits.
    pub const ENTRY: &str = "kvgossip-entry";
    /// Time at which the entry was written, by the writer's clock, in microseconds since 1970.
    pub const TIMESTAMP: &str = "kvgossip-timestamp-us";
    /// Id of the grant that the entry cites, or `root`.
    pub const GRANT: &str = "kvgossip-grant";
}
