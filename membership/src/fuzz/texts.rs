//! Messages of all kinds, with texts of arbitrary bytes.

use std::collections::BTreeMap;

use super::again::Again;
use crate::rpc::{Request, message as m};
use crate::wire::{
    Text,
    field::List,
    memberlist::{Ack, Alive, Dead, ErrMessage, IndirectPing, Message, Nack, Ping, Suspect, VSN},
    serf::{self, Tags},
};

/// Input bytes of the fuzzer, consumed in order. When they run out, all texts are empty.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// Returns up to 31 bytes, or twelve times as many if the length has its highest bit set, for names that
    /// are too long.
    pub(super) fn bytes(&mut self) -> Vec<u8> {
        let len = self.byte();
        let times = if len & 0x80 == 0 { 1 } else { 12 };
        self.take(usize::from(len & 0x1f)).repeat(times)
    }

    pub(super) fn text(&mut self) -> Text {
        self.bytes().into()
    }

    fn texts(&mut self) -> List<Text> {
        vec![self.text(), self.text()].into()
    }

    pub(super) fn tags(&mut self) -> Tags {
        [(self.text(), self.text()), (self.text(), self.text())].into()
    }

    fn maybe(&mut self) -> Option<Vec<u8>> {
        Some(self.bytes()).filter(|bytes| !bytes.is_empty())
    }

    fn bin(&mut self) -> m::Bin {
        self.bytes().into()
    }
}

/// Builds one message of each kind of memberlist, with texts from the input.
pub(super) fn packets(input: &mut Input<'_>) -> Vec<Message> {
    vec![
        Message::Ping(Ping {
            node: input.text(),
            seq_no: 1,
            source_addr: input.maybe(),
            source_node: input.text(),
            source_port: 7946,
        }),
        Message::IndirectPing(IndirectPing {
            nack: true,
            node: input.text(),
            port: 7946,
            seq_no: 2,
            source_addr: input.maybe(),
            source_node: input.text(),
            source_port: 7946,
            target: vec![127, 77, 1, 1],
        }),
        Message::Ack(Ack { payload: Some(input.bytes()), seq_no: 3 }),
        Message::Nack(Nack { seq_no: 3 }),
        Message::Suspect(Suspect { from: input.text(), incarnation: 1, node: input.text() }),
        Message::Dead(Dead { from: input.text(), incarnation: 1, node: input.text() }),
        Message::Alive(Alive {
            addr: vec![127, 77, 1, 7],
            incarnation: 1,
            meta: Some(input.bytes()),
            node: input.text(),
            port: 7946,
            vsn: Some(VSN.to_vec()),
        }),
        Message::User(input.bytes()),
    ]
}

/// Builds one message of each kind of Serf, with texts from the input.
pub(super) fn serf_messages(input: &mut Input<'_>) -> Vec<serf::Message> {
    let (name, expr, tag) = (input.text(), input.text(), input.text());
    let filters = vec![
        serf::Filter::Tag(serf::TagFilter { expr, tag }).encode(),
        serf::Filter::Nodes(vec![name.clone()]).encode(),
        input.bytes(),
    ];
    let addr = serf::RelayAddr { ip: vec![127, 77, 1, 1], port: 7946, zone: input.text() };
    vec![
        serf::Message::Leave(serf::Leave { ltime: 5, node: name, prune: false }),
        serf::Message::Join(serf::Join { ltime: 5, node: input.text() }),
        serf::Message::UserEvent(serf::UserEvent {
            coalesce: true,
            ltime: 5,
            name: input.text(),
            payload: input.maybe(),
        }),
        serf::Message::Query(serf::Query {
            addr: vec![127, 77, 1, 1],
            filters: filters.into(),
            flags: serf::FLAG_ACK,
            id: 1,
            ltime: 5,
            name: input.text(),
            payload: input.maybe(),
            port: 7946,
            relay_factor: 1,
            source_node: input.text(),
            timeout_ns: 1_000_000_000,
        }),
        serf::Message::QueryResponse(serf::QueryResponse {
            flags: 0,
            from: input.text(),
            id: 1,
            ltime: 5,
            payload: input.maybe(),
        }),
        serf::Message::Relay(serf::RelayHeader { addr, name: input.text() }, input.bytes()),
    ]
}

/// Checks that payloads of messages, and messages that are only sent on streams, survive encoding and decoding.
pub(super) fn payloads(input: &mut Input<'_>, again: Again) {
    again.check(&ErrMessage { error: input.text() });
    again.check(&serf::ConflictResponse {
        name: input.text(),
        tags: input.tags(),
        ..serf::ConflictResponse::default()
    });
    again.check(&serf::KeyRequest { key: Some(input.bytes()) });
    again.check(&serf::KeyResponse {
        keys: input.texts(),
        message: input.text(),
        primary_key: input.text(),
        result: true,
    });
    let event = serf::BufferedEvent { name: input.text(), payload: Some(input.bytes()) };
    let slot = serf::EventSlot { events: vec![event].into(), ltime: 1 };
    let state = serf::PushPull {
        events: vec![None, Some(Box::new(slot))].into(),
        left_members: input.texts(),
        status_ltimes: [(input.text(), 1), (input.text(), 2)].into(),
        ..serf::PushPull::default()
    };
    again.check(&state);
    let bytes = serf::encode_tagged(serf::kind::PUSH_PULL, &state);
    assert_eq!(serf::PushPull::decode_state(&bytes), Ok((state, 0)));
    let tags = input.tags();
    assert_eq!(serf::decode_tags(&serf::encode_tags(&tags)), tags);
}

/// Checks that replies to RPC clients survive encoding and decoding.
pub(super) fn replies(input: &mut Input<'_>, again: Again) {
    again.check(&m::ReplyHeader { error: input.text(), seq: 1 });
    let member = m::Member { name: input.text(), tags: input.tags(), ..m::Member::default() };
    again.check(&m::Members { members: vec![member.clone()].into() });
    again.check(&m::MemberEvent { event: input.text(), members: vec![member].into() });
    again.check(&m::QueryRecord { from: input.text(), kind: input.text(), payload: input.bin() });
    again.check(&m::UserEvent { name: input.text(), payload: input.bin(), ..m::UserEvent::default() });
    again.check(&m::QueryEvent { name: input.text(), payload: input.bin(), ..m::QueryEvent::default() });
    again.check(&m::LogRecord { log: input.text() });
    again.check(&m::Keys {
        keys: BTreeMap::from([(input.text(), 1)]),
        messages: input.tags(),
        ..m::Keys::default()
    });
    again.check(&m::Stats::from([(input.text(), input.tags())]));
}

/// Builds requests of RPC clients with texts from the input.
pub(super) fn requests(input: &mut Input<'_>) -> Vec<Request> {
    vec![
        Request::MembersFiltered(m::MembersFiltered {
            name: input.text(),
            status: input.text(),
            tags: input.tags(),
        }),
        Request::Event(m::SendEvent { coalesce: true, name: input.text(), payload: input.bin() }),
        Request::Query(m::Ask {
            filter_nodes: input.texts(),
            filter_tags: input.tags(),
            name: input.text(),
            payload: input.bin(),
            ..m::Ask::default()
        }),
        Request::Respond(m::Respond { id: 1, payload: input.bin() }),
        Request::Join(m::Join { existing: input.texts(), replay: false }),
        Request::ForceLeave(m::ForceLeave { node: input.text(), prune: false }),
        Request::Tags(m::ChangeTags { delete_tags: input.texts(), tags: input.tags() }),
        Request::Stream(m::Stream { kind: input.text() }),
        Request::Monitor(m::Monitor { log_level: input.text() }),
        Request::InstallKey(m::ChangeKey { key: input.text() }),
        Request::GetCoordinate(m::GetCoordinate { node: input.text() }),
    ]
}
