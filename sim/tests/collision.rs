//! The short hashes of a walk are hints. Where two entries have the same one, the walk sees no difference; the full
//! roots tell, and another salt finds it.

use kvgossip_engine::session::{Obstacles, Outcome};
use kvgossip_grants::{Fact, GrantId, Key};
use kvgossip_sim::hint::short;
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::{Link, Scribe, SimReplica, sync};
use std::collections::HashMap;

const SEED: u64 = 11;
const KEY: &str = "/a";

fn first_round(fact: &Fact) -> u32 {
    short(SEED, 1, fact.id().as_bytes())
}

/// Two entries of one key and one time with the same short hash: a birthday among a hundred thousand.
fn twins(scribe: &Scribe, grant: GrantId) -> [Fact; 2] {
    let mut seen: HashMap<u32, u32> = HashMap::new();
    let entry = |n: u32| scribe.set(1, KEY, &n.to_le_bytes(), 100, Some(grant));
    for n in 0.. {
        if let Some(other) = seen.insert(first_round(&entry(n)), n) {
            return [entry(other), entry(n)];
        }
    }
    unreachable!("there are only so many short hashes")
}

fn replicas(also: bool) -> [SimReplica; 2] {
    let mut scribe = Scribe::new(2);
    let grant = scribe.grant(0, 1, "/**", None, Terms::default());
    let twins = twins(&scribe, grant.id());
    assert_eq!(first_round(&twins[0]), first_round(&twins[1]));
    let mut sides = twins.map(|twin| {
        let mut replica = SimReplica::new(scribe.root().clone(), at(1_000));
        assert!(replica.offer(Fact::Grant(grant.clone())).is_taken_in());
        assert!(replica.offer(twin).is_taken_in());
        replica
    });
    if also {
        assert!(sides[0].offer(scribe.set(1, "/b", b"x", 100, Some(grant.id()))).is_taken_in());
    }
    sides
}

#[test]
fn equal_short_hashes_are_never_taken_for_equality() {
    let [mut a, mut b] = replicas(false);
    let ended = sync(&mut a, &mut b, &Link { seed: SEED, ..Link::default() });
    // Nothing was found to move, so there is no second round; but nobody claims that the two are equal.
    assert_eq!(ended.outcome, Some(Outcome::Unsettled(Obstacles::default())), "{ended:?}");
    assert_eq!(ended.tally.rounds, 1);
    let again = sync(&mut a, &mut b, &Link { seed: SEED + 1, ..Link::default() });
    assert_eq!(again.outcome, Some(Outcome::Equal), "{again:?}");
    let key: Key = KEY.parse().expect("a key");
    assert_eq!(a.get(&key), b.get(&key));
}

#[test]
fn where_something_moved_a_second_round_with_another_salt_finds_the_rest() {
    let [mut a, mut b] = replicas(true);
    let ended = sync(&mut a, &mut b, &Link { seed: SEED, ..Link::default() });
    assert_eq!((ended.outcome, ended.tally.rounds), (Some(Outcome::Equal), 2), "{ended:?}");
    assert_eq!(a.view().root(), b.view().root());
}
