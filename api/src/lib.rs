//! The HTTP API's types, shared by agent and client, how explanations of authority are told in them, and the
//! [catalogue of stable codes](codes); nothing else.
//!
//! Ids are 64 hexadecimal digits. Times are microseconds since 1970 and end in `_us`. Bytes are standard base64 and
//! end in `_b64`. Fields may be added. Readers of answers and events skip those that they do not know; an agent refuses a
//! request that has one (400, `http.body`), as it would do something else than what was asked for. So a client leaves out
//! the fields that it has no use for.

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

/// The code of a replica that was never compared with a peer, though there are others: what it lacks says nothing, and
/// it does not answer by it.
pub const FIRST_SYNC: &str = "sync.first";
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

/// The shortest time between the heartbeats of a watch, in milliseconds.
pub const MIN_HEARTBEAT_MS: u64 = 100;
/// The longest time between the heartbeats of a watch, in milliseconds.
pub const MAX_HEARTBEAT_MS: u64 = 60_000;
/// The most members that one request to join may name.
pub const MAX_JOINS: usize = 64;
/// The longest time that a query waits for answers, in milliseconds.
pub const MAX_QUERY_MS: u64 = 300_000;

/// Headers of `GET /v1/kv{key}` and of the answers to `PUT` and `DELETE`, beside `ETag`, which has the entry's id in quotes.
pub mod header {
    /// The entry's id.
    pub const ENTRY: &str = "kvgossip-entry";
    /// When it was written, in microseconds since 1970.
    pub const TIMESTAMP: &str = "kvgossip-timestamp-us";
    /// The grant it cites, or `root`.
    pub const GRANT: &str = "kvgossip-grant";
}
