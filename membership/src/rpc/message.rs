//! The maps of which requests, replies and streams consist.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::{
    core,
    wire::{
        Text,
        field::{Field, List, messages},
        memberlist::ip_bytes,
        msgpack::{self, DecodeError, Reader},
        serf::{Coordinate, Tags},
    },
};

/// Bytes as the second edition of msgpack has them; nil if there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bin(pub Option<Vec<u8>>);

impl From<Vec<u8>> for Bin {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Some(bytes))
    }
}

impl Field for Bin {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.bytes().map(Self)
    }
    fn encode(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Some(bytes) => msgpack::write_bin(out, bytes),
            None => msgpack::write_nil(out),
        }
    }
}

messages! {
    /// Begins a request.
    RequestHeader {
        "Command" => command: Text,
        "Seq" => seq: u64,
    }
    /// Begins a reply, and each record of a stream.
    ReplyHeader {
        "Error" => error: Text,
        "Seq" => seq: u64,
    }
    /// Says which version of the protocol the client speaks.
    Handshake {
        "Version" => version: u32,
    }
    /// Proves that the client may ask.
    Auth {
        "AuthKey" => auth_key: Text,
    }
    /// Asks for the members whose status, name and tags match these regular expressions; all for empty ones.
    MembersFiltered {
        "Name" => name: Text,
        "Status" => status: Text,
        "Tags" => tags: BTreeMap<Text, Text>,
    }
    /// A member, as clients see it.
    Member {
        "Addr" => addr: Bin,
        "DelegateCur" => delegate_cur: u8,
        "DelegateMax" => delegate_max: u8,
        "DelegateMin" => delegate_min: u8,
        "Name" => name: Text,
        "Port" => port: u16,
        "ProtocolCur" => protocol_cur: u8,
        "ProtocolMax" => protocol_max: u8,
        "ProtocolMin" => protocol_min: u8,
        "Status" => status: Text,
        "Tags" => tags: BTreeMap<Text, Text>,
    }
    /// The answer to a question for members.
    Members {
        "Members" => members: List<Member>,
    }
    /// Sends an event to all members.
    SendEvent {
        "Coalesce" => coalesce: bool,
        "Name" => name: Text,
        "Payload" => payload: Bin,
    }
    /// Asks members; records with the answers follow the reply.
    Ask {
        "FilterNodes" => filter_nodes: List<Text>,
        "FilterTags" => filter_tags: BTreeMap<Text, Text>,
        "Name" => name: Text,
        "Payload" => payload: Bin,
        "RelayFactor" => relay_factor: u8,
        "RequestAck" => request_ack: bool,
        /// In nanoseconds; 0 for the default.
        "Timeout" => timeout_ns: u64,
    }
    /// One answer to a query, or its end.
    QueryRecord {
        "From" => from: Text,
        "Payload" => payload: Bin,
        /// `ack`, `response` or `done`.
        "Type" => kind: Text,
    }
    /// Answers a query that came in a stream.
    Respond {
        /// From the query's [`QueryEvent`].
        "ID" => id: u64,
        "Payload" => payload: Bin,
    }
    /// Contacts members.
    Join {
        /// Their addresses, with or without a port.
        "Existing" => existing: List<Text>,
        /// Whether events from before the join are to be reported.
        "Replay" => replay: bool,
    }
    /// How many members answered.
    Joined {
        "Num" => num: u32,
    }
    /// Declares that a failed member has left.
    ForceLeave {
        "Node" => node: Text,
        /// Whether it is to be forgotten at once.
        "Prune" => prune: bool,
    }
    /// Changes the agent's own tags.
    ChangeTags {
        "DeleteTags" => delete_tags: List<Text>,
        "Tags" => tags: BTreeMap<Text, Text>,
    }
    /// Subscribes to events.
    Stream {
        /// A list with commas; see [`EventFilter`](super::EventFilter).
        "Type" => kind: Text,
    }
    /// Something happened to members.
    MemberEvent {
        "Event" => event: Text,
        "Members" => members: List<Member>,
    }
    /// Somebody sent an event.
    UserEvent {
        "Coalesce" => coalesce: bool,
        "Event" => event: Text,
        "LTime" => ltime: u64,
        "Name" => name: Text,
        "Payload" => payload: Bin,
    }
    /// Somebody asks.
    QueryEvent {
        "Event" => event: Text,
        /// What [`Respond`] names; a number of this connection's own.
        "ID" => id: u64,
        "LTime" => ltime: u64,
        "Name" => name: Text,
        "Payload" => payload: Bin,
    }
    /// Subscribes to the agent's log.
    Monitor {
        /// `TRACE`, `DEBUG`, `INFO`, `WARN` or `ERR`.
        "LogLevel" => log_level: Text,
    }
    /// A line of the log.
    LogRecord {
        "Log" => log: Text,
    }
    /// Ends a stream, a monitor or a query.
    Stop {
        /// The number of the request that began it.
        "Stop" => stop: u64,
    }
    /// Names a key, in base64.
    ChangeKey {
        "Key" => key: Text,
    }
    /// What the members say to a change of keys, or to the question for them.
    Keys {
        /// How many members have each key.
        "Keys" => keys: BTreeMap<Text, u64>,
        /// What members complained of, by their names.
        "Messages" => messages: BTreeMap<Text, Text>,
        /// Members that failed.
        "NumErr" => errors: u64,
        /// Members that were asked.
        "NumNodes" => nodes: u64,
        /// Members that answered.
        "NumResp" => responses: u64,
    }
    /// Asks for a member's place in the network.
    GetCoordinate {
        "Node" => node: Text,
    }
    /// The place, if it is known.
    CoordinateReply {
        "Coord" => place: Coordinate,
        "Ok" => known: bool,
    }
}

/// The answer to `stats`: sections, each with names and values.
pub type Stats = BTreeMap<Text, Tags>;

/// A status in Serf's words.
pub(crate) fn status_text(status: core::Status) -> &'static str {
    match status {
        core::Status::Alive => "alive",
        core::Status::Leaving => "leaving",
        core::Status::Left => "left",
        core::Status::Failed => "failed",
    }
}

impl From<&core::Member> for Member {
    fn from(member: &core::Member) -> Self {
        let [protocol_min, protocol_max, protocol_cur, delegate_min, delegate_max, delegate_cur] =
            member.versions;
        let addr: SocketAddr = member.addr;
        Self {
            addr: ip_bytes(addr.ip()).into(),
            delegate_cur,
            delegate_max,
            delegate_min,
            name: member.name.clone(),
            port: addr.port(),
            protocol_cur,
            protocol_max,
            protocol_min,
            status: status_text(member.status).into(),
            tags: member.tags.clone(),
        }
    }
}
