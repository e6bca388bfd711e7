//! Single members, fed with hand-made messages.

use std::{net::SocketAddr, time::Duration};

use super::{
    CommandError, Config, Core, Event, QueryParams, Status, Transmit,
    allowance::MAX_INCARNATION_JUMP,
    sim::{addr, name},
    sync::MAX_INBOUND,
};
use crate::wire::{
    Framing, Text,
    memberlist::{
        Ack, Alive, Dead, IndirectPing, Message, NodeState, Ping, PushPull, Suspect, VSN, ip_bytes, state,
    },
    packet,
    serf::{self, RelayHeader},
    stream::{StreamDecoder, StreamMessage},
};

pub(super) const NOW: Duration = Duration::from_secs(100);

pub(super) fn viewer() -> Core {
    let mut config = Config::new("viewer", "10.9.9.9:7946".parse().expect("an address"));
    config.framing = Framing::default();
    Core::new(config, NOW, [3; 32]).expect("valid")
}

pub(super) fn alive(index: usize, incarnation: u32) -> Message {
    Message::Alive(Alive {
        addr: ip_bytes(addr(index).ip()),
        incarnation,
        meta: None,
        node: name(index),
        port: 7946,
        vsn: Some(VSN.to_vec()),
    })
}

pub(super) fn dead(node: impl Into<Text>, incarnation: u32) -> Message {
    Message::Dead(Dead { from: "accuser".into(), incarnation, node: node.into() })
}

pub(super) fn suspect(node: impl Into<Text>, incarnation: u32, from: impl Into<Text>) -> Message {
    Message::Suspect(Suspect { from: from.into(), incarnation, node: node.into() })
}

pub(super) fn feed(core: &mut Core, now: Duration, from: SocketAddr, message: &Message) {
    core.handle_udp(now, from, &message.encode());
}

/// Returns the messages that the core sent over UDP.
pub(super) fn sent(core: &mut Core) -> Vec<(SocketAddr, Message)> {
    let mut all = Vec::new();
    while let Some(transmit) = core.poll_transmit() {
        if let Transmit::Udp { to, payload } = transmit {
            let decoded = packet::decode(core.framing(), &payload).expect("its own packets");
            assert_eq!(decoded.malformed, 0);
            all.extend(decoded.messages.into_iter().map(|message| (to, message)));
        }
    }
    all
}

pub(super) fn run(core: &mut Core, from: Duration, to: Duration) -> Vec<(SocketAddr, Message)> {
    let mut all = Vec::new();
    let mut now = from;
    while let Some(due) = core.poll_timeout().filter(|due| *due <= to) {
        now = now.max(due);
        core.handle_timeout(now);
        all.extend(sent(core));
    }
    all
}

#[test]
fn forged_incarnations_do_no_lasting_harm() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    for forged in [dead("viewer", u32::MAX), suspect("viewer", u32::MAX, "x"), dead(name(1), u32::MAX)] {
        feed(&mut core, NOW, addr(1), &forged);
    }
    feed(&mut core, NOW, addr(1), &alive(1, u32::MAX));
    feed(&mut core, NOW, addr(2), &alive(2, u32::MAX));
    assert_eq!(core.stats().rejected, 5);
    assert_eq!(core.local_member().incarnation, 1);
    assert_eq!(core.member(name(1)).map(|m| (m.status, m.incarnation)), Some((Status::Alive, 1)));
    assert_eq!(core.member(name(2)), None);
    // A plausible death is refuted.
    feed(&mut core, NOW, addr(1), &dead("viewer", MAX_INCARNATION_JUMP));
    assert_eq!(core.local_member().incarnation, MAX_INCARNATION_JUMP + 1);
    let answer = sent(&mut core);
    assert!(
        matches!(&answer[..], [(to, Message::Alive(a))] if *to == addr(1) && a.incarnation == MAX_INCARNATION_JUMP + 1)
    );
}

#[test]
fn stale_news_is_no_news_and_the_dead_are_told() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 7));
    feed(&mut core, NOW, addr(2), &dead(name(1), 6));
    feed(&mut core, NOW, addr(2), &suspect(name(1), 6, "x"));
    assert_eq!(core.member(name(1)).map(|m| (m.status, m.suspect)), Some((Status::Alive, false)));
    feed(&mut core, NOW, addr(2), &dead(name(1), 7));
    assert_eq!(core.member(name(1)).map(|m| m.status), Some(Status::Failed));
    sent(&mut core);
    // It does not know, so it is informed, at most once per second.
    let told =
        |core: &mut Core| sent(core).into_iter().filter(|(_, m)| matches!(m, Message::Dead(_))).count();
    feed(&mut core, NOW, addr(1), &alive(1, 7));
    feed(&mut core, NOW, addr(1), &alive(1, 7));
    assert_eq!(told(&mut core), 1);
    let ping = Ping { node: "viewer".into(), seq_no: 5, source_node: name(1), ..Ping::default() };
    feed(&mut core, NOW + Duration::from_secs(2), addr(1), &Message::Ping(ping));
    assert_eq!(told(&mut core), 1);
    assert_eq!(core.member(name(1)).map(|m| m.status), Some(Status::Failed));
    // After half a minute its previous incarnation is no longer binding.
    feed(&mut core, NOW + Duration::from_secs(31), addr(1), &alive(1, 1));
    assert_eq!(core.member(name(1)).map(|m| (m.status, m.incarnation)), Some((Status::Alive, 1)));
}

/// foca counts incarnations in 16 bits, which must never show on the wire.
#[test]
fn incarnations_are_the_wires_own_in_all_that_is_sent() {
    let mut core = viewer();
    let mut incarnation = 5;
    feed(&mut core, NOW, addr(2), &alive(2, 1));
    feed(&mut core, NOW, addr(1), &alive(1, incarnation));
    for step in [1, 50_000, 50_000, 1, 500_000, 30_000, 29_999] {
        incarnation += step;
        feed(&mut core, NOW, addr(1), &alive(1, incarnation));
        assert_eq!(core.member(name(1)).map(|m| m.incarnation), Some(incarnation));
    }
    feed(&mut core, NOW, addr(2), &suspect(name(1), incarnation + 70_000, "x"));
    let all = run(&mut core, NOW, NOW + Duration::from_secs(60));
    let about = |pick: fn(&Message) -> Option<(&Text, u32)>| {
        let found = all.iter().filter_map(|(_, m)| pick(m)).filter(|(node, _)| **node == name(1));
        found.map(|(_, incarnation)| incarnation).collect::<std::collections::BTreeSet<_>>()
    };
    let suspects = about(|m| match m {
        Message::Suspect(s) => Some((&s.node, s.incarnation)),
        _ => None,
    });
    let deaths = about(|m| match m {
        Message::Dead(d) => Some((&d.node, d.incarnation)),
        _ => None,
    });
    assert_eq!(suspects, [incarnation + 70_000].into());
    assert_eq!(deaths, [incarnation + 70_000].into());
    assert_eq!(core.stats().internal, 0);
}

#[test]
fn pings_are_answered_wherever_they_come_from() {
    let mut core = viewer();
    let stranger = addr(77);
    let ping = Ping { node: "viewer".into(), seq_no: 5, ..Ping::default() };
    feed(&mut core, NOW, stranger, &Message::Ping(ping.clone()));
    let payload = Some(core.coordinate().to_payload());
    let ack = Message::Ack(Ack { payload, seq_no: 5 });
    assert_eq!(sent(&mut core), [(stranger, ack.clone())]);
    let elsewhere = Ping { source_addr: Some(ip_bytes(addr(78).ip())), source_port: 99, ..ping.clone() };
    feed(&mut core, NOW, stranger, &Message::Ping(elsewhere));
    assert_eq!(sent(&mut core), [(SocketAddr::new(addr(78).ip(), 99), ack)]);
    feed(&mut core, NOW, stranger, &Message::Ping(Ping { node: "other".into(), ..ping }));
    assert_eq!(sent(&mut core), [], "a ping for another name is not answered");
}

#[test]
fn indirect_pings_are_relayed_to_members_only() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    feed(&mut core, NOW, addr(2), &alive(2, 1));
    let request = |index: usize| {
        Message::IndirectPing(IndirectPing {
            nack: true,
            node: name(index),
            port: 7946,
            seq_no: 900,
            target: ip_bytes(addr(index).ip()),
            ..IndirectPing::default()
        })
    };
    feed(&mut core, NOW, addr(1), &request(5));
    assert_eq!((sent(&mut core), core.stats().rejected), (Vec::new(), 1), "a stranger is not pinged");

    feed(&mut core, NOW, addr(1), &request(2));
    let [(to, Message::Ping(ping))] = &sent(&mut core)[..] else { panic!("one ping") };
    assert_eq!((*to, ping.node.clone()), (addr(2), name(2)));
    feed(&mut core, NOW, addr(2), &Message::Ack(Ack { payload: None, seq_no: ping.seq_no }));
    assert_eq!(sent(&mut core), [(addr(1), Message::Ack(Ack { payload: None, seq_no: 900 }))]);

    feed(&mut core, NOW, addr(1), &request(2));
    sent(&mut core);
    let late = run(&mut core, NOW, NOW + Duration::from_millis(500));
    assert!(late.iter().any(|(to, m)| *to == addr(1) && matches!(m, Message::Nack(n) if n.seq_no == 900)));
}

#[test]
fn answers_are_relayed_to_members_only() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    let inner = vec![serf::kind::QUERY_RESPONSE, 0x80];
    let relay = |index| {
        Message::User(
            serf::Message::Relay(RelayHeader::new(name(index), addr(index)), inner.clone()).encode(),
        )
    };
    feed(&mut core, NOW, addr(3), &relay(1));
    assert_eq!(sent(&mut core), [(addr(1), Message::User(inner.clone()))]);
    feed(&mut core, NOW, addr(3), &relay(9));
    assert_eq!((sent(&mut core), core.stats().rejected), (Vec::new(), 1));
}

#[test]
fn confirmed_suspicions_are_passed_on_and_end_sooner() {
    let dies_after = |confirmations: usize| {
        let mut core = viewer();
        for index in 1..=20 {
            feed(&mut core, NOW, addr(index), &alive(index, 1));
        }
        run(&mut core, NOW, NOW + Duration::from_millis(1));
        for n in 0..=confirmations {
            feed(&mut core, NOW, addr(2), &suspect(name(1), 1, name(n + 2)));
        }
        let mut now = NOW;
        while core.member(name(1)).map(|m| m.status) == Some(Status::Alive) {
            now = core.poll_timeout().expect("a suspicion is running");
            core.handle_timeout(now);
        }
        let passed_on = sent(&mut core).into_iter().filter_map(|(_, m)| match m {
            Message::Suspect(s) if s.node == name(1) => Some(s.from),
            _ => None,
        });
        let from: std::collections::BTreeSet<_> = passed_on.collect();
        (now - NOW, from.len())
    };
    let (alone, _) = dies_after(0);
    let (confirmed, passed_on) = dies_after(2);
    let (_, capped) = dies_after(6);
    // At least 4 · log10(21) seconds, and at most six times that; this member's own probes may confirm in the
    // meantime.
    assert!(confirmed < Duration::from_secs(6) && alone > Duration::from_secs(6), "{confirmed:?} {alone:?}");
    assert_eq!(passed_on, 3, "the suspicion and two confirmations");
    assert_eq!(capped, 3, "no more are passed on than count");
}

#[test]
fn an_intent_may_come_before_its_member() {
    let mut core = viewer();
    let leave = serf::Leave { ltime: 9, node: name(1), prune: false };
    feed(&mut core, NOW, addr(2), &Message::User(serf::Message::Leave(leave).encode()));
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    assert_eq!(core.member(name(1)).map(|m| m.status), Some(Status::Leaving));
    feed(&mut core, NOW, addr(2), &dead(name(1), 1));
    assert_eq!(core.member(name(1)).map(|m| m.status), Some(Status::Left));
}

#[test]
fn limits_of_commands_and_connections() {
    let mut core = viewer();
    let long = core.query(NOW, "q", &[0; 1000], &QueryParams::default());
    assert!(matches!(long, Err(CommandError::TooLarge { .. })));
    let broken = QueryParams { tags: vec![("role".into(), "(".into())], ..QueryParams::default() };
    assert_eq!(core.query(NOW, "q", b"", &broken), Err(CommandError::Filter("(".into())));
    let tags = [("k".into(), "v".repeat(600).into())].into();
    assert!(core.set_tags(tags).is_err());
    assert_eq!(core.local_member().incarnation, 1, "a refused command changes nothing");

    let ids: Vec<_> = (0..MAX_INBOUND).map(|n| core.accept(NOW, addr(n)).expect("room")).collect();
    assert_eq!(core.accept(NOW, addr(0)), None);
    core.handle_stream(NOW, ids[0], &[99]);
    assert_eq!(core.poll_transmit(), Some(Transmit::Close { stream: ids[0] }), "nonsense is hung up on");
    assert!(core.accept(NOW, addr(0)).is_some());
    run(&mut core, NOW, NOW + Duration::from_secs(11));
    assert!((0..MAX_INBOUND).all(|n| core.accept(NOW, addr(n)).is_some()), "idle ones time out");
}

/// Lifeguard: a member that receives no answers doubts its own health, and gives others more time.
#[test]
fn a_member_in_trouble_probes_more_slowly() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    let pings = |core: &mut Core, from, to| {
        run(core, from, to).iter().filter(|(_, m)| matches!(m, Message::Ping(p) if p.node == name(1))).count()
    };
    let mut now = NOW;
    let mut probes = 0;
    for incarnation in 2..29 {
        // The refutations keep the other member alive, but say nothing about this member's own health.
        feed(&mut core, now, addr(1), &alive(1, incarnation));
        probes += pings(&mut core, now, now + Duration::from_secs(2));
        now += Duration::from_secs(2);
    }
    // At first one per second, in the end one per eight seconds.
    assert!((8..=15).contains(&probes), "{probes} probes in 54 seconds without an answer");
}

/// Merges a push/pull with these states into a core whose members are known at incarnation 3.
fn merged(states: &[(&str, u8, u32)]) -> Core {
    let mut core = viewer();
    for index in 1..=3 {
        feed(&mut core, NOW, addr(index), &alive(index, 3));
    }
    let node = |(name, state, incarnation): &(&str, u8, u32)| NodeState {
        addr: ip_bytes(addr(7).ip()),
        incarnation: *incarnation,
        name: (*name).into(),
        port: 7946,
        state: *state,
        ..NodeState::default()
    };
    let remote = PushPull { nodes: states.iter().map(node).collect(), ..PushPull::default() };
    let id = core.accept(NOW, addr(1)).expect("room");
    core.handle_stream(NOW, id, &remote.encode());
    core
}

#[test]
fn second_hand_deaths_are_suspicions() {
    let core = merged(&[("m1", state::DEAD, 3), ("m2", state::LEFT, 3), ("m3", state::SUSPECT, 2)]);
    let seen = |name: &str| core.member(name).map(|m| (m.status, m.suspect));
    assert_eq!(seen("m1"), Some((Status::Alive, true)), "it gets its chance to refute");
    assert_eq!(seen("m2"), Some((Status::Left, false)), "it said so itself");
    assert_eq!(seen("m3"), Some((Status::Alive, false)), "stale");
    let mut core = merged(&[("m9", state::DEAD, 3), ("viewer", state::DEAD, 4), ("m1", 77, 4)]);
    assert_eq!(core.member("m9"), None, "of strangers only the living are news");
    assert_eq!(core.local_member().incarnation, 5, "refuted");
    assert_eq!(core.stats().malformed, 1);
    // The reply to the push/pull is followed by a refutation in gossip.
    let all = run(&mut core, NOW, NOW + Duration::from_secs(1));
    assert!(
        all.iter().any(|(_, m)| matches!(m, Message::Alive(a) if a.node == "viewer" && a.incarnation == 5))
    );
}

#[test]
fn a_push_pull_is_answered_with_all_that_is_known() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 3));
    feed(&mut core, NOW, addr(2), &alive(2, 4));
    feed(&mut core, NOW, addr(1), &dead(name(2), 4));
    let mut states = |now| {
        let id = core.accept(now, addr(1)).expect("room");
        core.handle_stream(now, id, &PushPull { join: true, ..PushPull::default() }.encode());
        let reply = std::iter::from_fn(|| core.poll_transmit()).find_map(|transmit| match transmit {
            Transmit::Reply { stream, payload } if stream == id => Some(payload),
            _ => None,
        });
        let decoded = StreamDecoder::new(core.framing().clone()).push(&reply.expect("a reply"));
        let Ok(Some(StreamMessage::PushPull(state))) = decoded else { panic!("a push/pull") };
        let serf: serf::PushPull =
            serf::decode_tagged(serf::kind::PUSH_PULL, &state.user_state).expect("a Serf state");
        assert_eq!(serf.status_ltimes.len(), 3);
        state.nodes.into_iter().map(|n| (n.name, n.incarnation, n.state)).collect::<Vec<_>>()
    };
    let own = ("viewer".into(), 1, state::ALIVE);
    let one = (name(1), 3, state::ALIVE);
    assert_eq!(states(NOW), [own.clone(), one.clone(), (name(2), 4, state::DEAD)]);
    assert_eq!(states(NOW + Duration::from_secs(31)), [own, one], "old deaths are no news");
}

#[test]
fn unfinished_messages_share_one_budget() {
    let mut core = viewer();
    let mut claim = vec![crate::wire::memberlist::kind::USER];
    let header = crate::wire::memberlist::UserHeader { user_msg_len: 19 << 20 };
    crate::wire::field::Field::encode(&header, &mut claim);
    let chunk = vec![0; 1 << 20];
    let mut taken = 0;
    for n in 0..5 {
        let id = core.accept(NOW, addr(n)).expect("room");
        core.handle_stream(NOW, id, &claim);
        for _ in 0..18 {
            core.handle_stream(NOW, id, &chunk);
            if core.poll_transmit().is_some() {
                break;
            }
            taken += 1;
        }
    }
    // Each exchange that is closed makes room for the next, but never above the budget.
    assert_eq!(taken, 3 * 18 + 9 + 9, "54 of 64 MiB are kept, two exchanges share the rest in turn");
    run(&mut core, NOW, NOW + Duration::from_secs(11));
    let id = core.accept(NOW, addr(1)).expect("room");
    core.handle_stream(NOW, id, &claim);
    (0..18).for_each(|_| core.handle_stream(NOW, id, &chunk));
    assert_eq!(core.poll_transmit(), None, "after the timeouts there is room");
}

#[test]
fn what_never_fits_a_packet_is_not_queued() {
    let passed_on = |len: usize| {
        let mut core = viewer();
        feed(&mut core, NOW, addr(1), &alive(1, 1));
        let event =
            serf::UserEvent { coalesce: false, ltime: 3, name: "big".into(), payload: Some(vec![7; len]) };
        let message = Message::User(serf::Message::UserEvent(event).encode());
        feed(&mut core, NOW, addr(1), &message);
        let heard = std::iter::from_fn(|| core.poll_event()).any(|e| matches!(e, Event::UserEvent { .. }));
        assert!(heard, "it is heard all the same");
        let sent = run(&mut core, NOW, NOW + Duration::from_secs(2));
        assert_eq!(core.queue_depths().events, 0, "an event of {len} bytes waits for ever");
        sent.iter().any(|(_, m)| *m == message)
    };
    assert!(passed_on(1300) && !passed_on(1400));
    let limit = (1300..1400).find(|len| !passed_on(*len)).expect("between");
    assert!((1300..1400).all(|len| passed_on(len) == (len < limit)), "{limit}");
}
