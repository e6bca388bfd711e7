//! Messages of memberlist, the layer below Serf.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    Skipped, Text,
    field::messages,
    msgpack::{DecodeError, Reader},
};

/// Maximum length of a member's name, in bytes. Serf's agents allow 128.
pub const MAX_NAME_LEN: usize = 255;
/// Maximum length of a member's metadata, in bytes; memberlist's own limit.
pub const MAX_META_LEN: usize = 512;
/// Versions that this implementation speaks: minimum, maximum and current version of memberlist's protocol,
/// then minimum, maximum and current version of Serf's.
pub const VSN: [u8; 6] = [1, 5, 2, 2, 5, 5];

/// Type byte at the start of each message or frame.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the message structs")]
    pub const PING: u8 = 0;
    pub const INDIRECT_PING: u8 = 1;
    pub const ACK: u8 = 2;
    pub const SUSPECT: u8 = 3;
    pub const ALIVE: u8 = 4;
    pub const DEAD: u8 = 5;
    pub const PUSH_PULL: u8 = 6;
    pub const COMPOUND: u8 = 7;
    pub const USER: u8 = 8;
    pub const COMPRESS: u8 = 9;
    pub const ENCRYPT: u8 = 10;
    pub const NACK: u8 = 11;
    pub const HAS_CRC: u8 = 12;
    pub const ERR: u8 = 13;
    pub const LABEL: u8 = 244;
}

/// Values of [`NodeState::state`]: a member's state in a push/pull.
pub mod state {
    #![allow(missing_docs, reason = "the names are memberlist's")]
    pub const ALIVE: u8 = 0;
    pub const SUSPECT: u8 = 1;
    pub const DEAD: u8 = 2;
    pub const LEFT: u8 = 3;
}

messages! {
    /// Asks the member `node` for an [`Ack`], which goes to the address in the source fields if they are set,
    /// and otherwise to the sender.
    Ping {
        "Node" => node: Text,
        "SeqNo" => seq_no: u32,
        "SourceAddr" optional => source_addr: Option<Vec<u8>>,
        "SourceNode" optional => source_node: Text,
        "SourcePort" optional => source_port: u16,
    }
    /// Asks the receiver to ping the member `node` at `target`, and to forward its ack under this sequence
    /// number.
    IndirectPing {
        /// Whether to send a [`Nack`] if the target does not answer.
        "Nack" => nack: bool,
        "Node" => node: Text,
        "Port" => port: u16,
        "SeqNo" => seq_no: u32,
        "SourceAddr" optional => source_addr: Option<Vec<u8>>,
        "SourceNode" optional => source_node: Text,
        "SourcePort" optional => source_port: u16,
        "Target" => target: Vec<u8>,
    }
    /// Answers a [`Ping`], or an [`IndirectPing`] whose target has answered, with that message's sequence number.
    Ack {
        /// 0x01 and a Vivaldi coordinate in msgpack, or nil.
        "Payload" => payload: Option<Vec<u8>>,
        "SeqNo" => seq_no: u32,
    }
    /// Answers an [`IndirectPing`] whose target does not answer.
    Nack {
        "SeqNo" => seq_no: u32,
    }
    /// Reports on a stream why the sender refuses the request of the other side.
    ErrMessage {
        "Error" => error: Text,
    }
    /// Reports that the member `from` got no answer from the member `node`.
    Suspect {
        "From" => from: Text,
        "Incarnation" => incarnation: u32,
        "Node" => node: Text,
    }
    /// Reports that the member `node` is dead, or that it has left if `from` is `node` itself.
    Dead {
        "From" => from: Text,
        "Incarnation" => incarnation: u32,
        "Node" => node: Text,
    }
    /// Reports that the member `node` is alive, with its address, metadata and versions.
    Alive {
        "Addr" => addr: Vec<u8>,
        "Incarnation" => incarnation: u32,
        "Meta" => meta: Option<Vec<u8>>,
        "Node" => node: Text,
        "Port" => port: u16,
        "Vsn" => vsn: Option<Vec<u8>>,
    }
    /// Header of a push/pull, before the node states: their number, and the length of the user state after
    /// them.
    PushPullHeader {
        "Join" => join: bool,
        "Nodes" => nodes: u64,
        "UserStateLen" => user_state_len: u64,
    }
    /// State of one member in a push/pull, as the sender knows it.
    NodeState {
        "Addr" => addr: Vec<u8>,
        "Incarnation" => incarnation: u32,
        "Meta" => meta: Option<Vec<u8>>,
        "Name" => name: Text,
        "Port" => port: u16,
        /// One of the values in [`state`].
        "State" => state: u8,
        "Vsn" => vsn: Option<Vec<u8>>,
    }
    /// Header before a user message on a stream: the message's length in bytes.
    UserHeader {
        "UserMsgLen" => user_msg_len: u64,
    }
    /// Compressed message: the algorithm, and the compressed bytes.
    Compress {
        "Algo" => algo: u8,
        "Buf" => buf: Vec<u8>,
    }
}

/// Complete push/pull: the sender's knowledge of all members, and its state of the Serf layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushPull {
    /// Whether the sender is joining or reconnecting; `false` for a periodic exchange.
    pub join: bool,
    /// States of the members that the sender knows, itself included.
    pub nodes: Vec<NodeState>,
    /// Encoded state of the Serf layer; empty from plain memberlist.
    pub user_state: Vec<u8>,
    /// Numbers of members that were skipped in decoding.
    pub skipped: Skipped,
}

impl PushPull {
    /// Encodes the push/pull with its type byte, before framing.
    pub fn encode(&self) -> Vec<u8> {
        use super::field::Field;
        let mut out = vec![kind::PUSH_PULL];
        let header = PushPullHeader {
            join: self.join,
            nodes: self.nodes.len() as u64,
            user_state_len: self.user_state.len() as u64,
        };
        Field::encode(&header, &mut out);
        self.nodes.iter().for_each(|node| Field::encode(node, &mut out));
        out.extend_from_slice(&self.user_state);
        out
    }
}

/// Message that packets carry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is named for the message it holds")]
pub enum Message {
    Ping(Ping),
    IndirectPing(IndirectPing),
    Ack(Ack),
    Nack(Nack),
    Suspect(Suspect),
    Dead(Dead),
    Alive(Alive),
    /// Encoded message of the layer above, such as Serf.
    User(Vec<u8>),
}

impl Message {
    /// Decodes one message with its type byte. Framing kinds (compound, compress, …) are not messages, so they
    /// are an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, body) = bytes.split_first().ok_or(DecodeError::Truncated { needed: 1 })?;
        let message = match *kind {
            kind::PING => Self::Ping(Ping::decode(body)?),
            kind::INDIRECT_PING => Self::IndirectPing(IndirectPing::decode(body)?),
            kind::ACK => Self::Ack(Ack::decode(body)?),
            kind::NACK => Self::Nack(Nack::decode(body)?),
            kind::SUSPECT => Self::Suspect(Suspect::decode(body)?),
            kind::DEAD => Self::Dead(Dead::decode(body)?),
            kind::ALIVE => Self::Alive(Alive::decode(body)?),
            kind::USER => Self::User(body.to_vec()),
            other => return Err(DecodeError::UnknownType(other)),
        };
        message.check_limits()?;
        Ok(message)
    }

    fn check_limits(&self) -> Result<(), DecodeError> {
        match self {
            Self::Ping(m) => check_names(&[&m.node, &m.source_node]),
            Self::IndirectPing(m) => check_names(&[&m.node, &m.source_node]),
            // The name of the accuser is passed on, so its length is limited too.
            Self::Suspect(m) => check_names(&[&m.node, &m.from]),
            Self::Dead(m) => check_names(&[&m.node, &m.from]),
            Self::Alive(m) => check_member(&m.node, m.meta.as_ref()),
            Self::Ack(_) | Self::Nack(_) | Self::User(_) => Ok(()),
        }
    }

    /// Encodes the message with its type byte.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Ping(m) => (kind::PING, m.encode()),
            Self::IndirectPing(m) => (kind::INDIRECT_PING, m.encode()),
            Self::Ack(m) => (kind::ACK, m.encode()),
            Self::Nack(m) => (kind::NACK, m.encode()),
            Self::Suspect(m) => (kind::SUSPECT, m.encode()),
            Self::Dead(m) => (kind::DEAD, m.encode()),
            Self::Alive(m) => (kind::ALIVE, m.encode()),
            Self::User(bytes) => (kind::USER, bytes.clone()),
        };
        let mut out = Vec::with_capacity(body.len() + 1);
        out.push(kind);
        out.extend_from_slice(&body);
        out
    }
}

impl NodeState {
    /// Decodes one node state and checks its limits. The inner error means that this node state is skipped; the
    /// outer error means that nothing after it can be decoded.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Result<Self, DecodeError>, DecodeError> {
        let mut ahead = reader.clone();
        let read = <Self as super::field::Field>::decode(&mut ahead);
        match read.and_then(|node| check_member(&node.name, node.meta.as_ref()).map(|()| node)) {
            Err(error @ DecodeError::Truncated { .. }) => Err(error),
            Err(error) => {
                reader.skip()?;
                Ok(Err(error))
            }
            Ok(node) => {
                *reader = ahead;
                Ok(Ok(node))
            }
        }
    }
}

fn check_names(names: &[&Text]) -> Result<(), DecodeError> {
    match names.iter().any(|name| name.len() > MAX_NAME_LEN) {
        true => Err(DecodeError::TooLarge("a member's name")),
        false => Ok(()),
    }
}

fn check_member(name: &Text, meta: Option<&Vec<u8>>) -> Result<(), DecodeError> {
    check_names(&[name])?;
    if meta.is_some_and(|meta| meta.len() > MAX_META_LEN) {
        return Err(DecodeError::TooLarge("a member's metadata"));
    }
    Ok(())
}

/// Parses an address of 4 or 16 bytes; an IPv4-mapped IPv6 address becomes IPv4.
pub fn parse_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::from(octets).to_canonical()),
        _ => None,
    }
}

/// Parses an address with [`parse_ip`]; `None` if the port is zero, or the address is unspecified or multicast.
pub fn parse_addr(bytes: &[u8], port: u16) -> Option<SocketAddr> {
    parse_ip(bytes)
        .filter(|ip| port != 0 && !ip.is_unspecified() && !ip.is_multicast())
        .map(|ip| SocketAddr::new(ip, port))
}

/// Encodes an address for the wire: 4 bytes for IPv4, 16 for IPv6.
pub fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
