//! Every number that bounds what a peer can make this replica hold, do or wait for.

use std::time::Duration;

pub use kvgossip_engine::session::MAX_FRAME_BYTES;

/// Most bytes that are allocated ahead of what a peer has sent.
pub const READ_CHUNK: usize = 64 << 10;

pub use crate::offenders::FIRST_SHUT_OUT;
pub use kvgossip_engine::session::{
    JUDGE_BATCH, JUDGE_BATCH_BYTES, MAX_JUDGED_BYTES, MAX_JUDGED_FACTS, WRITE_AHEAD,
};

/// Bidirectional streams a peer may have open at once.
pub const MAX_BIDI_STREAMS: u32 = 8;
/// Unidirectional streams a peer may have open at once.
pub const MAX_UNI_STREAMS: u32 = 2;
/// Bytes a peer may send on one stream before they are read.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes a peer may send on all streams of a connection before they are read.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes sent on a connection that the peer has not acknowledged yet.
pub const SEND_WINDOW: u64 = 4 << 20;
/// Bytes that the system is asked to hold for the socket in either direction. It gives at most its own limit
/// (`net.core.rmem_max`, `net.core.wmem_max`), and what finds no room is lost and sent again.
pub const SOCKET_BUFFER: usize = 4 << 20;
/// Bytes of TLS messages held while they arrive out of order.
pub const CRYPTO_BUFFER: usize = 16 << 10;

/// Handshakes that peers began and have not finished.
pub const MAX_PENDING_HANDSHAKES: usize = 256;
/// Of these, how many may come from addresses that have not shown that they can receive: when so many
/// are pending, the next ones are told to come again with a token (RFC 9000 section 8.1.2).
pub const MAX_UNVALIDATED_HANDSHAKES: usize = 32;
/// Of these, how many may come from one validated IP address.
pub const MAX_HANDSHAKES_PER_ADDRESS: usize = 64;
/// First packets held while the endpoint decides about them, in bytes.
pub const INCOMING_BUFFER: u64 = 1 << 20;
/// Finished handshakes that wait for [`crate::Endpoint::accept`].
pub const ACCEPT_QUEUE: usize = 64;
/// Connections in one [`crate::ConnectionTable`].
pub const MAX_CONNECTIONS: usize = 1024;
/// Of these, how many may belong to strangers that only pull.
pub const MAX_PULL_ONLY_CONNECTIONS: usize = 64;

/// Sessions that peers begin and that run at a time, in a replica that keeps count of them.
pub const MAX_SESSIONS: usize = 32;

/// From the first packet to the admission by both sides.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a session may wait for a peer beyond what the bytes that arrive pay for.
pub const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that pay for one second of waiting for a peer.
pub const MIN_PROGRESS_BYTES_PER_S: u32 = 4 << 10;
/// Time that a session may wait for a peer in all, beyond what all the bytes that it moves pay for.
pub const SESSION_GRACE: Duration = Duration::from_secs(60);
/// A connection without traffic sends a ping so often.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// From the closing of an endpoint to its end, whatever the peers do.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that was not heard for so long is gone; two pings may get lost.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(40);

/// The limits that an agent or a test may set; the default is the constant of the same name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
    /// See [`NO_PROGRESS_TIMEOUT`].
    pub no_progress_timeout: Duration,
    /// See [`MIN_PROGRESS_BYTES_PER_S`]; 0 is taken as 1.
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
