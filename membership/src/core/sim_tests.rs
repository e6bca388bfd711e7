//! Clusters under virtual time.

use std::{collections::BTreeSet, time::Duration};

use super::{
    CommandError, Config, Core, Event, KeyChange, QueryParams, Status,
    sim::{Sim, addr, name},
};
use crate::wire::{
    Text,
    crypto::{Key, Keyring, MAX_KEYS},
    memberlist::{Message, NodeState, PushPull, VSN, ip_bytes},
    serf,
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn complete(sim: &mut Sim) -> bool {
    let count = sim.cores.iter().flatten().count();
    sim.cores.iter().flatten().all(|core| core.alive_count() == count)
}

fn failures(sim: &Sim) -> BTreeSet<Text> {
    let failed = sim.events.iter().flatten().filter_map(|event| match event {
        Event::MemberFailed(member) => Some(member.name.clone()),
        _ => None,
    });
    failed.collect()
}

#[test]
fn sixty_members_events_and_twenty_deaths() {
    let mut sim = Sim::with_members(1, 60);
    let took = sim.run_until(secs(30), complete);
    assert!(took <= secs(10), "complete views took {took:?}");

    sim.act(7, |core, _| core.user_event("deploy", b"1.2.3", false)).expect("is sent");
    let heard = |sim: &Sim| {
        let times = |events: &Vec<Event>| {
            events.iter().filter(|e| matches!(e, Event::UserEvent { name, .. } if name == "deploy")).count()
        };
        sim.events.iter().map(times).collect::<Vec<_>>()
    };
    let took = sim.run_until(secs(10), |sim| heard(sim).iter().all(|n| *n == 1));
    assert!(took <= secs(3), "an event took {took:?}");
    sim.run(secs(20));
    assert!(heard(&sim).iter().all(|n| *n == 1), "an event is reported once");
    assert_eq!(failures(&sim), BTreeSet::new(), "nobody failed");

    let dead: Vec<_> = (0..60).filter(|i| i % 3 == 1).collect();
    dead.iter().for_each(|i| sim.kill(*i));
    let took = sim.run_until(secs(60), |sim| {
        let living: Vec<_> = (0..60).filter(|i| sim.cores[*i].is_some()).collect();
        living.iter().all(|viewer| dead.iter().all(|of| sim.status(*viewer, *of) == Some(Status::Failed)))
    });
    assert!(took <= secs(30), "20 deaths took {took:?}");
    sim.run(secs(30));
    let expected: BTreeSet<_> = dead.iter().map(|i| name(*i)).collect();
    assert_eq!(failures(&sim), expected, "exactly the dead failed");
    assert!(complete(&mut sim));
}

/// All start at the same moment, and know one of three others.
#[test]
fn a_crowd_that_joins_at_once_knows_itself_soon() {
    for seed in 1..=6 {
        let mut sim = Sim::with_members(seed, 3);
        sim.run_until(secs(5), complete);
        for index in 3..63 {
            sim.cores.push(None);
            sim.events.push(Vec::new());
            sim.start(index, |_| {});
        }
        let took = sim.run_until(secs(60), complete);
        assert!(took <= secs(10), "seed {seed}: complete views took {took:?}");
        assert_eq!(failures(&sim), BTreeSet::new());
    }
}

#[test]
fn loss_costs_nobody_its_life() {
    let mut sim = Sim::with_members(2, 12);
    sim.loss = 0.2;
    sim.run(secs(120));
    assert_eq!(failures(&sim), BTreeSet::new());
    assert!(complete(&mut sim));
}

#[test]
fn tcp_saves_a_pair_that_udp_does_not_connect() {
    let mut sim = Sim::with_members(3, 2);
    sim.run_until(secs(5), complete);
    sim.reaches = Box::new(|_, _, tcp| tcp);
    sim.run(secs(60));
    assert_eq!(failures(&sim), BTreeSet::new());
    assert!(sim.core(0).stats().tcp_acks > 10);
    sim.reaches = Box::new(|_, _, _| false);
    sim.run_until(secs(60), |sim| sim.status(0, 1) == Some(Status::Failed));
}

#[test]
fn indirect_probes_save_a_member_that_one_cannot_reach() {
    let mut sim = Sim::with_members(4, 5);
    sim.run_until(secs(10), complete);
    sim.reaches = Box::new(|from, to, _| !matches!((from, to), (0, 1) | (1, 0)));
    sim.run(secs(60));
    assert_eq!(failures(&sim), BTreeSet::new());
}

#[test]
fn a_partition_is_noticed_and_heals() {
    let mut sim = Sim::with_members(5, 10);
    sim.run_until(secs(10), complete);
    sim.reaches = Box::new(|from, to, _| (from < 4) == (to < 4));
    sim.run_until(secs(90), |sim| (0..10).all(|i| sim.core(i).alive_count() == if i < 4 { 4 } else { 6 }));
    sim.events.iter_mut().for_each(Vec::clear);
    sim.reaches = Box::new(|_, _, _| true);
    let took = sim.run_until(secs(180), complete);
    assert!(took <= secs(90), "healing took {took:?}");
    assert!(sim.events[0].iter().any(|e| matches!(e, Event::MemberJoined(m) if m.name == name(9))));

    // A short partition: the states of the members on each side are still fresh.
    sim.reaches = Box::new(|from, to, _| (from < 4) == (to < 4));
    sim.run_until(secs(90), |sim| sim.core(0).alive_count() < 8);
    sim.reaches = Box::new(|_, _, _| true);
    sim.run_until(secs(180), complete);
}

#[test]
fn a_crash_and_a_restart_under_the_same_name() {
    let mut sim = Sim::with_members(6, 4);
    sim.run_until(secs(10), complete);
    // A restart with other tags, so quick that nobody noticed the crash.
    sim.act(3, |core, _| core.set_tags([("v".into(), "1".into())].into())).expect("fits");
    sim.run(secs(3));
    sim.kill(3);
    sim.start(3, |config| config.tags = [("v".into(), "2".into())].into());
    let version =
        |sim: &mut Sim| sim.core(1).member(name(3)).and_then(|m| m.tags.get(b"v".as_slice()).cloned());
    sim.run_until(secs(10), |sim| version(sim).is_some_and(|version| version == "2"));
    // A restart after it was declared dead.
    sim.kill(3);
    sim.run_until(secs(60), |sim| (0..3).all(|i| sim.status(i, 3) == Some(Status::Failed)));
    sim.start(3, |_| {});
    sim.run_until(secs(10), complete);
    assert!((0..3).all(|i| sim.status(i, 3) == Some(Status::Alive)));
}

#[test]
fn leaving_is_not_failing() {
    let mut sim = Sim::with_members(7, 6);
    sim.run_until(secs(10), complete);
    sim.act(2, Core::leave);
    assert!(sim.act(2, |core, _| core.user_event("x", b"", false)).is_err());
    let finished = |sim: &mut Sim| sim.events[2].contains(&Event::LeaveFinished);
    let took = sim.run_until(secs(12), finished);
    assert!(took >= secs(1), "it stays until all have heard, not only {took:?}");
    sim.kill(2);
    sim.run(secs(30));
    assert!([0, 1, 3, 4, 5].iter().all(|i| sim.status(*i, 2) == Some(Status::Left)));
    assert_eq!(failures(&sim), BTreeSet::new());
    // It may return at once, even at another address; a newcomer does not learn about members that are gone.
    sim.start(2, |_| {});
    sim.run_until(secs(10), complete);
    assert_eq!(sim.status(5, 2), Some(Status::Alive));
}

#[test]
fn force_leave_and_prune_and_reaping() {
    let mut sim = Sim::with_members(8, 5);
    sim.run_until(secs(10), complete);
    sim.act(0, |core, now| core.force_leave(now, name(1), false)).expect("is known");
    sim.run(secs(10));
    assert!((0..5).filter(|i| *i != 1).all(|i| sim.status(i, 1) == Some(Status::Alive)), "it refutes");

    for gone in [3, 4] {
        sim.kill(gone);
    }
    sim.run_until(secs(60), |sim| (0..3).all(|i| sim.core(i).alive_count() == 3));
    sim.act(0, |core, now| core.force_leave(now, name(3), false)).expect("is known");
    sim.act(0, |core, now| core.force_leave(now, name(4), true)).expect("is known");
    sim.run(secs(5));
    assert!((0..3).all(|i| sim.status(i, 3) == Some(Status::Left)));
    assert!((0..3).all(|i| sim.status(i, 4).is_none()), "pruned");
    for events in &sim.events[..3] {
        let left = events.iter().filter(|e| matches!(e, Event::MemberLeft(m) if m.name == name(3)));
        assert_eq!(left.count(), 1);
        assert!(events.iter().any(|e| matches!(e, Event::MemberReaped(m) if m.name == name(4))));
    }
    assert!(sim.act(0, |core, now| core.force_leave(now, "nobody", false)).is_err());

    sim.run(secs(24 * 3600 + 60));
    assert!((0..3).all(|i| sim.status(i, 3).is_none()), "reaped");
    assert!(sim.events[1].iter().any(|e| matches!(e, Event::MemberReaped(m) if m.name == name(3))));
    assert!(complete(&mut sim));
}

/// A leave that does not reach the member that it names is refuted after the next exchange of states.
#[test]
fn a_leave_that_its_member_did_not_hear_of_is_refuted() {
    let mut sim = Sim::with_members(10, 2);
    sim.run_until(secs(10), complete);
    let ltime = sim.core(1).own.status_ltime + 1;
    sim.act(0, |core, now| core.on_leave(now, &serf::Leave { ltime, node: name(1), prune: false }));
    assert_eq!(sim.status(0, 1), Some(Status::Leaving));
    sim.run_until(secs(120), |sim| sim.status(0, 1) == Some(Status::Alive));
}

/// A leave at the time of the member's own join, of which the sender had not heard.
#[test]
fn a_leave_at_the_time_of_the_join_is_refuted() {
    let mut sim = Sim::with_members(11, 2);
    sim.run_until(secs(10), complete);
    let ltime = sim.core(1).own.status_ltime;
    sim.act(1, |core, now| core.on_leave(now, &serf::Leave { ltime, node: name(1), prune: false }));
    assert!(sim.core(1).own.status_ltime > ltime, "a join of a later time");
}

#[test]
fn snapshots_bring_back_clocks_and_addresses() {
    let mut sim = Sim::with_members(9, 3);
    sim.run_until(secs(10), complete);
    sim.act(0, |core, _| core.user_event("old", b"", false)).expect("is sent");
    sim.run(secs(3));
    let bytes = sim.core(2).snapshot().encode();
    let snapshot = super::Snapshot::parse(&bytes);
    assert_eq!(snapshot.alive.iter().map(|(_, a)| *a).collect::<BTreeSet<_>>(), [addr(0), addr(1)].into());
    sim.kill(2);
    sim.take_events(2);
    // It joins without ignoring old events; the restored clock does that.
    let config = Config { restore: Some(snapshot), ..Config::new(name(2), addr(2)) };
    let mut core = Core::new(config, sim.now, [1; 32]).expect("valid");
    core.join(sim.now, addr(0), false).expect("is begun");
    sim.cores[2] = Some(core);
    sim.run_until(secs(10), complete);
    sim.act(0, |core, _| core.user_event("new", b"", false)).expect("is sent");
    sim.run(secs(3));
    let events = sim.take_events(2).into_iter();
    let names: Vec<_> = events
        .filter_map(|e| match e {
            Event::UserEvent { name, .. } => Some(name),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["new"]);
}

/// Creates a state with that many members.
fn big_state(count: usize) -> PushPull {
    let nodes = (0..count).map(|n| NodeState {
        addr: ip_bytes(addr(n).ip()),
        incarnation: 1,
        meta: Some(vec![255, 0x80]),
        name: name(n),
        port: 7946,
        state: 0,
        vsn: Some(VSN.to_vec()),
    });
    PushPull { nodes: nodes.collect(), ..PushPull::default() }
}

#[test]
fn merging_ten_thousand_members_is_linear() {
    let config = Config::new("viewer", "10.9.9.9:7946".parse().expect("an address"));
    let mut core = Core::new(config, Duration::ZERO, [2; 32]).expect("valid");
    let mut merge = |count| {
        let before = core.stats();
        let id = core.accept(Duration::ZERO, addr(0)).expect("room");
        core.handle_stream(Duration::ZERO, id, &big_state(count).encode());
        while core.poll_transmit().is_some() || core.poll_event().is_some() {}
        let after = core.stats();
        assert_eq!(core.alive_count(), 10_001);
        (after.lookups - before.lookups, after.updates - before.updates)
    };
    assert_eq!(merge(10_000), (10_000, 10_000));
    assert_eq!(merge(10_000), (10_000, 0), "what is known is filtered before foca sees it");
    assert_eq!(merge(100), (100, 0));
}

#[test]
fn a_contested_name_is_put_to_the_vote() {
    let mut sim = Sim::with_members(11, 6);
    sim.run(Duration::from_secs(5));
    sim.events.iter_mut().for_each(Vec::clear);
    sim.cores.push(None);
    sim.events.push(Vec::new());
    sim.start(6, |config| config.name = name(3));
    sim.run(Duration::from_secs(20));
    let tags = sim.core(3).local_member().tags;
    let told = |index: usize, event: &Event| sim.events[index].iter().filter(|e| *e == event).count();
    assert_eq!(told(6, &Event::NameLost), 1, "{:?}", sim.events[6]);
    assert_eq!(told(3, &Event::NameLost), 0);
    let conflict = Event::NameConflict { name: name(3), other: addr(6), tags };
    assert!(told(0, &conflict) >= 1 && told(0, &conflict) <= 3);
    assert!(told(3, &Event::NameClaimed { other: addr(6) }) >= 1, "{:?}", sim.events[3]);
    assert_eq!(sim.core(0).member(name(3)).map(|m| m.addr), Some(addr(3)));
}

#[test]
fn queries_reach_whom_they_name() {
    let mut sim = Sim::with_members(12, 8);
    sim.run(Duration::from_secs(5));
    sim.events.iter_mut().for_each(Vec::clear);
    let params = QueryParams {
        nodes: vec![name(2), name(5)],
        request_ack: true,
        relay_factor: 3,
        ..QueryParams::default()
    };
    let id = sim.act(0, |core, now| core.query(now, "how", b"?", &params)).expect("is sent");
    sim.run(Duration::from_secs(1));
    for asked in [2, 5] {
        let events = sim.take_events(asked);
        let [Event::Query(query)] = &events[..] else { panic!("{asked} heard {events:?}") };
        assert_eq!((query.id, query.source.clone(), query.payload.clone()), (id, name(0), b"?".to_vec()));
        sim.act(asked, |core, now| core.respond(now, query, b"fine")).expect("in time");
        let late = query.deadline + Duration::from_secs(1);
        assert_eq!(sim.core(asked).respond(late, query, b"late"), Err(CommandError::QueryEnded));
        let long = sim.core(asked).respond(query.deadline, query, &[0; 1100]);
        assert!(matches!(long, Err(CommandError::TooLarge { .. })));
    }
    sim.run(Duration::from_secs(10));
    let mut heard = sim.take_events(0);
    assert_eq!(heard.pop(), Some(Event::QueryDone { query: id }));
    heard.sort_by_key(|event| format!("{event:?}"));
    let response = |n| Event::QueryResponse { query: id, from: name(n), payload: b"fine".to_vec() };
    let ack = |n| Event::QueryAck { query: id, from: name(n) };
    assert_eq!(heard, [ack(2), ack(5), response(2), response(5)], "each once, although relayed");
    assert!([1, 3, 4, 6, 7].iter().all(|i| sim.events[*i].is_empty()), "the others heard nothing");
}

#[test]
fn keys_change_by_query() {
    let key = |b| Key::new(&[b; 32]).expect("a key");
    let mut sim = Sim::new(13);
    sim.configure = |config| {
        config.framing.keyring = Key::new(&[1; 32]).ok().map(Keyring::new);
    };
    for _ in 0..4 {
        sim.add();
        sim.run(Duration::from_secs(1));
    }
    for change in [KeyChange::Install(key(2)), KeyChange::Use(key(2)), KeyChange::Remove(key(1))] {
        sim.act(1, |core, now| core.key_query(now, change)).expect("is sent");
        sim.run(Duration::from_secs(5));
    }
    for index in 0..4 {
        let ring = sim.core(index).framing().keyring.clone().expect("set");
        assert_eq!(ring.keys(), [key(2)]);
        assert_eq!(sim.events[index].iter().filter(|e| **e == Event::KeyringChanged).count(), 3);
        assert_eq!(sim.core(index).alive_count(), 4);
    }
}

/// A response holds about twenty keys; agents then report that there are more.
#[test]
fn more_keys_than_an_answer_holds_are_listed_in_part() {
    use crate::wire::serf::KeyResponse;
    let keys: Vec<_> = (1..=MAX_KEYS as u8).map(|b| Key::new(&[b; 32]).expect("a key")).collect();
    let listed = |count: usize| {
        let mut sim = Sim::new(14);
        sim.add();
        let mut ring = Keyring::new(keys[0].clone());
        keys[1..count].iter().for_each(|key| ring.install(key.clone()).expect("room"));
        sim.core(0).config.framing.keyring = Some(ring);
        let id = sim.act(0, |core, now| core.list_keys_query(now)).expect("is asked");
        let answers = sim.take_events(0).into_iter().filter_map(|event| match event {
            Event::QueryResponse { query, payload, .. } if query == id => Some(payload),
            _ => None,
        });
        let answers: Vec<_> = answers.collect();
        assert_eq!(answers.len(), 1, "{count} keys");
        serf::decode_tagged::<KeyResponse>(serf::kind::KEY_RESPONSE, &answers[0]).expect("an answer")
    };
    let all = |count: usize| keys[..count].iter().map(|key| Text::from(key.to_base64())).collect::<Vec<_>>();
    let few = listed(19);
    assert_eq!((few.keys.as_slice(), few.message.as_str(), few.result), (&all(19)[..], "", true));
    let many = listed(MAX_KEYS);
    let shown = many.keys.as_slice().len();
    assert!((17..24).contains(&shown) && many.keys.as_slice() == all(shown), "{shown} keys");
    let told = format!("truncated key list response, showing first {shown} of {MAX_KEYS} keys");
    assert_eq!((many.message, many.result), (told.into(), true));
    assert_eq!(many.primary_key, keys[0].to_base64());
}

#[test]
fn a_filter_that_cannot_be_read_is_told_of_once_and_the_query_passed_on() {
    let mut core = super::tests::viewer();
    let now = super::tests::NOW;
    let ask = |core: &mut Core, now, ltime, expr: &str| {
        let filter = serf::Filter::Tag(serf::TagFilter { expr: expr.into(), tag: "role".into() });
        let query = serf::Query {
            addr: ip_bytes(addr(1).ip()),
            filters: vec![filter.encode()].into(),
            ltime,
            name: "q".into(),
            port: 7946,
            source_node: name(1),
            timeout_ns: 1_000_000_000,
            ..serf::Query::default()
        };
        let bytes = serf::Message::Query(query).encode();
        core.handle_udp(now, addr(1), &Message::User(bytes).encode());
        std::iter::from_fn(|| core.poll_event()).collect::<Vec<_>>()
    };
    let told = Event::FilterUnreadable { filter: "(".into(), asker: name(1) };
    assert_eq!(ask(&mut core, now, 1, "("), std::slice::from_ref(&told));
    assert_eq!(ask(&mut core, now, 2, "("), []);
    assert_eq!(ask(&mut core, now + secs(60), 3, "("), [told]);
    assert_eq!(ask(&mut core, now, 4, "web"), [], "it is another's");
    assert!(matches!(&ask(&mut core, now, 5, r"^\Q\E$")[..], [Event::Query(_)]));
    assert_eq!((core.queue_depths().queries, core.stats().malformed), (5, 3));
}
