//! Hostile input: forged, repeated, too long, too much. All of it is dropped and counted, and uses bounded
//! memory.

use std::time::Duration;

use super::{
    Config, Core, Event, MAX_TRANSMITS, Status, Transmit,
    allowance::MAX_INCARNATION_JUMP,
    intents::{MAX_RECENT_INTENTS, MAX_USER_MESSAGE},
    sim::{addr, name},
    sync::{MAX_BUFFERED, MAX_INBOUND},
    tests::{NOW, alive, dead, feed, run, sent, suspect, viewer},
};
use crate::wire::{
    Framing,
    compress::compress,
    crypto::{Key, Keyring},
    memberlist::{MAX_NAME_LEN, Message, Ping, PushPull, Suspect, kind},
    msgpack, packet,
    serf::{self, Leave, Query, UserEvent},
    stream::{MAX_DECOMPRESSED, MAX_MESSAGE},
};

fn user(message: &serf::Message) -> Message {
    Message::User(message.encode())
}

fn event(ltime: u64, payload: usize) -> serf::Message {
    let payload = Some(vec![7; payload]);
    serf::Message::UserEvent(UserEvent { coalesce: false, ltime, name: "deploy".into(), payload })
}

/// Feeds bytes of one TCP exchange.
fn feed_stream(core: &mut Core, bytes: &[u8]) {
    let id = core.accept(NOW, addr(1)).expect("room");
    core.handle_stream(NOW, id, bytes);
    while core.poll_transmit().is_some() {}
}

fn events(core: &mut Core) -> Vec<Event> {
    std::iter::from_fn(|| core.poll_event()).collect()
}

/// Small steps cannot bypass the limit of a single step: neither this member's incarnation nor another's can be
/// raised to the end of the range, after which it could never refute again.
#[test]
fn a_name_cannot_be_banished_step_by_step() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    for _ in 0..5_000 {
        let own = core.local_member().incarnation;
        feed(&mut core, NOW, addr(1), &dead("viewer", own.saturating_add(MAX_INCARNATION_JUMP)));
        let other = core.member(name(1)).expect("known").incarnation;
        feed(&mut core, NOW, addr(1), &alive(1, other.saturating_add(MAX_INCARNATION_JUMP)));
        while core.poll_transmit().is_some() {}
    }
    let limit = 2 * MAX_INCARNATION_JUMP + 10;
    assert!(core.local_member().incarnation <= limit, "{:?}", core.local_member());
    assert!(core.member(name(1)).expect("known").incarnation <= limit);
    assert!(core.stats().rejected > 9_000, "{:?}", core.stats());

    // Honest use continues: this member refutes, and the other one is believed.
    let later = NOW + Duration::from_secs(1);
    let own = core.local_member().incarnation;
    feed(&mut core, later, addr(1), &suspect("viewer", own, "x"));
    assert_eq!(core.local_member().incarnation, own + 1);
    let other = core.member(name(1)).expect("known").incarnation;
    feed(&mut core, later, addr(2), &dead(name(1), other));
    assert_eq!(core.member(name(1)).map(|m| m.status), Some(Status::Failed));
    feed(&mut core, later, addr(1), &alive(1, other + 1));
    assert_eq!(core.member(name(1)).map(|m| m.status), Some(Status::Alive));
}

/// Encryption does not protect against replay: packets recorded an hour ago are still accepted.
#[test]
fn repeated_packets_change_nothing_and_are_counted() {
    let ring = Keyring::new(Key::new(&[4; 32]).expect("a key"));
    let framing = Framing { keyring: Some(ring), ..Framing::default() };
    let config = Config { framing: framing.clone(), ..Config::new("viewer", addr(900)) };
    let mut core = Core::new(config, NOW, [3; 32]).expect("valid");
    let query = serf::Message::Query(Query {
        addr: vec![10, 0, 0, 1],
        id: 5,
        ltime: 9,
        name: "uptime".into(),
        port: 7946,
        timeout_ns: 1_000_000_000,
        ..Query::default()
    });
    let leave = serf::Message::Leave(Leave { ltime: 7, node: name(2), prune: false });
    let history = [
        alive(1, 3),
        alive(2, 3),
        user(&event(8, 100)),
        user(&query),
        user(&leave),
        suspect(name(1), 3, "x"),
        alive(1, 4),
    ];
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    let recorded: Vec<_> = history
        .iter()
        .map(|message| packet::encode(&framing, &[message.encode()], false, &mut rng).expect("encodes"))
        .collect();
    let play = |core: &mut Core| {
        recorded.iter().for_each(|packet| core.handle_udp(NOW, addr(1), packet));
        while core.poll_transmit().is_some() {}
        events(core).len()
    };
    let state = |core: &Core| {
        let mut members: Vec<_> = core.members().collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        (members, core.local_member())
    };
    assert_eq!(play(&mut core), 4, "two members, an event, a query");
    assert_eq!(core.stats().repeated, 0);
    let before = state(&core);
    for round in 1..=20 {
        assert_eq!(play(&mut core), 0, "nothing is reported again");
        assert_eq!(core.stats().repeated, round * history.len() as u64, "round {round}");
    }
    assert_eq!(state(&core), before);
    assert_eq!(core.stats().refused.total() + core.stats().malformed + core.stats().rejected, 0);
}

#[test]
fn what_is_too_long_is_dropped_and_counted() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    events(&mut core);
    // An event over Serf's hard limit, and one that is not even decoded.
    feed(&mut core, NOW, addr(1), &user(&event(5, 9 * 1024 + 1)));
    assert_eq!(core.stats().rejected, 1);
    let long = event(6, MAX_USER_MESSAGE);
    feed(&mut core, NOW, addr(1), &user(&long));
    let over_tcp = crate::wire::stream::StreamMessage::User(long.encode());
    feed_stream(&mut core, &over_tcp.encode());
    assert_eq!(core.stats().refused.too_large, 2);
    // Names, including those of accusers, because they would be passed on.
    let from = "x".repeat(MAX_NAME_LEN + 1).into();
    let forged = Message::Suspect(Suspect { from, incarnation: 1, node: name(1) });
    feed(&mut core, NOW, addr(2), &forged);
    assert_eq!(core.stats().refused.too_large, 3);
    assert_eq!(core.member(name(1)).map(|m| m.suspect), Some(false));
    // A stream message that announces more than the limit.
    let mut claim = vec![kind::USER];
    let header = crate::wire::memberlist::UserHeader { user_msg_len: MAX_MESSAGE as u64 + 1 };
    claim.extend(header.encode());
    feed_stream(&mut core, &claim);
    assert_eq!(core.stats().refused.too_large, 4);
    assert_eq!(events(&mut core), []);
}

#[test]
fn bombs_do_not_go_off() {
    let mut core = viewer();
    // A datagram of some kilobytes that decompresses to more than the largest datagram.
    let zeros = compress(&vec![0; 80_000]).expect("zeros shrink");
    core.handle_udp(NOW, addr(1), &zeros);
    assert_eq!(core.stats().refused.too_large, 1);
    // The same in a compound, beside a valid message.
    let good = alive(1, 1).encode();
    let framing = Framing::default();
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    let mixed = packet::encode(&framing, &[zeros.clone(), good], false, &mut rng).expect("encodes");
    core.handle_udp(NOW, addr(1), &mixed);
    assert_eq!(core.stats().refused.too_large, 2);
    assert_eq!(core.alive_count(), 2);
    // On a stream.
    let bomb = compress(&vec![0; MAX_DECOMPRESSED + 1]).expect("zeros shrink");
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    feed_stream(&mut core, &bomb);
    assert_eq!(core.stats().refused.too_large, 3);
    // A list whose elements take one byte each on the wire and a hundred in memory.
    let mut state = vec![serf::kind::PUSH_PULL];
    msgpack::write_map(&mut state, 1);
    msgpack::write_raw(&mut state, b"LeftMembers");
    msgpack::write_array(&mut state, msgpack::MAX_ELEMENTS + 1);
    state.resize(state.len() + msgpack::MAX_ELEMENTS + 1, 0xa0);
    feed_stream(&mut core, &PushPull { user_state: state, ..PushPull::default() }.encode());
    assert_eq!((core.stats().malformed, core.stats().merges), (1, 1));
}

#[test]
fn floods_fill_what_there_is_room_for_and_no_more() {
    let mut config = Config::new("viewer", addr(900));
    config.max_members = 50;
    let mut core = Core::new(config, NOW, [3; 32]).expect("valid");
    for index in 0..60 {
        feed(&mut core, NOW, addr(1), &alive(index, 1));
    }
    assert_eq!((core.members().count(), core.stats().full), (50, 10));
    sent(&mut core);
    // Suspicions that are refuted at once, again and again.
    let timers = core.timers.len();
    for incarnation in 1..3_000 {
        feed(&mut core, NOW, addr(2), &suspect(name(1), incarnation, "x"));
        feed(&mut core, NOW, addr(2), &suspect(name(1), incarnation, "y"));
        feed(&mut core, NOW, addr(1), &alive(1, incarnation + 1));
    }
    assert!(core.timers.len() <= timers + 10, "{} timers", core.timers.len());
    // Announcements of unknown members.
    for number in 0..3 * MAX_RECENT_INTENTS as u64 {
        let leave = Leave { ltime: 5 + number, node: format!("nobody-{number}").into(), prune: false };
        feed(&mut core, NOW, addr(1), &user(&serf::Message::Leave(leave)));
    }
    assert_eq!(core.intents.len(), MAX_RECENT_INTENTS);
    assert_eq!(core.queue_depths().intents, super::MAX_QUEUED as u64);
    // Pings whose acks nobody sends.
    let dropped = core.stats().dropped;
    for seq_no in 0..2 * MAX_TRANSMITS as u32 {
        feed(
            &mut core,
            NOW,
            addr(1),
            &Message::Ping(Ping { node: "viewer".into(), seq_no, ..Ping::default() }),
        );
    }
    assert_eq!(core.transmits.len(), MAX_TRANSMITS);
    assert!(core.stats().dropped >= dropped + MAX_TRANSMITS as u64);
    // The member continues to work.
    sent(&mut core);
    events(&mut core);
    feed(&mut core, NOW, addr(1), &user(&event(90, 5)));
    assert!(matches!(&events(&mut core)[..], [Event::UserEvent { .. }]));
    run(&mut core, NOW, NOW + Duration::from_secs(3));
    core.assert_consistent();
}

/// Invalid, foreign and damaged messages are counted separately.
#[test]
fn refusals_are_counted_by_their_reason() {
    let framing = Framing {
        label: "blue".into(),
        keyring: Some(Keyring::new(Key::new(&[4; 32]).expect("a key"))),
        compress: false,
    };
    let with = |framing: &Framing| {
        let config = Config { framing: framing.clone(), ..Config::new("viewer", addr(900)) };
        Core::new(config, NOW, [3; 32]).expect("valid")
    };
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    let mut make = |framing: &Framing, crc| {
        packet::encode(framing, &[alive(1, 1).encode()], crc, &mut rng).expect("encodes")
    };
    let mut core = with(&framing);
    let other_label = Framing { label: "green".into(), ..framing.clone() };
    let other_key =
        Framing { keyring: Some(Keyring::new(Key::new(&[5; 32]).expect("a key"))), ..framing.clone() };
    let plain = Framing { keyring: None, ..framing.clone() };
    for foreign in [&other_label, &other_key, &plain] {
        core.handle_udp(NOW, addr(1), &make(foreign, false));
    }
    assert_eq!((core.stats().refused.label, core.stats().refused.key), (1, 2));
    core.handle_udp(NOW, addr(1), &make(&framing, false));
    assert_eq!((core.alive_count(), core.stats().refused.total()), (2, 3));

    let mut core = with(&Framing::default());
    let mut damaged = make(&Framing::default(), true);
    *damaged.last_mut().expect("bytes") ^= 1;
    core.handle_udp(NOW, addr(1), &damaged);
    let mut packed = compress(&[alive(1, 1).encode(), vec![0; 500]].concat()).expect("shrinks");
    let end = packed.len() - 40;
    packed.truncate(end);
    core.handle_udp(NOW, addr(1), &packed);
    core.handle_udp(NOW, addr(1), &[99, 1, 2]);
    core.handle_udp(NOW, addr(1), &[]);
    let refused = core.stats().refused;
    assert_eq!((refused.checksum, refused.malformed, refused.total()), (1, 3, 4), "{refused:?}");
    assert_eq!(core.stats().received.packets, 4);
}

/// Header of a compressed message of 16 MiB whose content does not arrive.
const HALF_SENT: &[u8] =
    &[9, 0x82, 0xa4, b'A', b'l', b'g', b'o', 0x00, 0xa3, b'B', b'u', b'f', 0xc6, 0x01, 0x00, 0x00, 0x00];

#[test]
fn what_all_connections_hold_together_is_bounded() {
    let mut core = viewer();
    let ids: Vec<_> = (0..MAX_INBOUND).map(|n| core.accept(NOW, addr(n)).expect("room")).collect();
    let part = vec![0; 2 << 20];
    ids.iter().for_each(|id| core.handle_stream(NOW, *id, HALF_SENT));
    assert_eq!(core.poll_transmit(), None, "each alone is no fault");
    ids.iter().for_each(|id| core.handle_stream(NOW, *id, &part));
    let hung_up = std::iter::from_fn(|| core.poll_transmit());
    let hung_up = hung_up.filter(|transmit| matches!(transmit, Transmit::Close { .. })).count();
    let held = (ids.len() - hung_up) * part.len();
    assert!(held <= MAX_BUFFERED && held + 2 * part.len() > MAX_BUFFERED, "{held}");
}
