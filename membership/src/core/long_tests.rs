//! Messages that fit into no datagram.

use std::{net::SocketAddr, time::Duration};

use super::{
    Config, Core, Event, Limits, QueryParams, Transmit,
    long::{MAX_CARRIERS, MAX_LONG, ROUNDS},
    sim::{Sim, addr, name},
    tests::{NOW, alive, feed, viewer},
};
use crate::wire::{
    serf::{Message as Serf, UserEvent},
    stream::{self, StreamMessage},
};

const LONG: Limits = Limits { user_event: 9216, query: 9216, response: 9216 };

fn long(config: &mut Config) {
    config.limits = LONG;
}

/// A settled cluster whose members have large limits.
fn cluster(count: usize) -> Sim {
    let mut sim = Sim::new(7);
    sim.configure = long;
    for _ in 0..count {
        sim.add();
        sim.run(Duration::from_millis(20));
    }
    sim.run_until(Duration::from_secs(60), |sim| {
        (0..count).all(|viewer| sim.core(viewer).members().count() == count - 1)
    });
    // Skip the state exchanges after the joins, so that they do not deliver what follows.
    sim.run(Duration::from_secs(5));
    (0..count).for_each(|index| drop(sim.take_events(index)));
    sim
}

fn hear(sim: &mut Sim, payload: &[u8]) -> usize {
    let heard = |event: &Event| matches!(event, Event::UserEvent { payload: heard, .. } if heard == payload);
    sim.events.iter().filter(|events| events.iter().any(heard)).count()
}

/// With forty members and three per round, the event must be forwarded; state exchanges (every 60 s here) would
/// be too late.
#[test]
fn a_long_event_reaches_everybody_within_seconds() {
    let mut sim = cluster(40);
    let payload = vec![7; 9000];
    sim.act(3, |core, _| core.user_event("long", &payload, false)).expect("allowed");
    let took = sim.run_until(Duration::from_secs(10), |sim| hear(sim, &payload) >= 38);
    assert!(took < Duration::from_secs(5), "{took:?}");
    // A member that was missed receives it with a state exchange.
    sim.run_until(Duration::from_secs(300), |sim| hear(sim, &payload) == 40);
    sim.run(Duration::from_secs(60));
    for index in 0..40 {
        let events = sim.take_events(index);
        let heard = events.iter().filter(|event| matches!(event, Event::UserEvent { .. })).count();
        assert_eq!(heard, 1, "each hears it once");
        assert_eq!(sim.core(index).queue_depths().events, 0, "and has done with it");
    }
}

#[test]
fn a_long_query_and_its_long_answers_get_through() {
    let mut sim = cluster(5);
    let params =
        QueryParams { timeout: Some(Duration::from_secs(10)), relay_factor: 2, ..QueryParams::default() };
    let question = vec![1; 4000];
    sim.act(0, |core, now| core.query(now, "long", &question, &params)).expect("allowed");
    let asked = |event: &Event| match event {
        Event::Query(query) if query.payload == question => Some(query.clone()),
        _ => None,
    };
    sim.run_until(Duration::from_secs(5), |sim| {
        sim.events.iter().all(|events| events.iter().any(|event| asked(event).is_some()))
    });
    for index in 1..5 {
        let query = sim.events[index].iter().find_map(asked).expect("it was asked");
        let answer = vec![index as u8; 9000];
        sim.act(index, |core, now| core.respond(now, &query, &answer)).expect("allowed");
    }
    sim.run_until(Duration::from_secs(5), |sim| {
        let answers = sim.events[0].iter().filter(|event| {
            matches!(event, Event::QueryResponse { from, payload, .. }
                if payload.len() == 9000 && name(usize::from(payload[0])) == *from)
        });
        answers.count() == 4
    });
}

#[test]
fn what_is_longer_than_the_limit_is_refused_and_the_limit_counts() {
    let mut core = viewer();
    core.config.limits = Limits { user_event: 2000, query: 2000, response: 600 };
    let refused = core.user_event("e", &[0; 2000], false).expect_err("too long").to_string();
    assert_eq!(refused, "the event takes 2001 bytes, 2000 are allowed");
    let refused = core.user_event("e", &[0; 1990], false).expect_err("too long").to_string();
    assert!(refused.contains("encoded") && refused.contains("2000 are allowed"), "{refused}");
    core.user_event("e", &[0; 1900], false).expect("allowed");
    let refused = core.query(NOW, "q", &[0; 2000], &QueryParams::default()).expect_err("too long");
    assert!(refused.to_string().contains("2000 are allowed"), "{refused}");
    core.query(NOW, "q", &[0; 1500], &QueryParams::default()).expect("allowed");
    let asked = std::iter::from_fn(|| core.poll_event()).find_map(|event| match event {
        Event::Query(query) => Some(query),
        _ => None,
    });
    let refused = core.respond(NOW, &asked.expect("its own query"), &[0; 600]).expect_err("too long");
    assert!(refused.to_string().contains("600 are allowed"), "{refused}");
}

fn carried(core: &mut Core) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(transmit) = core.poll_transmit() {
        if let Transmit::Connect { to, payload, .. } = transmit {
            let mut decoder = stream::StreamDecoder::new(core.framing().clone());
            if let Ok(Some(StreamMessage::User(bytes))) = decoder.push(&payload) {
                all.push((to, bytes));
            }
        }
    }
    all
}

#[test]
fn only_so_many_are_carried_at_a_time_and_wait_and_own_ones_stay() {
    let mut core = viewer();
    core.config.limits = LONG;
    (0..10).for_each(|index| feed(&mut core, NOW, addr(index), &alive(index, 1)));
    core.long_round(NOW);
    assert_eq!(carried(&mut core), [], "nothing waits");
    let first = vec![9; 8000];
    core.user_event("own", &first, false).expect("allowed");
    // Others' messages arrive over TCP; a flood of them does not displace this member's own.
    for n in 0..2 * MAX_LONG as u32 {
        let payload = Some([&n.to_be_bytes()[..], &[0; 2000]].concat());
        let event = UserEvent { coalesce: false, ltime: u64::from(n) + 5, name: "other".into(), payload };
        core.on_user(NOW, &Serf::UserEvent(event).encode());
    }
    assert_eq!(core.queue_depths().events, MAX_LONG as u64);
    assert!(core.stats().dropped >= MAX_LONG as u64, "the others are counted");
    core.long_round(NOW);
    let sent = carried(&mut core);
    assert_eq!(sent.len(), MAX_CARRIERS / 3 * 3, "three to a message, while there are connections");
    assert!(sent[0].1.windows(100).any(|part| part == &first[..100]), "the own one is the oldest");
    core.long_round(NOW);
    assert_eq!(carried(&mut core), [], "no connection is free");
    // When connections end, forwarding continues; each message is sent in a fixed number of rounds.
    let mut total = sent.len();
    for round in 1..1000 {
        let now = NOW + core.config.timing.stream_timeout * round;
        core.handle_timeout(now);
        core.long_round(now);
        total += carried(&mut core).len();
        if core.queue_depths().events == 0 {
            break;
        }
    }
    // Gossip rounds also happen while time passes.
    assert_eq!(core.queue_depths().events, 0);
    assert!(total <= MAX_LONG * 3 * ROUNDS as usize, "{total}");
    assert_eq!(core.stats().failed_exchanges, core.stats().failed_exchanges.min(core.stats().merges + 1000));
    let own_only = |core: &mut Core| core.user_event("more", &[3; 3000], false);
    for _ in 0..MAX_LONG {
        own_only(&mut core).expect("room");
    }
    assert!(own_only(&mut core).is_err(), "all are its own");
}

/// A stranger gets a datagram, as from Serf's agents, so that nobody can make this member dial strangers.
#[test]
fn a_long_answer_to_a_stranger_goes_over_udp() {
    let mut core = viewer();
    core.config.limits = LONG;
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    core.send_user(NOW, addr(1), vec![4; 5000]);
    assert_eq!(carried(&mut core).len(), 1);
    core.send_user(NOW, addr(2), vec![4; 5000]);
    let udp = std::iter::from_fn(|| core.poll_transmit());
    assert!(udp.into_iter().any(|t| matches!(t, Transmit::Udp { to, .. } if to == addr(2))));
}
