//! Facts that one side does not take in now, or never: how often they are moved, and what they hold up.

use kvgossip_engine::declined::Reason;
use kvgossip_engine::session::{Obstacles, Outcome};
use kvgossip_engine::waiting_room::MAX_ROOM_BYTES;
use kvgossip_grants::{Code, Fact, MAX_AHEAD_MICROS, Verdict};
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::{Ended, Link, Meanwhile, Scribe, SimReplica, sync};

const NOW: u64 = 10_000_000_000;
/// Ten minutes ahead.
const AHEAD: u64 = NOW + 600_000_000;

/// Two replicas, the second of which is ten minutes behind.
fn pair(scribe: &Scribe) -> (SimReplica, SimReplica) {
    let right = SimReplica::new(scribe.root().clone(), at(AHEAD));
    let behind = SimReplica::new(scribe.root().clone(), at(NOW));
    (right.with_waiting_room(), behind.with_waiting_room())
}

fn take(replica: &mut SimReplica, fact: Fact) -> u64 {
    let weight = fact.payload_len() as u64;
    assert_eq!(replica.offer(fact), Verdict::Merged);
    weight
}

/// A session, begun by either side in turns.
fn session(a: &mut SimReplica, b: &mut SimReplica, seed: u64) -> Ended {
    let link = Link { seed, ..Link::default() };
    let ended = if seed.is_multiple_of(2) { sync(a, b, &link) } else { sync(b, a, &link) };
    assert!(ended.error.is_none(), "{:?}", ended.error);
    assert_eq!(ended.outcome, ended.responder_outcome);
    ended
}

/// Bytes of entries both ways.
fn entries(ended: &Ended) -> u64 {
    ended.tally.sent.entries + ended.tally.received.entries
}

fn unsettled(not_yet: bool, refused: bool) -> Option<Outcome> {
    Some(Outcome::Unsettled(Obstacles { not_yet, refused, ..Obstacles::default() }))
}

#[test]
fn early_entries_move_once_while_others_go_on() {
    let scribe = Scribe::new(1);
    let (mut a, mut b) = pair(&scribe);
    let early = |n: u64| scribe.set(0, &format!("/early/{n}"), &[7; 50_000], AHEAD + n, None);
    let expected: u64 = (0..20).map(|n| take(&mut a, early(n))).sum();
    let first = session(&mut a, &mut b, 0);
    assert_eq!((entries(&first), first.outcome), (expected, unsettled(true, false)));
    assert_eq!(b.declined().map(|declined| declined.room().len()), Some(20));
    for n in 1..=50 {
        let (from, fact) = (n % 3, scribe.set(0, &format!("/other/{n}"), b"value", NOW + n, None));
        let weight = take(if from == 0 { &mut a } else { &mut b }, fact);
        let ended = session(&mut a, &mut b, n);
        assert_eq!((entries(&ended), ended.outcome), (weight, unsettled(true, false)), "write {n}");
        assert_eq!(b.view().entries().len() as u64, n);
        // The list of twenty is 80 bytes and two more.
        assert!(ended.overhead() < 1_500, "{}", ended.overhead());
    }
    b.now = at(AHEAD);
    assert_eq!(b.offer_due(), 20);
    assert_eq!(a.view().root(), b.view().root(), "nothing more had to be moved");
    assert_eq!(session(&mut a, &mut b, 52).outcome, Some(Outcome::Equal));
}

#[test]
fn what_finds_no_room_moves_twice() {
    let scribe = Scribe::new(1);
    let (mut a, mut b) = pair(&scribe);
    let early = |n: u64| scribe.set(0, &format!("/early/{n}"), &[7; 1 << 20], AHEAD + n, None);
    let weights: Vec<u64> = (0..20).map(|n| take(&mut a, early(n))).collect();
    assert!(weights.iter().sum::<u64>() > MAX_ROOM_BYTES as u64);
    let ended = session(&mut a, &mut b, 0);
    assert_eq!(entries(&ended), weights.iter().sum::<u64>());
    for seed in 1..5 {
        assert_eq!(entries(&session(&mut a, &mut b, seed)), 0);
    }
    let kept = b.declined().map_or(0, |declined| declined.room().len());
    assert_eq!((kept, b.declined().map(|declined| declined.fallen())), (15, Some(5)));
    b.now = at(AHEAD);
    assert_eq!(b.offer_due(), 15);
    let ended = session(&mut a, &mut b, 6);
    assert_eq!(ended.tally.sent.entry_facts + ended.tally.received.entry_facts, 5);
    assert_eq!(ended.outcome, Some(Outcome::Equal));
    // A restart forgets what waits: it comes once more.
    let late = take(&mut a, scribe.set(0, "/late", b"x", AHEAD + MAX_AHEAD_MICROS, None));
    b.now = at(AHEAD - 1);
    assert_eq!(entries(&session(&mut a, &mut b, 7)), late);
    b = b.with_waiting_room();
    assert_eq!(entries(&session(&mut a, &mut b, 8)), late);
    assert_eq!(entries(&session(&mut a, &mut b, 9)), 0);
}

#[test]
fn what_one_side_refuses_for_good_moves_once() {
    let mut scribe = Scribe::new(3);
    let refused_grant = scribe.grant(0, 2, "/b/**", None, Terms::default());
    let entry = scribe.set(0, "/a", &[7; 10_000], NOW, None);
    for (fact, code) in [(entry.clone(), Code::OutOfReach), (Fact::Grant(refused_grant), Code::WrongIssuer)] {
        let (mut a, b) = pair(&scribe);
        let mut b = b.refusing(fact.id(), code);
        take(&mut a, fact.clone());
        let moved = |ended: &Ended| {
            let (sent, received) = (ended.tally.sent, ended.tally.received);
            sent.entry_facts + received.entry_facts + sent.authority_facts + received.authority_facts
        };
        let first = session(&mut a, &mut b, 0);
        assert_eq!((moved(&first), first.outcome), (1, unsettled(false, true)));
        for n in 1..10 {
            take(&mut a, scribe.set(0, &format!("/other/{n}"), b"value", NOW + n, None));
            let ended = session(&mut a, &mut b, n);
            assert_eq!((moved(&ended), ended.outcome), (1, unsettled(false, true)), "{code} {n}");
        }
    }
    // A spoilt copy condemns nothing: it comes again, and so does the whole one.
    let (mut a, b) = pair(&scribe);
    let mut b = b.refusing(entry.id(), Code::BadSignature);
    let weight = take(&mut a, entry.clone());
    for seed in 0..3 {
        assert_eq!(entries(&session(&mut a, &mut b, seed)), weight);
        assert_eq!(b.declined().and_then(|declined| declined.reason(&entry.id())), None);
    }
}

#[test]
fn what_an_early_entry_supersedes_is_not_moved_in_its_place() {
    let scribe = Scribe::new(1);
    let (mut a, mut b) = pair(&scribe);
    let old = scribe.set(0, "/k", &[1; 20_000], NOW, None);
    let early = scribe.set(0, "/k", &[2; 20_000], AHEAD, None);
    for replica in [&mut a, &mut b] {
        take(replica, old.clone());
    }
    let weight = take(&mut a, early.clone());
    assert_eq!(entries(&session(&mut a, &mut b, 0)), weight);
    assert_eq!(b.declined().and_then(|declined| declined.reason(&early.id())), Some(Reason::NotYet));
    for seed in 1..6 {
        assert_eq!(
            entries(&session(&mut a, &mut b, seed)),
            0,
            "the old one is not sent back in each session"
        );
    }
}

#[test]
fn what_was_told_is_what_stood_when_the_last_round_began() {
    let scribe = Scribe::new(1);
    let (mut a, mut b) = pair(&scribe);
    take(&mut a, scribe.set(0, "/early", b"value", AHEAD, None));
    take(&mut b, scribe.set(0, "/old", b"value", NOW, None));
    let ended = sync(&mut a, &mut b, &Link::default());
    assert_eq!(ended.outcome, unsettled(true, false));
    assert_eq!(ended.told, Some(a.view().root()), "with what came from the other side");
    // Written when the walk was under way already: it is in the final root, and was not told.
    for at in 2..7 {
        let told = a.view().root();
        let fact = scribe.set(0, &format!("/meanwhile/{at}"), b"value", NOW, None);
        let meanwhile = vec![Meanwhile { at, to_initiator: true, fact }];
        let ended = sync(&mut a, &mut b, &Link { meanwhile, seed: at as u64, ..Link::default() });
        if b.view().entries().len() == a.view().entries().len() - 1 {
            assert_eq!(ended.told, Some(a.view().root()), "before frame {at} it was in time");
            continue;
        }
        assert_eq!(ended.told, Some(told), "before frame {at}");
        return;
    }
    panic!("the write came in no session's way");
}
