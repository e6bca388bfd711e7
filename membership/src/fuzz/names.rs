//! Arbitrary bytes in every text of every message: what is encoded decodes to the same value; a core accepts it
//! and keeps working, passes the same bytes on, and shows nothing that moves a cursor.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use rand::{SeedableRng, rngs::StdRng};

use super::{FUZZ_MEMBERS, again::Again, texts::*};
use crate::core::{Config, Core, Event, Snapshot, Transmit};
use crate::rpc::{self, EventFilter, Limits, Session, Step};
use crate::wire::{
    Framing, Text,
    field::Field,
    memberlist::{self, NodeState, PushPullHeader, VSN, kind, state},
    msgpack::{self, DecodeError},
    packet,
    serf::{self, Tags},
    stream::{StreamDecoder, StreamMessage},
};

/// Fuzzes texts with arbitrary bytes, in messages that are encoded and decoded, and in those that a member
/// receives.
pub fn fuzz_names(data: &[u8]) {
    let mut input = Input::new(data);
    for message in packets(&mut input) {
        match memberlist::Message::decode(&message.encode()) {
            Ok(read) => assert_eq!(read, message),
            Err(error) => assert!(matches!(error, DecodeError::TooLarge(_)), "{error}"),
        }
    }
    for message in serf_messages(&mut input) {
        assert_eq!(serf::Message::decode(&message.encode()), Ok(message));
    }
    payloads(&mut input, Again);
    replies(&mut input, Again);
    requests(&mut input).into_iter().for_each(request_again);
    World::new(&mut input).live(&mut input);
}

fn request_again(request: rpc::Request) {
    let mut session = Session::new(&Limits::default(), None);
    let greeting = rpc::Request::Handshake(rpc::message::Handshake { version: rpc::VERSION });
    session.push(&greeting.encode(0));
    assert!(matches!(session.poll(), Ok(Some(Step::Reply(_)))));
    session.push(&request.encode(7));
    assert_eq!(session.poll(), Ok(Some(Step::Request { seq: 7, request })));
}

/// Checks that the shown form of a text is safe to display and parses back to the text.
fn check_shown(text: &Text) {
    let shown = text.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert_eq!(Text::from_shown(&shown), *text);
}

fn addr(index: u8) -> SocketAddr {
    SocketAddr::from(([127, 77, 1, index], 7946))
}

/// Byte that is a valid value for no field, and after which the next value can still be found.
const SPOILED: u8 = 0x80;

/// Member under test, with its name, its clock, and what it has reported and sent.
struct World {
    core: Core,
    own: Text,
    now: Duration,
    events: Vec<Event>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let own = Some(input.text()).filter(is_name).unwrap_or_else(|| "own".into());
        let config = |tags| Config {
            tags,
            framing: Framing::default(),
            max_members: FUZZ_MEMBERS,
            ..Config::new(own.clone(), addr(0))
        };
        let core = Core::new(config(input.tags()), Duration::ZERO, [0; 32]);
        let core = core.or_else(|_| Core::new(config(Tags::new()), Duration::ZERO, [0; 32]));
        let core = core.expect("the name fits, and no tags do");
        Self { core, own, now: Duration::ZERO, events: Vec::new(), sent: Vec::new() }
    }

    fn live(mut self, input: &mut Input<'_>) {
        let nodes: Vec<NodeState> = (1..=4).map(|index| node(index, input)).collect();
        let event = serf::BufferedEvent { name: input.text(), payload: Some(input.bytes()) };
        let spoiled = input.byte();
        let left = input.text();
        self.exchange(&push_pull(&nodes, &event, &left, spoiled));
        self.check_event(3, &event);

        let mut known: BTreeMap<Text, &NodeState> = BTreeMap::new();
        for node in nodes.iter().filter(|node| is_name(&node.name) && node.name != self.own) {
            known.entry(node.name.clone()).or_insert(node);
        }
        let told = self.exchange(&memberlist::PushPull::default().encode());
        for (name, node) in &known {
            let member = self.core.member(name).expect("one bad part spoils no other");
            assert_eq!(member.tags, serf::decode_tags(node.meta.as_deref().unwrap_or_default()));
            Again.check(&rpc::message::Member::from(&member));
            let again = told.nodes.iter().find(|told| told.name == *name).expect("it is told on");
            assert_eq!((&again.meta, &again.addr), (&node.meta, &node.addr));
        }
        let (serf_state, _) = serf::PushPull::decode_state(&told.user_state).expect("own bytes");
        assert!(known.keys().all(|name| serf_state.status_ltimes.contains_key(name)));
        let slots = serf_state.events.as_slice().iter().flatten();
        assert!(slots.flat_map(|slot| slot.events.as_slice()).any(|known| *known == event));

        self.check_packets(input);
        self.check_shown();
        for (name, _) in known {
            let forced = self.core.force_leave(self.now, Text::from_shown(&name.to_string()), false);
            assert!(forced.is_ok(), "{name} is known");
        }
    }

    /// Sends datagrams with messages of all kinds, and checks the member's reaction.
    fn check_packets(&mut self, input: &mut Input<'_>) {
        let event =
            serf::UserEvent { coalesce: false, ltime: 90, name: input.text(), payload: Some(input.bytes()) };
        let asked = serf::Filter::Nodes(vec![input.text(), self.own.clone()]).encode();
        let query = serf::Query {
            addr: vec![127, 77, 1, 9],
            filters: vec![asked].into(),
            ltime: 90,
            name: input.text(),
            port: 7946,
            source_node: input.text(),
            timeout_ns: 1_000_000_000,
            ..serf::Query::default()
        };
        let mut messages: Vec<_> = packets(input).iter().map(memberlist::Message::encode).collect();
        let event_bytes = serf::Message::UserEvent(event.clone()).encode();
        let user = |bytes: Vec<u8>| memberlist::Message::User(bytes).encode();
        messages.push(vec![SPOILED; 3]);
        messages.push(user(event_bytes.clone()));
        messages.push(user(serf::Message::Query(query.clone()).encode()));
        messages.extend(serf_messages(input).iter().map(|message| user(message.encode())));
        self.datagram(&messages);
        self.check_event(90, &serf::BufferedEvent { name: event.name.clone(), payload: event.payload });
        let is_asked = |event: &Event| matches!(event, Event::Query(asked) if asked.name == query.name);
        assert!(query.name.starts_with(b"_serf_") || self.events.iter().any(is_asked));

        let ping = memberlist::Ping { node: self.own.clone(), seq_no: 77, ..memberlist::Ping::default() };
        self.datagram(&[memberlist::Message::Ping(ping).encode()]);
        let acks = self.messages_to(Some(addr(9)));
        let is_ack = |message: &memberlist::Message| matches!(message, memberlist::Message::Ack(ack) if ack.seq_no == 77);
        assert!(acks.iter().any(is_ack), "a ping is answered");

        let has_others = self.core.alive_count() > 1;
        self.wait(Duration::from_secs(2));
        let sent = self.messages_to(None);
        let is_event =
            |message: &memberlist::Message| *message == memberlist::Message::User(event_bytes.clone());
        assert!(!has_others || sent.iter().any(is_event), "an event goes on as it came");
    }

    fn check_event(&self, ltime: u64, wanted: &serf::BufferedEvent) {
        let bytes = wanted.payload.clone().unwrap_or_default();
        let is_it = |event: &&Event| match event {
            Event::UserEvent { ltime: at, name, payload, .. } => {
                (*at, name, payload) == (ltime, &wanted.name, &bytes)
            }
            _ => false,
        };
        let told = self.events.iter().find(is_it).expect("the event is told with its bytes");
        // A comma ends a name in a filter.
        let filter = EventFilter::parse([b"user:", wanted.name.as_bytes()].concat());
        assert!(wanted.name.contains(&b',') || filter.is_ok_and(|filter| filter.matches(told)));
    }

    /// Checks what the member under test shows of other members, and what it stores in its snapshot.
    fn check_shown(&self) {
        let members: Vec<_> = self.core.members().chain([self.core.local_member()]).collect();
        for member in &members {
            check_shown(&member.name);
            member.tags.iter().for_each(|(name, value)| [name, value].into_iter().for_each(check_shown));
        }
        let shown = format!("{members:?}{:?}{:?}", self.events, self.core);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        let snapshot = self.core.snapshot();
        let kept = snapshot.alive.iter().filter(|(name, _)| !name.contains(&b'\n')).cloned().collect();
        assert_eq!(Snapshot::parse(&snapshot.encode()), Snapshot { alive: kept, ..snapshot });
    }

    /// Sends bytes to the member as a push/pull over TCP. Returns the state in its reply.
    fn exchange(&mut self, bytes: &[u8]) -> memberlist::PushPull {
        let stream = self.core.accept(self.now, addr(9)).expect("there is room");
        for part in bytes.chunks(50) {
            self.core.handle_stream(self.now, stream, part);
        }
        let mut answer = None;
        for transmit in self.settle() {
            if let Transmit::Reply { payload, .. } = transmit {
                answer = StreamDecoder::for_reply(Framing::default()).push(&payload).expect("own bytes");
            }
        }
        match answer {
            Some(StreamMessage::PushPull(told)) => told,
            other => panic!("one bad part ends no comparison, but it was answered with {other:?}"),
        }
    }

    fn datagram(&mut self, messages: &[Vec<u8>]) {
        let mut rng = StdRng::seed_from_u64(0);
        let packet =
            packet::encode(&Framing::default(), messages, false, &mut rng).expect("it is short enough");
        self.core.handle_udp(self.now, addr(9), &packet);
        self.settle();
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.core.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.core.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    /// Takes the member's transmissions and events. Returns the transmissions.
    fn settle(&mut self) -> Vec<Transmit> {
        let mut others = Vec::new();
        while let Some(transmit) = self.core.poll_transmit() {
            match transmit {
                Transmit::Udp { to, payload } => self.sent.push((to, payload)),
                other => others.push(other),
            }
        }
        self.events.extend(std::iter::from_fn(|| self.core.poll_event()));
        self.core.assert_consistent();
        others
    }

    /// Returns the messages that the member sent to `wanted`, or to any address with `None`, since the last
    /// call.
    fn messages_to(&mut self, wanted: Option<SocketAddr>) -> Vec<memberlist::Message> {
        let mut messages = Vec::new();
        for (to, payload) in std::mem::take(&mut self.sent) {
            let decoded = packet::decode(&Framing::default(), &payload).expect("own bytes");
            if wanted.is_none_or(|wanted| wanted == to) {
                messages.extend(decoded.messages);
            }
        }
        messages
    }
}

fn is_name(text: &Text) -> bool {
    (1..=memberlist::MAX_NAME_LEN).contains(&text.len())
}

fn node(index: u8, input: &mut Input<'_>) -> NodeState {
    let meta = serf::encode_tags(&input.tags());
    // Metadata that is not a tag list is a role.
    let meta = if meta.len() > memberlist::MAX_META_LEN { b"\x00role\xff".to_vec() } else { meta };
    NodeState {
        addr: vec![127, 77, 1, index],
        incarnation: 1,
        meta: Some(meta),
        name: input.text(),
        port: 7946,
        state: state::ALIVE,
        vsn: Some(VSN.to_vec()),
    }
}

/// Builds a state with these members, this event and this departed member, and an unusable element in each
/// list.
fn push_pull(nodes: &[NodeState], event: &serf::BufferedEvent, left: &Text, spoiled: u8) -> Vec<u8> {
    let user_state = serf_state(event, left, nodes);
    let bad = bad_nodes(spoiled);
    let mut out = vec![kind::PUSH_PULL];
    let count = (nodes.len() + bad.len()) as u64;
    let header = PushPullHeader { join: true, nodes: count, user_state_len: user_state.len() as u64 };
    Field::encode(&header, &mut out);
    let mut bad = bad.into_iter();
    for node in nodes {
        out.extend(bad.next().unwrap_or_default());
        Field::encode(node, &mut out);
    }
    out.extend(bad.flatten());
    out.extend(user_state);
    out
}

fn bad_nodes(choice: u8) -> Vec<Vec<u8>> {
    let good =
        NodeState { name: "bad".into(), port: 7946, addr: vec![127, 77, 1, 8], ..NodeState::default() };
    let field = NodeState::FIELDS[usize::from(choice) % NodeState::FIELDS.len()];
    let mut mistyped = Vec::new();
    msgpack::write_map(&mut mistyped, 1);
    msgpack::write_raw(&mut mistyped, field.as_bytes());
    mistyped.push(SPOILED);
    vec![
        mistyped,
        NodeState { name: vec![b'x'; memberlist::MAX_NAME_LEN + 1].into(), ..good.clone() }.encode(),
        NodeState { meta: Some(vec![0xff; memberlist::MAX_META_LEN + 1]), ..good.clone() }.encode(),
        NodeState { addr: vec![1, 2, 3], ..good.clone() }.encode(),
        NodeState { state: 9, ..good.clone() }.encode(),
        NodeState { name: Text::default(), ..good }.encode(),
    ]
}

/// Builds the Serf layer's state. Three fields have an unusable value, the others an unusable element.
fn serf_state(event: &serf::BufferedEvent, left: &Text, nodes: &[NodeState]) -> Vec<u8> {
    let mut out = vec![serf::kind::PUSH_PULL];
    msgpack::write_map(&mut out, 6);
    for field in ["LTime", "EventLTime", "QueryLTime"] {
        msgpack::write_raw(&mut out, field.as_bytes());
        out.push(SPOILED);
    }
    msgpack::write_raw(&mut out, b"StatusLTimes");
    msgpack::write_map(&mut out, 2 + nodes.len());
    out.extend([SPOILED, 1, 0xa1, b'n', SPOILED]);
    for node in nodes {
        node.name.encode(&mut out);
        out.push(2);
    }
    msgpack::write_raw(&mut out, b"LeftMembers");
    msgpack::write_array(&mut out, 2);
    out.push(SPOILED);
    left.encode(&mut out);
    msgpack::write_raw(&mut out, b"Events");
    msgpack::write_array(&mut out, 3);
    out.extend([7, 0xc0]);
    msgpack::write_map(&mut out, 2);
    msgpack::write_raw(&mut out, b"LTime");
    out.push(3);
    msgpack::write_raw(&mut out, b"Events");
    msgpack::write_array(&mut out, 2);
    out.push(7);
    Field::encode(event, &mut out);
    out
}
