//! The random worlds have in them what the laws speak of, and often.

use kvgossip_grants::{Fact, FactId};
use kvgossip_sim::World;
use kvgossip_sim::scribe::at;
use kvgossip_sim::world::{LATE, NOW};
use std::collections::BTreeMap;

/// In how many of so many worlds something is to be seen.
fn census(worlds: u64) -> BTreeMap<&'static str, u64> {
    let mut census = BTreeMap::new();
    for seed in 0..worlds {
        let world = World::new(seed);
        let mut see = |what, seen: bool| *census.entry(what).or_insert(0) += u64::from(seen);
        let sound = world.sound();
        let law = world.cluster.law(&sound);
        let normal = world.cluster.normal_form(&sound);
        let count = |is: fn(&Fact) -> bool, facts: &kvgossip_sim::naive::Facts| {
            facts.values().filter(|fact| is(fact)).count()
        };
        let is_grant = |fact: &Fact| matches!(fact, Fact::Grant(_));
        let is_revocation = |fact: &Fact| matches!(fact, Fact::Revocation(_));
        let is_floor = |fact: &Fact| matches!(fact, Fact::Floor(_));
        let is_entry = |fact: &Fact| matches!(fact, Fact::Entry(_));
        see("a grant that is not live", count(is_grant, &normal) < count(is_grant, &sound));
        see("a revocation that stands", count(is_revocation, &normal) > 0);
        see("a revocation that does not", count(is_revocation, &normal) < count(is_revocation, &sound));
        see("two revocations that stand", count(is_revocation, &normal) > 1);
        see("a floor that is superseded", count(is_floor, &normal) < count(is_floor, &sound));
        see("an unsound fact", world.facts.iter().any(|fact| !world.cluster.is_sound(fact)));
        see("half of the entries stand", 2 * count(is_entry, &normal) >= count(is_entry, &sound));
        let frontiers = law.frontiers();
        for (what, size) in
            [("two on a key", 2), ("three on a key", 3), ("four on a key", 4), ("sixty-five on a key", 65)]
        {
            see(what, frontiers.values().any(|entries| entries.len() >= size));
        }
        let all = || frontiers.values().flatten();
        see(
            "equal times on a key",
            frontiers.values().any(|entries| {
                let times: std::collections::BTreeSet<_> =
                    entries.iter().map(|entry| entry.entry().timestamp).collect();
                times.len() < entries.len()
            }),
        );
        see("an expired entry that stands", all().any(|entry| law.is_masked(entry, at(NOW))));
        see("a delete that stands", all().any(|entry| entry.value().is_none()));
        see("an entry from the future", all().any(|entry| entry.entry().timestamp > at(NOW)));
        see(
            "an older one is seen",
            law.values(at(LATE)).iter().any(|(key, id)| law.newest().get(key) != Some(id)),
        );
        see("more than one bucket of keys", frontiers.len() > 16);
        see("more than one bucket of authority", normal.len() - count(is_entry, &normal) > 16);
        see("a chain of sixteen", law.live().iter().any(|id| law.depth_of(*id) == 16));
        let revoked: Vec<_> = sound
            .values()
            .filter_map(
                |fact| if let Fact::Revocation(it) = fact { Some(it.body().grant.id()) } else { None },
            )
            .collect();
        see("an unseen grant is revoked", revoked.iter().any(|id| !sound.contains_key(&FactId::from(*id))));
        see("a floor partly superseded", {
            let floors: Vec<_> = normal
                .values()
                .filter_map(|fact| if let Fact::Floor(it) = fact { Some(it) } else { None })
                .collect();
            floors.iter().any(|floor| {
                floor.body().patterns.iter().any(|pattern| {
                    floors.iter().any(|other| {
                        (other.body().before, other.id()) > (floor.body().before, floor.id())
                            && other.body().patterns.contains(pattern)
                    })
                })
            })
        });
    }
    census
}

#[test]
fn worlds_have_everything() {
    let census = census(400);
    println!("{census:#?}");
    assert!(census.values().all(|seen| *seen >= 3));
}
