//! Bytes captured from real agents, decoded and encoded again.

use std::collections::BTreeSet;

use super::{
    Framing, Text,
    crypto::{Key, Keyring},
    field::{Field, List},
    memberlist::{self, parse_addr},
    msgpack::Reader,
    packet, serf,
    stream::{self, StreamDecoder, StreamMessage},
};
use rand::{SeedableRng, rngs::StdRng};

/// Captured packet or stream.
pub(crate) struct Fixture {
    pub(super) tcp: bool,
    pub(crate) bytes: Vec<u8>,
}

pub(super) fn parse(text: &str) -> Vec<Fixture> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (kind, bytes) = line.split_once(' ').expect("kind and bytes");
            Fixture { tcp: kind == "tcp", bytes: hex::decode(bytes).expect("hex") }
        })
        .collect()
}

fn plain() -> Vec<Fixture> {
    parse(include_str!("../../tests/fixtures/plain.hex"))
}

fn compressed() -> Vec<Fixture> {
    parse(include_str!("../../tests/fixtures/compressed.hex"))
}

/// Returns all fixtures without encryption, for the mutation tests.
pub(crate) fn fixtures() -> Vec<Fixture> {
    plain().into_iter().chain(compressed()).collect()
}

fn read_stream(framing: &Framing, bytes: &[u8]) -> StreamMessage {
    let mut decoder = StreamDecoder::new(framing.clone());
    decoder.push(bytes).expect("a valid stream").expect("a whole message")
}

fn check_round_trip(framing: &Framing, fixture: &Fixture) -> Vec<memberlist::Message> {
    let mut rng = StdRng::seed_from_u64(0);
    if fixture.tcp {
        let message = read_stream(framing, &fixture.bytes);
        let again = stream::encode(framing, &message, &mut rng).expect("encodes");
        assert_eq!(hex::encode(again), hex::encode(&fixture.bytes), "{message:?}");
        return Vec::new();
    }
    let decoded = packet::decode(framing, &fixture.bytes).expect("a valid packet");
    assert_eq!(decoded.malformed, 0);
    let parts: Vec<_> = decoded.messages.iter().map(memberlist::Message::encode).collect();
    let crc = fixture.bytes.first() == Some(&memberlist::kind::HAS_CRC);
    let again = packet::encode(framing, &parts, crc, &mut rng).expect("encodes");
    assert_eq!(hex::encode(again), hex::encode(&fixture.bytes), "{:?}", decoded.messages);
    for message in &decoded.messages {
        if let memberlist::Message::User(bytes) = message {
            let serf = serf::Message::decode(bytes).expect("a Serf message");
            assert_eq!(hex::encode(serf.encode()), hex::encode(bytes), "{serf:?}");
        }
    }
    decoded.messages
}

/// Both directions are byte-identical: encoding gives what agents write.
#[test]
fn every_fixture_is_read_and_written_identically() {
    let clear = Framing::default();
    let mut kinds = BTreeSet::new();
    let mut serf_kinds = BTreeSet::new();
    for fixture in plain() {
        for message in check_round_trip(&clear, &fixture) {
            kinds.insert(message.encode()[0]);
            if let memberlist::Message::User(bytes) = message {
                serf_kinds.insert(bytes[0]);
            }
        }
    }
    assert_eq!(kinds, BTreeSet::from([0, 1, 2, 3, 4, 5, 8, 11]), "every kind of packet was captured");
    assert_eq!(serf_kinds, BTreeSet::from([0, 1, 3, 4, 5, 9]), "every kind of Serf message was captured");
    let packing = Framing { compress: true, ..Framing::default() };
    for fixture in compressed() {
        check_round_trip(&packing, &fixture);
    }
}

#[test]
fn push_pull_carries_members_and_serf_state() {
    let states: Vec<_> = plain()
        .into_iter()
        .filter(|fixture| fixture.tcp && fixture.bytes[0] == memberlist::kind::PUSH_PULL)
        .map(|fixture| read_stream(&Framing::default(), &fixture.bytes))
        .collect();
    let StreamMessage::PushPull(last) = states.last().expect("captured") else { panic!("filtered") };
    let names: Vec<_> = last.nodes.iter().map(|n| (n.name.as_str(), n.state)).collect();
    assert_eq!(names, [("alpha", 0), ("beta", memberlist::state::LEFT), ("fake", 0)]);
    let alpha = &last.nodes[0];
    assert_eq!(parse_addr(&alpha.addr, alpha.port), Some(([127, 77, 0, 1], 7946).into()));
    assert_eq!(alpha.vsn.as_deref(), Some(&memberlist::VSN[..]));
    let tags = serf::decode_tags(alpha.meta.as_deref().expect("has tags"));
    assert_eq!(tags.get(b"zone".as_slice()).map(Text::as_str), Some("a-longer-value-than-thirty-one-bytes"));
    let state: serf::PushPull =
        serf::decode_tagged(serf::kind::PUSH_PULL, &last.user_state).expect("a Serf state");
    assert_eq!(state.left_members, List::from(vec!["beta".into()]));
    assert_eq!(state.events.as_slice().len(), 512);
    let slots: Vec<_> = state.events.as_slice().iter().flatten().collect();
    let events: Vec<_> = slots.iter().flat_map(|s| s.events.as_slice()).map(|e| e.name.as_str()).collect();
    assert_eq!(events, ["deploy", "deploy2"]);
    assert!(state.status_ltimes.contains_key(b"fake".as_slice()));
    // Go maps have no order, so the decoded forms are compared.
    let again = serf::encode_tagged(serf::kind::PUSH_PULL, &state);
    assert_eq!(serf::decode_tagged(serf::kind::PUSH_PULL, &again), Ok(state));
}

#[test]
fn queries_carry_filters_and_answers() {
    let messages: Vec<_> = plain()
        .iter()
        .filter(|fixture| !fixture.tcp)
        .flat_map(|fixture| packet::decode(&Framing::default(), &fixture.bytes).expect("valid").messages)
        .filter_map(|message| match message {
            memberlist::Message::User(bytes) => serf::Message::decode(&bytes).ok(),
            _ => None,
        })
        .collect();
    let filters: Vec<_> = messages
        .iter()
        .filter_map(|m| match m {
            serf::Message::Query(query) if query.name == "uptime" => Some(query),
            _ => None,
        })
        .flat_map(|query| query.filters.as_slice())
        .map(|filter| {
            let parsed = serf::Filter::decode(filter).expect("a filter");
            assert_eq!(&parsed.encode(), filter);
            parsed
        })
        .collect();
    let tag = serf::TagFilter { expr: ".*".into(), tag: "role".into() };
    assert_eq!(filters, [serf::Filter::Nodes(vec!["fake".into(), "beta".into()]), serf::Filter::Tag(tag)]);

    let mut answers = 0;
    for message in &messages {
        let serf::Message::QueryResponse(response) = message else { continue };
        let Some(payload) = &response.payload else { continue };
        answers += 1;
        if let Ok(conflict) =
            serf::decode_tagged::<serf::ConflictResponse>(serf::kind::CONFLICT_RESPONSE, payload)
        {
            assert_eq!((conflict.name.as_str(), conflict.port, conflict.status), ("beta", 7946, 1));
            assert_eq!(parse_addr(&conflict.addr, 7946), Some(([127, 77, 0, 2], 7946).into()));
        } else {
            let keys: serf::KeyResponse =
                serf::decode_tagged(serf::kind::KEY_RESPONSE, payload).expect("the other kind");
            assert!(!keys.result && !keys.message.is_empty());
            assert_eq!(serf::encode_tagged(serf::kind::KEY_RESPONSE, &keys), *payload);
        }
    }
    assert!(answers >= 2);
}

#[test]
fn encrypted_stream_of_an_agent() {
    let key = Key::new(b"0123456789abcdef0123456789abcdef").expect("a key");
    let framing = Framing { keyring: Some(Keyring::new(key)), ..Framing::default() };
    for fixture in parse(include_str!("../../tests/fixtures/encrypted.hex")) {
        let StreamMessage::PushPull(state) = read_stream(&framing, &fixture.bytes) else { panic!("a join") };
        assert!(state.join);
        assert_eq!(state.nodes[0].name, "alpha");
        assert!(StreamDecoder::new(Framing::default()).push(&fixture.bytes).is_err());
    }
}

/// Encodings of newer agents: bin, str8, signed integers, arrays for bytes, any order, unknown fields.
#[test]
fn tolerant_of_other_spellings() {
    let mut bytes = vec![0x88];
    let mut put = |name: &[u8], value: &[u8]| {
        bytes.push(0xd9);
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
    };
    put(b"Vsn", &[0x96, 1, 5, 2, 2, 5, 5]);
    put(b"Unknown", &[0x92, 0x81, 0xa1, b'x', 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xd4, 1, 2]);
    put(b"Port", &[0xd1, 0x1f, 0x0a]);
    put(b"Node", &[0xd9, 1, b'n']);
    put(b"Meta", &[0xc0]);
    put(b"Incarnation", &[0xd3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let mapped = [&[0xc4, 16][..], &[0; 10], &[0xff, 0xff, 127, 0, 0, 9]].concat();
    put(b"Addr", &mapped);
    put(b"Extra", &[0xc3]);
    let alive = memberlist::Alive::decode(&bytes).expect("understood");
    assert_eq!((alive.port, alive.node.as_str(), alive.incarnation), (7946, "n", u32::MAX));
    assert_eq!((alive.vsn, alive.meta), (Some(memberlist::VSN.to_vec()), None));
    assert_eq!(parse_addr(&alive.addr, alive.port), Some(([127, 0, 0, 9], 7946).into()));
    let negative = [0x81, 0xa4, b'P', b'o', b'r', b't', 0xff];
    assert!(memberlist::Alive::decode(&negative).is_err(), "a port is not negative");
    let deep = [vec![0x81, 0xa1, b'x'], vec![0x91; 40]].concat();
    assert!(memberlist::Alive::decode(&deep).is_err(), "nesting is bounded");
    assert!(List::<Text>::decode(&mut Reader::new(&[0xdd, 0xff, 0xff, 0xff, 0xff])).is_err());
}

#[test]
fn fields_are_declared_in_the_order_of_their_names() {
    use memberlist as m;
    for fields in [
        m::Ping::FIELDS,
        m::IndirectPing::FIELDS,
        m::Ack::FIELDS,
        m::Suspect::FIELDS,
        m::Alive::FIELDS,
        m::PushPullHeader::FIELDS,
        m::NodeState::FIELDS,
        serf::Leave::FIELDS,
        serf::Join::FIELDS,
        serf::PushPull::FIELDS,
        serf::EventSlot::FIELDS,
        serf::UserEvent::FIELDS,
        serf::Query::FIELDS,
        serf::QueryResponse::FIELDS,
        serf::ConflictResponse::FIELDS,
        serf::KeyResponse::FIELDS,
        serf::RelayAddr::FIELDS,
        serf::RelayHeader::FIELDS,
        serf::TagFilter::FIELDS,
        serf::Coordinate::FIELDS,
    ] {
        assert!(fields.is_sorted(), "{fields:?}");
    }
}
