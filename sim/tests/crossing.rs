//! Sessions that run at the same time at the same replicas.

use kvgossip_engine::session::{MAX_ROUNDS, Outcome};
use kvgossip_sim::crossing::cross;
use kvgossip_sim::scribe::at;
use kvgossip_sim::world::LATE;
use kvgossip_sim::{Dice, Link, SimReplica, World, check_state, sync};

/// Replicas that hold what they could take in of a part of the world, all late.
fn scattered(world: &World, count: usize, dice: &mut Dice) -> Vec<SimReplica> {
    let fresh = || SimReplica::new(world.root.clone(), at(LATE)).with_journal();
    let mut replicas: Vec<SimReplica> = (0..count).map(|_| fresh()).collect();
    for fact in &world.facts {
        for replica in &mut replicas {
            if dice.chance(if fact.is_authority() { 60 } else { 30 }) {
                replica.offer(fact.clone());
            }
        }
    }
    replicas
}

#[test]
fn sessions_that_cross_end_and_leave_every_replica_whole() {
    let mut equal = 0;
    for seed in 0..150 {
        let world = World::new(seed);
        let mut dice = Dice::new(seed, 4 << 32);
        let count = dice.within(3, 5);
        let mut replicas = scattered(&world, count, &mut dice);
        let mut sessions = Vec::new();
        for one in 0..count {
            for two in (0..count).filter(|two| *two != one) {
                if dice.chance(60) {
                    let link = Link { seed: dice.number(), batch: dice.within(1, 12), ..Link::default() };
                    sessions.push((one, two, link));
                }
            }
        }
        for ended in cross(&mut replicas, &sessions, &mut dice) {
            let outcomes = (ended.outcome, ended.responder_outcome);
            assert!(ended.error.is_none(), "seed {seed}: {ended:?}");
            assert!(outcomes.0.is_some() && outcomes.0 == outcomes.1, "seed {seed}: {ended:?}");
            assert!(ended.tally.rounds <= u32::from(MAX_ROUNDS), "seed {seed}: {ended:?}");
            assert_eq!(ended.tally.refused + ended.responder_tally.refused, 0, "seed {seed}: {ended:?}");
            equal += u32::from(ended.outcome == Some(Outcome::Equal));
        }
        for replica in &replicas {
            if let Err(complaint) = check_state(&world, replica) {
                panic!("seed {seed}: {complaint}\n{world}");
            }
        }
        // Once more in peace, along the line and back.
        for pair in (1..count).chain((1..count - 1).rev()) {
            let [a, b] = replicas.get_disjoint_mut([pair - 1, pair]).expect("two of them");
            let ended = sync(a, b, &Link { seed, ..Link::default() });
            assert_eq!(ended.outcome, Some(Outcome::Equal), "seed {seed}: {ended:?}");
        }
        let roots: Vec<_> = replicas.iter().map(|replica| replica.view().root()).collect();
        assert!(roots.iter().all(|root| *root == roots[0]), "seed {seed}");
    }
    println!("{equal} sessions ended equal");
    assert!(equal > 100);
}
