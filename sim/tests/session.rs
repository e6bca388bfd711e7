//! Sessions between two replicas: what they cost, and that they end.

use kvgossip_engine::Judging;
use kvgossip_engine::session::Outcome;
use kvgossip_grants::{By, Code, Fact, GrantId, Verdict};
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::{Cut, Ended, Link, Scribe, SimReplica, sync};

const NOW: u64 = 1_000_000;

fn key(number: usize) -> String {
    format!("/dc{}/host{}/cpu/core{}/user", number % 7, number / 80, number % 80)
}

/// Two replicas that both hold the same `keys` keys under one grant.
fn twins(keys: usize) -> (Scribe, GrantId, SimReplica, SimReplica) {
    let mut scribe = Scribe::new(4);
    let grant = scribe.grant(0, 1, "/**", None, Terms::default());
    let id = grant.id();
    let mut facts = vec![Fact::Grant(grant)];
    facts.extend((0..keys).map(|n| scribe.set(1, &key(n), format!("value {n}").as_bytes(), 100, Some(id))));
    let fill = || {
        let mut replica = SimReplica::new(scribe.root().clone(), at(NOW));
        facts.iter().for_each(|fact| assert!(replica.offer(fact.clone()).is_taken_in()));
        replica
    };
    let (a, b) = (fill(), fill());
    assert_eq!(a.view().root(), b.view().root());
    (scribe, id, a, b)
}

fn assert_equal(ended: &Ended, a: &SimReplica, b: &SimReplica) {
    assert!(ended.error.is_none(), "{:?}", ended.error);
    assert_eq!(ended.outcome, Some(Outcome::Equal), "{ended:?}");
    assert_eq!(ended.responder_outcome, Some(Outcome::Equal));
    assert_eq!(a.view().root(), b.view().root());
}

#[test]
fn equal_replicas_take_one_round_trip_and_little() {
    let (_, _, mut a, mut b) = twins(1_000);
    let ended = sync(&mut a, &mut b, &Link::default());
    assert_equal(&ended, &a, &b);
    assert_eq!(ended.tally.flights, 2);
    assert!(ended.tally.sent.total() <= 128, "{:?}", ended.tally);
    assert!(ended.tally.received.total() <= 128, "{:?}", ended.tally);
}

#[test]
fn a_hundred_updates_of_ten_thousand_are_repaired_in_one_session() {
    let (scribe, grant, mut a, mut b) = twins(10_000);
    for n in 0..100 {
        let number = (n * 7919) % 10_000;
        let fact = scribe.set(1, &key(number), b"changed", 200 + n as u64, Some(grant));
        let side = if n % 2 == 0 { &mut a } else { &mut b };
        assert!(side.offer(fact).is_taken_in());
    }
    let ended = sync(&mut a, &mut b, &Link::default());
    assert_equal(&ended, &a, &b);
    println!("{ended:#?} overhead {}", ended.overhead());
    assert!(ended.overhead() <= 40_000, "{}", ended.overhead());
    assert!(ended.tally.flights <= 12, "{}", ended.tally.flights);
    assert_eq!(ended.tally.rounds, 1);
    assert_eq!(ended.tally.waste + ended.responder_tally.waste, 0, "nothing superseded is moved");
    assert_eq!(ended.tally.received.entry_facts + ended.tally.sent.entry_facts, 100);
}

#[test]
fn a_fresh_replica_gets_everything() {
    let (scribe, _, mut a, _) = twins(3_000);
    for reversed in [false, true] {
        let mut fresh = SimReplica::new(scribe.root().clone(), at(NOW));
        let ended = if reversed {
            sync(&mut fresh, &mut a, &Link::default())
        } else {
            sync(&mut a, &mut fresh, &Link::default())
        };
        assert_equal(&ended, &a, &fresh);
        println!(
            "{reversed} {:?} overhead {} flights {}",
            ended.tally,
            ended.overhead(),
            ended.tally.flights
        );
        assert_eq!(
            fresh.get(&"/dc0/host0/cpu/core0/user".parse().expect("a key")),
            Some(b"value 0".to_vec())
        );
    }
}

#[test]
fn revocations_spread_and_take_their_entries_along() {
    let (mut scribe, grant, mut a, mut b) = twins(500);
    let sub = scribe.grant(1, 2, "/dc1/**", Some(grant), Terms::default());
    a.offer(Fact::Grant(sub.clone()));
    a.offer(scribe.set(2, "/dc1/x", b"by two", 300, Some(sub.id())));
    assert_equal(&sync(&mut a, &mut b, &Link::default()), &a, &b);
    b.offer(scribe.set(2, "/dc1/y", b"by two", 300, Some(sub.id())));
    a.offer(scribe.revoke(&sub, By::Issuer, 1, 400));
    let ended = sync(&mut b, &mut a, &Link::default());
    assert_equal(&ended, &a, &b);
    for name in ["/dc1/x", "/dc1/y"] {
        assert_eq!(b.get(&name.parse().expect("a key")), None);
    }
}

/// Two replicas that differ in everything that can differ.
fn divergent() -> (SimReplica, SimReplica) {
    let (mut scribe, grant, mut a, mut b) = twins(300);
    let sub = scribe.grant(1, 2, "/dc1/**", Some(grant), Terms::default());
    a.offer(Fact::Grant(sub.clone()));
    for n in 0..30u64 {
        a.offer(scribe.set(1, &key(n as usize * 9), b"a", 500 + n, Some(grant)));
        b.offer(scribe.set(1, &format!("/only/b/{n}"), b"b", 500 + n, Some(grant)));
        a.offer(scribe.set(2, &format!("/dc1/new/{n}"), b"c", 500 + n, Some(sub.id())));
    }
    (a, b)
}

fn moved(ended: &Ended) -> u64 {
    let (sent, received) = (ended.tally.sent, ended.tally.received);
    sent.entry_facts + sent.authority_facts + received.entry_facts + received.authority_facts
}

/// Cuts a session, restarts both sides and lets them sync again: only the rest is moved.
fn cut_and_resume(cut: Cut, whole: &Ended) {
    let (mut a, mut b) = divergent();
    let first = sync(&mut a, &mut b, &Link { cut: Some(cut), seed: 3, ..Link::default() });
    a.restart().expect("the store is whole");
    b.restart().expect("the store is whole");
    let taken = first.tally.merged + first.responder_tally.merged;
    let second = sync(&mut a, &mut b, &Link { seed: 4, ..Link::default() });
    assert_equal(&second, &a, &b);
    assert_eq!(taken + moved(&second), moved(whole), "{cut:?}");
}

#[test]
fn a_session_cut_after_each_frame_or_at_any_byte_is_finished_by_the_next_one() {
    let (mut a, mut b) = divergent();
    let whole = sync(&mut a, &mut b, &Link::default());
    assert_equal(&whole, &a, &b);
    for frames in 0..whole.frames {
        cut_and_resume(Cut::AfterFrames(frames), &whole);
    }
    let bytes = whole.tally.sent.total() + whole.tally.received.total();
    for number in 0..100u64 {
        // Spread over the stream without any pattern of its own.
        let byte = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % bytes;
        cut_and_resume(Cut::AfterBytes(byte as usize), &whole);
    }
}

#[test]
fn a_key_that_is_the_beginning_of_others_is_a_part_of_its_own() {
    // The part that names `/k/7` inside the region `/k/7` has no bytes of its own on the wire.
    let scribe = Scribe::new(1);
    let fill = |numbers: std::ops::Range<usize>| {
        let mut replica = SimReplica::new(scribe.root().clone(), at(NOW));
        for n in numbers {
            assert!(replica.offer(scribe.set(0, &format!("/k/{n}"), b"v", 100, None)).is_taken_in());
        }
        replica
    };
    let (mut a, mut b) = (fill(0..2_000), fill(1_700..3_500));
    let ended = sync(&mut a, &mut b, &Link::default());
    assert_equal(&ended, &a, &b);
}

#[test]
fn a_tree_that_branches_widely_all_the_way_down_is_walked_to_the_bottom() {
    // 17 siblings at each of 990 levels: every flight goes down a single level.
    let scribe = Scribe::new(1);
    let mut levels: Vec<String> = Vec::new();
    let mut spine = String::from("/a");
    while spine.len() < 1_000 {
        // A slash now and then: a segment has at most 255 bytes, a key at most 32 segments.
        spine.push_str(if spine.len() % 100 == 99 { "/a" } else { "a" });
        levels.push(spine.clone());
    }
    let siblings = "bcdefghijklmnopqr";
    let mut facts = Vec::new();
    for level in &levels {
        facts.extend(siblings.chars().map(|next| scribe.set(0, &format!("{level}{next}"), b"v", 100, None)));
    }
    let fill = || {
        let mut replica = SimReplica::new(scribe.root().clone(), at(NOW));
        let verified = facts.iter().map(|fact| replica.check(fact.clone()).expect("acceptable")).collect();
        replica.apply(verified);
        replica
    };
    let (mut a, mut b) = (fill(), fill());
    let deepest = levels.last().map(|level| format!("{level}a")).expect("a level");
    a.offer(scribe.set(0, &deepest, b"only here", 200, None));
    let ended = sync(&mut a, &mut b, &Link::default());
    assert_equal(&ended, &a, &b);
    println!("{} flights", ended.tally.flights);
}

#[test]
fn authority_that_waits_for_its_chain_is_not_counted_as_waste() {
    let (mut scribe, grant, mut a, mut b) = twins(20);
    let mut parent = grant;
    for _ in 0..10 {
        let child = scribe.grant(1, 1, "/**", Some(parent), Terms::default());
        parent = child.id();
        assert!(a.offer(Fact::Grant(child)).is_taken_in());
    }
    let ended = sync(&mut a, &mut b, &Link::default());
    assert_equal(&ended, &a, &b);
    assert_eq!((ended.responder_tally.waste, ended.responder_tally.merged), (0, 10));
}

/// Replays of what is known, of what is superseded, and spoilt copies of either: none has its signature verified.
#[test]
fn known_and_superseded_facts_are_recognised_before_their_signatures() {
    let (mut scribe, grant, mut replica, _) = twins(3);
    let old = scribe.set(1, &key(0), b"value 0", 100, Some(grant));
    let new = scribe.set(1, &key(0), b"newer", 200, Some(grant));
    assert!(replica.offer(new.clone()).is_taken_in());
    let spoilt = |fact: &Fact| {
        let mut record = fact.to_record().to_vec();
        record[1] ^= 1;
        Fact::from_record(scribe.cluster(), &record).expect("still a fact")
    };
    let four = [new.clone(), old.clone(), spoilt(&new), spoilt(&old)];
    let batch: Vec<Fact> = std::iter::repeat_n(four, 200).flatten().collect();
    let mut judging = Judging::new(replica.view(), batch.clone());
    assert!(judging.next_pass().is_none(), "nothing is left to verify");
    let verdicts = judging.finish().verdicts;
    let expected = [Code::Known, Code::Dominated].map(|code| Some(Verdict::Moot(code)));
    assert!(verdicts.chunks(2).all(|pair| pair == expected));

    // What may end the newer one comes with them: then the older one is looked at more closely.
    let floor = scribe.floor(&["/**"], 0);
    let mut judging = Judging::new(replica.view(), [batch, vec![floor]].concat());
    assert_eq!(judging.next_pass().map(|pass| pass.facts.len()), Some(401));
    let mut thorough = Judging::thorough(replica.view(), vec![new]);
    assert_eq!(thorough.next_pass().map(|pass| pass.facts.len()), Some(1));
}
