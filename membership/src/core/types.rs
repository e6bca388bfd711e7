//! What goes in and out of the core.

use std::{net::SocketAddr, time::Duration};

use crate::wire::{Text, crypto::KeyError, serf::Tags};

/// What Serf calls the status of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It answers, or is only suspected.
    Alive,
    /// It has said that it will leave.
    Leaving,
    /// It has left.
    Left,
    /// It stopped answering.
    Failed,
}

/// Whether a member has answered a probe of this one, and so has shown that it can read what the keyring encrypts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answered {
    /// It has had no occasion yet.
    #[default]
    Never,
    /// It has.
    Yes,
    /// It has not since a key was taken from the keyring: that may have been the only one it had.
    NotSinceRemoval,
}

/// What is known of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its unique name.
    pub name: Text,
    /// Where it listens, UDP and TCP.
    pub addr: SocketAddr,
    /// Its tags.
    pub tags: Tags,
    /// How it is.
    pub status: Status,
    /// Whether it is suspected of having failed.
    pub suspect: bool,
    /// How often it has refuted or changed.
    pub incarnation: u32,
    /// Least, greatest and current protocol version, then the same of Serf's.
    pub versions: [u8; 6],
    /// The smoothed round trip of direct probes.
    pub rtt: Option<Duration>,
    /// Whether it has shown that it has a key of the cluster.
    pub answered: Answered,
}

/// Identifies a TCP exchange; also a join, which is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u64);

/// Identifies a query in the cluster, for its asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId {
    /// The query's Lamport time.
    pub ltime: u64,
    /// A random number.
    pub id: u32,
}

/// A query that somebody asks; pass it to `respond`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Identifies it.
    pub id: QueryId,
    /// What is asked.
    pub name: Text,
    /// With what.
    pub payload: Vec<u8>,
    /// The asker's name; not known for very old agents. One's own queries come back, too.
    pub source: Text,
    pub(super) addr: SocketAddr,
    pub(super) relay_factor: u8,
    /// Answers after this time are useless, on the core's clock.
    pub deadline: Duration,
}

/// How to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryParams {
    /// Only these members answer; all when empty.
    pub nodes: Vec<Text>,
    /// Only members whose tags match these regular expressions (Rust's `regex` syntax, and Go's `\Q…\E` and
    /// octal numbers; agents use Go's). A byte of a tag that is not UTF-8 counts as one character, U+FFFD, as in Go.
    pub tags: Vec<(Text, Text)>,
    /// Whether each member that is asked acknowledges at once.
    pub request_ack: bool,
    /// Through how many other members answers are sent in addition. Serf allows 0 to 5.
    pub relay_factor: u8,
    /// How long answers are waited for; Serf's default grows with the cluster.
    pub timeout: Option<Duration>,
}

/// The times of the next messages of each kind, as Lamport's clocks have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LamportTimes {
    /// Of joins and leaves.
    pub member: u64,
    /// Of user events.
    pub event: u64,
    /// Of queries.
    pub query: u64,
}

/// What the core wants to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// A datagram.
    Udp {
        /// Whither.
        to: SocketAddr,
        /// The whole datagram.
        payload: Vec<u8>,
    },
    /// Open a TCP connection, write the payload, then hand over what is read.
    Connect {
        /// The exchange.
        stream: StreamId,
        /// Whither.
        to: SocketAddr,
        /// What to write.
        payload: Vec<u8>,
    },
    /// Write to an accepted connection and close it when that is done.
    Reply {
        /// The exchange, finished with this.
        stream: StreamId,
        /// What to write.
        payload: Vec<u8>,
    },
    /// Close a connection, without further ado.
    Close {
        /// The exchange, finished with this.
        stream: StreamId,
    },
}

/// What the core has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A member joined, or came back.
    MemberJoined(Member),
    /// A member changed its tags.
    MemberUpdated(Member),
    /// A member stopped answering.
    MemberFailed(Member),
    /// A member left of its own accord, or was told to have left.
    MemberLeft(Member),
    /// A member that failed or left is forgotten.
    MemberReaped(Member),
    /// An event of the layer above, one's own included.
    UserEvent {
        /// The event's Lamport time.
        ltime: u64,
        /// Its name.
        name: Text,
        /// Its payload.
        payload: Vec<u8>,
        /// Whether it may be merged with its like.
        coalesce: bool,
    },
    /// Somebody asks.
    Query(Query),
    /// A member that was asked has heard it.
    QueryAck {
        /// The query.
        query: QueryId,
        /// The member.
        from: Text,
    },
    /// A member answers.
    QueryResponse {
        /// The query.
        query: QueryId,
        /// The member.
        from: Text,
        /// Its answer.
        payload: Vec<u8>,
    },
    /// No more answers will come.
    QueryDone {
        /// The query.
        query: QueryId,
    },
    /// A join ended.
    JoinFinished {
        /// What `join` returned.
        join: StreamId,
        /// Whom it contacted.
        addr: SocketAddr,
        /// Why it failed.
        error: Option<String>,
    },
    /// This member is alone, and nobody that it remembers has answered. All are tried again, after a wait that grows up to half
    /// a minute.
    RejoinFailed {
        /// How many were tried.
        tried: usize,
        /// Rounds in a row in which nobody answered, this one included.
        rounds: u32,
    },
    /// Leaving is done; the member may be stopped.
    LeaveFinished,
    /// Another member uses this name at another address.
    NameConflict {
        /// The name.
        name: Text,
        /// The other address.
        other: SocketAddr,
        /// What it announces there.
        tags: Tags,
    },
    /// Another running member claims this member's own name. It gives it up if most others know it here.
    NameClaimed {
        /// Where it is.
        other: SocketAddr,
    },
    /// A majority knows this member's name at another address: stop, or take another name.
    NameLost,
    /// A query has a filter that this member cannot read, so it does not answer; told at most once a minute.
    FilterUnreadable {
        /// The regular expression, as it is shown, or what is wrong with the filter.
        filter: String,
        /// Who asks.
        asker: Text,
    },
    /// The keyring was changed by a query; store it.
    KeyringChanged,
    /// This member's tags were changed; store them.
    TagsChanged,
    /// Events were thrown away because the application did not take them; only the driver says so.
    Lagged {
        /// How many.
        dropped: u64,
    },
}

/// Why a command is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The member is leaving or has left.
    #[error("this member is leaving")]
    Leaving,
    /// Nobody of that name is known.
    #[error("no member is named {0:?}")]
    UnknownMember(Text),
    /// Tags that do not fit.
    #[error(transparent)]
    Config(#[from] super::ConfigError),
    /// A name with payload, a query or an answer is too long for a packet.
    #[error("{what} takes {len} bytes, {limit} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// Too much of this kind is under way.
    #[error("too many {0} are under way")]
    Busy(&'static str),
    /// The query's time is over.
    #[error("the query has ended")]
    QueryEnded,
    /// A filter is not a regular expression.
    #[error("{0:?} is not a regular expression")]
    Filter(Text),
    /// A change of the keyring.
    #[error(transparent)]
    Key(#[from] KeyError),
}
