//! Protocol between Serf's command line and an agent (`serf members -rpc-addr=…`), without I/O.
//!
//! Both sides write a sequence of msgpack values. A request is a map `{Command, Seq}`, followed by a body if
//! the command has one. A reply is a map `{Error, Seq}`, followed by a body if that kind of reply has one.
//! Streams are replies that continue under the number of the request that started them. There are no lengths on
//! the wire; [`Session`] bounds what it keeps. The first request is `handshake`, and the second is `auth` if
//! the agent has a key.
//!
//! [`Session`] is the agent's side of one connection; the [driver](crate::driver::rpc) uses it to serve
//! connections.
//!
//! This protocol uses the second edition of msgpack, where bytes and text differ; gossip uses the first.

mod coalesce;
mod decoder;
mod filter;
pub mod message;
mod request;
mod session;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod hostile_tests;

use std::time::Duration;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Digest, SHA256, digest},
};

pub use coalesce::{
    COALESCE_PERIOD, Coalesced, Coalescer, MAX_COALESCED_EVENTS, MAX_COALESCED_MEMBERS, QUIESCENT_PERIOD,
};
pub use filter::{EventFilter, FilterError, MemberFilter};
pub use request::{Command, Request};
pub use session::{Session, SessionError, Step};

use crate::wire::field::Field;

/// Default port of agents for this protocol.
pub const DEFAULT_PORT: u16 = 7373;
/// Version of the protocol that clients state in the handshake; there is only one.
pub const VERSION: u32 = 1;
/// Maximum number of members named in one join request.
pub const MAX_JOINS: usize = 64;
/// Maximum number of filters in one request: kinds of events, or tags of members.
pub const MAX_FILTERS: usize = 64;
/// Maximum length of a filter's regular expression, in bytes.
pub const MAX_FILTER_BYTES: usize = 1024;
/// Maximum number of msgpack values in one request, including nested ones: each may take some thirty times its
/// bytes in memory.
pub const MAX_REQUEST_VALUES: usize = 4096;

/// Limits of an RPC server on its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of connections of the server. A further one closes another connection, or is itself
    /// closed.
    pub connections: usize,
    /// Maximum size of a request's header or body, in bytes. No valid request has more than about 20 KiB.
    pub request_bytes: usize,
    /// Maximum number of concurrent streams, monitors and queries per connection.
    pub subscriptions: usize,
    /// Maximum number of events or log lines queued per subscription; further ones are dropped and counted.
    pub queue: usize,
    /// Maximum number of queries sent to a client that it can still answer; the oldest is forgotten first.
    pub asked: usize,
    /// Maximum number of member lists that the server builds or sends at a time.
    pub listings: usize,
    /// Time limit from the opening of a connection to the end of the handshake, including authentication.
    pub open_timeout: Duration,
    /// Time limit from the first byte of a request to its last byte.
    pub request_timeout: Duration,
    /// Maximum time without a request from a client that has no subscription.
    pub idle_timeout: Duration,
    /// Time limit for a client to read one reply or record.
    pub write_timeout: Duration,
    /// Maximum time for which a client's socket accepts no byte while some wait.
    pub stall_timeout: Duration,
    /// Time limit for a client to close the connection after the last reply.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            request_bytes: 64 * 1024,
            subscriptions: 16,
            queue: 512,
            asked: 256,
            listings: 4,
            open_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            write_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}

/// Key that clients must present (`-rpc-auth`). Only a hash of the key is kept.
#[derive(Clone)]
pub struct AuthKey(Digest);

impl std::fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthKey")
    }
}

impl AuthKey {
    /// Creates a key from a secret; `None` if the secret is empty, because everybody knows that one.
    pub fn new(secret: &[u8]) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(digest(&SHA256, secret)))
    }

    /// Returns whether `given` is the secret, in constant time that reveals nothing about the secret or its
    /// length.
    pub fn matches(&self, given: &[u8]) -> bool {
        verify_slices_are_equal(self.0.as_ref(), digest(&SHA256, given).as_ref()).is_ok()
    }
}

/// Encodes a reply to the request `seq` without a body; `error` is empty on success.
pub fn reply(seq: u64, error: &str) -> Vec<u8> {
    message::ReplyHeader { error: error.into(), seq }.encode()
}

/// Encodes a reply to the request `seq` with a body; `error` is empty on success.
pub fn reply_with(seq: u64, error: &str, body: &impl Field) -> Vec<u8> {
    let mut bytes = reply(seq, error);
    body.encode(&mut bytes);
    bytes
}

/// Encodes the refusal of a command. Clients expect the body of a reply even then, so an empty body is added if
/// the command has one.
pub fn refusal(seq: u64, command: Command, error: &str) -> Vec<u8> {
    let mut bytes = reply(seq, error);
    command.write_empty_body(&mut bytes);
    bytes
}
