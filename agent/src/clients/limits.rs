//! Limits of the HTTP API on time and number.

use super::{MAX_ENDING, arrivals::MAX_ARRIVALS};
use std::time::Duration;

/// Limits of the HTTP API. Each door (TCP, the Unix socket) has its own, so that no client on TCP can lock out the
/// operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Maximum number of connections over TCP; one address gets at most three quarters. When they are all taken, a
    /// stalled connection ends for a new one, then a watcher of an address with more than twice as many as that of
    /// the new one.
    pub tcp_connections: usize,
    /// Maximum number of connections over the Unix socket.
    pub socket_connections: usize,
    /// Number of connections per door in addition to its maximum, for one short request each, so that an operator or a
    /// supervisor always gets an answer.
    pub reserve_connections: usize,
    /// Maximum number of requests in progress per door; `/healthz` and `/readyz` do not count.
    pub requests: usize,
    /// Maximum number of bytes of request bodies held per door at one time, counted as they arrive.
    pub body_bytes: usize,
    /// Maximum number of bytes of large answers and events held per door until they are read.
    pub answer_bytes: usize,
    /// Maximum number of bytes of keys and filters of large watches per door.
    pub interest_bytes: usize,
    /// Maximum number of concurrent walks over many keys per door; further ones wait.
    pub walks: usize,
    /// Maximum number of keys that one request examines; the answer says where to continue.
    pub examined_keys: usize,
    /// Maximum time from the start of a connection to the end of the TLS handshake.
    pub tls_timeout: Duration,
    /// Time from the start of a connection, or the end of the previous answer, to the end of a request's head.
    pub head_timeout: Duration,
    /// Time for a request body to arrive, before the additions of `body_bytes_per_s`.
    pub body_grace: Duration,
    /// Number of bytes of a request body whose arrival extends its time by one second.
    pub body_bytes_per_s: usize,
    /// Maximum time for a request body to arrive, with all additions.
    pub body_timeout: Duration,
    /// Time from the end of a request's body to the head of its answer.
    pub request_timeout: Duration,
    /// Like `request_timeout`, for the routes that wait for other replicas: `/v1/sync` and `/v1/diff`.
    pub long_request_timeout: Duration,
    /// Maximum time without progress in sending an answer, after which the connection is closed.
    pub write_stall: Duration,
    /// Time without reading after which a client's connection may be closed, if others need room for their answers.
    pub give_way_after: Duration,
    /// Maximum time for requests in progress to end when the agent stops.
    pub stop_timeout: Duration,
}

/// Number of file descriptors for the rest of the agent: store, peers, gossip, and short-lived files.
const OTHER_DESCRIPTORS: usize = 158;

impl HttpLimits {
    /// Returns the maximum number of file descriptors that a process with these limits needs.
    pub fn descriptors(&self) -> usize {
        let beside_places = self.reserve_connections + MAX_ENDING + MAX_ARRIVALS;
        self.tcp_connections + self.socket_connections + 2 * beside_places + OTHER_DESCRIPTORS
    }

    /// Returns the time by which the arrival of this many bytes extends the time for a request body.
    pub(crate) fn credit(&self, bytes: usize) -> Duration {
        let rate = u64::try_from(self.body_bytes_per_s).unwrap_or(u64::MAX).max(1);
        Duration::from_millis((bytes as u64).saturating_mul(1000) / rate)
    }

    /// Returns the time after the start of a request body by which more of it has to arrive, once `bytes` of it have.
    pub(crate) fn body_allowance(&self, bytes: usize) -> Duration {
        (self.body_grace + self.credit(bytes)).min(self.body_timeout)
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            tcp_connections: 512,
            socket_connections: 256,
            reserve_connections: 32,
            requests: 256,
            body_bytes: 24 << 20,
            answer_bytes: 32 << 20,
            interest_bytes: 16 << 20,
            walks: 4,
            examined_keys: 100_000,
            tls_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_grace: Duration::from_secs(10),
            body_bytes_per_s: 16 << 10,
            body_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            long_request_timeout: Duration::from_secs(3600),
            write_stall: Duration::from_secs(30),
            give_way_after: Duration::from_millis(300),
            stop_timeout: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_earns_time_by_what_has_come_and_has_an_end() {
        let limits = HttpLimits::default();
        let allowed = [0, 160 << 10, 1 << 20, 8 << 20].map(|bytes| limits.body_allowance(bytes).as_secs());
        assert_eq!(allowed, [10, 20, 60, 60]);
    }
}
