//! Sessions over a wire that damages frames, or with a peer that makes them up: they end, nothing unsound is taken
//! in, both sides stay in normal form, and the next clean session repairs everything.

use kvgossip_engine::session::{Outcome, SessionError};
use kvgossip_grants::Fact;
use kvgossip_sim::scribe::at;
use kvgossip_sim::world::LATE;
use kvgossip_sim::{Dice, Ended, Fault, Link, SimReplica, Tampering, World, check_state, sync};

/// Two replicas that share some of the world's facts, late enough for all of them.
fn pair(world: &World, dice: &mut Dice) -> [SimReplica; 2] {
    let fresh = || SimReplica::new(world.root.clone(), at(LATE)).with_journal();
    let mut pair = [fresh(), fresh()];
    for fact in &world.facts {
        // Authority mostly on both sides, so that there is a session about entries too.
        let both = dice.chance(if fact.is_authority() { 80 } else { 20 });
        let first = dice.within(0, 1);
        pair[first].offer(fact.clone());
        if both {
            pair[1 - first].offer(fact.clone());
        }
    }
    pair
}

/// How tampered sessions went.
#[derive(Debug, Default)]
struct Count {
    errors: u32,
    ended: u32,
    waiting: u32,
}

impl Count {
    fn add(&mut self, ended: &Ended) {
        match (&ended.error, ended.outcome, ended.responder_outcome) {
            (Some(_), ..) => self.errors += 1,
            (None, Some(_), Some(_)) => self.ended += 1,
            // The end of a flight was lost: over a real wire the deadline for progress ends it.
            _ => self.waiting += 1,
        }
    }
}

fn assert_repaired(world: &World, pair: &mut [SimReplica; 2], what: &str) {
    for replica in &*pair {
        if let Err(complaint) = check_state(world, replica) {
            panic!("seed {}, {what}: {complaint}\n{world}", world.seed);
        }
    }
    let [a, b] = pair;
    a.restart().expect("the store is whole");
    let clean = sync(a, b, &Link { seed: 77, ..Link::default() });
    assert!(
        clean.error.is_none() && clean.outcome == Some(Outcome::Equal),
        "{} {what} {clean:?}",
        world.seed
    );
    assert_eq!(a.view().root(), b.view().root());
}

#[test]
fn damaged_frames_end_a_session_and_harm_nobody() {
    let mut count = Count::default();
    for seed in 0..250 {
        let world = World::new(seed);
        let mut dice = Dice::new(seed, 1 << 32);
        for _ in 0..4 {
            let mut pair = pair(&world, &mut dice);
            let tampering: Vec<Tampering> = (0..dice.within(1, 3))
                .map(|_| Tampering {
                    at: dice.within(0, 25).min(dice.within(0, 25)),
                    fault: dice.pick(&Fault::PLAIN).clone(),
                    seed: dice.number(),
                })
                .collect();
            let what = format!("{tampering:?}");
            let [a, b] = &mut pair;
            count.add(&sync(a, b, &Link { seed, tampering, ..Link::default() }));
            assert_repaired(&world, &mut pair, &what);
        }
    }
    println!("{count:?}");
    assert!(count.errors > 100 && count.ended > 100, "{count:?}");
}

#[test]
fn unsound_facts_inside_a_session_are_refused_one_by_one() {
    let mut refused = 0;
    for seed in 0..250 {
        let world = World::new(seed);
        let mut dice = Dice::new(seed, 2 << 32);
        let unsound = |fact: &&Fact| !world.cluster.is_sound(fact);
        let forged: Vec<&Fact> = world.facts.iter().filter(unsound).take(7).collect();
        let mut pair = pair(&world, &mut dice);
        let [a, b] = &mut pair;
        let tampering = forged.iter().map(|fact| Tampering {
            // After the hellos; also beyond the end, where nothing comes of it.
            at: dice.within(2, 8),
            fault: Fault::send_record(&fact.to_record()),
            seed: 0,
        });
        let ended = sync(a, b, &Link { seed, tampering: tampering.collect(), ..Link::default() });
        assert!(ended.error.is_none(), "seed {seed}: {ended:?}");
        assert_eq!(a.view().root(), b.view().root(), "seed {seed}: one bad fact stops no other");
        refused += ended.tally.refused + ended.responder_tally.refused;
        assert_repaired(&world, &mut pair, "forged");
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_peer_that_sends_too_many_bad_facts_is_dropped() {
    let seed = (0..).find(|seed| World::new(*seed).facts.iter().any(is_floor)).expect("a world with a floor");
    let world = World::new(seed);
    let floor = world.facts.iter().find(|fact| is_floor(fact)).expect("a floor");
    let forged = world.scribe.forge(floor, 1).to_record();
    let mut dice = Dice::new(seed, 3 << 32);
    for count in [7, 8] {
        let mut pair = pair(&world, &mut dice);
        let tampering = (0..count).map(|_| Tampering { at: 3, fault: Fault::send_record(&forged), seed: 0 });
        let [a, b] = &mut pair;
        let ended = sync(a, b, &Link { tampering: tampering.collect(), ..Link::default() });
        assert_eq!(
            matches!(ended.error, Some(SessionError::Misbehaved(_))),
            count == 8,
            "{count}: {ended:?}"
        );
        assert_repaired(&world, &mut pair, "too many");
    }
}

fn is_floor(fact: &Fact) -> bool {
    matches!(fact, Fact::Floor(_))
}
