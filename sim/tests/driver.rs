//! Sessions run by the driver that production runs: fresh replicas of clusters that delegate, and the planted bugs of
//! whoever carries a driver out.

use kvgossip_sim::chains::fresh;
use kvgossip_sim::{DriveFlaw, HostKind, Judge, SimReplica, Stats, World};

/// The greatest depth of a chain.
const MAX_DEPTH: usize = 16;
/// Clusters of each depth.
const CLUSTERS: u64 = 5;
/// So many worlds are looked at before a planted bug counts as missed.
const PLANTED_WORLDS: u64 = 1_000;
const ORDERS: u64 = 4;

#[test]
fn a_fresh_replica_gets_chains_of_any_depth_in_one_session_and_nothing_in_vain() {
    let mut again = 0;
    for depth in 1..=MAX_DEPTH {
        for seed in 0..CLUSTERS {
            let driven = fresh(1_000 * depth as u64 + seed, depth, None);
            let driven = driven.unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
            let ended = driven.ended;
            let merged = ended.tally.merged + ended.responder_tally.merged;
            again += driven.judged.0 + driven.judged.1 - merged;
        }
    }
    // Hosts that judge a batch at one moment need further tries, which the session gives them.
    assert!(again > 0, "no host found anything unjustified at first");
}

#[test]
fn both_kinds_of_hosts_are_met() {
    let hosts: Vec<HostKind> = (0..20).map(|seed| kvgossip_sim::Drive::random(seed).host).collect();
    assert!(hosts.contains(&HostKind::InOrder) && hosts.contains(&HostKind::AtOnce));
}

#[test]
fn random_worlds_through_drivers_keep_the_laws() {
    let mut stats = Stats::default();
    for seed in 0..60 {
        if let Some(failure) = first_failure(seed, None, &mut stats) {
            panic!("{failure}");
        }
    }
    println!("{stats:#?}");
    assert!(stats.sessions > 300 && stats.cut > 30, "{stats:#?}");
}

/// Judges a world with all sessions through drivers.
fn first_failure(seed: u64, flaw: Option<DriveFlaw>, stats: &mut Stats) -> Option<String> {
    let depth = 1 + seed as usize % MAX_DEPTH;
    if let Err(complaint) = fresh(seed, depth, flaw) {
        return Some(format!("fresh replica, seed {seed}, depth {depth}: {complaint}"));
    }
    let world = World::new(seed);
    let judge = Judge::new(&world).all_driven(flaw);
    let make = |now| SimReplica::new(world.root.clone(), now).with_journal();
    (0..ORDERS).find_map(|order| judge.run(order, &make, stats).err()).map(|failure| failure.to_string())
}

fn assert_found(flaw: DriveFlaw) {
    let mut stats = Stats::default();
    let found = (0..PLANTED_WORLDS).find_map(|seed| first_failure(seed, Some(flaw), &mut stats));
    println!("{flaw:?}: {}", found.expect("the simulation misses a planted bug"));
}

#[test]
fn waiting_after_a_fill_without_asking_again_is_found() {
    assert_found(DriveFlaw::WaitsAfterFill);
}

#[test]
fn a_forgotten_verdict_is_found() {
    assert_found(DriveFlaw::ForgetsVerdict);
}

#[test]
fn a_lost_answer_of_a_job_is_found() {
    assert_found(DriveFlaw::LosesAnswer);
}

#[test]
fn an_end_that_is_not_told_is_found() {
    assert_found(DriveFlaw::EndNotTold);
}
