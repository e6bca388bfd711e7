//! Interface to foca: identities, the codec that writes memberlist's format, and the runtime that collects
//! output.
//!
//! foca's packets are sequences of length-prefixed memberlist messages. The two length bytes of each message
//! are those of a compound packet, so that foca's packet budget is accurate.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, BufMut};
use foca::{Header, Notification, OwnedNotification, ProbeNumber, State};
use rand::rngs::StdRng;

use crate::wire::{
    Text,
    memberlist::{Alive, Dead, IndirectPing, Message, Ping, Suspect, ip_bytes},
};

pub(super) type Foca = foca::Foca<Id, Codec, StdRng, foca::NoCustomBroadcast>;

/// Slot number that stands for this member itself, which is not in the table.
pub(super) const SELF_SLOT: u32 = u32::MAX;

/// Properties of a member as announced on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) name: Text,
    pub(super) addr: SocketAddr,
    pub(super) meta: Vec<u8>,
    pub(super) vsn: [u8; 6],
    /// Incarnation on the wire that foca's 16-bit count starts from.
    pub(super) base: u32,
}

/// Identity of a member for foca: its slot in the table, and a generation that increases whenever foca must
/// forget its state of the member. It is never sent to other members.
#[derive(Clone)]
pub(super) struct Id {
    pub(super) slot: u32,
    pub(super) generation: u64,
    pub(super) info: Arc<Info>,
    /// Name of the member that suspects the identified one or declared it dead; `None` if this member did, or
    /// nobody.
    pub(super) from: Option<Text>,
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        (self.slot, self.generation) == (other.slot, other.generation)
    }
}

impl Eq for Id {}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.info.name, self.generation)
    }
}

impl foca::Identity for Id {
    type Addr = u32;

    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> u32 {
        self.slot
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// Error: the packet has no room left for a message, or the bytes do not come from this codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not fit the packet")]
pub(super) struct GlueError;

/// Codec that encodes foca's messages as memberlist messages; [`split_data`] takes the result apart.
pub(super) struct Codec {
    name: Text,
    addr: SocketAddr,
    /// Sequence number of the latest ping that foca sent.
    seq_no: u32,
    nobody: Arc<Info>,
}

impl Codec {
    pub(super) fn new(me: &Arc<Info>, seq_no: u32) -> Self {
        Self { name: me.name.clone(), addr: me.addr, seq_no, nobody: me.clone() }
    }

    fn put(buf: &mut impl BufMut, message: Option<&Message>) -> Result<(), GlueError> {
        let bytes = message.map(Message::encode).unwrap_or_default();
        let len = u16::try_from(bytes.len()).map_err(|_| GlueError)?;
        if buf.remaining_mut() < bytes.len() + 2 {
            return Err(GlueError);
        }
        buf.put_u16(len);
        buf.put_slice(&bytes);
        Ok(())
    }
}

impl foca::Codec<Id> for Codec {
    type Error = GlueError;

    fn encode_header(&mut self, header: &Header<Id>, mut buf: impl BufMut) -> Result<(), GlueError> {
        let source_addr = Some(ip_bytes(self.addr.ip()));
        let (source_node, source_port) = (self.name.clone(), self.addr.port());
        let message = match &header.message {
            foca::Message::Ping(_) => {
                self.seq_no = self.seq_no.wrapping_add(1);
                let node = header.dst.info.name.clone();
                Some(Message::Ping(Ping { node, seq_no: self.seq_no, source_addr, source_node, source_port }))
            }
            foca::Message::PingReq { target, .. } => Some(Message::IndirectPing(IndirectPing {
                nack: true,
                node: target.info.name.clone(),
                port: target.info.addr.port(),
                seq_no: self.seq_no,
                source_addr,
                source_node,
                source_port,
                target: ip_bytes(target.info.addr.ip()),
            })),
            // Everything else is in the messages of the same packet, or happens over TCP.
            _ => None,
        };
        Self::put(&mut buf, message.as_ref())
    }

    /// Decodes the header that [`ack_data`] encodes, which is how acks are passed to foca.
    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, GlueError> {
        if buf.remaining() < ACK_DATA_LEN {
            return Err(GlueError);
        }
        let id = |slot, generation| Id { slot, generation, info: self.nobody.clone(), from: None };
        Ok(Header {
            src: id(buf.get_u32(), buf.get_u64()),
            src_incarnation: buf.get_u16(),
            dst: id(SELF_SLOT, 0),
            message: foca::Message::Ack(buf.get_u8()),
        })
    }

    fn encode_member(&mut self, member: &foca::Member<Id>, mut buf: impl BufMut) -> Result<(), GlueError> {
        let info = &member.id().info;
        let incarnation = info.base.saturating_add(u32::from(member.incarnation()));
        let node = info.name.clone();
        let from = member.id().from.as_ref().unwrap_or(&self.name).clone();
        let message = match member.state() {
            State::Alive => Message::Alive(alive_message(info, incarnation)),
            State::Suspect => Message::Suspect(Suspect { from, incarnation, node }),
            State::Down => Message::Dead(Dead { from, incarnation, node }),
        };
        Self::put(&mut buf, Some(&message))
    }

    fn decode_member(&mut self, _buf: impl Buf) -> Result<foca::Member<Id>, GlueError> {
        Err(GlueError)
    }
}

pub(super) fn alive_message(info: &Info, incarnation: u32) -> Alive {
    Alive {
        addr: ip_bytes(info.addr.ip()),
        incarnation,
        meta: Some(info.meta.clone()),
        node: info.name.clone(),
        port: info.addr.port(),
        vsn: Some(info.vsn.to_vec()),
    }
}

const ACK_DATA_LEN: usize = 4 + 8 + 2 + 1;

/// Encodes an ack for foca.
pub(super) fn ack_data(id: &Id, incarnation: u16, probe: ProbeNumber) -> Vec<u8> {
    let mut data = Vec::with_capacity(ACK_DATA_LEN);
    data.put_u32(id.slot);
    data.put_u64(id.generation);
    data.put_u16(incarnation);
    data.put_u8(probe);
    data
}

/// Splits a packet of foca into messages, each with its type byte.
pub(super) fn split_data(header: &foca::Message<Id>, mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut first = true;
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len));
        let Some((message, rest)) = rest.split_at_checked(len) else { break };
        if len > 0 {
            messages.push(message.to_vec());
        }
        data = rest;
        if std::mem::take(&mut first) && has_count(header) {
            // foca's count of updates is not needed, because every update has its own length.
            data = data.get(2..).unwrap_or_default();
        }
    }
    messages
}

fn has_count(header: &foca::Message<Id>) -> bool {
    !matches!(header, foca::Message::Announce | foca::Message::TurnUndead | foca::Message::Broadcast)
}

/// Everything that one foca call has produced: packets, timers and failed probes.
#[derive(Default)]
pub(super) struct Outbox {
    pending: Option<(Id, Vec<u8>)>,
    pub(super) sent: Vec<(Id, Vec<u8>, foca::Message<Id>)>,
    pub(super) timers: Vec<(Duration, foca::Timer<Id>)>,
    pub(super) failed_probes: Vec<(ProbeNumber, Id)>,
}

impl foca::Runtime<Id> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        match notification.to_owned() {
            OwnedNotification::DataSent(header) => {
                if let Some((to, data)) = self.pending.take() {
                    self.sent.push((to, data, header.message));
                }
            }
            OwnedNotification::ProbeFailed(number, id) => self.failed_probes.push((number, id)),
            // Membership changes are reported by this crate, which knows more than foca.
            _ => {}
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.pending = Some((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: foca::Timer<Id>, after: Duration) {
        match event {
            // Suspicions end by this crate's decision, because foca knows neither confirmations nor suspicions
            // raised by other members.
            foca::Timer::ChangeSuspectToDown { .. } => {}
            event => self.timers.push((after, event)),
        }
    }
}
