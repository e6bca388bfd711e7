//! Members that come back: which members they remember and try, and for how long.

use std::{net::SocketAddr, time::Duration};

use super::sim::{Sim, addr, name};
use super::{Event, QueryParams, Snapshot, Status};
use crate::wire::Text;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn remembering(members: impl IntoIterator<Item = usize>) -> Snapshot {
    Snapshot { alive: members.into_iter().map(|i| (name(i), addr(i))).collect(), ..Snapshot::default() }
}

/// Restarts a member with a snapshot, as a process without a list of members to join.
fn restart(sim: &mut Sim, index: usize, snapshot: Snapshot, rejoin_after_leave: bool) {
    sim.take_events(index);
    sim.start_alone(index, |config| {
        config.restore = Some(snapshot);
        config.rejoin_after_leave = rejoin_after_leave;
    });
}

fn sees_all(sim: &mut Sim, viewer: usize, others: &[usize]) -> bool {
    others.iter().all(|other| sim.status(viewer, *other) == Some(Status::Alive))
}

fn remembered(sim: &mut Sim, index: usize) -> Vec<SocketAddr> {
    let mut all: Vec<_> = sim.core(index).snapshot().alive.into_iter().map(|(_, addr)| addr).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_member_that_comes_back_while_nobody_is_reachable_forgets_nobody_and_tries_on() {
    let mut sim = Sim::with_members(21, 4);
    sim.run(secs(10));
    let snapshot = Snapshot::parse(&sim.core(3).snapshot().encode());
    sim.reaches = Box::new(|from, to, _| from != 3 && to != 3);
    restart(&mut sim, 3, snapshot, false);
    sim.run(secs(600));
    assert_eq!(remembered(&mut sim, 3), [addr(0), addr(1), addr(2)]);
    let rounds: Vec<_> = sim
        .take_events(3)
        .into_iter()
        .filter_map(|event| match event {
            Event::RejoinFailed { tried, rounds } => Some((tried, rounds)),
            _ => None,
        })
        .collect();
    assert!(rounds.iter().all(|(tried, _)| *tried == 3), "{rounds:?}");
    assert!(rounds.iter().map(|(_, round)| *round).eq(1..=rounds.len() as u32), "{rounds:?}");
    // A round lasts at most 10 s, and the wait after it at most 30 s.
    assert!((15..=60).contains(&rounds.len()), "{}", rounds.len());
    sim.reaches = Box::new(|_, _, _| true);
    sim.run_until(secs(45), |sim| sees_all(sim, 3, &[0, 1, 2]));
}

#[test]
fn many_that_are_gone_keep_nobody_from_the_one_that_is_there() {
    let mut sim = Sim::with_members(22, 2);
    sim.run(secs(5));
    restart(&mut sim, 1, remembering((2..1000).chain([0])), false);
    sim.run_until(secs(10), |sim| sees_all(sim, 1, &[0]));
    // As Serf's file keeps them until it learns that they are gone.
    assert_eq!(remembered(&mut sim, 1).len(), 999);
    sim.run(secs(25 * 3600));
    assert_eq!(remembered(&mut sim, 1), [addr(0)], "nobody has named the others for a day");
}

#[test]
fn members_that_have_failed_are_remembered_and_those_that_have_left_are_not() {
    let mut sim = Sim::with_members(23, 4);
    sim.run(secs(5));
    sim.act(1, |core, now| core.leave(now));
    sim.run(secs(10));
    sim.kill(1);
    sim.kill(2);
    sim.run_until(secs(60), |sim| sim.status(0, 2) == Some(Status::Failed));
    assert_eq!(sim.status(0, 1), Some(Status::Left));
    assert_eq!(remembered(&mut sim, 0), [addr(2), addr(3)]);
    sim.run(secs(25 * 3600));
    assert_eq!(remembered(&mut sim, 0), [addr(3)], "forgotten with the member");
}

#[test]
fn a_member_that_has_left_rejoins_only_if_it_is_told_to() {
    for told in [false, true] {
        let mut sim = Sim::with_members(24, 3);
        sim.run(secs(5));
        sim.act(2, |core, now| core.leave(now));
        sim.run(secs(10));
        let snapshot = Snapshot::parse(&sim.core(2).snapshot().encode());
        assert!(snapshot.left);
        restart(&mut sim, 2, snapshot, told);
        sim.run(secs(60));
        assert_eq!(sees_all(&mut sim, 2, &[0, 1]), told);
    }
}

#[test]
fn a_member_whose_others_have_all_failed_tries_them_in_rounds() {
    let mut sim = Sim::with_members(25, 3);
    sim.run(secs(5));
    sim.reaches = Box::new(|from, to, _| from != 2 && to != 2);
    sim.run_until(secs(120), |sim| (0..2).all(|i| sim.status(2, i) == Some(Status::Failed)));
    sim.run(secs(300));
    sim.reaches = Box::new(|_, _, _| true);
    sim.run_until(secs(45), |sim| sees_all(sim, 2, &[0, 1]) && sees_all(sim, 0, &[1, 2]));
}

/// Names of the user events reported to a member.
fn told(sim: &mut Sim, index: usize) -> Vec<Text> {
    let events = sim.take_events(index).into_iter();
    events
        .filter_map(|event| if let Event::UserEvent { name, .. } = event { Some(name) } else { None })
        .collect()
}

fn send(sim: &mut Sim, index: usize, name: &str) {
    sim.act(index, |core, _| core.user_event(name, b"", false)).expect("is sent");
    sim.run(secs(2));
}

/// A newcomer does not receive events from before it joined; from then on it receives each event once, over two
/// restarts.
#[test]
fn events_that_are_sent_while_a_member_is_restarted_are_told_once() {
    for joins in [false, true] {
        let mut sim = Sim::new(26);
        sim.add();
        for old in ["o1", "o2", "o3"] {
            send(&mut sim, 0, old);
        }
        sim.add();
        sim.run(secs(5));
        assert_eq!(told(&mut sim, 1), [""; 0], "from before the join");
        for (heard, missed) in [("h1", "m1"), ("h2", "m2")] {
            send(&mut sim, 0, heard);
            assert_eq!(told(&mut sim, 1), [heard]);
            let snapshot = Snapshot::parse(&sim.core(1).snapshot().encode());
            sim.kill(1);
            send(&mut sim, 0, missed);
            if joins {
                sim.start(1, |config| config.restore = Some(snapshot));
            } else {
                restart(&mut sim, 1, snapshot, false);
            }
            sim.run(secs(60));
            assert_eq!(told(&mut sim, 1), [missed], "with a join: {joins}");
        }
    }
}

#[test]
fn events_that_are_sent_while_a_member_is_cut_off_are_told_when_it_joins_again() {
    let mut sim = Sim::with_members(27, 2);
    sim.run(secs(5));
    sim.reaches = Box::new(|_, _, _| false);
    sim.run_until(secs(60), |sim| sim.status(1, 0) == Some(Status::Failed));
    send(&mut sim, 0, "missed");
    sim.reaches = Box::new(|_, _, _| true);
    sim.act(1, |core, now| core.join(now, addr(0), true)).expect("is begun");
    sim.run(secs(5));
    assert_eq!(told(&mut sim, 1), ["missed"]);
}

#[test]
fn a_snapshot_does_not_pass_events_and_queries_that_were_only_named() {
    let mut sim = Sim::new(28);
    sim.add();
    sim.cores.push(None);
    sim.events.push(Vec::new());
    sim.start_alone(1, |_| {});
    for n in 0..4 {
        send(&mut sim, 0, &format!("e{n}"));
        let params = QueryParams::default();
        sim.act(0, |core, now| core.query(now, "q", b"", &params)).expect("is asked");
    }
    // A state may mention more than it contains: a plain member's buffer may hold nothing.
    let mut state = sim.core(0).serf_state();
    state.events = Vec::new().into();
    sim.act(1, |core, now| core.merge_serf(now, &state, false));
    let snapshot = sim.core(1).snapshot();
    assert_eq!((snapshot.event_clock, snapshot.query_clock), (0, 0));
    let times = sim.core(1).lamport_times();
    assert_eq!((times.event, times.query), (5, 5), "but its own messages come behind them");
}

#[test]
fn a_start_after_leaving_forgets_nobody_that_a_later_one_may_be_told_to_try() {
    let mut sim = Sim::with_members(29, 3);
    sim.run(secs(5));
    sim.act(2, |core, now| core.leave(now));
    sim.run(secs(10));
    let left = Snapshot::parse(&sim.core(2).snapshot().encode());
    restart(&mut sim, 2, left.clone(), false);
    sim.run(secs(60));
    assert!(sim.core(2).has_left_before());
    let again = Snapshot::parse(&sim.core(2).snapshot().encode());
    assert_eq!((again.left, &again.alive), (true, &left.alive));
    restart(&mut sim, 2, again, true);
    sim.run_until(secs(45), |sim| sees_all(sim, 2, &[0, 1]));
    assert!(!sim.core(2).has_left_before() && !sim.core(2).snapshot().left);
}
