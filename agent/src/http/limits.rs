//! What clients of the HTTP API may take, in time and number.

use std::time::Duration;

/// Limits of the HTTP API. Each door (TCP, the Unix socket) has its own places, so that nobody on TCP keeps the
/// operator out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at a time over TCP; one more is told so and closed.
    pub tcp_connections: usize,
    /// The same over the Unix socket.
    pub socket_connections: usize,
    /// Requests under way at a time on each door.
    pub requests: usize,
    /// Bytes of request bodies that are held at a time on each door.
    pub body_bytes: usize,
    /// Lists that are walked at a time on each door.
    pub walks: usize,
    /// Keys that one request looks at; the answer says where to go on.
    pub examined_keys: usize,
    /// From the opening of a connection to the end of the TLS handshake.
    pub tls_timeout: Duration,
    /// From the opening of a connection, or the end of the answer before, to the end of a request's head.
    pub head_timeout: Duration,
    /// A body may pause so long.
    pub body_stall: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// From the end of the body to the head of the answer.
    pub request_timeout: Duration,
    /// The same for what waits for other replicas: `/v1/sync` and `/v1/diff`.
    pub long_request_timeout: Duration,
    /// A client may pause so long while an answer waits to be read.
    pub write_stall: Duration,
    /// Requests under way when the agent stops have so long to end.
    pub stop_timeout: Duration,
}

/// File descriptors that the rest of an agent takes: the store, peers, gossip, and what is opened for moments.
const OTHER_DESCRIPTORS: usize = 192;

impl HttpLimits {
    /// How many file descriptors a process with these limits can need.
    pub fn descriptors(&self) -> usize {
        self.tcp_connections + self.socket_connections + OTHER_DESCRIPTORS
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            tcp_connections: 512,
            socket_connections: 256,
            requests: 256,
            body_bytes: 64 << 20,
            walks: 4,
            examined_keys: 100_000,
            tls_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_stall: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            long_request_timeout: Duration::from_secs(3600),
            write_stall: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(5),
        }
    }
}
