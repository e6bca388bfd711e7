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

/// Bytes in the second edition of msgpack; nil if there are none.
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
    /// Header of a request.
    RequestHeader {
        "Command" => command: Text,
        "Seq" => seq: u64,
    }
    /// Header of a reply, and of each record of a stream.
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
    /// Requests members whose status, name and tags match these regular expressions; empty ones match all.
    MembersFiltered {
        "Name" => name: Text,
        "Status" => status: Text,
        "Tags" => tags: BTreeMap<Text, Text>,
    }
    /// Member, in clients' form.
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
    /// List of members.
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
        /// Timeout in nanoseconds; 0 for the default.
        "Timeout" => timeout_ns: u64,
    }
    /// Answer to a query, or its end.
    QueryRecord {
        "From" => from: Text,
        "Payload" => payload: Bin,
        /// `ack`, `response` or `done`.
        "Type" => kind: Text,
    }
    /// Responds to a query received in a stream.
    Respond {
        /// Id from the query's [`QueryEvent`].
        "ID" => id: u64,
        "Payload" => payload: Bin,
    }
    /// Makes the agent contact members.
    Join {
        /// Addresses, with or without a port.
        "Existing" => existing: List<Text>,
        /// Whether to report events from before the join.
        "Replay" => replay: bool,
    }
    /// Number of members that answered.
    Joined {
        "Num" => num: u32,
    }
    /// Declares that a failed member has left.
    ForceLeave {
        "Node" => node: Text,
        /// Whether to forget the member at once.
        "Prune" => prune: bool,
    }
    /// Changes the agent's own tags.
    ChangeTags {
        "DeleteTags" => delete_tags: List<Text>,
        "Tags" => tags: BTreeMap<Text, Text>,
    }
    /// Subscribes to events.
    Stream {
        /// Comma-separated list; see [`EventFilter`](super::EventFilter).
        "Type" => kind: Text,
    }
    /// Change of members.
    MemberEvent {
        "Event" => event: Text,
        "Members" => members: List<Member>,
    }
    /// User event.
    UserEvent {
        "Coalesce" => coalesce: bool,
        "Event" => event: Text,
        "LTime" => ltime: u64,
        "Name" => name: Text,
        "Payload" => payload: Bin,
    }
    /// Received query.
    QueryEvent {
        "Event" => event: Text,
        /// Id for [`Respond`], unique in this connection.
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
    /// Log line.
    LogRecord {
        "Log" => log: Text,
    }
    /// Ends a stream, a monitor or a query.
    Stop {
        /// Number of the request that started it.
        "Stop" => stop: u64,
    }
    /// Key in base64.
    ChangeKey {
        "Key" => key: Text,
    }
    /// Members' answers to a key change or to a request for their keys.
    Keys {
        /// Number of members that have each key.
        "Keys" => keys: BTreeMap<Text, u64>,
        /// Error messages, by the names of members.
        "Messages" => messages: BTreeMap<Text, Text>,
        /// Number of members that failed.
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
    /// Network coordinate, if it is known.
    CoordinateReply {
        "Coord" => place: Coordinate,
        "Ok" => known: bool,
    }
}

/// Reply to `stats`: sections, each with names and values.
pub type Stats = BTreeMap<Text, Tags>;

/// Status in Serf's terms.
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
