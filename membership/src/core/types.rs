//! Inputs and outputs of the core.

use std::{net::SocketAddr, time::Duration};

use crate::wire::{Text, crypto::KeyError, serf::Tags};

/// Status of a member in Serf's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The member answers probes, or is only suspected.
    Alive,
    /// The member has announced that it will leave.
    Leaving,
    /// The member has left the cluster, or was declared to have left.
    Left,
    /// The member has stopped answering.
    Failed,
}

/// Whether a member has answered a probe of this one, and so has proved that it can decrypt with a key of the
/// keyring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answered {
    /// The member has not answered a probe yet.
    #[default]
    Never,
    /// The member has answered a probe since the last removal of a key.
    Yes,
    /// The member has not answered a probe since a key was removed from the keyring; the removed key may have
    /// been its only one.
    NotSinceRemoval,
}

/// Known properties of a member, this one or another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the member, unique in the cluster.
    pub name: Text,
    /// Address of the member for UDP and TCP.
    pub addr: SocketAddr,
    /// Tags of the member, by their names.
    pub tags: Tags,
    /// Status of the member in Serf's terms.
    pub status: Status,
    /// Whether the member is suspected to have failed.
    pub suspect: bool,
    /// Incarnation of the member, which grows with each refutation and change.
    pub incarnation: u32,
    /// Minimum, maximum and current version of memberlist's protocol, then the minimum, maximum and current
    /// version of Serf's.
    pub versions: [u8; 6],
    /// Smoothed round-trip time of this member's direct probes of the member; `None` until one was answered.
    pub rtt: Option<Duration>,
    /// Whether the member has proved that it has a key of the cluster, by an answer to a probe.
    pub answered: Answered,
}

/// Id of a TCP exchange; that of a join also identifies the join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u64);

/// Id of a query, unique in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId {
    /// Lamport time of the query.
    pub ltime: u64,
    /// Random number chosen by the originator; it distinguishes queries of one Lamport time.
    pub id: u32,
}

/// Query received from a member; pass it to `respond` to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Id of the query, which its responses carry.
    pub id: QueryId,
    /// Name of the query, by which the application recognizes it.
    pub name: Text,
    /// Payload of the query; its format depends on the query's name.
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
    /// Names of the members that should answer; empty for all.
    pub nodes: Vec<Text>,
    /// Tags and regular expressions that members must match to answer (Rust's `regex` syntax, plus Go's `\Q…\E`
    /// and octal numbers; agents use Go's syntax). A byte of a tag that is not UTF-8 counts as one character,
    /// U+FFFD, as in Go.
    pub tags: Vec<(Text, Text)>,
    /// Whether each addressed member acknowledges at once.
    pub request_ack: bool,
    /// Number of members besides the originator through which each response is also relayed; Serf allows 0 to
    /// 5.
    pub relay_factor: u8,
    /// Time to wait for responses; `None` uses Serf's default, which grows with the size of the cluster.
    pub timeout: Option<Duration>,
}

/// Lamport times of this member's next messages, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LamportTimes {
    /// Lamport time of the next join or leave.
    pub member: u64,
    /// Lamport time of the next user event.
    pub event: u64,
    /// Lamport time of the next query.
    pub query: u64,
}

/// Output of the core for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// Send a datagram.
    Udp {
        /// Address to send the datagram to.
        to: SocketAddr,
        /// Complete content of the datagram.
        payload: Vec<u8>,
    },
    /// Open a TCP connection, write the payload, then pass the bytes received to `handle_stream`.
    Connect {
        /// Id of the new exchange, for `handle_stream` and `handle_stream_closed`.
        stream: StreamId,
        /// Address to connect to.
        to: SocketAddr,
        /// Bytes to write once the connection is open.
        payload: Vec<u8>,
    },
    /// Write to an accepted TCP connection, then close it.
    Reply {
        /// Id of the exchange, which ends with this transmission.
        stream: StreamId,
        /// Bytes to write before the close.
        payload: Vec<u8>,
    },
    /// Close a TCP connection at once.
    Close {
        /// Id of the exchange, which ends with this transmission.
        stream: StreamId,
    },
}

/// Event of the core for the application.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Another member joined, or came back; its current properties.
    MemberJoined(Member),
    /// Another member changed its tags; its current properties.
    MemberUpdated(Member),
    /// Another member stopped answering and was declared failed; its last properties.
    MemberFailed(Member),
    /// Another member left by itself, or was declared to have left; its last properties.
    MemberLeft(Member),
    /// A failed or departed member was forgotten; its last properties.
    MemberReaped(Member),
    /// A user event arrived, or was sent by this member.
    UserEvent {
        /// Lamport time of the user event.
        ltime: u64,
        /// Name of the user event.
        name: Text,
        /// Payload of the user event; its format depends on the event's name.
        payload: Vec<u8>,
        /// Whether the event may be merged with other events of its name.
        coalesce: bool,
    },
    /// A query to this member was received; pass it to `respond` to answer.
    Query(Query),
    /// A member acknowledged a query of this one.
    QueryAck {
        /// Id of the query, as returned when it was sent.
        query: QueryId,
        /// Name of the member that acknowledged.
        from: Text,
    },
    /// A member responded to a query of this one.
    QueryResponse {
        /// Id of the query, as returned when it was sent.
        query: QueryId,
        /// Name of the member that responded.
        from: Text,
        /// Payload of the response.
        payload: Vec<u8>,
    },
    /// A query of this member ended; no more acknowledgements or responses are accepted.
    QueryDone {
        /// Id of the query, as returned when it was sent.
        query: QueryId,
    },
    /// An attempt to contact a member ended, started by `join` or by rejoining.
    JoinFinished {
        /// Id of the attempt: the value that `join` returned.
        join: StreamId,
        /// Address that was contacted.
        addr: SocketAddr,
        /// Reason of the failure; `None` if the member answered.
        error: Option<String>,
    },
    /// This member is alone, and no remembered member has answered in a whole round. All are tried again, after
    /// a wait that grows up to half a minute.
    RejoinFailed {
        /// Number of members tried in the round.
        tried: usize,
        /// Number of consecutive rounds without an answer, including this one.
        rounds: u32,
    },
    /// This member's leaving is complete; it may be stopped.
    LeaveFinished,
    /// A second member uses a known member's name, or this one's, at another address.
    NameConflict {
        /// Contested name.
        name: Text,
        /// Address of the second member.
        other: SocketAddr,
        /// Tags that the second member announces.
        tags: Tags,
    },
    /// Another running member claims this member's name. That member gives the name up if most members know it
    /// at this member's address.
    NameClaimed {
        /// Address at which the other member claims the name.
        other: SocketAddr,
    },
    /// A majority of the members knows this member's name at another address: stop this member, or use another
    /// name.
    NameLost,
    /// A received query has a filter that this member cannot read, so this member does not answer. Reported at
    /// most once per minute.
    FilterUnreadable {
        /// Beginning of the filter's regular expression in its shown form, or a description of the error.
        filter: String,
        /// Name of the query's originator.
        asker: Text,
    },
    /// A query changed this member's keyring; the application should store it.
    KeyringChanged,
    /// This member's tags were changed; the application should store them.
    TagsChanged,
    /// Events were dropped because the receiver did not consume them in time; only the driver sends this.
    Lagged {
        /// Number of dropped events.
        dropped: u64,
    },
}

/// Error of a command to a member. The command had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// This member is leaving the cluster or has left it.
    #[error("this member is leaving")]
    Leaving,
    /// No member of that name is known.
    #[error("no member is named {0:?}")]
    UnknownMember(Text),
    /// The tags do not fit into 512 bytes.
    #[error(transparent)]
    Config(#[from] super::ConfigError),
    /// An event, a query or a response is longer than its limit, or than a datagram.
    #[error("{what} takes {len} bytes, {limit} are allowed")]
    TooLarge {
        /// Kind of the message, such as `the event`.
        what: &'static str,
        /// Size of the message in bytes.
        len: usize,
        /// Maximum size in bytes.
        limit: usize,
    },
    /// The queue or table for things of the named kind is full; the string names the kind, such as `queries`.
    #[error("too many {0} are under way")]
    Busy(&'static str),
    /// The query's deadline has passed, so a response would be useless.
    #[error("the query has ended")]
    QueryEnded,
    /// A tag filter, this text, is not a valid regular expression.
    #[error("{0:?} is not a regular expression")]
    Filter(Text),
    /// The keyring could not be changed.
    #[error(transparent)]
    Key(#[from] KeyError),
}
