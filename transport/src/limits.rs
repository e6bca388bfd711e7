//! Limits on what a peer can make this replica hold, do or wait for.

use std::time::Duration;

pub use kvgossip_engine::session::MAX_FRAME_BYTES;

/// Maximum number of bytes allocated ahead of what a peer has sent.
pub const READ_CHUNK: usize = 64 << 10;

pub use crate::offenders::FIRST_SHUT_OUT;
pub use kvgossip_engine::session::{
    JUDGE_BATCH, JUDGE_BATCH_BYTES, MAX_JUDGED_BYTES, MAX_JUDGED_FACTS, WRITE_AHEAD,
};

/// Maximum number of bidirectional streams that a peer may have open at once on one connection.
pub const MAX_BIDI_STREAMS: u32 = 8;
/// Maximum number of unidirectional streams that a peer may have open at once on one connection.
pub const MAX_UNI_STREAMS: u32 = 2;
/// Maximum number of unread bytes a peer may send on one stream.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// Maximum number of unread bytes a peer may send on all streams of a connection.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
/// Maximum number of bytes sent on a connection and not yet acknowledged by the peer.
pub const SEND_WINDOW: u64 = 4 << 20;
/// Requested size of the socket's receive and send buffers, in bytes each. The system grants at most its own
/// limit (`net.core.rmem_max`, `net.core.wmem_max`). Datagrams that do not fit are lost and retransmitted.
pub const SOCKET_BUFFER: usize = 4 << 20;
/// Maximum number of bytes of TLS messages held while they arrive out of order.
pub const CRYPTO_BUFFER: usize = 16 << 10;

/// Maximum number of incoming handshakes that one endpoint has in progress.
pub const MAX_PENDING_HANDSHAKES: usize = 256;
/// Maximum number of incoming handshakes in progress from addresses that are not validated. At this number
/// further peers receive a Retry with a token, which validates the address (RFC 9000 section 8.1.2).
pub const MAX_UNVALIDATED_HANDSHAKES: usize = 32;
/// Maximum number of incoming handshakes in progress from one validated IP address.
pub const MAX_HANDSHAKES_PER_ADDRESS: usize = 64;
/// Maximum number of bytes of first packets held until the endpoint accepts or refuses them.
pub const INCOMING_BUFFER: u64 = 1 << 20;
/// Maximum number of finished handshakes that wait for [`crate::Endpoint::accept`].
pub const ACCEPT_QUEUE: usize = 64;
/// Maximum number of connections in one [`crate::ConnectionTable`].
pub const MAX_CONNECTIONS: usize = 1024;
/// Maximum number of connections in one [`crate::ConnectionTable`] with [`crate::Access::PullOnly`].
pub const MAX_PULL_ONLY_CONNECTIONS: usize = 64;

/// Maximum number of concurrent sessions started by peers; the caller counts them, not this crate.
pub const MAX_SESSIONS: usize = 32;

/// Time limit of a handshake, from the first packet to the admission by both sides.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time that a session waits for its peer without being paid for by bytes that arrive.
pub const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of bytes that pay for one second of waiting for a session's peer.
pub const MIN_PROGRESS_BYTES_PER_S: u32 = 4 << 10;
/// Maximum time that a whole session waits for its peer without being paid for by the bytes that it moves.
pub const SESSION_GRACE: Duration = Duration::from_secs(60);
/// Interval between pings on a connection without traffic.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Time limit for closing an endpoint, whatever its peers do.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Silence after which a peer is considered gone; two pings may be lost before.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(40);

/// Configurable limits of an endpoint. Each default is the constant of the same name in capitals.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
    /// See [`NO_PROGRESS_TIMEOUT`].
    pub no_progress_timeout: Duration,
    /// See [`MIN_PROGRESS_BYTES_PER_S`]; 0 counts as 1.
    pub min_progress_bytes_per_s: u32,
    /// See [`SESSION_GRACE`].
    pub session_grace: Duration,
    /// See [`FIRST_SHUT_OUT`].
    pub first_shut_out: Duration,
    /// See [`MAX_SESSIONS`].
    pub max_sessions: usize,
    /// See [`KEEP_ALIVE`].
    pub keep_alive: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// See [`MAX_PENDING_HANDSHAKES`].
    pub max_pending_handshakes: usize,
    /// See [`MAX_UNVALIDATED_HANDSHAKES`].
    pub max_unvalidated_handshakes: usize,
    /// See [`MAX_HANDSHAKES_PER_ADDRESS`].
    pub max_handshakes_per_address: usize,
    /// See [`MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// See [`MAX_PULL_ONLY_CONNECTIONS`].
    pub max_pull_only_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: HANDSHAKE_TIMEOUT,
            no_progress_timeout: NO_PROGRESS_TIMEOUT,
            min_progress_bytes_per_s: MIN_PROGRESS_BYTES_PER_S,
            session_grace: SESSION_GRACE,
            first_shut_out: FIRST_SHUT_OUT,
            max_sessions: MAX_SESSIONS,
            keep_alive: KEEP_ALIVE,
            idle_timeout: IDLE_TIMEOUT,
            max_pending_handshakes: MAX_PENDING_HANDSHAKES,
            max_unvalidated_handshakes: MAX_UNVALIDATED_HANDSHAKES,
            max_handshakes_per_address: MAX_HANDSHAKES_PER_ADDRESS,
            max_connections: MAX_CONNECTIONS,
            max_pull_only_connections: MAX_PULL_ONLY_CONNECTIONS,
        }
    }
}
