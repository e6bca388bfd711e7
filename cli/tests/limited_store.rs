//! Imports into a store that has less room than they need (`agent --max-store`).
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, Process, status};
use kvgossip_testkit::served::{Served, Setup};
use std::fs;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// So many files of so many bytes are more than 1 MiB has room for.
const FILES: usize = 300;
const FILE_BYTES: usize = 4 << 10;
const LIMIT_BYTES: u64 = 1 << 20;
/// What one of them weighs at most.
const WEIGHT_BYTES: u64 = 5 << 10;

fn limited(desk: &Desk, data: &str) -> Process {
    Launch::new(desk, data, "replica-b.pem").with(&["--max-store", "1M"]).start(desk)
}

/// The store is as full as it can be, and says so.
#[track_caller]
fn is_filled(desk: &Desk, data: &str, written: u64) {
    let status = status(desk, data);
    let counted = status["store"]["counted_bytes"].as_u64().expect("a number");
    assert!((LIMIT_BYTES - WEIGHT_BYTES..=LIMIT_BYTES).contains(&counted), "{counted}");
    assert!(status["reasons"].as_array().expect("reasons").iter().any(|one| one["code"] == "store.quota"));
    assert_eq!(status["counts"]["keys"].as_u64(), Some(written), "{status}");
}

#[test]
fn an_import_fills_the_store_up_to_its_limit_and_names_what_has_no_room() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    let desk = &served.desk;
    fs::create_dir(desk.path("files")).expect("a directory");
    for number in 0..FILES {
        fs::write(desk.path(format!("files/{number:03}")), vec![b'x'; FILE_BYTES]).expect("a file");
    }
    served.run(&["import", "--dir", "files", "--under", "/f"]).exits(0);
    served.run(&["export", "-o", "all"]).exits(0);

    // Facts of a file, signed here, and signed by the agent.
    let agent = limited(desk, "facts");
    let taken = agent.ask(desk, &["import", "all", "--output", "json"]);
    assert!(taken.code == 1 && taken.err.contains("store.quota"), "{taken:?}");
    let summary = taken.json().pop().expect("a summary");
    let (merged, refused) = (summary["merged"].as_u64().unwrap(), summary["refused"].as_u64().unwrap());
    assert_eq!((merged + refused, &summary["complete"]), (FILES as u64, &true.into()), "{summary}");
    is_filled(desk, "facts", merged);
    // The same again gets as far, and what is deleted makes room.
    let again = agent.ask(desk, &["import", "all"]).fails(1, "store.quota");
    assert!(again.text().contains(&format!("0 new, {merged} there already")), "{again:?}");
    for (data, signer) in [("here", &["--identity", "root.pem"][..]), ("there", &[])] {
        let agent = limited(desk, data);
        let args = [&["import", "--dir", "files", "--under", "/f"], signer].concat();
        let written = agent.ask(desk, &args).fails(1, "store.quota");
        assert!(written.text().contains(&format!("{merged} written, 0 unchanged, {refused} left out\n")));
        is_filled(desk, data, merged);
    }
}
