//! What was once broken elsewhere and must stay refused here, through whole replicas and whole sessions. The
//! defects are numbered as in the list of the baseline; the others of the list have their tests where they belong.

use bytes::Bytes;
use kvgossip_engine::session::Outcome;
use kvgossip_grants::{
    Body, By, Code, Entry, EntryId, Fact, GrantId, Key, MAX_VALUE_BYTES, Op, PublicKey, Signer, Timestamp,
    Verdict, Verifier,
};
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::world::{NOW, SECOND};
use kvgossip_sim::{Ended, Link, Scribe, SimReplica, sync};

fn key(text: &str) -> Key {
    Key::parse(text).expect("a key")
}

/// A cluster with a grant over everything to entity 1.
struct Cluster {
    scribe: Scribe,
    grant: GrantId,
    authority: Vec<Fact>,
}

impl Cluster {
    fn new() -> Self {
        let mut scribe = Scribe::new(4);
        let grant = scribe.grant(0, 1, "/**", None, Terms::default());
        Self { grant: grant.id(), authority: vec![Fact::Grant(grant)], scribe }
    }

    fn set(&self, key: &str, value: &str, time: u64) -> Fact {
        self.scribe.set(1, key, value.as_bytes(), time, Some(self.grant))
    }

    fn replica(&self, facts: &[&Fact]) -> SimReplica {
        let mut replica = SimReplica::new(self.scribe.root().clone(), at(NOW));
        for fact in self.authority.iter().chain(facts.iter().copied()) {
            assert!(replica.offer(fact.clone()).is_taken_in());
        }
        replica
    }
}

fn meet(a: &mut SimReplica, b: &mut SimReplica) -> Ended {
    let ended = sync(a, b, &Link::default());
    assert!(ended.error.is_none(), "{ended:?}");
    ended
}

fn assert_equal(a: &mut SimReplica, b: &mut SimReplica) {
    let ended = meet(a, b);
    assert_eq!((ended.outcome, ended.responder_outcome), (Some(Outcome::Equal), Some(Outcome::Equal)));
    assert_eq!(a.view().root(), b.view().root());
}

/// Takes any signature, as a peer may that lies.
struct Careless;

impl Verifier for Careless {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// Puts a fact into a replica that an honest one would not have taken: a peer may be anything.
fn plant(replica: &mut SimReplica, fact: Fact) {
    let checked = replica.view().check(fact, Timestamp::MAX).expect("a live chain");
    let verdicts = replica.apply(vec![checked.verify(&Careless).expect("any signature will do")]);
    assert_eq!(verdicts, [Verdict::Merged]);
}

#[test]
fn defect_5_an_older_put_does_not_replace() {
    let cluster = Cluster::new();
    let (older, newer) = (cluster.set("/a", "older", 100), cluster.set("/a", "newer", 200));
    let mut replica = cluster.replica(&[&newer]);
    let before = replica.view().root();
    assert_eq!(replica.offer(older.clone()), Verdict::Moot(Code::Dominated));
    assert_eq!(replica.get(&key("/a")), Some(b"newer".to_vec()));
    assert_eq!(replica.view().root(), before);
    // The same over a session, from whichever side.
    for turned in [false, true] {
        let (mut a, mut b) = (cluster.replica(&[&newer]), cluster.replica(&[&older]));
        if turned {
            assert_equal(&mut b, &mut a)
        } else {
            assert_equal(&mut a, &mut b)
        }
        assert_eq!(b.get(&key("/a")), Some(b"newer".to_vec()));
    }
}

#[test]
fn defect_6_equal_timestamps_converge() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.set("/a", "one", 100), cluster.set("/a", "two", 100));
    let winner = if one.id() > two.id() { b"one".to_vec() } else { b"two".to_vec() };
    for turned in [false, true] {
        let (mut a, mut b) = (cluster.replica(&[&one]), cluster.replica(&[&two]));
        if turned {
            assert_equal(&mut b, &mut a)
        } else {
            assert_equal(&mut a, &mut b)
        }
        for replica in [a, b] {
            assert_eq!(replica.get(&key("/a")), Some(winner.clone()));
            assert_eq!(replica.view().frontier(&key("/a")).expect("set").len(), 1);
        }
    }
}

#[test]
fn defect_7_the_same_value_under_another_key_compares_unequal() {
    let cluster = Cluster::new();
    let mut a = cluster.replica(&[&cluster.set("/cfg/a", "x", 100)]);
    let mut b = cluster.replica(&[&cluster.set("/cfg/b", "x", 100)]);
    assert_ne!(a.view().entries_root(), b.view().entries_root());
    assert_ne!(a.view().root(), b.view().root());
    assert_equal(&mut a, &mut b);
    for replica in [a, b] {
        assert_eq!(replica.get(&key("/cfg/a")), Some(b"x".to_vec()));
        assert_eq!(replica.get(&key("/cfg/b")), Some(b"x".to_vec()));
    }
}

#[test]
fn defect_8_after_a_purge_the_digest_is_that_of_a_replica_that_never_saw_it() {
    let mut cluster = Cluster::new();
    let kept: Vec<Fact> = (0..40).map(|n| cluster.set(&format!("/kept/{n}"), "x", 500)).collect();
    let floor = cluster.scribe.floor(&["/tmp/**", "/kept/**"], 400);
    let tmp = cluster.scribe.grant(1, 2, "/tmp/**", Some(cluster.grant), Terms::default());
    let purge = cluster.scribe.revoke(&tmp, By::Issuer, 1, 600);
    let kept_facts: Vec<&Fact> = kept.iter().collect();
    let mut fresh = cluster.replica(&kept_facts);
    for fact in [&floor, &purge] {
        assert_eq!(fresh.offer(fact.clone()), Verdict::Merged);
    }
    let mut old = cluster.replica(&kept_facts);
    old.offer(Fact::Grant(tmp.clone()));
    for n in 0..100 {
        // Old enough for the floor, or under what will be revoked; as many keys as split and join tree nodes.
        old.offer(cluster.set(&format!("/tmp/old{n}"), "x", 300));
        old.offer(cluster.scribe.set(2, &format!("/tmp/{n}/x"), b"x", 500, Some(tmp.id())));
        old.offer(cluster.set(&format!("/kept/{}", n % 40), "older", 200));
    }
    assert_ne!(old.view().entries_root(), fresh.view().entries_root());
    for fact in [&purge, &floor] {
        assert_eq!(old.offer(fact.clone()), Verdict::Merged);
    }
    assert_eq!(old.view().root(), fresh.view().root());
    assert_eq!(old.storage().records(), fresh.storage().records());
    let ended = meet(&mut old, &mut fresh);
    assert_eq!((ended.outcome, ended.tally.rounds), (Some(Outcome::Equal), 0));
}

#[test]
fn defect_9_revocations_spread_and_refuse_what_was_accepted_before() {
    let mut cluster = Cluster::new();
    let grant = cluster.scribe.grant(1, 2, "/a/**", Some(cluster.grant), Terms::default());
    let by_two = |name: &str, time| cluster.scribe.set(2, name, b"by two", time, Some(grant.id()));
    let below = cluster.set("/a/x", "by one", 90);
    let (mut a, mut b) = (cluster.replica(&[&below]), cluster.replica(&[&below]));
    for replica in [&mut a, &mut b] {
        replica.offer(Fact::Grant(grant.clone()));
        assert_eq!(replica.offer(by_two("/a/x", 100)), Verdict::Merged);
        assert_eq!(replica.get(&key("/a/x")), Some(b"by two".to_vec()));
    }
    let mut far = cluster.replica(&[]);
    assert_eq!(a.offer(cluster.scribe.revoke(&grant, By::Issuer, 1, 200)), Verdict::Merged);
    assert_eq!(a.get(&key("/a/x")), Some(b"by one".to_vec()), "the newest that is still valid shows");
    // Where the revocation is unknown the write is accepted, until the next session.
    assert_eq!(b.offer(by_two("/a/y", 300)), Verdict::Merged);
    assert_equal(&mut b, &mut a);
    assert_equal(&mut b, &mut far);
    for replica in [&mut a, &mut b, &mut far] {
        assert_eq!(replica.get(&key("/a/y")), None);
        assert_eq!(replica.get(&key("/a/x")), Some(b"by one".to_vec()));
        assert_eq!(replica.offer(by_two("/a/z", 400)), Verdict::Unjustified(Code::GrantRevoked));
        assert!(replica.view().authority().revocation(&grant.id()).is_some());
    }
}

/// Twenty good entries and one that cannot be taken in, and what a session makes of them.
fn with_one_bad(cluster: &Cluster, bad: Fact, peer_clock: Timestamp) -> (Ended, SimReplica, SimReplica) {
    with_a_liar(cluster, peer_clock, |liar| plant(liar, bad))
}

/// The same, where `lie` makes the first replica what it is.
fn with_a_liar(
    cluster: &Cluster,
    peer_clock: Timestamp,
    lie: impl FnOnce(&mut SimReplica),
) -> (Ended, SimReplica, SimReplica) {
    let good: Vec<Fact> = (0..20).map(|n| cluster.set(&format!("/k{n}/x"), "good", 100)).collect();
    let mut a = cluster.replica(&good.iter().collect::<Vec<_>>());
    a.now = peer_clock;
    lie(&mut a);
    let mut b = cluster.replica(&[&cluster.set("/only/b", "good", 100)]);
    let ended = meet(&mut a, &mut b);
    for n in 0..20 {
        assert_eq!(b.get(&key(&format!("/k{n}/x"))), Some(b"good".to_vec()), "one bad item stops no other");
    }
    assert_eq!(a.get(&key("/only/b")), Some(b"good".to_vec()));
    (ended, a, b)
}

#[test]
fn defect_10_an_entry_of_a_revoked_grant_stops_no_other() {
    let mut cluster = Cluster::new();
    let grant = cluster.scribe.grant(0, 2, "/**", None, Terms::default());
    cluster.authority.push(Fact::Grant(grant.clone()));
    let bad = cluster.scribe.set(2, "/k5/bad", b"bad", 100, Some(grant.id()));
    let good: Vec<Fact> = (0..20).map(|n| cluster.set(&format!("/k{n}/x"), "good", 100)).collect();
    let mut a = cluster.replica(&good.iter().chain([&bad]).collect::<Vec<_>>());
    let mut b = cluster.replica(&[&cluster.scribe.revoke(&grant, By::Root, 0, 0)]);
    assert_equal(&mut a, &mut b);
    assert_eq!((a.get(&key("/k5/bad")), b.get(&key("/k5/bad"))), (None, None));
    assert_eq!(b.view().entries().len(), 20);
}

#[test]
fn defect_10_a_clock_that_is_ahead_stops_no_other() {
    let cluster = Cluster::new();
    let ahead = |seconds| cluster.set("/k5/ahead", "ahead", NOW + seconds * SECOND);
    let (ended, _, b) = with_one_bad(&cluster, ahead(60), at(NOW + 60 * SECOND));
    assert_eq!(ended.outcome, Some(Outcome::Equal), "a minute is nothing");
    assert_eq!(b.get(&key("/k5/ahead")), Some(b"ahead".to_vec()));
    let (ended, mut a, mut b) = with_one_bad(&cluster, ahead(600), at(NOW + 600 * SECOND));
    let Some(Outcome::Unsettled(why)) = ended.outcome else { panic!("{ended:?}") };
    assert!(why.not_yet && !why.refused && !why.unjustified, "{why:?}");
    assert_eq!(b.get(&key("/k5/ahead")), None);
    // Its time comes, no sooner and no later: then the same session again makes them equal.
    let due = at(NOW + 480 * SECOND);
    b.now = due.saturating_sub(1);
    assert_eq!(b.offer(ahead(600)), Verdict::NotYet { due });
    b.now = due;
    assert_equal(&mut a, &mut b);
    assert_eq!(b.get(&key("/k5/ahead")), Some(b"ahead".to_vec()));
}

#[test]
fn defect_10_bad_signatures_and_strangers_stop_no_other() {
    let cluster = Cluster::new();
    let honest = cluster.set("/k5/bad", "bad", 100);
    let unsigned = cluster.scribe.forge(&honest, 2);
    let stranger = cluster.scribe.forge(&cluster.set("/k6/bad", "bad", 100), 3);
    for bad in [unsigned, stranger] {
        let (ended, _, b) = with_one_bad(&cluster, bad, at(NOW));
        let Some(Outcome::Unsettled(why)) = ended.outcome else { panic!("{ended:?}") };
        assert!(why.refused && !why.not_yet, "{why:?}");
        assert_eq!(ended.responder_tally.refused, u64::from(ended.tally.rounds), "once in each round");
        assert_eq!(b.view().entries().len(), 21);
    }
}

/// A record with a value that is too long by one byte: well signed, though nothing here would have signed it.
fn oversized(cluster: &Cluster, name: &str) -> Bytes {
    let (writer, value) = (cluster.scribe.key(1), vec![7; MAX_VALUE_BYTES + 1]);
    let (op, signer, grant) = (Op::set(&value), writer.public().entity(), Some(cluster.grant));
    let body = Entry { key: key(name), timestamp: at(100), op, signer, grant }.encode();
    let message = [&Entry::TAG[..], cluster.scribe.cluster().as_bytes(), &body].concat();
    let signature = writer.sign(&message).expect("mock keys always sign");
    // An entry, and two times 128 bytes of signature.
    [&[0x24], &signature[..], &body, &value].concat().into()
}

#[test]
fn defect_10_an_oversized_value_stops_no_other() {
    let cluster = Cluster::new();
    let largest = cluster.scribe.set(1, "/k5/big", &vec![7; MAX_VALUE_BYTES], 100, Some(cluster.grant));
    let (ended, _, b) = with_one_bad(&cluster, largest, at(NOW));
    assert_eq!(ended.outcome, Some(Outcome::Equal), "the limit itself is allowed");
    assert_eq!(b.get(&key("/k5/big")).map(|value| value.len()), Some(MAX_VALUE_BYTES));
    let (ended, _, b) = with_a_liar(&cluster, at(NOW), |liar| {
        let small = cluster.set("/k5/big", "small", 100);
        plant(liar, small.clone());
        liar.tell_instead(&key("/k5/big"), &EntryId(small.id().0), oversized(&cluster, "/k5/big"));
    });
    let Some(Outcome::Unsettled(why)) = ended.outcome else { panic!("{ended:?}") };
    assert!(why.refused, "{why:?}");
    assert_eq!(b.get(&key("/k5/big")), None);
}
