//! Tests the rules of grants one by one. The simulator tests whole worlds in any order.

use crate::*;
use bytes::Bytes;

pub(super) fn time(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).expect("a small time")
}

pub(super) struct World {
    pub(super) authority: Authority,
    keys: Vec<MockKey>,
}

impl World {
    /// Entity 0 is root.
    pub(super) fn new() -> Self {
        let keys: Vec<MockKey> = (0..6).map(MockKey::new).collect();
        Self { authority: Authority::new(keys[0].public().clone()), keys }
    }

    pub(super) fn id(&self, who: usize) -> EntityId {
        self.keys[who].public().entity()
    }

    pub(super) fn signed<B: AuthorityBody>(&self, body: B, by: usize) -> Signed<B> {
        Signed::sign(self.authority.cluster(), body, &self.keys[by]).expect("mock signatures never fail")
    }

    pub(super) fn grant(
        &self,
        by: usize,
        to: usize,
        pattern: &str,
        parent: Option<GrantId>,
    ) -> Signed<Grant> {
        let grant = Grant {
            issuer: self.id(by),
            grantee: self.keys[to].public().clone(),
            pattern: KeyGlob::parse(pattern).expect("a glob"),
            subgrant: true,
            parent,
            issued_at: time(100),
            expires_at: Some(time(1_000_000)),
            nonce: [7; 16],
        };
        self.signed(grant, by)
    }

    pub(super) fn entry(&self, by: usize, key: &str, at: u64, grant: Option<GrantId>) -> Fact {
        let (key, value) = (Key::parse(key).expect("a key"), Some(Bytes::from_static(b"v")));
        let draft = EntryDraft { key, value, timestamp: time(at), grant };
        let fact = EntryFact::sign(self.authority.cluster(), draft, &self.keys[by]);
        Fact::Entry(fact.expect("mock signatures never fail"))
    }

    pub(super) fn judge(&self, fact: Fact) -> Result<Verified, Verdict> {
        self.authority.check(fact, time(1_000))?.verify(&MockVerifier)
    }

    pub(super) fn offer(&mut self, fact: Fact) -> Verdict {
        match self.judge(fact) {
            Ok(verified) => self.authority.merge(verified).verdict,
            Err(verdict) => verdict,
        }
    }

    pub(super) fn revoke(&self, grant: &Signed<Grant>, by: By, signer: usize) -> Fact {
        Fact::Revocation(self.signed(Revocation { grant: grant.clone(), by, revoked_at: time(5) }, signer))
    }
}

#[test]
fn defect_1_only_the_grantee_writes_under_a_grant() {
    let mut world = World::new();
    let grant = world.grant(0, 1, "/a/**", None);
    assert_eq!(world.offer(Fact::Grant(grant.clone())), Verdict::Merged);
    assert!(world.judge(world.entry(1, "/a/b", 200, Some(grant.id()))).is_ok());
    let stranger = world.judge(world.entry(2, "/a/b", 200, Some(grant.id())));
    assert_eq!(stranger.err(), Some(Verdict::Refused(Code::WrongSigner)));
}

#[test]
fn defect_2_the_signature_covers_key_timestamp_and_value() {
    let mut world = World::new();
    let grant = world.grant(0, 1, "/a/**", None);
    world.offer(Fact::Grant(grant.clone()));
    let Fact::Entry(honest) = world.entry(1, "/a/b", 200, Some(grant.id())) else { unreachable!() };
    for change in [
        |entry: &mut Entry| entry.key = Key::parse("/a/c").expect("a key"),
        |entry: &mut Entry| entry.timestamp = time(201),
        |entry: &mut Entry| entry.op = Op::Delete,
    ] {
        let mut body = honest.entry().clone();
        change(&mut body);
        let value = if body.op == Op::Delete { Bytes::new() } else { Bytes::from_static(b"v") };
        let forged = Signed::parse(world.authority.cluster(), &body.encode(), honest.signed().signature());
        let forged = EntryFact::new(forged.expect("well-formed"), value).expect("the value fits");
        assert_eq!(world.judge(Fact::Entry(forged)).err(), Some(Verdict::Refused(Code::BadSignature)));
    }
    assert_eq!(
        EntryFact::new(honest.signed().clone(), Bytes::from_static(b"w")).err(),
        Some(Code::ValueMismatch)
    );
}

#[test]
fn defect_3_a_subgrant_reaches_no_further_than_its_parent() {
    let mut world = World::new();
    let parent = world.grant(0, 1, "/cfg/**", None);
    let child = world.grant(1, 2, "/**", Some(parent.id()));
    world.offer(Fact::Grant(parent));
    assert_eq!(world.offer(Fact::Grant(child.clone())), Verdict::Merged);
    let outside = world.judge(world.entry(2, "/etc/x", 200, Some(child.id())));
    assert_eq!(outside.err(), Some(Verdict::Refused(Code::OutOfReach)));
    assert!(world.judge(world.entry(2, "/cfg/x", 200, Some(child.id()))).is_ok());
}

#[test]
fn defect_4_no_timestamp_wraps_or_owns_a_key_for_ever() {
    assert!(Timestamp::from_micros(u64::MAX).is_err());
    let world = World::new();
    let ahead = world.judge(world.entry(0, "/a", 1_000 + MAX_AHEAD_MICROS + 1, None));
    assert_eq!(ahead.err(), Some(Verdict::NotYet { due: time(1_001) }));
    assert!(world.judge(world.entry(0, "/a", 1_000 + MAX_AHEAD_MICROS, None)).is_ok());
}

#[test]
fn chains_keep_their_rules() {
    let mut world = World::new();
    let parent = world.grant(0, 1, "/a/**", None);
    let unknown = world.grant(1, 2, "/a/b", Some(parent.id()));
    assert_eq!(world.offer(Fact::Grant(unknown)), Verdict::Unjustified(Code::GrantUnknown));
    world.offer(Fact::Grant(parent.clone()));
    assert_eq!(world.offer(Fact::Grant(parent.clone())), Verdict::Moot(Code::Known));
    let thief = world.grant(3, 2, "/a/b", Some(parent.id()));
    assert_eq!(world.offer(Fact::Grant(thief)), Verdict::Refused(Code::WrongIssuer));
    let usurper = world.grant(3, 3, "/**", None);
    assert_eq!(world.offer(Fact::Grant(usurper)), Verdict::Refused(Code::NotRoot));
    let citing_root = world.grant(0, 3, "/**", Some(parent.id()));
    assert_eq!(world.offer(Fact::Grant(citing_root)), Verdict::Refused(Code::RootCites));
    let mut closed = world.grant(1, 2, "/a/**", Some(parent.id())).body().clone();
    closed.subgrant = false;
    let closed = world.signed(closed, 1);
    assert_eq!(world.offer(Fact::Grant(closed.clone())), Verdict::Merged);
    let below = world.grant(2, 3, "/a/b", Some(closed.id()));
    assert_eq!(world.offer(Fact::Grant(below)), Verdict::Refused(Code::NoSubgrant));
}

#[test]
fn chains_end_at_depth_sixteen() {
    let mut world = World::new();
    let mut parent = world.grant(0, 1, "/a/**", None);
    assert_eq!(world.offer(Fact::Grant(parent.clone())), Verdict::Merged);
    for _ in 2..=MAX_DEPTH {
        parent = world.grant(1, 1, "/a/**", Some(parent.id()));
        assert_eq!(world.offer(Fact::Grant(parent.clone())), Verdict::Merged);
    }
    let deeper = world.grant(1, 1, "/a/**", Some(parent.id()));
    assert_eq!(world.offer(Fact::Grant(deeper)), Verdict::Refused(Code::TooDeep));
}

#[test]
fn a_revocation_ends_all_below_and_outlives_its_grant() {
    let mut world = World::new();
    let top = world.grant(0, 1, "/a/**", None);
    let middle = world.grant(1, 2, "/a/**", Some(top.id()));
    let low = world.grant(2, 3, "/a/**", Some(middle.id()));
    for grant in [&top, &middle, &low] {
        assert_eq!(world.offer(Fact::Grant(grant.clone())), Verdict::Merged);
    }
    let low_given_up = world.revoke(&low, By::Grantee, 3);
    assert_eq!(world.offer(low_given_up), Verdict::Merged);
    assert_eq!(world.offer(world.revoke(&middle, By::Issuer, 1)), Verdict::Merged);
    assert!(world.authority.grant(&middle.id()).is_none());
    assert!(world.authority.revocation(&low.id()).is_none(), "below a dead grant nothing is kept");
    assert_eq!(world.offer(Fact::Grant(middle.clone())), Verdict::Moot(Code::GrantRevoked));
    assert_eq!(world.offer(world.revoke(&middle, By::Grantee, 2)), Verdict::Moot(Code::RevocationSuperseded));
    assert_eq!(world.offer(world.revoke(&middle, By::Root, 0)), Verdict::Merged);
    assert_eq!(world.authority.len(), 2, "one grant and the best revocation");
    let dead = world.judge(world.entry(2, "/a/b", 200, Some(middle.id())));
    assert_eq!(dead.err(), Some(Verdict::Unjustified(Code::GrantRevoked)));
}

#[test]
fn a_revocation_needs_the_right_signature_inside_and_outside() {
    let mut world = World::new();
    let grant = world.grant(0, 1, "/a/**", None);
    assert_eq!(world.offer(world.revoke(&grant, By::Root, 1)), Verdict::Refused(Code::BadSignature));
    let forged = world.signed(grant.body().clone(), 2);
    assert_eq!(world.offer(world.revoke(&forged, By::Grantee, 1)), Verdict::Refused(Code::BadSignature));
    assert_eq!(world.offer(world.revoke(&grant, By::Grantee, 1)), Verdict::Merged);
}

#[test]
fn floors_stay_whole_until_every_pattern_is_superseded() {
    let mut world = World::new();
    let mut floor = |patterns: &[&str], before: u64| {
        let patterns = patterns.iter().map(|glob| KeyGlob::parse(glob).expect("a glob")).collect();
        let body = Floor { patterns, before: time(before), nonce: [0; 16] };
        let fact = world.signed(body, 0);
        (world.offer(Fact::Floor(fact.clone())), fact.id())
    };
    let (both, first) = floor(&["/a/**", "/b/**"], 10);
    assert_eq!(both, Verdict::Merged);
    assert_eq!(floor(&["/a/**"], 20).0, Verdict::Merged);
    assert_eq!(floor(&["/a/**"], 15).0, Verdict::Moot(Code::FloorSuperseded));
    let (_, last) = floor(&["/b/**"], 30);
    assert!(world.authority.fact(&first).is_none() && world.authority.fact(&last).is_some());
    let key = Key::parse("/b/x").expect("a key");
    assert!(world.authority.is_floored(&key, time(29)) && !world.authority.is_floored(&key, time(30)));
}

#[test]
fn explanations_name_the_chain_or_the_first_failing_link() {
    let mut world = World::new();
    let key = Key::parse("/a/b").expect("a key");
    let (one, two) = (world.id(1), world.id(2));
    assert_eq!(world.authority.explain(&key, world.id(0), time(200)), Explanation::Root);
    assert_eq!(world.authority.explain(&key, one, time(200)), Explanation::Rejected(vec![]));
    let top = world.grant(0, 1, "/a/**", None);
    let low = world.grant(1, 2, "/**", Some(top.id()));
    world.offer(Fact::Grant(top.clone()));
    world.offer(Fact::Grant(low.clone()));
    let Explanation::Accepted(chain) = world.authority.explain(&key, two, time(200)) else {
        panic!("the chain carries the key")
    };
    assert_eq!(chain.iter().map(|link| link.grant).collect::<Vec<_>>(), [top.id(), low.id()]);
    let failing =
        |key: &str, at: u64| match world.authority.explain(&Key::parse(key).expect("a key"), two, time(at)) {
            Explanation::Rejected(chains) => (chains[0].failing, chains[0].code),
            other => panic!("{other:?}"),
        };
    assert_eq!(failing("/b", 200), (0, Code::OutOfReach));
    assert_eq!(failing("/a/b", 1_000_001), (0, Code::GrantExpired));
    world.offer(world.revoke(&low, By::Issuer, 1));
    let Explanation::Rejected(chains) = world.authority.explain(&key, two, time(200)) else {
        panic!("revoked")
    };
    assert_eq!((chains[0].failing, chains[0].code), (1, Code::GrantRevoked));
}

/// The clock of a writer, or of its agent, is slightly behind the clock of the issuer.
#[test]
fn a_grant_given_just_now_is_written_under_by_a_clock_that_is_a_little_behind() {
    let mut world = World::new();
    let mut body = world.grant(0, 1, "/a/**", None).body().clone();
    (body.issued_at, body.expires_at) = (time(500_000_000), Some(time(900_000_000)));
    let top = world.signed(body.clone(), 0);
    world.offer(Fact::Grant(top.clone()));
    (body.issuer, body.grantee, body.parent) = (world.id(1), world.keys[2].public().clone(), Some(top.id()));
    body.issued_at = time(500_000_001);
    let low = world.signed(body, 1);
    world.offer(Fact::Grant(low.clone()));
    let (key, two) = (Key::parse("/a/b").expect("a key"), world.id(2));
    let pattern = KeyGlob::parse("/a/b").expect("a glob");
    let cited = |now: u64| world.authority.grant_for(&key, two, time(now)).map(LiveGrant::id);
    let edge = 500_000_001 - MAX_AHEAD_MICROS;
    for now in [edge, 495_000_000, 500_000_001, 900_000_000] {
        assert_eq!(cited(now), Some(low.id()), "at {now}");
        let stamp = world.authority.grant(&low.id()).expect("live").first_stamp(time(now)).expect("a time");
        assert_eq!(stamp, time(now.max(500_000_001)));
        let entry = world.entry(2, "/a/b", stamp.as_micros(), Some(low.id()));
        assert!(world.authority.check(entry, time(now)).is_ok(), "what is allowed is taken in, at {now}");
        assert!(world.authority.plan_grant(two, &pattern, time(now)).is_ok(), "at {now}");
    }
    assert_eq!(cited(edge - 1), None);
    assert_eq!(cited(900_000_001), None);
    let Explanation::Rejected(chains) = world.authority.explain(&key, two, time(edge - 1)) else {
        panic!("the entry would be early")
    };
    assert_eq!((chains[0].failing, chains[0].code), (1, Code::GrantNotYet));
    let planned = world.authority.plan_grant(two, &pattern, time(edge - 1));
    assert_eq!(planned, Err(PlanError::NoGrant(Code::GrantNotYet)));
}

#[test]
fn a_chain_that_ends_before_its_last_grant_begins_is_named_as_expired() {
    let mut world = World::new();
    let mut body = world.grant(0, 1, "/a/**", None).body().clone();
    body.expires_at = Some(time(300));
    let top = world.signed(body.clone(), 0);
    world.offer(Fact::Grant(top.clone()));
    (body.issuer, body.grantee, body.parent) = (world.id(1), world.keys[2].public().clone(), Some(top.id()));
    (body.issued_at, body.expires_at) = (time(400), None);
    world.offer(Fact::Grant(world.signed(body, 1)));
    let key = Key::parse("/a/b").expect("a key");
    let Explanation::Rejected(chains) = world.authority.explain(&key, world.id(2), time(200)) else {
        panic!("no time lies within both")
    };
    assert_eq!((chains[0].failing, chains[0].code), (0, Code::GrantExpired));
}

/// A failing chain that covers the key is reported before a chain that lies elsewhere.
#[test]
fn a_grant_that_covers_the_key_says_why_it_is_not_good_before_one_that_lies_elsewhere() {
    type Change = fn(&mut Grant);
    let cases: [(Change, bool, Code); 3] = [
        (|grant| grant.expires_at = Some(time(150)), false, Code::GrantExpired),
        (|grant| grant.issued_at = time(900_000_000), false, Code::GrantNotYet),
        (|_| {}, true, Code::GrantRevoked),
    ];
    for (change, revoked, code) in cases {
        let mut world = World::new();
        let elsewhere = world.grant(0, 1, "/z/**", None);
        world.offer(Fact::Grant(elsewhere.clone()));
        // This chain fails further from root.
        let top = world.grant(0, 2, "/a/**", None);
        world.offer(Fact::Grant(top.clone()));
        world.offer(Fact::Grant(world.grant(2, 1, "/a/other", Some(top.id()))));
        let mut body = world.grant(0, 1, "/a/b", None).body().clone();
        body.expires_at = None;
        change(&mut body);
        let covering = world.signed(body, 0);
        world.offer(Fact::Grant(covering.clone()));
        if revoked {
            world.offer(world.revoke(&covering, By::Root, 0));
        }
        let key = Key::parse("/a/b").expect("a key");
        let Explanation::Rejected(chains) = world.authority.explain(&key, world.id(1), time(200)) else {
            panic!("nothing carries the key")
        };
        assert_eq!((chains.len(), chains[0].code), (3, code));
        assert_eq!(chains[0].chain.last().map(|link| link.grant), Some(covering.id()));
    }
}

/// An entity with more chains than an explanation lists gets the same answer as from building and sorting all of them.
#[test]
fn explanations_of_very_many_chains_keep_the_most_promising() {
    let mut world = World::new();
    let top = world.grant(0, 1, "/a/**", None);
    world.offer(Fact::Grant(top.clone()));
    let key = Key::parse("/a/b").expect("a key");
    for number in 0..3 * MAX_REJECTED {
        // Every fifth grant is under the parent that reaches the key, and fails later; half of those are revoked.
        let parent = (number % 5 == 0).then(|| top.id());
        let by = usize::from(parent.is_some());
        let pattern = if number % 10 == 0 { "/a/b".into() } else { format!("/a/{number}x") };
        let mut body = world.grant(by, 2, &pattern, parent).body().clone();
        body.nonce = [u8::try_from(number).expect("a small number"); 16];
        let grant = world.signed(body, by);
        assert_eq!(world.offer(Fact::Grant(grant.clone())), Verdict::Merged);
        if number % 10 == 0 {
            assert_eq!(world.offer(world.revoke(&grant, By::Issuer, 1)), Verdict::Merged);
        }
    }
    let Explanation::Rejected(chains) = world.authority.explain(&key, world.id(2), time(200)) else {
        panic!("no chain carries the key")
    };
    assert_eq!(chains.len(), MAX_REJECTED);
    // The revoked grants are those that cover the key.
    let rank = |chain: &Rejected| (chain.code == Code::GrantRevoked, chain.failing);
    assert!(chains.windows(2).all(|pair| rank(&pair[0]) >= rank(&pair[1])));
    let deep = chains.iter().filter(|chain| chain.failing == 1).count();
    assert_eq!(deep, (0..3 * MAX_REJECTED).filter(|number| number % 5 == 0).count());
    assert!(chains.iter().all(|chain| (chain.code == Code::GrantRevoked) == chain.revocation.is_some()));
    assert!(chains.iter().all(|chain| chain.failing < chain.chain.len()));
}

#[test]
fn defect_13_strangers_grants_are_not_stored_and_chains_cost_their_length() {
    let mut world = World::new();
    // 31 grants that all cite an unknown parent: none is stored, and each costs one look-up.
    for nonce in 0..31 {
        let mut body = world.grant(4, 5, "/**", Some(GrantId([nonce; 32]))).body().clone();
        body.nonce = [nonce; 16];
        let fact = Fact::Grant(world.signed(body, 4));
        assert_eq!(world.offer(fact), Verdict::Unjustified(Code::GrantUnknown));
    }
    assert!(world.authority.is_empty());
}

#[test]
fn records_round_trip_and_have_one_spelling() {
    let world = World::new();
    let grant = world.grant(0, 1, "/a/**", None);
    let facts =
        [Fact::Grant(grant.clone()), world.revoke(&grant, By::Grantee, 1), world.entry(0, "/a/b", 200, None)];
    for fact in facts {
        let record = fact.to_record();
        assert_eq!(Fact::from_record(world.authority.cluster(), &record), Ok(fact.clone()));
        for index in 0..record.len() {
            let mut other = record.to_vec();
            other[index] ^= 0x81;
            let read = Fact::from_record(world.authority.cluster(), &other);
            assert_ne!(read, Ok(fact.clone()));
            if let Ok(read) = read {
                assert_eq!(read.to_record(), other, "what is read is written back the same");
            }
        }
        assert!(Fact::from_record(world.authority.cluster(), &record[..record.len() - 1]).is_err());
        assert!(Fact::from_record(world.authority.cluster(), &[&record[..], &[0]].concat()).is_err());
    }
}

#[test]
fn records_follow_one_another_and_a_wrong_value_spoils_only_its_own() {
    let world = World::new();
    let cluster = world.authority.cluster();
    let grant = world.grant(0, 1, "/a/**", None);
    let (first, last) = (world.entry(0, "/a/b", 200, None), world.revoke(&grant, By::Grantee, 1));
    let (first_record, last_record) = (first.to_record(), last.to_record());
    let mut spoiled = first_record.to_vec();
    *spoiled.last_mut().expect("a value") ^= 1;
    let all = [&first_record[..], &spoiled, &last_record, b"no record", &first_record].concat();
    let mut rest = Bytes::from(all);
    assert_eq!(Fact::take_record(cluster, &mut rest), Ok(first));
    assert_eq!(Fact::take_record(cluster, &mut rest), Err(Code::ValueMismatch));
    assert_eq!(Fact::take_record(cluster, &mut rest), Ok(last));
    assert_eq!(Fact::take_record(cluster, &mut rest), Err(Code::Malformed));
    assert!(rest.is_empty(), "where the next one begins cannot be known");
}

#[test]
fn an_entry_without_its_value_is_judged_as_with_it() {
    let mut world = World::new();
    let cluster = world.authority.cluster();
    let grant = world.grant(0, 1, "/a/**", None);
    assert_eq!(world.offer(Fact::Grant(grant.clone())), Verdict::Merged);
    let read = |fact: &Fact| {
        let Fact::Entry(entry) = fact else { unreachable!("an entry") };
        let front = entry.signed().to_front();
        assert!(fact.to_record().starts_with(&front) && front.len() < fact.to_record().len());
        assert_eq!(Signed::<Entry>::of_record(cluster, &fact.to_record()).as_ref(), Ok(entry.signed()));
        assert!(Signed::<Entry>::from_front(cluster, &fact.to_record()).is_err(), "a value follows");
        assert!(Signed::<Entry>::from_front(cluster, &front[..front.len() - 1]).is_err(), "cut");
        assert!(Signed::<Entry>::from_front(cluster, &grant_record(&world)).is_err(), "no entry");
        Signed::<Entry>::from_front(cluster, &front).expect("what was written")
    };
    let (now, verifier) = (Timestamp::ZERO.saturating_add(1_000), MockVerifier);
    let stands = |entry: &Signed<Entry>| {
        world.authority.verify_entry(entry, now, &verifier).map(|grant| grant.map(|grant| grant.id()))
    };
    assert_eq!(stands(&read(&world.entry(1, "/a/b", 200, Some(grant.id())))), Ok(Some(grant.id())));
    assert_eq!(stands(&read(&world.entry(0, "/z", 200, None))), Ok(None));
    let other = read(&world.entry(1, "/b", 200, Some(grant.id())));
    assert_eq!(stands(&other), Err(Verdict::Refused(Code::OutOfReach)));
    let good = read(&world.entry(0, "/z", 200, None));
    let spoilt = Signed::<Entry>::parse(cluster, good.bytes(), &[7; 256]).expect("well-formed");
    assert_eq!(stands(&spoilt), Err(Verdict::Refused(Code::BadSignature)));
}

fn grant_record(world: &World) -> Bytes {
    Fact::Grant(world.grant(0, 1, "/c", None)).to_record()
}
