//! Maps that make up requests, replies and streams.

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

/// Bytes that are written as `bin` of msgpack's second edition; `None` is nil.
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
    /// Header of a request: its command, and the number that the client chose.
    RequestHeader {
        "Command" => command: Text,
        "Seq" => seq: u64,
    }
    /// Header of a reply, and of each record of a subscription: the request's number, and an error text.
    ReplyHeader {
        "Error" => error: Text,
        "Seq" => seq: u64,
    }
    /// States the protocol version of the client.
    Handshake {
        "Version" => version: u32,
    }
    /// Proves that the client has the key.
    Auth {
        "AuthKey" => auth_key: Text,
    }
    /// Requests members whose status, name and tags match these regular expressions; an empty one matches any
    /// value.
    MembersFiltered {
        "Name" => name: Text,
        "Status" => status: Text,
        "Tags" => tags: BTreeMap<Text, Text>,
    }
    /// Member in the form that clients read.
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
    /// Body of the reply with members.
    Members {
        "Members" => members: List<Member>,
    }
    /// Sends an event to all members.
    SendEvent {
        "Coalesce" => coalesce: bool,
        "Name" => name: Text,
        "Payload" => payload: Bin,
    }
    /// Sends a query to members; records with the answers follow the reply.
    Ask {
        "FilterNodes" => filter_nodes: List<Text>,
        "FilterTags" => filter_tags: BTreeMap<Text, Text>,
        "Name" => name: Text,
        "Payload" => payload: Bin,
        "RelayFactor" => relay_factor: u8,
        "RequestAck" => request_ack: bool,
        /// Timeout of the query in nanoseconds; 0 for the default.
        "Timeout" => timeout_ns: u64,
    }
    /// Acknowledgement of or response to a query, or the report of its end.
    QueryRecord {
        "From" => from: Text,
        "Payload" => payload: Bin,
        /// Kind of the record: `ack`, `response` or `done`.
        "Type" => kind: Text,
    }
    /// Responds to a query received in a stream.
    Respond {
        /// Id in the [`QueryEvent`] of the query.
        "ID" => id: u64,
        "Payload" => payload: Bin,
    }
    /// Makes the agent contact members, to join their cluster.
    Join {
        /// Addresses or host names of the members, with or without a port.
        "Existing" => existing: List<Text>,
        /// Whether to report events from before the join.
        "Replay" => replay: bool,
    }
    /// Body of the reply to a join: the number of members that answered.
    Joined {
        "Num" => num: u32,
    }
    /// Declares that a failed member has left.
    ForceLeave {
        "Node" => node: Text,
        /// Whether all members forget the named member at once.
        "Prune" => prune: bool,
    }
    /// Sets and deletes tags of the agent itself.
    ChangeTags {
        "DeleteTags" => delete_tags: List<Text>,
        "Tags" => tags: BTreeMap<Text, Text>,
    }
    /// Subscribes to events of the listed kinds.
    Stream {
        /// Comma-separated list of event kinds; see [`EventFilter`](super::EventFilter).
        "Type" => kind: Text,
    }
    /// Record of a change of one kind of some members.
    MemberEvent {
        "Event" => event: Text,
        "Members" => members: List<Member>,
    }
    /// Record of a user event.
    UserEvent {
        "Coalesce" => coalesce: bool,
        "Event" => event: Text,
        "LTime" => ltime: u64,
        "Name" => name: Text,
        "Payload" => payload: Bin,
    }
    /// Record of a query that the agent received.
    QueryEvent {
        "Event" => event: Text,
        /// Id of the query for [`Respond`], unique in this connection.
        "ID" => id: u64,
        "LTime" => ltime: u64,
        "Name" => name: Text,
        "Payload" => payload: Bin,
    }
    /// Subscribes to the agent's log.
    Monitor {
        /// Minimum level of the lines: `TRACE`, `DEBUG`, `INFO`, `WARN` or `ERR`.
        "LogLevel" => log_level: Text,
    }
    /// Record of one log line.
    LogRecord {
        "Log" => log: Text,
    }
    /// Ends the subscription, monitor or query of an earlier request.
    Stop {
        /// Number of the request that started the subscription, monitor or query.
        "Stop" => stop: u64,
    }
    /// Key in base64 to install, use or remove.
    ChangeKey {
        "Key" => key: Text,
    }
    /// Members' answers to a key change or to a request for their keys.
    Keys {
        /// Number of members that have each key.
        "Keys" => keys: BTreeMap<Text, u64>,
        /// Messages of members about errors or truncated lists, by the names of the members.
        "Messages" => messages: BTreeMap<Text, Text>,
        /// Number of members that reported an error or sent an unreadable answer.
        "NumErr" => errors: u64,
        /// Number of members asked.
        "NumNodes" => nodes: u64,
        /// Number of members that answered.
        "NumResp" => responses: u64,
    }
    /// Requests the network coordinate of a member.
    GetCoordinate {
        "Node" => node: Text,
    }
    /// Network coordinate of a member, if it is known.
    CoordinateReply {
        "Coord" => place: Coordinate,
        "Ok" => known: bool,
    }
}

/// Body of the reply to `stats`: sections by name, each with values by name.
pub type Stats = BTreeMap<Text, Tags>;

/// Status of a member in Serf's terms, such as `alive`.
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
