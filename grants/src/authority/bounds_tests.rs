//! Tests the limits of times and sizes to the microsecond and the byte, and the queries of the authority set.

use super::tests::{World, time};
use crate::*;
use bytes::Bytes;

impl World {
    /// Signs a grant by `by` to `to` for all keys, with the given window.
    fn timed(
        &self,
        by: usize,
        to: usize,
        parent: Option<GrantId>,
        issued_at: u64,
        expires_at: Option<u64>,
    ) -> Signed<Grant> {
        let body = self.grant(by, to, "/**", parent).body().clone();
        let (issued_at, expires_at) = (time(issued_at), expires_at.map(time));
        self.signed(Grant { issued_at, expires_at, ..body }, by)
    }

    fn floor(&self, patterns: &[&str], before: u64) -> Signed<Floor> {
        let patterns = patterns.iter().map(|glob| KeyGlob::parse(glob).expect("a glob")).collect();
        self.signed(Floor { patterns, before: time(before), nonce: [0; 16] }, 0)
    }

    /// Signs an entry by `by` with a value of the given length, or a delete.
    fn sized(&self, by: usize, len: Option<usize>, grant: Option<GrantId>) -> Fact {
        let value = len.map(|len| Bytes::from(vec![7; len]));
        let (key, timestamp) = (Key::parse("/a").expect("a key"), time(200));
        let draft = EntryDraft { key, value, timestamp, grant };
        // Entity 0 is root and has the same key in every world.
        let signer = MockKey::new(by as u64);
        Fact::Entry(EntryFact::sign(self.authority.cluster(), draft, &signer).expect("mock signatures"))
    }

    fn direct(&self, fact: &Fact, now: u64, max_value_bytes: usize) -> Result<(), Code> {
        self.authority.check_direct(fact, time(now), max_value_bytes)
    }

    pub(super) fn take(&mut self, grant: &Signed<Grant>) {
        assert_eq!(self.offer(Fact::Grant(grant.clone())), Verdict::Merged);
    }
}

#[test]
fn a_direct_put_may_be_as_large_as_the_agent_says_and_no_larger() {
    let world = World::new();
    for (len, result) in
        [(None, Ok(())), (Some(0), Ok(())), (Some(8), Ok(())), (Some(9), Err(Code::OverAgentLimit))]
    {
        assert_eq!(world.direct(&world.sized(0, len, None), 1_000, 8), result, "{len:?}");
    }
}

#[test]
fn a_direct_put_and_a_direct_grant_need_a_chain_that_has_not_expired() {
    let mut world = World::new();
    let top = world.timed(0, 1, None, 100, Some(2_000));
    let lasting = world.timed(1, 2, Some(top.id()), 100, None);
    let endless = world.timed(0, 3, None, 100, None);
    for grant in [&top, &lasting, &endless] {
        world.take(grant);
    }
    let cases = [
        (world.sized(1, Some(1), Some(top.id())), true),
        // The grant ends with its chain.
        (world.sized(2, Some(1), Some(lasting.id())), true),
        (Fact::Grant(world.timed(2, 4, Some(lasting.id()), 100, None)), true),
        (world.sized(3, Some(1), Some(endless.id())), false),
        (world.sized(0, Some(1), None), false),
        (Fact::Grant(world.timed(3, 4, Some(endless.id()), 100, None)), false),
        (Fact::Grant(world.timed(0, 4, None, 100, None)), false),
        (world.revoke(&top, By::Root, 0), false),
    ];
    for (fact, ends) in cases {
        assert_eq!(world.direct(&fact, 1_999, 8), Ok(()), "{fact:?}");
        assert_eq!(world.direct(&fact, 2_000, 8), Ok(()), "the last moment: {fact:?}");
        let after = if ends { Err(Code::GrantExpired) } else { Ok(()) };
        assert_eq!(world.direct(&fact, 2_001, 8), after, "{fact:?}");
        assert_eq!(world.direct(&fact, 3_000, 8), after, "{fact:?}");
    }
}

#[test]
fn an_entry_may_be_two_minutes_ahead() {
    assert_eq!(MAX_AHEAD_MICROS, 120_000_000, "docs/protocol.md has the same number");
}

#[test]
fn a_direct_floor_does_not_reach_into_the_future() {
    let world = World::new();
    let floor = Fact::Floor(world.floor(&["/a/**"], 1_000));
    for (now, result) in
        [(1, Err(Code::FloorFuture)), (999, Err(Code::FloorFuture)), (1_000, Ok(())), (5_000, Ok(()))]
    {
        assert_eq!(world.direct(&floor, now, 8), result, "at {now}");
    }
}

#[test]
fn who_is_not_root_cites_a_grant_and_root_cites_none() {
    let mut world = World::new();
    let grant = world.timed(0, 1, None, 100, None);
    world.take(&grant);
    let judged = |fact: Fact| {
        let Fact::Entry(entry) = &fact else { unreachable!() };
        let of_body = world.authority.entry_grant(entry.signed()).err();
        assert_eq!(world.judge(fact.clone()).err(), of_body);
        of_body
    };
    assert_eq!(judged(world.entry(0, "/a", 200, None)), None);
    assert_eq!(judged(world.entry(1, "/a", 200, Some(grant.id()))), None);
    assert_eq!(judged(world.entry(1, "/a", 200, None)), Some(Verdict::Refused(Code::NotRoot)));
    assert_eq!(judged(world.entry(0, "/a", 200, Some(grant.id()))), Some(Verdict::Refused(Code::RootCites)));
}

/// The window of a chain is the intersection of its grants' windows, both ends included.
#[test]
fn a_chain_holds_from_its_latest_beginning_to_its_earliest_end() {
    let mut world = World::new();
    let times = [(100, Some(900)), (300, None), (200, Some(800)), (250, Some(2_000))];
    let (mut parent, mut from, mut until) = (None, 0, u64::MAX);
    for (index, (begins, ends)) in times.into_iter().enumerate() {
        let grant = world.timed(index, index + 1, parent, begins, ends);
        world.take(&grant);
        parent = Some(grant.id());
        (from, until) = (from.max(begins), until.min(ends.unwrap_or(u64::MAX)));
        let live = world.authority.grant(&grant.id()).expect("live").clone();
        assert_eq!((live.valid_from(), live.valid_until()), (time(from), Some(time(until))));
        assert_eq!(usize::from(live.depth()), index + 1);
        for (at, covered) in [(from - 1, false), (from, true), (until, true), (until + 1, false)] {
            assert_eq!(live.covers_time(time(at)), covered, "at {at}");
            let verdict = world.judge(world.entry(index + 1, "/a", at, parent)).err();
            let expected = (!covered).then_some(Verdict::Refused(Code::OutsideWindow));
            assert_eq!(verdict, expected, "at {at}");
        }
        let id = live.id();
        for (now, masked) in [(0, false), (until, false), (until + 1, true), (until + 500, true)] {
            assert_eq!(world.authority.is_masked(Some(&id), time(now)), masked, "at {now}");
        }
    }
    assert!(!world.authority.is_masked(None, Timestamp::MAX), "root's is never masked");
    let unknown = world.timed(0, 5, None, 1, None);
    assert!(world.authority.is_masked(Some(&unknown.id()), Timestamp::ZERO), "what is not live is masked");
    world.take(&unknown);
    assert!(!world.authority.is_masked(Some(&unknown.id()), Timestamp::MAX), "it never ends");
}

#[test]
fn expiries_are_listed_from_a_time_on_and_before_another() {
    let mut world = World::new();
    let grants: Vec<_> = [Some(500), Some(300), Some(300), None, Some(700)]
        .into_iter()
        .enumerate()
        .map(|(index, end)| world.timed(0, index + 1, None, 100, end))
        .collect();
    grants.iter().for_each(|grant| world.take(grant));
    let expiring = |world: &World, from: u64, to: u64| -> Vec<usize> {
        let ids = world.authority.expiring(time(from), time(to));
        ids.map(|id| grants.iter().position(|grant| grant.id() == id).expect("one of them")).collect()
    };
    let mut threes = [1, 2];
    threes.sort_by_key(|index| grants[*index].id());
    assert_eq!(expiring(&world, 0, 1_000), [threes[0], threes[1], 0, 4]);
    assert_eq!(expiring(&world, 300, 501), [threes[0], threes[1], 0]);
    assert_eq!(expiring(&world, 301, 500), []);
    assert_eq!(expiring(&world, 500, 700), [0]);
    assert_eq!(expiring(&world, 700, 300), []);
    let next = |world: &World, now: u64| world.authority.next_expiry(time(now));
    assert_eq!(
        [0, 300, 301, 700].map(|now| next(&world, now)),
        [300, 300, 500, 700].map(|at| Some(time(at)))
    );
    assert_eq!(next(&world, 701), None);
    assert_eq!(world.offer(world.revoke(&grants[0], By::Root, 0)), Verdict::Merged);
    assert_eq!(expiring(&world, 0, 1_000), [threes[0], threes[1], 4], "what is revoked does not expire");
    assert_eq!(next(&world, 301), Some(time(700)));
}

/// Every query of the set reports the same facts.
#[test]
fn every_fact_of_the_set_is_found_by_its_id_and_in_the_list_of_its_kind() {
    let mut world = World::new();
    assert!(world.authority.is_empty());
    let top = world.timed(0, 1, None, 100, None);
    let below = world.timed(1, 2, Some(top.id()), 100, None);
    let other = world.timed(1, 3, Some(top.id()), 100, None);
    let never_seen = world.timed(0, 4, None, 100, None);
    let floors = [world.floor(&["/a/**"], 20), world.floor(&["/b/**"], 10)];
    for grant in [&top, &below, &other] {
        world.take(grant);
    }
    for floor in &floors {
        assert_eq!(world.offer(Fact::Floor(floor.clone())), Verdict::Merged);
    }
    let revocations = [world.revoke(&other, By::Issuer, 1), world.revoke(&never_seen, By::Root, 0)];
    for revocation in &revocations {
        assert_eq!(world.offer(revocation.clone()), Verdict::Merged);
    }
    let authority = &world.authority;
    fn sorted<I: Ord>(mut ids: Vec<I>) -> Vec<I> {
        ids.sort_unstable();
        ids
    }
    let grants = sorted(vec![top.id(), below.id()]);
    assert_eq!(authority.grants().map(|grant| grant.id()).collect::<Vec<_>>(), grants);
    let floor_ids = sorted(floors.iter().map(Signed::id).collect());
    assert_eq!(authority.floors().map(|floor| floor.id()).collect::<Vec<_>>(), floor_ids);
    let revoked = sorted(vec![other.id(), never_seen.id()]);
    let by_grant = authority.revocations().map(|revocation| revocation.body().grant.id());
    assert_eq!(by_grant.collect::<Vec<_>>(), revoked);
    let revocation_ids: Vec<FactId> = revocations.iter().map(Fact::id).collect();
    let grant_ids = grants.into_iter().map(FactId::from).collect();
    let all = sorted([grant_ids, floor_ids, revocation_ids.clone()].concat());
    assert_eq!(authority.fact_ids().collect::<Vec<_>>(), all);
    assert_eq!((authority.len(), authority.is_empty()), (6, false));
    for id in &all {
        assert!(authority.contains(id));
        assert_eq!(authority.fact(id).map(|fact| fact.id()), Some(*id));
    }
    let other_id = FactId::from(other.id());
    assert!(!authority.contains(&other_id) && authority.fact(&other_id).is_none());
    let depths = |ids: &[FactId]| -> Vec<_> { ids.iter().map(|id| authority.depth(id)).collect() };
    assert_eq!(depths(&[top.id().into(), below.id().into(), floors[0].id()]), [Some(1), Some(2), Some(0)]);
    assert_eq!(depths(&revocation_ids), [Some(2), Some(1)], "where the revoked grant would stand");
    assert_eq!(depths(&[other_id]), [None]);
    assert_eq!(authority.grants_of(world.id(2)).map(|grant| grant.id()).collect::<Vec<_>>(), [below.id()]);
    assert_eq!(authority.grants_of(world.id(3)).count(), 0, "what is revoked is nobody's");
}

/// A failing chain that covers the key is the one its holder means. Among such chains, one that may be valid at another
/// time comes before a revoked one.
#[test]
fn explanations_order_what_covers_first_and_what_was_revoked_last() {
    let mut world = World::new();
    let key = Key::parse("/a/b").expect("a key");
    let parent = world.signed(world.grant(0, 2, "/c/**", None).body().clone(), 0);
    world.take(&parent);
    let at = |expires_at: u64, nonce: u8, parent: Option<&Signed<Grant>>, world: &World| {
        let by = if parent.is_some() { 2 } else { 0 };
        let body = world.timed(by, 1, parent.map(Signed::id), 100, Some(expires_at)).body().clone();
        world.signed(Grant { nonce: [nonce; 16], ..body }, by)
    };
    // The grant's own pattern matches, its parent's does not.
    let elsewhere = at(5_000, 1, Some(&parent), &world);
    let (revoked, expired) = (at(5_000, 2, None, &world), at(500, 3, None, &world));
    for grant in [&elsewhere, &revoked, &expired] {
        world.take(grant);
    }
    for (grant, by, signer) in [(&elsewhere, By::Issuer, 2), (&revoked, By::Root, 0)] {
        assert_eq!(world.offer(world.revoke(grant, by, signer)), Verdict::Merged);
    }
    let explained = |now: u64| match world.authority.explain(&key, world.id(1), time(now)) {
        Explanation::Rejected(all) => {
            all.into_iter().map(|one| (one.chain[one.chain.len() - 1].grant, one.code)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let order = [
        (expired.id(), Code::GrantExpired),
        (revoked.id(), Code::GrantRevoked),
        (elsewhere.id(), Code::OutOfReach),
    ];
    assert_eq!(explained(1_000), order);
    // A revoked grant at its last valid moment is reported as revoked, not as expired.
    let code_of_revoked = |now| explained(now).into_iter().find(|(id, _)| *id == revoked.id());
    assert_eq!(code_of_revoked(5_000), Some((revoked.id(), Code::GrantRevoked)));
    assert_eq!(code_of_revoked(5_001), Some((revoked.id(), Code::GrantExpired)));
}

/// The rebuilt set is the same for any remainder of the history in the store and any order.
#[test]
fn a_store_that_is_not_swept_gives_the_set_and_names_what_ended() {
    let mut world = World::new();
    let top = world.timed(0, 1, None, 100, None);
    let below = world.timed(1, 2, Some(top.id()), 100, None);
    let lasting = world.timed(0, 3, None, 100, None);
    let mut facts: Vec<Fact> = [&top, &below, &lasting].map(|grant| Fact::Grant(grant.clone())).into();
    facts.extend([world.floor(&["/a/**"], 10), world.floor(&["/a/**"], 20)].map(Fact::Floor));
    facts.extend([world.revoke(&top, By::Grantee, 1), world.revoke(&top, By::Root, 0)]);
    facts.iter().for_each(|fact| assert_eq!(world.offer(fact.clone()), Verdict::Merged));
    let standing: Vec<FactId> = world.authority.fact_ids().collect();
    assert_eq!(standing.len(), 3, "a grant, a floor and a revocation");
    for turn in 0..facts.len() {
        facts.rotate_left(1);
        let (set, mut ended) =
            Authority::from_own_unswept_store(world.authority.root().clone(), facts.clone());
        assert_eq!(set.fact_ids().collect::<Vec<_>>(), standing, "turn {turn}");
        let mut gone: Vec<FactId> = facts.iter().map(Fact::id).filter(|id| !standing.contains(id)).collect();
        ended.sort_unstable();
        gone.sort_unstable();
        assert_eq!(ended, gone, "turn {turn}");
    }
}
