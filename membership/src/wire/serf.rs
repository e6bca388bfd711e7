//! Messages of Serf, carried as memberlist's user messages and user state.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{
    Text,
    field::{Field, Float, List, messages},
    memberlist::{ip_bytes, parse_addr},
    msgpack::{self, DecodeError, Reader},
};

/// Maximum number of event slots of a push/pull that are processed; further ones are ignored. Agents send 512.
pub const MAX_EVENT_SLOTS: usize = 4096;
/// Maximum number of filters in a query; a query with more matches no member.
pub const MAX_FILTERS: usize = 16;
/// First byte of a member's encoded tags.
pub const TAG_MAGIC: u8 = 255;

/// Type byte at the start of each Serf message.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the message structs")]
    pub const LEAVE: u8 = 0;
    pub const JOIN: u8 = 1;
    pub const PUSH_PULL: u8 = 2;
    pub const USER_EVENT: u8 = 3;
    pub const QUERY: u8 = 4;
    pub const QUERY_RESPONSE: u8 = 5;
    pub const CONFLICT_RESPONSE: u8 = 6;
    pub const KEY_REQUEST: u8 = 7;
    pub const KEY_RESPONSE: u8 = 8;
    pub const RELAY: u8 = 9;
}

/// Flag in [`Query::flags`]: an acknowledgement is requested. Flag in [`QueryResponse::flags`]: this is one.
pub const FLAG_ACK: u32 = 1;
/// Flag in [`Query::flags`]: the receiver does not pass the query on.
pub const FLAG_NO_BROADCAST: u32 = 2;

messages! {
    /// Announces that the member `node` intends to leave, or was declared to have left.
    Leave {
        "LTime" => ltime: u64,
        "Node" => node: Text,
        /// Whether to forget the member at once if it has failed or left.
        "Prune" => prune: bool,
    }
    /// Announces that the member `node` has joined, or has not left as announced.
    Join {
        "LTime" => ltime: u64,
        "Node" => node: Text,
    }
    /// State of the Serf layer in a push/pull: Lamport times of the sender's next messages, recent events, and
    /// members' status.
    PushPull {
        "EventLTime" => event_ltime: u64,
        "Events" => events: List<Option<Box<EventSlot>>>,
        "LTime" => ltime: u64,
        "LeftMembers" => left_members: List<Text>,
        "QueryLTime" => query_ltime: u64,
        "StatusLTimes" => status_ltimes: BTreeMap<Text, u64>,
    }
    /// Events that were sent with one Lamport time.
    EventSlot {
        "Events" => events: List<BufferedEvent>,
        "LTime" => ltime: u64,
    }
    /// Event of an [`EventSlot`], which holds its Lamport time.
    BufferedEvent {
        "Name" => name: Text,
        "Payload" => payload: Option<Vec<u8>>,
    }
    /// Event that is sent to every member.
    UserEvent {
        /// Whether receivers may merge the event with other events of its name.
        "CC" => coalesce: bool,
        "LTime" => ltime: u64,
        "Name" => name: Text,
        "Payload" => payload: Option<Vec<u8>>,
    }
    /// Question to all members that match its filters.
    Query {
        "Addr" => addr: Vec<u8>,
        "Filters" => filters: List<Vec<u8>>,
        "Flags" => flags: u32,
        "ID" => id: u32,
        "LTime" => ltime: u64,
        "Name" => name: Text,
        "Payload" => payload: Option<Vec<u8>>,
        "Port" => port: u16,
        "RelayFactor" => relay_factor: u8,
        "SourceNode" => source_node: Text,
        "Timeout" => timeout_ns: u64,
    }
    /// Response or acknowledgement, sent directly to the originator of a query.
    QueryResponse {
        "Flags" => flags: u32,
        "From" => from: Text,
        "ID" => id: u32,
        "LTime" => ltime: u64,
        "Payload" => payload: Option<Vec<u8>>,
    }
    /// What a member knows of a name, as the response to the query `_serf_conflict`.
    ConflictResponse {
        "Addr" => addr: Vec<u8>,
        "DelegateCur" => delegate_cur: u8,
        "DelegateMax" => delegate_max: u8,
        "DelegateMin" => delegate_min: u8,
        "Name" => name: Text,
        "Port" => port: u16,
        "ProtocolCur" => protocol_cur: u8,
        "ProtocolMax" => protocol_max: u8,
        "ProtocolMin" => protocol_min: u8,
        /// Status of the named member: 1 alive, 2 leaving, 3 left, 4 failed.
        "Status" => status: u8,
        "Tags" => tags: BTreeMap<Text, Text>,
    }
    /// Payload of a query that changes or lists the members' keys.
    KeyRequest {
        "Key" => key: Option<Vec<u8>>,
    }
    /// Payload of a response to a query that changes or lists the members' keys.
    KeyResponse {
        "Keys" => keys: List<Text>,
        "Message" => message: Text,
        "PrimaryKey" => primary_key: Text,
        "Result" => result: bool,
    }
    /// UDP address as Go encodes it, in a [`RelayHeader`].
    RelayAddr {
        "IP" => ip: Vec<u8>,
        "Port" => port: u16,
        "Zone" => zone: Text,
    }
    /// Header before a message that the receiver is asked to relay: its destination.
    RelayHeader {
        "DestAddr" => addr: RelayAddr,
        "DestName" => name: Text,
    }
    /// Network coordinate; it follows a version byte in the payload of memberlist's ack.
    Coordinate {
        "Adjustment" => adjustment: Float,
        "Error" => error: Float,
        "Height" => height: Float,
        "Vec" => vec: List<Float>,
    }
    /// Filter of a query: a regular expression for the value of the named tag.
    TagFilter {
        "Expr" => expr: Text,
        "Tag" => tag: Text,
    }
}

/// Serf message, which memberlist carries as a user message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is named for the message it holds")]
pub enum Message {
    Leave(Leave),
    Join(Join),
    UserEvent(UserEvent),
    Query(Query),
    QueryResponse(QueryResponse),
    /// Message to relay: its destination, and the encoded message with its type byte.
    Relay(RelayHeader, Vec<u8>),
}

impl Message {
    /// Decodes a message with its type byte.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, body) = bytes.split_first().ok_or(DecodeError::Truncated { needed: 1 })?;
        Ok(match *kind {
            kind::LEAVE => Self::Leave(Leave::decode(body)?),
            kind::JOIN => Self::Join(Join::decode(body)?),
            kind::USER_EVENT => Self::UserEvent(UserEvent::decode(body)?),
            kind::QUERY => Self::Query(Query::decode(body)?),
            kind::QUERY_RESPONSE => Self::QueryResponse(QueryResponse::decode(body)?),
            kind::RELAY => {
                let mut reader = Reader::new(body);
                let header = <RelayHeader as Field>::decode(&mut reader)?;
                Self::Relay(header, reader.rest().to_vec())
            }
            other => return Err(DecodeError::UnknownType(other)),
        })
    }

    /// Encodes the message with its type byte.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Leave(m) => tagged(&mut out, kind::LEAVE, m),
            Self::Join(m) => tagged(&mut out, kind::JOIN, m),
            Self::UserEvent(m) => tagged(&mut out, kind::USER_EVENT, m),
            Self::Query(m) => tagged(&mut out, kind::QUERY, m),
            Self::QueryResponse(m) => tagged(&mut out, kind::QUERY_RESPONSE, m),
            Self::Relay(header, message) => {
                tagged(&mut out, kind::RELAY, header);
                out.extend_from_slice(message);
            }
        }
        out
    }
}

fn tagged(out: &mut Vec<u8>, kind: u8, message: &impl Field) {
    out.push(kind);
    message.encode(out);
}

/// Encodes `message` after the type byte `kind`: conflict and key messages, and the state in a push/pull.
pub fn encode_tagged(kind: u8, message: &impl Field) -> Vec<u8> {
    let mut out = Vec::new();
    tagged(&mut out, kind, message);
    out
}

impl PushPull {
    /// Decodes the usable parts of the Serf layer's state in a push/pull, with its type byte. Also returns the
    /// number of parts skipped.
    pub fn decode_state(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        match bytes.split_first() {
            Some((&kind::PUSH_PULL, body)) => Self::decode_parts(body),
            Some((other, _)) => Err(DecodeError::UnknownType(*other)),
            None => Err(DecodeError::Truncated { needed: 1 }),
        }
    }
}

/// Decodes the result of [`encode_tagged`]. Fails if the type byte is not `kind`.
pub fn decode_tagged<T: Field>(kind: u8, bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((first, body)) if *first == kind => T::decode(&mut Reader::new(body)),
        Some((other, _)) => Err(DecodeError::UnknownType(*other)),
        None => Err(DecodeError::Truncated { needed: 1 }),
    }
}

impl RelayHeader {
    /// Destination of the message to relay; `None` if the address is not usable.
    pub fn addr(&self) -> Option<SocketAddr> {
        parse_addr(&self.addr.ip, self.addr.port)
    }

    /// Creates a header that asks for relaying to the member `name` at `addr`.
    pub fn new(name: Text, addr: SocketAddr) -> Self {
        let addr = RelayAddr { ip: ip_bytes(addr.ip()), port: addr.port(), zone: Text::default() };
        Self { addr, name }
    }
}

/// Restriction on which members answer a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Only members with these names answer.
    Nodes(Vec<Text>),
    /// Only members whose tag contains a match of the regular expression answer.
    Tag(TagFilter),
}

impl Filter {
    /// Decodes a filter with its type byte.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            Some((0, body)) => {
                let nodes = List::<Text>::decode(&mut Reader::new(body))?;
                Ok(Self::Nodes(nodes.0.unwrap_or_default()))
            }
            Some((1, body)) => Ok(Self::Tag(TagFilter::decode(body)?)),
            Some((other, _)) => Err(DecodeError::UnknownType(*other)),
            None => Err(DecodeError::Truncated { needed: 1 }),
        }
    }

    /// Encodes the filter with its type byte.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Nodes(nodes) => {
                out.push(0);
                msgpack::write_array(&mut out, nodes.len());
                nodes.iter().for_each(|node| Field::encode(node, &mut out));
            }
            Self::Tag(filter) => tagged(&mut out, 1, filter),
        }
        out
    }
}

/// Tags of a member, by their names.
pub type Tags = BTreeMap<Text, Text>;

/// Encodes `tags` as metadata. No tags are encoded as an empty map, because old agents read empty metadata as a
/// role.
pub fn encode_tags(tags: &Tags) -> Vec<u8> {
    encode_tagged(TAG_MAGIC, tags)
}

/// Decodes a member's metadata. Without [`TAG_MAGIC`] it is the role of a very old agent. Tags that cannot be
/// decoded are skipped; after a structural error the remaining ones are too.
pub fn decode_tags(meta: &[u8]) -> Tags {
    match meta.split_first() {
        None => Tags::new(),
        Some((&TAG_MAGIC, body)) => read_tags(&mut Reader::new(body).leaving_out()),
        Some(_) => Tags::from([("role".into(), meta.into())]),
    }
}

fn read_tags(reader: &mut Reader<'_>) -> Tags {
    let mut tags = Tags::new();
    for _ in 0..reader.map().unwrap_or_default() {
        let tag = reader.part(2, |reader| Ok((Text::decode(reader)?, Text::decode(reader)?)));
        let Ok(tag) = tag else { break };
        tags.extend(tag);
    }
    tags
}
