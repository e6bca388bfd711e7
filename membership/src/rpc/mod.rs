//! The protocol that Serf's command line speaks with an agent (`serf members -rpc-addr=…`), without I/O.
//!
//! Both sides write msgpack values, one behind the other. A request is a map `{Command, Seq}`, followed by a body if the
//! command has one; a reply is a map `{Error, Seq}`, followed by a body if that kind of reply has one. Streams are
//! replies that go on under the number of the request that began them. Nothing says how long anything is: [`Session`]
//! bounds what it keeps. The first request is `handshake`, the second `auth` if the agent has a key.
//!
//! [`Session`] is one connection as the agent sees it; the [driver](crate::driver::rpc) serves connections with it.
//!
//! Agents write this protocol in the second edition of msgpack, where bytes and text differ; gossip in the first.

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

/// Where agents listen for this protocol unless told otherwise.
pub const DEFAULT_PORT: u16 = 7373;
/// The version of the protocol, the only one there is.
pub const VERSION: u32 = 1;
/// Most members that one request names to join.
pub const MAX_JOINS: usize = 64;
/// Most filters of one request: kinds of events, or tags of members.
pub const MAX_FILTERS: usize = 64;
/// Longest regular expression of a filter, in bytes.
pub const MAX_FILTER_BYTES: usize = 1024;
/// Most values of one request, those inside of others included: each may take some thirty times its bytes in memory.
pub const MAX_REQUEST_VALUES: usize = 4096;

/// What clients may take, in time and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// Bytes of a request's head or body. No request that an agent could do has more than some 20 KiB.
    pub request_bytes: usize,
    /// Streams, monitors and queries of one connection at a time.
    pub subscriptions: usize,
    /// Events or lines that wait for a client, for each of its subscriptions; more are thrown away and counted.
    pub queue: usize,
    /// Queries that were streamed to a client and can still be answered by it; the oldest is forgotten.
    pub asked: usize,
    /// Lists of all members that are made or sent at a time.
    pub listings: usize,
    /// From the opening of a connection to the end of the handshake, authentication included.
    pub open_timeout: Duration,
    /// From the first byte of a request to its last.
    pub request_timeout: Duration,
    /// A client without a subscription may be silent so long.
    pub idle_timeout: Duration,
    /// A client may take so long to read a reply.
    pub write_timeout: Duration,
    /// The socket of a client may take nothing for so long while bytes wait for it.
    pub stall_timeout: Duration,
    /// After the last reply a client may take so long to close the connection.
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

/// What clients have to know (`-rpc-auth`). Only a hash of it is kept.
#[derive(Clone)]
pub struct AuthKey(Digest);

impl std::fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthKey")
    }
}

impl AuthKey {
    /// Takes the secret; none if it is empty, which everybody knows.
    pub fn new(secret: &[u8]) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(digest(&SHA256, secret)))
    }

    /// Whether this is the secret. The time that takes tells nothing of it, nor of its length.
    pub fn matches(&self, given: &[u8]) -> bool {
        verify_slices_are_equal(self.0.as_ref(), digest(&SHA256, given).as_ref()).is_ok()
    }
}

/// A reply without a body; the error is empty if there is none.
pub fn reply(seq: u64, error: &str) -> Vec<u8> {
    message::ReplyHeader { error: error.into(), seq }.encode()
}

/// A reply with a body.
pub fn reply_with(seq: u64, error: &str, body: &impl Field) -> Vec<u8> {
    let mut bytes = reply(seq, error);
    body.encode(&mut bytes);
    bytes
}

/// What a command is refused with. Clients wait for the body of a reply even then, so an empty one goes with it where
/// the command has one.
pub fn refusal(seq: u64, command: Command, error: &str) -> Vec<u8> {
    let mut bytes = reply(seq, error);
    command.write_empty_body(&mut bytes);
    bytes
}
