//! The judge finds every planted bug, and finds nothing where nothing is planted.

use kvgossip_sim::{Complaint, Failure, Flaw, Judge, Model, Stats, World};

/// So many worlds are looked at before a bug counts as missed.
const WORLDS: u64 = 100;
/// Runs that are not watched offer by offer: what they come to in the end must give the bug away.
const ORDERS: std::ops::Range<u64> = 1..9;

/// Judges a model over worlds until a law is broken.
fn first_failure(worlds: u64, flaw: Option<Flaw>) -> Option<Failure> {
    let mut stats = Stats::default();
    for seed in 0..worlds {
        let world = World::new(seed);
        let judge = Judge::new(&world);
        // Models take their time; large worlds show nothing that small ones do not.
        if world.facts.len() > 30 {
            continue;
        }
        let make = |now| Model::new(&world, now, flaw);
        for order in ORDERS {
            if let Err(failure) = judge.run(order, &make, &mut stats) {
                return Some(failure);
            }
        }
    }
    None
}

fn assert_found(flaw: Flaw) -> Complaint {
    let failure = first_failure(WORLDS, Some(flaw)).expect("the judge misses a planted bug");
    println!("{flaw:?}: {failure}");
    assert!(failure.to_string().contains(&format!("--seed {} --order {}", failure.seed, failure.order)));
    failure.complaint
}

#[test]
fn a_sound_model_passes() {
    if let Some(failure) = first_failure(24, None) {
        panic!("{failure}");
    }
}

#[test]
fn one_winner_per_key_is_found() {
    assert_found(Flaw::OneWinnerPerKey);
}

#[test]
fn the_first_revocation_kept_is_found() {
    assert_found(Flaw::FirstRevocationKept);
}

#[test]
fn revocations_kept_below_dead_grants_are_found() {
    assert_found(Flaw::RevocationsKeptBelowDeadGrants);
}

#[test]
fn expiry_deciding_storage_is_found() {
    assert_found(Flaw::ExpiryDecidesStorage);
}

#[test]
fn floors_dropped_once_one_pattern_is_superseded_are_found() {
    assert_found(Flaw::FloorsDroppedOnceOnePatternIsSuperseded);
}

#[test]
fn refusing_a_put_because_it_is_older_is_found() {
    assert_found(Flaw::OlderPutsRefused);
}

#[test]
fn a_capped_frontier_is_found() {
    assert_found(Flaw::FrontierCapped);
}

#[test]
fn the_first_of_equal_times_kept_is_found() {
    assert_found(Flaw::FirstOfEqualTimesKept);
}

#[test]
fn unknown_chains_taken_for_moot_are_found() {
    assert_found(Flaw::UnknownChainsAreMoot);
}
