//! The demonstration, as a newcomer runs it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvgossip")).arg("demo").args(arguments).output().expect("it runs")
}

fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn every_step_is_verified_and_a_cut_heals_without_any_further_write() {
    let text = told(&demo(&["--keys", "400"]));
    for line in [
        "ok: through gossip (Serf's protocol) each knows all three",
        "ok: each replica holds all 400 keys",
        "both sides hold each other for failed",
        "ok: healed without any further write",
        "40 of 420 entries differed",
        "ok: only what differs was moved",
        "ok: a stranger cites the deployer's grant: entry.wrong_signer",
        "ok: the deployer's 20 entries fell on all three replicas: 420 keys were set, 400 are",
        "ok: one session brought all 4 authority facts and all 415 entries",
        "ok: nothing was received without effect",
        "ok: all four have root digest",
        "ok: replica 4 shows what each of the three wrote",
        "Every step was verified",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
}

#[test]
fn a_directory_of_ones_own_fills_the_tree() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("sub dir")).expect("a directory");
    std::fs::write(dir.path().join("plain.conf"), "a = 1").expect("a file");
    std::fs::write(dir.path().join("sub dir").join("100%"), "b").expect("a file");
    std::fs::write(dir.path().join("empty"), "").expect("a file");
    let text = told(&demo(&["--dir", dir.path().to_str().expect("a name")]));
    assert!(text.contains("ok: each replica holds all 3 keys"), "{text}");
}

#[test]
fn a_directory_that_is_not_there_is_said_so() {
    let output = demo(&["--dir", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("/nowhere/at/all") && text.contains("[demo.failed]"), "{text}");
}

#[cfg(unix)]
#[test]
fn who_stops_it_is_told_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvgossip"));
    command.args(["demo", "--keys", "2000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    while !line.contains("ok: ") {
        line.clear();
        assert!(out.read_line(&mut line).expect("a line") > 0, "it ended");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    let ended = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && err.contains("[interrupted]\n"), "{:?}: {err}", ended.status);
}
