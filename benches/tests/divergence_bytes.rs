//! What sessions cost at most, in exact numbers: bytes, flights and rounds are facts of the protocol, the same on
//! every machine. A change of the wire format moves them; a change that raises one has to say why.

use kvgossip_benches::divergence::{Report, measure};
use kvgossip_benches::workload::{Mix, Spread, Workload};

/// Each difference moves once, nothing moves that changes nothing, and one walk is enough.
fn assert_no_waste(report: &Report) {
    assert_eq!(report.entries, report.workload.differences as u64, "{report:?}");
    assert_eq!(report.waste, 0, "{report:?}");
    assert_eq!(report.rounds, 1, "{report:?}");
}

/// Checks cases of (differences, most bytes of overhead for each, most flights).
fn check(keys: usize, spread: Spread, mix: Mix, cases: &[(usize, f64, u32)]) {
    for &(differences, bytes, flights) in cases {
        for seed in [1, 2] {
            let workload = Workload { keys, differences, spread, mix, seed };
            let report = measure(workload).expect("the replicas become equal");
            assert_no_waste(&report);
            let cost = report.per_difference();
            assert!(cost <= bytes, "{cost} B a difference, at most {bytes}: {report:?}");
            assert!(report.flights <= flights, "at most {flights} flights: {report:?}");
        }
    }
}

#[test]
fn uniform_differences_of_a_thousand_keys() {
    let cases = [(1, 740.0, 8), (10, 180.0, 9), (100, 58.0, 10), (1_000, 22.0, 10)];
    check(1_000, Spread::Uniform, Mix::Mixed, &cases);
}

#[test]
fn uniform_differences_of_ten_thousand_keys() {
    let cases = [(1, 960.0, 10), (10, 290.0, 10), (100, 136.0, 11), (1_000, 51.0, 11)];
    check(10_000, Spread::Uniform, Mix::Mixed, &cases);
}

#[test]
fn clustered_differences_of_ten_thousand_keys() {
    check(10_000, Spread::Clustered, Mix::Mixed, &[(10, 108.0, 11), (100, 29.0, 11), (1_000, 22.0, 11)]);
    check(10_000, Spread::Clustered, Mix::Adds, &[(100, 24.0, 11), (1_000, 17.0, 11)]);
}

#[test]
fn hashing_follows_the_differences_and_not_the_keys() {
    let report = |keys| {
        let workload =
            Workload { keys, differences: 100, spread: Spread::Clustered, mix: Mix::Updates, seed: 1 };
        measure(workload).expect("the replicas become equal")
    };
    let (small, large) = (report(1_000), report(20_000));
    assert!(large.nodes_hashed <= small.nodes_hashed + 40, "{} {}", small.nodes_hashed, large.nodes_hashed);
}
