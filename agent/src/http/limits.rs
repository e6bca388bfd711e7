//! What clients of the HTTP API may take, in time and number.

use super::{arrivals::MAX_ARRIVALS, clients::MAX_ENDING};
use std::time::Duration;

/// Limits of the HTTP API. Each door (TCP, the Unix socket) has its own places, so that nobody on TCP keeps the
/// operator out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at a time over TCP; one address has three quarters of them at most. When they are taken, who stalls
    /// gives way, and then watchers of addresses that have more than twice as many as that of the newcomer.
    pub tcp_connections: usize,
    /// The same over the Unix socket.
    pub socket_connections: usize,
    /// Connections beyond these on each door, for one short request each, so that an operator or a supervisor always gets
    /// an answer.
    pub reserve_connections: usize,
    /// Requests that the agent works on at a time on each door; `/healthz` and `/readyz` are none of them.
    pub requests: usize,
    /// Bytes of request bodies that are held at a time on each door, counted as they arrive.
    pub body_bytes: usize,
    /// Bytes of large answers and events that are held at a time on each door, until they are read.
    pub answer_bytes: usize,
    /// Bytes that the keys and filters of large watches take at a time on each door.
    pub interest_bytes: usize,
    /// Lists that are walked at a time on each door.
    pub walks: usize,
    /// Keys that one request looks at; the answer says where to go on.
    pub examined_keys: usize,
    /// From the opening of a connection to the end of the TLS handshake.
    pub tls_timeout: Duration,
    /// From the opening of a connection, or the end of the answer before, to the end of a request's head.
    pub head_timeout: Duration,
    /// A body has so long,
    pub body_grace: Duration,
    /// and a second more for so many bytes that have arrived,
    pub body_bytes_per_s: usize,
    /// and this at most.
    pub body_timeout: Duration,
    /// From the end of the body to the head of the answer.
    pub request_timeout: Duration,
    /// The same for what waits for other replicas: `/v1/sync` and `/v1/diff`.
    pub long_request_timeout: Duration,
    /// A client may pause so long while an answer waits to be read.
    pub write_stall: Duration,
    /// A client that does not read an answer for so long gives way to others, if there is no room for theirs.
    pub give_way_after: Duration,
    /// Requests under way when the agent stops have so long to end.
    pub stop_timeout: Duration,
}

/// File descriptors that the rest of an agent takes: the store, peers, gossip, and what is opened for moments.
const OTHER_DESCRIPTORS: usize = 158;

impl HttpLimits {
    /// How many file descriptors a process with these limits can need.
    pub fn descriptors(&self) -> usize {
        let beside_places = self.reserve_connections + MAX_ENDING + MAX_ARRIVALS;
        self.tcp_connections + self.socket_connections + 2 * beside_places + OTHER_DESCRIPTORS
    }

    /// What a body has earned with so many bytes: it is as good as one that began so much later.
    pub(super) fn credit(&self, bytes: usize) -> Duration {
        let rate = u64::try_from(self.body_bytes_per_s).unwrap_or(u64::MAX).max(1);
        Duration::from_millis((bytes as u64).saturating_mul(1000) / rate)
    }

    /// How long after its beginning more of a body has to come.
    pub(super) fn body_allowance(&self, bytes: usize) -> Duration {
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
