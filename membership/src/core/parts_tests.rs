//! One bad part does not spoil a message.

use std::net::SocketAddr;

use super::{
    Core, Event, Status,
    sim::{addr, name},
    tests::{NOW, alive, viewer},
};
use crate::wire::{
    Framing, Text,
    field::Field,
    memberlist::{
        MAX_META_LEN, MAX_NAME_LEN, Message, NodeState, PushPullHeader, VSN, ip_bytes, kind, state,
    },
    msgpack, packet, serf,
    stream::{StreamDecoder, StreamMessage},
};

/// A value that is valid for no field.
const MISTYPED: u8 = 0x80;

fn node(index: usize) -> NodeState {
    NodeState {
        addr: ip_bytes(addr(index).ip()),
        incarnation: 1,
        meta: None,
        name: name(index),
        port: 7946,
        state: state::ALIVE,
        vsn: Some(VSN.to_vec()),
    }
}

/// A node state with one field of a wrong type.
fn mistyped(field: &str) -> Vec<u8> {
    let mut out = Vec::new();
    msgpack::write_map(&mut out, 2);
    msgpack::write_raw(&mut out, field.as_bytes());
    out.push(MISTYPED);
    msgpack::write_raw(&mut out, b"More");
    out.push(1);
    out
}

/// A push/pull with these node states and this Serf state.
fn push_pull(nodes: &[Vec<u8>], user_state: &[u8]) -> Vec<u8> {
    let mut out = vec![kind::PUSH_PULL];
    let (nodes_len, user_state_len) = (nodes.len() as u64, user_state.len() as u64);
    Field::encode(&PushPullHeader { join: true, nodes: nodes_len, user_state_len }, &mut out);
    [out, nodes.concat(), user_state.to_vec()].concat()
}

/// Passes a push/pull to a member. Returns whether it answers.
fn exchange(core: &mut Core, bytes: &[u8]) -> bool {
    let from: SocketAddr = addr(99);
    let stream = core.accept(NOW, from).expect("room");
    for part in bytes.chunks(7) {
        core.handle_stream(NOW, stream, part);
    }
    let mut answered = false;
    while let Some(transmit) = core.poll_transmit() {
        if let super::Transmit::Reply { payload, .. } = transmit {
            let read = StreamDecoder::for_reply(Framing::default()).push(&payload);
            answered = matches!(read, Ok(Some(StreamMessage::PushPull(_))));
        }
    }
    answered
}

#[test]
fn a_member_that_cannot_be_used_is_left_out_of_a_push_pull_alone() {
    let malformed = NodeState::FIELDS.iter().map(|field| (*field, mistyped(field)));
    let malformed = malformed.chain([
        ("no address", NodeState { addr: vec![1, 2, 3], ..node(50) }.encode()),
        ("no port", NodeState { port: 0, ..node(50) }.encode()),
        ("no name", NodeState { name: Text::default(), ..node(50) }.encode()),
        ("no such state", NodeState { state: 9, ..node(50) }.encode()),
        ("no map", vec![0x93, 1, MISTYPED, 0xc0]),
    ]);
    let too_large = [
        ("name", NodeState { name: vec![b'x'; MAX_NAME_LEN + 1].into(), ..node(50) }.encode()),
        ("tags", NodeState { meta: Some(vec![0; MAX_META_LEN + 1]), ..node(50) }.encode()),
    ];
    let all = malformed.map(|(what, bytes)| (what, bytes, (1, 0)));
    for (what, bad, counted) in all.chain(too_large.map(|(what, bytes)| (what, bytes, (0, 1)))) {
        let mut core = viewer();
        let bytes = push_pull(&[node(1).encode(), bad, node(2).encode()], &[]);
        assert!(exchange(&mut core, &bytes), "{what}");
        let stats = core.stats();
        assert_eq!((stats.malformed, stats.refused.too_large), counted, "{what}");
        assert_eq!((stats.merges, stats.refused.malformed), (1, 0), "{what}");
        for index in [1, 2] {
            assert_eq!(core.member(name(index)).map(|member| member.status), Some(Status::Alive), "{what}");
        }
        assert_eq!(core.members().count(), 2, "{what}");
    }
}

#[test]
fn what_has_no_structure_ends_a_push_pull() {
    // An unknown marker, and nesting that is too deep.
    for bad in [vec![0xc1], [vec![0x91; msgpack::MAX_DEPTH + 2], vec![1]].concat()] {
        let mut core = viewer();
        assert!(!exchange(&mut core, &push_pull(&[node(1).encode(), bad, node(2).encode()], &[])));
        assert_eq!((core.stats().merges, core.stats().refused.total(), core.members().count()), (0, 1, 0));
    }
}

/// Serf's state with one field replaced.
fn serf_state(field: &str, value: &[u8]) -> Vec<u8> {
    let event = |name: &str| serf::BufferedEvent { name: name.into(), payload: None };
    let good = serf::PushPull {
        events: vec![Some(Box::new(serf::EventSlot { events: vec![event("good")].into(), ltime: 5 }))].into(),
        left_members: vec![name(1)].into(),
        status_ltimes: [(name(1), 3), (name(2), 4)].into(),
        ltime: 9,
        event_ltime: 9,
        query_ltime: 9,
    };
    let mut out = vec![serf::kind::PUSH_PULL];
    msgpack::write_map(&mut out, serf::PushPull::FIELDS.len());
    for own in serf::PushPull::FIELDS {
        msgpack::write_raw(&mut out, own.as_bytes());
        match *own {
            own if own == field => out.extend_from_slice(value),
            "Events" => good.events.encode(&mut out),
            "LeftMembers" => good.left_members.encode(&mut out),
            "StatusLTimes" => good.status_ltimes.encode(&mut out),
            _ => out.push(9),
        }
    }
    out
}

/// Merges a state. Returns whether a member is leaving, the names of events, and the number of skipped parts.
fn made_of(user_state: &[u8]) -> (bool, Vec<String>, u64) {
    let mut core = viewer();
    assert!(exchange(&mut core, &push_pull(&[node(1).encode(), node(2).encode()], user_state)));
    let events = std::iter::from_fn(|| core.poll_event()).filter_map(|event| match event {
        Event::UserEvent { name, .. } => Some(name.to_string()),
        _ => None,
    });
    let events = events.collect();
    let leaving = core.member(name(1)).expect("known").status == Status::Leaving;
    assert_eq!(core.member(name(2)).map(|member| member.status), Some(Status::Alive));
    (leaving, events, core.stats().malformed + core.stats().rejected)
}

#[test]
fn a_time_an_event_or_a_name_that_cannot_be_used_is_left_out_of_serfs_state_alone() {
    let good = || vec!["good".to_owned()];
    assert_eq!(made_of(&serf_state("", &[])), (true, good(), 0));
    let absurd = [&[0xcf][..], &u64::MAX.to_be_bytes()].concat();
    for field in ["LTime", "EventLTime", "QueryLTime"] {
        assert_eq!(made_of(&serf_state(field, &[MISTYPED])), (true, good(), 1), "{field}");
        assert_eq!(made_of(&serf_state(field, &absurd)), (true, good(), 1), "{field}");
    }
    assert_eq!(made_of(&serf_state("Events", &[7])), (true, vec![], 1));
    assert_eq!(made_of(&serf_state("LeftMembers", &[7])), (false, good(), 1));
    assert_eq!(made_of(&serf_state("StatusLTimes", &[7])), (true, good(), 1));

    // In a list, only the bad elements are skipped.
    let slot = |time: &[u8], events: &[&[u8]]| {
        let count = 0x90 | events.len() as u8;
        [&b"\x82\xa5LTime"[..], time, b"\xa6Events", &[count], &events.concat()].concat()
    };
    let event = |name: &[u8]| [&b"\x81\xa4Name"[..], name].concat();
    let (one, bad, two) = (event(b"\xa3one"), event(&[MISTYPED]), event(b"\xa3two"));
    let slots = [
        slot(&[5], &[&one, &bad, &[7], &two]),
        slot(&[MISTYPED], &[&event(b"\xa4none")]),
        vec![0xc0],
        vec![7],
        slot(&[6], &[&event(b"\xa5three")]),
    ];
    let events = [&[0x95][..], &slots.concat()].concat();
    let expected = ["one", "two", "three"].map(str::to_owned).to_vec();
    assert_eq!(made_of(&serf_state("Events", &events)), (true, expected, 4));
    let left = [&[0x93, MISTYPED][..], b"\xa2m1", &[0xcc, 200]].concat();
    assert_eq!(made_of(&serf_state("LeftMembers", &left)), (true, good(), 2));
    let times =
        [&[0x84, MISTYPED, 1][..], b"\xa2m2", &[MISTYPED], b"\xa2m1", &[30], b"\xa2m3", &absurd].concat();
    assert_eq!(made_of(&serf_state("StatusLTimes", &times)), (true, good(), 3));
    let long = [&[0x92][..], &[0xda, 1, 0], &[b'x'; 256], b"\xa2m1"].concat();
    assert_eq!(made_of(&serf_state("LeftMembers", &long)), (true, good(), 1));
}

#[test]
fn a_message_that_cannot_be_used_is_left_out_of_a_packet_alone() {
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(0);
    let user = |bytes: &[u8]| Message::User(bytes.to_vec()).encode();
    let messages = [
        alive(1, 1).encode(),
        [&[kind::ALIVE][..], &mistyped("Node")].concat(),
        user(&[serf::kind::USER_EVENT, 7]),
        user(&[]),
        vec![99],
        alive(2, 1).encode(),
    ];
    let packet = packet::encode(&Framing::default(), &messages, true, &mut rng).expect("fits");
    let mut core = viewer();
    core.handle_udp(NOW, addr(1), &packet);
    assert_eq!((core.members().count(), core.stats().malformed), (2, 4));
}

#[test]
fn a_tag_that_cannot_be_read_is_left_out_alone() {
    let tags = |bytes: &[u8]| serf::decode_tags(&[&[serf::TAG_MAGIC][..], bytes].concat());
    let pair = |name: &str, value: &str| (Text::from(name), Text::from(value));
    assert_eq!(tags(b"\x83\xa1a\x80\xa1b\xa1c\x80\xa1d"), [pair("b", "c")].into());
    assert_eq!(tags(b"\x82\xa1\xff\xa1\xe9\xa1b\xa9cut"), [(b"\xff"[..].into(), b"\xe9"[..].into())].into());
    assert_eq!(tags(b"\x07"), serf::Tags::new());
    assert_eq!(serf::decode_tags(b"caf\xe9"), [("role".into(), b"caf\xe9"[..].into())].into());
}
