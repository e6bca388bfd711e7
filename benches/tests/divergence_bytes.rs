//! Upper bounds of the cost of sessions in exact numbers: bytes, flights and rounds follow from the protocol and are
//! the same on every machine. The numbers are those of the present wire format; a change that increases them needs a
//! reason.

use kvgossip_benches::divergence::{Report, measure};
use kvgossip_benches::workload::{Mix, Spread, Workload};

/// Asserts that each difference is transferred once, nothing is transferred in vain, and one walk is enough.
fn assert_no_waste(report: &Report) {
    assert_eq!(report.entries, report.workload.differences as u64, "{report:?}");
    assert_eq!(report.waste, 0, "{report:?}");
    assert_eq!(report.rounds, 1, "{report:?}");
}

/// Checks cases of (differences, maximum overhead of both directions in bytes, maximum number of flights).
fn check(keys: usize, spread: Spread, mix: Mix, cases: &[(usize, u64, u32)]) {
    for &(differences, bytes, flights) in cases {
        for seed in [1, 2] {
            let workload = Workload { keys, differences, spread, mix, seed };
            let report = measure(workload).expect("the replicas become equal");
            assert_no_waste(&report);
            let overhead = report.overhead_out + report.overhead_in;
            assert!(overhead <= bytes, "{overhead} B of overhead, at most {bytes}: {report:?}");
            assert!(report.flights <= flights, "at most {flights} flights: {report:?}");
        }
    }
}

#[test]
fn uniform_differences_of_a_thousand_keys() {
    let cases = [(1, 677, 7), (10, 1_655, 9), (100, 4_613, 9), (1_000, 12_322, 9)];
    check(1_000, Spread::Uniform, Mix::Mixed, &cases);
}

#[test]
fn uniform_differences_of_ten_thousand_keys() {
    let cases = [(1, 786, 8), (10, 2_522, 10), (100, 12_586, 10), (1_000, 41_082, 10)];
    check(10_000, Spread::Uniform, Mix::Mixed, &cases);
}

#[test]
fn clustered_differences_of_ten_thousand_keys() {
    check(10_000, Spread::Clustered, Mix::Mixed, &[(10, 904, 10), (100, 1_969, 10), (1_000, 12_667, 10)]);
    check(10_000, Spread::Clustered, Mix::Adds, &[(10, 856, 10), (100, 1_666, 11), (1_000, 9_220, 11)]);
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
