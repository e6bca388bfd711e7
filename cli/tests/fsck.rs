//! `kvgossip fsck` on the store of a real agent.
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::Launch;
use std::fs;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

#[test]
fn a_store_is_checked_with_its_signatures() {
    let desk = Desk::new(PROGRAM);
    let agent = Launch::new(&desk, "data", "replica-a.pem").start(&desk);
    let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**", "--identity", "root.pem"];
    agent.ask(&desk, &grant).exits(0);
    agent.ask(&desk, &["set", "/team/x", "the value of x", "--identity", "team.pem"]).exits(0);
    agent.ask(&desk, &["set", "/team/y", "2"]).exits(0);
    let digest = agent.ask(&desk, &["digest", "--output", "json"]).exits(0).json().remove(0);
    desk.run(&["fsck", "data"]).fails(6, "store.in_use");
    assert!(agent.stop().success());

    // The agent has left the root's key there; another's is refused.
    let sound = desk.run(&["fsck", "data"]).exits(0);
    assert!(
        sound.text().starts_with("data: sound, 2 entries of 2 keys, 1 grant, revocation or floor, "),
        "{sound:?}"
    );
    let sound =
        desk.run(&["fsck", "data", "--root", "root.pub.pem", "--output", "json"]).exits(0).json().remove(0);
    assert_eq!((&sound["sound"], &sound["keys"], &sound["root"]), (&true.into(), &2.into(), &digest["root"]));
    desk.run(&["fsck", "data", "--root", "team.pub.pem"]).fails(1, "store.foreign_cluster");
    fs::remove_file(desk.path("data/root.pub.pem")).expect("the agent left it");
    desk.run(&["fsck", "data"]).fails(2, "usage");
    desk.run(&["fsck", "nowhere", "--root", "root.pub.pem"]).fails(3, "store.missing");
    desk.run(&["fsck", "nowhere"]).fails(3, "store.missing");

    let journals =
        fs::read_dir(desk.path("data/store")).expect("a store").map(|file| file.expect("a file").path());
    let journal = journals.into_iter().find(|path| path.extension().is_some_and(|name| name == "jnl"));
    let journal = journal.expect("a journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    let value = b"the value of x";
    let at = bytes.windows(value.len()).position(|window| window == value).expect("it is there");
    bytes[at] ^= 1;
    fs::write(&journal, bytes).expect("a file of ours");
    let damaged = desk.run(&["fsck", "data", "--root", "root.pub.pem"]).fails(8, "store.damaged");
    assert!(
        damaged.text().contains("unreadable: store: ") && damaged.text().contains("damaged, "),
        "{damaged:?}"
    );
    let told =
        desk.run(&["fsck", "data", "--root", "root.pub.pem", "--output", "json"]).exits(8).json().remove(0);
    assert_eq!((&told["sound"], &told["faults"][0]["kind"]), (&false.into(), &"unreadable".into()));
}
