//! Inputs and outputs of the core.

use std::{net::SocketAddr, time::Duration};

use crate::wire::{Text, crypto::KeyError, serf::Tags};

/// Status of a member in Serf's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It answers, or is only suspected.
    Alive,
    /// It has announced that it will leave.
    Leaving,
    /// It has left.
    Left,
    /// It has stopped answering.
    Failed,
}

/// Whether a member has answered a probe of this one, and so has proved that it can decrypt with a key of the
/// keyring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answered {
    /// Not yet.
    #[default]
    Never,
    /// It has answered.
    Yes,
    /// Not since a key was removed from the keyring, which may have been its only one.
    NotSinceRemoval,
}

/// Known properties of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Unique name.
    pub name: Text,
    /// Address for UDP and TCP.
    pub addr: SocketAddr,
    /// Tags.
    pub tags: Tags,
    /// Status.
    pub status: Status,
    /// Whether it is suspected to have failed.
    pub suspect: bool,
    /// Incarnation, which grows with each refutation and change.
    pub incarnation: u32,
    /// Minimum, maximum and current protocol version, then the same for Serf's.
    pub versions: [u8; 6],
    /// Smoothed round-trip time of direct probes.
    pub rtt: Option<Duration>,
    /// Whether it has proved that it has a key of the cluster.
    pub answered: Answered,
}

/// Id of a TCP exchange, and of the join that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u64);

/// Id of a query in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId {
    /// Lamport time of the query.
    pub ltime: u64,
    /// Random number.
    pub id: u32,
}

/// Received query; pass it to `respond`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Query id.
    pub id: QueryId,
    /// Query name.
    pub name: Text,
    /// Payload.
    pub payload: Vec<u8>,
    /// Name of the originator; empty for very old agents. This member's own queries are received too.
    pub source: Text,
    pub(super) addr: SocketAddr,
    pub(super) relay_factor: u8,
    /// Time on the core's clock after which responses are useless.
    pub deadline: Duration,
}

/// Parameters of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryParams {
    /// Members that should answer; empty for all.
    pub nodes: Vec<Text>,
    /// Tags and regular expressions that members must match to answer (Rust's `regex` syntax, plus Go's `\Q…\E`
    /// and octal numbers; agents use Go's syntax). A byte of a tag that is not UTF-8 counts as one character,
    /// U+FFFD, as in Go.
    pub tags: Vec<(Text, Text)>,
    /// Whether each addressed member acknowledges at once.
    pub request_ack: bool,
    /// Number of other members through which responses are also relayed; Serf allows 0 to 5.
    pub relay_factor: u8,
    /// Time to wait for responses; `None` uses Serf's default, which grows with the cluster.
    pub timeout: Option<Duration>,
}

/// Lamport times of the next messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LamportTimes {
    /// Next join or leave.
    pub member: u64,
    /// Next user event.
    pub event: u64,
    /// Next query.
    pub query: u64,
}

/// Output of the core for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// Send a datagram.
    Udp {
        /// Destination.
        to: SocketAddr,
        /// Complete datagram.
        payload: Vec<u8>,
    },
    /// Open a TCP connection, write the payload, then pass on the bytes received.
    Connect {
        /// Exchange id.
        stream: StreamId,
        /// Destination.
        to: SocketAddr,
        /// Bytes to write.
        payload: Vec<u8>,
    },
    /// Write to an accepted connection, then close it.
    Reply {
        /// Exchange id; the exchange ends with this.
        stream: StreamId,
        /// Bytes to write.
        payload: Vec<u8>,
    },
    /// Close a connection at once.
    Close {
        /// Exchange id; the exchange ends with this.
        stream: StreamId,
    },
}

/// Event of the core for the application.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A member joined, or came back.
    MemberJoined(Member),
    /// A member changed its tags.
    MemberUpdated(Member),
    /// A member stopped answering.
    MemberFailed(Member),
    /// A member left by itself, or was declared to have left.
    MemberLeft(Member),
    /// A failed or departed member was forgotten.
    MemberReaped(Member),
    /// A user event, including this member's own.
    UserEvent {
        /// Lamport time of the event.
        ltime: u64,
        /// Name.
        name: Text,
        /// Payload.
        payload: Vec<u8>,
        /// Whether it may be merged with events of the same name.
        coalesce: bool,
    },
    /// A query was received.
    Query(Query),
    /// A member acknowledged a query.
    QueryAck {
        /// Query id.
        query: QueryId,
        /// Name of the member.
        from: Text,
    },
    /// A member responded to a query.
    QueryResponse {
        /// Query id.
        query: QueryId,
        /// Name of the member.
        from: Text,
        /// Payload of the response.
        payload: Vec<u8>,
    },
    /// A query ended; no more responses are accepted.
    QueryDone {
        /// Query id.
        query: QueryId,
    },
    /// A join ended.
    JoinFinished {
        /// Value that `join` returned.
        join: StreamId,
        /// Address that was contacted.
        addr: SocketAddr,
        /// Reason of the failure; `None` on success.
        error: Option<String>,
    },
    /// This member is alone, and no remembered member has answered. All are tried again, after a wait that
    /// grows up to half a minute.
    RejoinFailed {
        /// Number of members tried.
        tried: usize,
        /// Number of consecutive rounds without an answer, including this one.
        rounds: u32,
    },
    /// Leaving is complete; the member may be stopped.
    LeaveFinished,
    /// Another member uses a known name at another address.
    NameConflict {
        /// Contested name.
        name: Text,
        /// The other address.
        other: SocketAddr,
        /// Tags announced there.
        tags: Tags,
    },
    /// Another running member claims this member's name. It gives the name up if most others know it here.
    NameClaimed {
        /// Address of the other member.
        other: SocketAddr,
    },
    /// A majority knows this member's name at another address: stop, or use another name.
    NameLost,
    /// A query has a filter that this member cannot read, so it does not answer. Reported at most once per
    /// minute.
    FilterUnreadable {
        /// Regular expression in its shown form, or a description of the error.
        filter: String,
        /// Name of the originator.
        asker: Text,
    },
    /// A query changed the keyring; store it.
    KeyringChanged,
    /// This member's tags were changed; store them.
    TagsChanged,
    /// Events were dropped because the application did not consume them in time; only the driver sends this.
    Lagged {
        /// Number of dropped events.
        dropped: u64,
    },
}

/// Error of a command. It had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The member is leaving or has left.
    #[error("this member is leaving")]
    Leaving,
    /// No member of that name is known.
    #[error("no member is named {0:?}")]
    UnknownMember(Text),
    /// The tags do not fit.
    #[error(transparent)]
    Config(#[from] super::ConfigError),
    /// An event, a query or a response is too long.
    #[error("{what} takes {len} bytes, {limit} are allowed")]
    TooLarge {
        /// Kind of the message.
        what: &'static str,
        /// Size in bytes.
        len: usize,
        /// Maximum size in bytes.
        limit: usize,
    },
    /// Too many of this kind are in progress.
    #[error("too many {0} are under way")]
    Busy(&'static str),
    /// The query has ended.
    #[error("the query has ended")]
    QueryEnded,
    /// A filter is not a valid regular expression.
    #[error("{0:?} is not a regular expression")]
    Filter(Text),
    /// The keyring could not be changed.
    #[error(transparent)]
    Key(#[from] KeyError),
}
