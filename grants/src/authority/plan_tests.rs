//! Tests under which parents an issuer can grant a pattern.

use super::tests::{World, time};
use crate::*;

/// A world in which entity 1 is the issuer.
const ISSUER: usize = 1;

fn glob(text: &str) -> KeyGlob {
    KeyGlob::parse(text).expect("a glob")
}

impl World {
    /// Adds a grant by `by` to `to` with the given properties.
    fn given(
        &mut self,
        by: usize,
        to: usize,
        pattern: &str,
        parent: Option<GrantId>,
        change: impl FnOnce(&mut Grant),
    ) -> GrantId {
        let mut body = self.grant(by, to, pattern, parent).body().clone();
        let known = self.authority.len() as u128;
        (body.nonce, body.expires_at) = (known.to_be_bytes(), None);
        change(&mut body);
        let grant = self.signed(body, by);
        self.take(&grant);
        grant.id()
    }

    /// Adds a grant by root to the issuer for each pattern.
    fn held(&mut self, patterns: &[&str]) -> Vec<GrantId> {
        patterns.iter().map(|pattern| self.given(0, ISSUER, pattern, None, |_| ())).collect()
    }

    /// Adds a grant to the issuer whose chain has two patterns.
    fn held_by_chain(&mut self, [above, own]: [&str; 2]) -> GrantId {
        let parent = self.given(0, 2, above, None, |_| ());
        self.given(2, ISSUER, own, Some(parent), |_| ())
    }

    fn plan(&self, pattern: &str) -> Result<ParentPlan, PlanError> {
        self.authority.plan_grant(self.id(ISSUER), &glob(pattern), time(1_000))
    }

    /// Returns the parents of a plan in ascending order.
    fn parents(&self, pattern: &str) -> Vec<GrantId> {
        match self.plan(pattern) {
            Ok(ParentPlan::Parents(parents)) => sorted(parents),
            other => panic!("{pattern}: {other:?}"),
        }
    }

    /// Asserts that the issuer cannot grant the pattern, and that the counterexample is correct.
    fn assert_out_of_reach(&self, pattern: &str) {
        let Err(PlanError::OutOfReach { counterexample }) = self.plan(pattern) else {
            panic!("{pattern}: {:?}", self.plan(pattern));
        };
        assert!(glob(pattern).matches(&counterexample), "{pattern}: {counterexample}");
        let mut held = self.authority.grants_of(self.id(ISSUER));
        assert!(!held.any(|grant| grant.reaches(&counterexample)), "{pattern}: {counterexample}");
    }
}

fn sorted(mut ids: Vec<GrantId>) -> Vec<GrantId> {
    ids.sort_unstable();
    ids
}

#[test]
fn one_parent_that_covers_is_preferred_the_longest_lasting_and_then_the_shallowest() {
    let mut world = World::new();
    assert_eq!(world.authority.plan_grant(world.id(0), &glob("/**"), time(1)), Ok(ParentPlan::Root));
    let broad = world.given(0, ISSUER, "/**", None, |grant| grant.expires_at = Some(time(9_000)));
    let middle = world.given(0, 2, "/a/**", None, |_| ());
    let deep = world.given(2, ISSUER, "/a/**", Some(middle), |_| ());
    assert_eq!(world.parents("/a/b"), [deep], "it lasts longer");
    let shallow = world.given(0, ISSUER, "/a/b", None, |_| ());
    assert_eq!(world.parents("/a/b"), [shallow], "it lasts as long, and is less deep");
    assert_eq!(world.parents("/a/*"), [deep]);
    assert_eq!(world.parents("/*/b"), [broad]);
}

#[test]
fn a_union_of_parents_has_none_that_it_does_not_need() {
    let mut world = World::new();
    let held = world.held(&["/a/b*", "/a/?", "/a/??*", "/b/**"]);
    assert_eq!(world.parents("/a/*"), sorted(vec![held[1], held[2]]));
    assert_eq!(world.parents("/a/?"), [held[1]]);
    world.assert_out_of_reach("/a/**");
    world.assert_out_of_reach("/*/*");
}

/// A grant reaches the keys that every pattern of its chain matches. The union of several grants' reaches can be more
/// than each of them, and less than their single patterns suggest.
#[test]
fn every_choice_of_one_pattern_from_each_chain_must_cover() {
    let planned = |pattern: &str, chains: [[&str; 2]; 2]| {
        let mut world = World::new();
        let held = sorted(chains.map(|chain| world.held_by_chain(chain)).to_vec());
        match world.plan(pattern) {
            Ok(ParentPlan::Parents(parents)) => {
                assert_eq!(sorted(parents), held, "{chains:?}");
                true
            }
            _ => {
                world.assert_out_of_reach(pattern);
                false
            }
        }
    };
    assert!(planned("/a/*", [["/a/**", "/*/?"], ["/a/**", "/*/??*"]]));
    assert!(planned("/a/*", [["/a/**", "/*/??*"], ["/a/**", "/*/?"]]));
    // Each case has exactly one combination that does not cover the pattern, at a different place in the order of ids.
    for foreign in ["/b/**", "/c/**", "/d/**", "/e/**"] {
        assert!(!planned("/a/*", [["/a/**", "/*/?"], [foreign, "/*/??*"]]));
        assert!(!planned("/a/*", [[foreign, "/*/?"], ["/a/**", "/*/??*"]]));
        assert!(!planned("/*/*", [["/a/**", "/*/*"], [foreign, "/*/*"]]));
        assert!(!planned("/a/*", [["/a/**", "/*/?"], ["/a/**", "/*/???*"]]));
    }
}

#[test]
fn a_plan_looks_at_as_many_combinations_as_it_says() {
    // One pattern for each length of names, and one for all longer names.
    let lengths = |count: usize| -> Vec<String> {
        (1..=count)
            .map(|len| format!("/*/{}{}", "?".repeat(len), if len == count { "*" } else { "" }))
            .collect()
    };
    for (chains, is_proven) in [(2, true), (8, true), (9, false)] {
        assert_eq!((1 << chains) <= MAX_COMBINATIONS, is_proven);
        let mut world = World::new();
        let held: Vec<GrantId> =
            lengths(chains).iter().map(|own| world.held_by_chain(["/a/**", own])).collect();
        match is_proven {
            true => assert_eq!(world.parents("/a/*"), sorted(held), "{chains}"),
            false => assert_eq!(world.plan("/a/*"), Err(PlanError::NotProven), "{chains}"),
        }
    }
    // If one pattern of a chain includes the other, there is only one choice.
    let mut world = World::new();
    let held: Vec<GrantId> =
        lengths(9).iter().map(|own| world.held_by_chain(["/**", &own.replace("/*/", "/a/")])).collect();
    assert_eq!(world.parents("/a/*"), sorted(held));
}

#[test]
fn parents_that_lie_elsewhere_do_not_hide_the_one_that_covers() {
    let mut world = World::new();
    for number in 0..MAX_SINGLE_PARENTS + 8 {
        world.held(&[&format!("/b/{number}")]);
    }
    let sooner = |grant: &mut Grant| grant.expires_at = Some(time(9_000));
    let covering = world.given(0, ISSUER, "/a/**", None, sooner);
    assert_eq!(world.parents("/a/x/*"), [covering]);
    // Very many parents of which each might cover the pattern: above the limit nothing is proven.
    let mut world = World::new();
    let Inclusion::NotIncluded { counterexample } = included(&glob("/a/*"), &[]) else {
        panic!("nothing covers nothing");
    };
    for _ in 0..MAX_SINGLE_PARENTS {
        world.held(&[counterexample.as_str()]);
    }
    world.assert_out_of_reach("/a/*");
    world.held(&[counterexample.as_str()]);
    assert_eq!(world.plan("/a/*"), Err(PlanError::NotProven));
}

#[test]
fn a_key_that_only_a_parent_left_out_reaches_proves_nothing() {
    let mut world = World::new();
    let considered: Vec<String> = (0..MAX_PARENTS).map(|number| format!("/b/{number}")).collect();
    considered.iter().for_each(|pattern| drop(world.held(&[pattern])));
    let sooner = |grant: &mut Grant| grant.expires_at = Some(time(9_000));
    world.given(0, ISSUER, "/c", None, sooner);
    world.assert_out_of_reach("/a/*");
    let globs: Vec<KeyGlob> = considered.iter().map(|pattern| glob(pattern)).collect();
    let Inclusion::NotIncluded { counterexample } = included(&glob("/a/*"), &globs) else {
        panic!("they lie elsewhere");
    };
    world.given(0, ISSUER, counterexample.as_str(), None, sooner);
    assert_eq!(world.plan("/a/*"), Err(PlanError::NotProven));
}

#[test]
fn without_a_grant_that_can_be_passed_on_the_reason_is_said() {
    let reason = |grants: &[fn(&mut Grant)]| {
        let mut world = World::new();
        for change in grants {
            world.given(0, ISSUER, "/**", None, change);
        }
        match world.plan("/a") {
            Err(PlanError::NoGrant(code)) => Some(code),
            Ok(ParentPlan::Parents(_)) => None,
            other => panic!("{other:?}"),
        }
    };
    let ended = |grant: &mut Grant| grant.expires_at = Some(time(999));
    let later = |grant: &mut Grant| grant.issued_at = time(1_001 + MAX_AHEAD_MICROS);
    let closed = |grant: &mut Grant| grant.subgrant = false;
    assert_eq!(reason(&[]), Some(Code::GrantUnknown));
    assert_eq!(reason(&[ended]), Some(Code::GrantExpired));
    assert_eq!(reason(&[later]), Some(Code::GrantNotYet));
    assert_eq!(reason(&[ended, later]), Some(Code::GrantNotYet), "waiting helps");
    assert_eq!(reason(&[closed]), Some(Code::NoSubgrant));
    assert_eq!(reason(&[closed, later]), Some(Code::NoSubgrant), "one is good now");
    assert_eq!(reason(&[closed, ended, |_| ()]), None);

    let mut world = World::new();
    let mut deepest = None;
    for depth in 1..=MAX_DEPTH {
        deepest = Some(world.given(usize::from(depth > 1), ISSUER, "/**", deepest, |_| ()));
        let from_above = world.authority.grants_of(world.id(ISSUER)).any(|grant| grant.depth() < MAX_DEPTH);
        assert!(from_above && world.plan("/a").is_ok());
    }
    let mut world = World::new();
    let mut above = None;
    for depth in 1..MAX_DEPTH {
        above = Some(world.given(if depth > 1 { 2 } else { 0 }, 2, "/**", above, |_| ()));
    }
    let last = world.given(2, ISSUER, "/**", above, |_| ());
    assert_eq!(world.authority.grant(&last).map(|grant| grant.depth()), Some(MAX_DEPTH));
    assert_eq!(world.plan("/a"), Err(PlanError::NoGrant(Code::TooDeep)));
    world.given(0, ISSUER, "/**", None, closed);
    assert_eq!(
        world.plan("/a"),
        Err(PlanError::NoGrant(Code::TooDeep)),
        "one may be passed on, but for its depth"
    );
}

#[test]
fn codes_of_plans_are_stable() {
    let counterexample = Key::parse("/a").expect("a key");
    assert_eq!(PlanError::OutOfReach { counterexample }.code(), "grant.out_of_reach");
    assert_eq!(PlanError::NoGrant(Code::TooDeep).code(), Code::TooDeep.as_str());
    assert_eq!(PlanError::NotProven.code(), "grant.not_proven");
}
