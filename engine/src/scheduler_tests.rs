use super::*;

const ROOT: Digest = Digest([1; 32]);
/// Its next peer by id is number 0, round the ring.
const OWN: ReplicaId = ReplicaId([250; 32]);
const OTHER: Digest = Digest([2; 32]);

fn peer(number: u8) -> ReplicaId {
    ReplicaId([number; 32])
}

/// The connection with a peer, unless a test is about several.
fn line(peer: &ReplicaId) -> ConnectionId {
    u64::from(peer.0[0])
}

/// Every peer that is asked for at a time, each session begun at once.
fn drain(scheduler: &mut Scheduler, now_us: u64) -> Vec<ReplicaId> {
    let mut all = Vec::new();
    while let Some(due) = scheduler.poll(now_us) {
        scheduler.session_started(&due.peer, due.connection, now_us);
        all.push(due.peer);
        assert!(all.len() <= 100, "the scheduler does not come to rest");
    }
    all
}

fn connected(count: u8) -> Scheduler {
    let mut scheduler = Scheduler::new(OWN, ROOT, 7, 0);
    for number in 0..count {
        scheduler.peer_up(peer(number), number.into(), First::Session, 0);
    }
    assert_eq!(drain(&mut scheduler, 0).len(), usize::from(count));
    for number in 0..count {
        scheduler.session_ended(&peer(number), number.into(), SessionEnd::Equal(ROOT), 1);
    }
    assert!(drain(&mut scheduler, 1).is_empty());
    scheduler
}

#[test]
fn a_change_goes_to_three_peers_after_a_pause() {
    let mut scheduler = connected(10);
    scheduler.root_changed(OTHER, 10);
    assert_eq!(scheduler.poll(10), None);
    assert_eq!(scheduler.poll_timeout(10), 10 + GATHER_US);
    let chosen = drain(&mut scheduler, 10 + GATHER_US);
    assert_eq!(chosen.len(), FANOUT);
    for id in &chosen {
        scheduler.session_ended(id, line(id), SessionEnd::Equal(OTHER), 40_000);
    }
    assert!(drain(&mut scheduler, 50_000).is_empty(), "three know it, and pass it on");
}

#[test]
fn a_failed_session_is_tried_again_within_a_second_and_then_more_rarely() {
    let mut scheduler = connected(1);
    let mut now = 10;
    let mut waits = Vec::new();
    for _ in 0..14 {
        scheduler.session_ended(&peer(0), 0, SessionEnd::Failed, now);
        let next = scheduler.poll_timeout(now);
        waits.push(next - now);
        now = next;
        // The comparison now and then may come first.
        while drain(&mut scheduler, now).is_empty() {
            now = scheduler.poll_timeout(now);
        }
    }
    assert!(waits[0] <= 1_000_000, "{waits:?}");
    assert!(waits[13] >= 5_000_000 && waits[13] <= 2 * MAX_RETRY_US, "{waits:?}");
}

#[test]
fn a_fact_that_nothing_helps_delays_no_change() {
    let mut scheduler = connected(2);
    scheduler.compare_at_us = u64::MAX;
    let mut now = 10;
    let mut waits = Vec::new();
    scheduler.session_started(&peer(0), 0, now);
    for _ in 0..14 {
        scheduler.session_ended(&peer(0), 0, SessionEnd::Stuck(ROOT), now);
        assert_eq!(scheduler.poll(now), None, "the same fact is not tried at once");
        let next = scheduler.poll_timeout(now);
        waits.push(next - now);
        now = next;
        let due = Due { peer: peer(0), connection: 0, cause: Cause::Retry };
        assert_eq!(scheduler.poll(now), Some(due));
        scheduler.session_started(&peer(0), 0, now);
    }
    assert!(waits[0] <= 2 * FIRST_RETRY_US && waits[13] >= MAX_RETRY_US / 2, "{waits:?}");
    assert!(waits[13] <= 2 * MAX_RETRY_US, "{waits:?}");
    scheduler.session_ended(&peer(0), 0, SessionEnd::Stuck(ROOT), now);
    let retry_at = scheduler.poll_timeout(now);

    // Fifty writes are each passed on as among equals, to both.
    for number in 0..50 {
        let root = Digest([100 + number; 32]);
        now += 1;
        scheduler.root_changed(root, now);
        assert_eq!(scheduler.poll_timeout(now), now + GATHER_US);
        now += GATHER_US;
        assert_eq!(drain(&mut scheduler, now), [peer(0), peer(1)], "write {number}");
        now += 1_000;
        scheduler.session_ended(&peer(0), 0, SessionEnd::Stuck(root), now);
        scheduler.session_ended(&peer(1), 1, SessionEnd::Equal(root), now);
        assert!(drain(&mut scheduler, now).is_empty(), "it has what it takes of it");
        assert!(!scheduler.is_equal(&peer(0), &root));
    }
    assert!(now < retry_at, "the retry alone would have come later");
    // What is written while a session goes on is passed on by the next.
    scheduler.session_started(&peer(0), 0, now);
    scheduler.root_changed(OTHER, now);
    scheduler.session_ended(&peer(0), 0, SessionEnd::Stuck(Digest([149; 32])), now + 5);
    assert_eq!(drain(&mut scheduler, now + GATHER_US), [peer(0), peer(1)]);
}

#[test]
fn what_is_due_is_tried_at_once_also_after_a_session_that_is_under_way() {
    let mut scheduler = connected(3);
    scheduler.compare_at_us = u64::MAX;
    for number in [0, 1] {
        for now in 2..12 {
            scheduler.session_started(&peer(number), number.into(), now);
            scheduler.session_ended(&peer(number), number.into(), SessionEnd::Stuck(ROOT), now);
        }
    }
    scheduler.session_started(&peer(1), 1, 20);
    assert!(scheduler.poll_timeout(20) > MAX_RETRY_US / 4);
    scheduler.retry_stuck(30);
    assert_eq!(scheduler.poll_timeout(30), 30);
    assert_eq!(drain(&mut scheduler, 30), [peer(0)], "the third is equal");
    scheduler.session_ended(&peer(1), 1, SessionEnd::Stuck(ROOT), 40);
    assert_eq!(drain(&mut scheduler, 40), [peer(1)]);
    // Once is enough.
    for number in [0, 1] {
        scheduler.session_ended(&peer(number), number.into(), SessionEnd::Stuck(ROOT), 50);
    }
    assert!(drain(&mut scheduler, 1_000_000).is_empty());
    // Who is found equal is not tried again.
    for number in [0, 1] {
        scheduler.session_started(&peer(number), number.into(), 1_000_000);
        scheduler.session_ended(&peer(number), number.into(), SessionEnd::Equal(ROOT), 1_000_000);
    }
    assert_eq!(scheduler.poll_timeout(1_000_000), u64::MAX);
}

#[test]
fn a_peer_that_takes_nothing_is_asked_now_and_then() {
    let mut scheduler = connected(1);
    scheduler.compare_at_us = u64::MAX;
    for now in 2..12 {
        scheduler.session_ended(&peer(0), 0, SessionEnd::OneSided, now);
    }
    scheduler.root_changed(OTHER, 20);
    assert!(drain(&mut scheduler, 1_000_000).is_empty(), "a change is nothing to it");
    assert_eq!(drain(&mut scheduler, 2 * MAX_RETRY_US), [peer(0)]);
}

#[test]
fn whoever_was_dialled_waits_and_then_begins() {
    let mut scheduler = Scheduler::new(OWN, ROOT, 7, 0);
    scheduler.peer_up(peer(1), 1, First::TheirSession, 0);
    assert_eq!(scheduler.poll(0), None);
    assert_eq!(scheduler.poll_timeout(0), YIELD_US);
    let due = Due { peer: peer(1), connection: 1, cause: Cause::Connection };
    assert_eq!(scheduler.poll(YIELD_US), Some(due));
}

#[test]
fn now_and_then_an_equal_peer_is_compared_with() {
    let mut scheduler = connected(3);
    let next = scheduler.poll_timeout(1);
    assert!((COMPARE_US / 2..=2 * COMPARE_US).contains(&next));
    assert_eq!(drain(&mut scheduler, next).len(), 1);
}

#[test]
fn changes_during_a_session_are_passed_on_after_it() {
    let mut scheduler = connected(1);
    scheduler.root_changed(OTHER, 10);
    assert_eq!(drain(&mut scheduler, 10 + GATHER_US), [peer(0)]);
    scheduler.root_changed(Digest([3; 32]), 30_000);
    scheduler.session_ended(&peer(0), 0, SessionEnd::Equal(OTHER), 40_000);
    assert_eq!(drain(&mut scheduler, 60_000), [peer(0)]);
}

#[test]
fn while_nobody_can_be_asked_there_is_a_time_to_wait_until() {
    // One peer is equal, one is in a long session, one backs off.
    let mut scheduler = connected(3);
    scheduler.session_started(&peer(1), 1, 5);
    scheduler.session_ended(&peer(2), 2, SessionEnd::Failed, 5);
    scheduler.root_changed(OTHER, 10);
    scheduler.session_started(&peer(0), 0, 10);
    scheduler.session_ended(&peer(0), 0, SessionEnd::Equal(OTHER), 11);
    for now in (10..5_000_000).step_by(1_000) {
        let asked = drain(&mut scheduler, now);
        for id in asked {
            scheduler.session_ended(&id, line(&id), SessionEnd::Failed, now);
        }
        assert!(scheduler.poll_timeout(now) > now, "it would spin at {now}");
    }
}

#[test]
fn three_long_sessions_do_not_keep_a_change_from_the_others() {
    let mut scheduler = connected(5);
    for number in 0..3 {
        scheduler.session_started(&peer(number), number.into(), 5);
    }
    scheduler.root_changed(OTHER, 10);
    let chosen = drain(&mut scheduler, 10 + GATHER_US);
    assert_eq!(chosen.len(), 2, "both that are free hear of it");
}

#[test]
fn a_peer_that_never_comes_to_an_end_is_asked_more_and_more_rarely() {
    let mut scheduler = connected(1);
    let mut now = 10;
    let mut waits = Vec::new();
    for _ in 0..16 {
        scheduler.session_ended(&peer(0), 0, SessionEnd::Unfinished, now);
        let due = scheduler.peers[&peer(0)].earliest_us;
        waits.push(due - now);
        now = due;
    }
    assert!(waits[0] < 200_000 && waits[15] > 5_000_000, "{waits:?}");
}

#[test]
fn members_are_all_compared_with_one_after_the_other_whatever_gossip_says() {
    let mut scheduler = Scheduler::new(OWN, ROOT, 7, 0);
    for number in 0..10 {
        scheduler.peer_up(peer(number), number.into(), First::Gossip, 0);
    }
    assert_eq!(scheduler.poll(0), None, "gossip comes first");
    let mut now = 0;
    let mut compared = Vec::new();
    while now < 6 * MEMBER_GRACE_US {
        let asked = drain(&mut scheduler, now);
        assert!(asked.len() <= 1, "one at a time: {asked:?}");
        for id in asked {
            assert!(drain(&mut scheduler, now + 1).is_empty(), "while it goes on, the others wait");
            now += 50_000;
            scheduler.session_ended(&id, line(&id), SessionEnd::Equal(ROOT), now);
            compared.push(id);
        }
        let next = scheduler.poll_timeout(now);
        assert!(next > now || scheduler.clone().poll(now).is_some(), "it would spin at {now}");
        now = now.max(next);
    }
    compared.sort_unstable();
    assert_eq!(compared, (0..10).map(peer).collect::<Vec<_>>());
}

#[test]
fn a_comparison_waits_for_a_long_session_but_not_for_ever() {
    let mut scheduler = connected(1);
    scheduler.peer_up(peer(7), 7, First::Gossip, 2);
    scheduler.session_started(&peer(0), 0, 2);
    scheduler.compare_at_us = u64::MAX;
    assert!(drain(&mut scheduler, HOLD_US).is_empty());
    assert_eq!(scheduler.poll_timeout(HOLD_US), HOLD_US + 2);
    assert_eq!(drain(&mut scheduler, HOLD_US + 2), [peer(7)]);
}

#[test]
fn a_replaced_connection_changes_nothing_any_more() {
    let mut scheduler = connected(1);
    // Another connection with the same peer takes the place of number 0, while a session runs on that one.
    scheduler.session_started(&peer(0), 0, 10);
    scheduler.peer_up(peer(0), 100, First::Session, 20);
    let due = Due { peer: peer(0), connection: 100, cause: Cause::Connection };
    assert_eq!(scheduler.poll(20), Some(due));
    scheduler.session_started(&peer(0), 100, 20);
    scheduler.session_ended(&peer(0), 0, SessionEnd::Failed, 30);
    scheduler.peer_down(&peer(0), 0);
    assert!(drain(&mut scheduler, 20_000_000).is_empty(), "the session on the new one goes on");
    scheduler.session_ended(&peer(0), 100, SessionEnd::Equal(ROOT), 40);
    assert!(scheduler.is_equal(&peer(0), &ROOT), "and counts");
    scheduler.peer_down(&peer(0), 100);
    assert!(!scheduler.is_equal(&peer(0), &ROOT));
}

#[test]
fn of_a_full_peer_another_takes_the_place() {
    let mut scheduler = connected(5);
    scheduler.root_changed(OTHER, 10);
    let chosen = drain(&mut scheduler, 10 + GATHER_US);
    assert_eq!(chosen.len(), FANOUT);
    let at = 11 + GATHER_US;
    scheduler.session_ended(&chosen[0], line(&chosen[0]), SessionEnd::Busy, at);
    let instead = drain(&mut scheduler, at);
    assert_eq!(instead.len(), 1);
    assert!(!chosen.contains(&instead[0]));
}

#[test]
fn a_change_reaches_everybody_without_waiting_for_a_comparison() {
    // However chance has it: sessions are instant, and each replica is connected with all others.
    for seed in 1..300_u64 {
        let count = 3 + (seed % 12) as u8;
        let mut all: Vec<Scheduler> = (0..count)
            .map(|own| {
                let mut one = Scheduler::new(
                    peer(own),
                    ROOT,
                    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(own) << 40,
                    0,
                );
                for other in (0..count).filter(|other| *other != own) {
                    one.peer_up(peer(other), other.into(), First::Session, 0);
                    one.session_started(&peer(other), other.into(), 0);
                    one.session_ended(&peer(other), other.into(), SessionEnd::Equal(ROOT), 0);
                }
                one
            })
            .collect();
        let mut opened = vec![0; count.into()];
        all[0].root_changed(OTHER, 0);
        let mut now = 0;
        for _ in 0..count {
            now += GATHER_US;
            for own in 0..count {
                while let Some(due) = all[usize::from(own)].poll(now) {
                    assert_eq!(due.cause, Cause::Change);
                    let other = due.peer.0[0];
                    opened[usize::from(own)] += 1;
                    for (side, with) in [(own, other), (other, own)] {
                        let side = &mut all[usize::from(side)];
                        side.session_started(&peer(with), with.into(), now);
                        side.root_changed(OTHER, now);
                        side.session_ended(&peer(with), with.into(), SessionEnd::Equal(OTHER), now);
                    }
                }
            }
        }
        assert!(
            all.iter().all(|one| one.root == OTHER),
            "somebody of {count} never hears of it (seed {seed})"
        );
        assert!(opened.iter().all(|opened| *opened <= FANOUT), "{opened:?}");
    }
}

#[test]
fn a_session_is_under_way_until_each_that_began_has_ended() {
    let mut scheduler = connected(1);
    scheduler.compare_at_us = u64::MAX;
    scheduler.root_changed(OTHER, 10);
    let at = 10 + GATHER_US;
    // Ours begins, and so does theirs, which wins.
    assert_eq!(drain(&mut scheduler, at), [peer(0)]);
    scheduler.session_started(&peer(0), 0, at + 1);
    scheduler.session_ended(&peer(0), 0, SessionEnd::Busy, at + 2);
    assert!(drain(&mut scheduler, at + PASSING_ON_US).is_empty(), "theirs goes on");
    scheduler.session_ended(&peer(0), 0, SessionEnd::Equal(OTHER), at + 3);
    assert!(drain(&mut scheduler, at + PASSING_ON_US).is_empty(), "and has brought what changed");
    assert!(scheduler.is_equal(&peer(0), &OTHER));
}

#[test]
fn a_session_that_found_no_room_on_either_side_is_tried_again() {
    let mut scheduler = connected(1);
    scheduler.root_changed(OTHER, 10);
    assert_eq!(drain(&mut scheduler, 10 + GATHER_US), [peer(0)]);
    scheduler.session_started(&peer(0), 0, 40_000);
    scheduler.session_ended(&peer(0), 0, SessionEnd::Busy, 50_000);
    scheduler.session_ended(&peer(0), 0, SessionEnd::Busy, 60_000);
    assert_eq!(drain(&mut scheduler, 60_000 + 2 * FIRST_RETRY_US), [peer(0)]);
}

#[test]
fn a_replica_that_may_lack_something_compares_with_everybody_whatever_is_known_of_them() {
    let mut scheduler = Scheduler::new(OWN, ROOT, 7, 0);
    for number in 0..3 {
        scheduler.peer_up(peer(number), number.into(), First::Gossip, 0);
        scheduler.session_started(&peer(number), number.into(), 0);
        scheduler.session_ended(&peer(number), number.into(), SessionEnd::Equal(ROOT), 0);
    }
    assert_eq!(scheduler.poll(MEMBER_GRACE_US), None, "all are known to be equal");
    let at = 2 * MEMBER_GRACE_US;
    scheduler.session_started(&peer(1), 1, at);
    scheduler.compare_all();
    assert_eq!(drain(&mut scheduler, at), [peer(0), peer(2)], "with one a session is under way");
}
