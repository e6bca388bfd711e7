//! Once, almost every error printed nothing and exited 0, and making a key overwrote keys and left the secret
//! world-readable.

use kvgossip_testkit::desk::{Desk, mode};
use std::fs;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

#[test]
fn defect_15_no_error_is_silent_and_none_exits_0() {
    let desk = Desk::new(PROGRAM);
    let gone = "http://127.0.0.1:9";
    for args in [
        &[][..],
        &["nonsense"],
        &["get"],
        &["get", "no-slash"],
        &["get", "/a", "--agent", "nowhere"],
        &["get", "/a", "--agent", gone],
        &["get", "/a", "--data-dir", "missing"],
        &["set", "/a"],
        &["set", "/a", "v", "--agent", gone],
        &["set", "/a", "v", "--identity", "missing.pem"],
        &["set", "/a", "--file", "missing"],
        &["set", "/a", "v", "--out", "f"],
        &["del", "/a", "--agent", gone],
        &["ls", "/a/[b]"],
        &["ls", "--agent", gone],
        &["grant"],
        &["grant", "new", "--to", "missing.pem", "--pattern", "/a/**"],
        &["grant", "new", "--to", "team.pub.pem", "--pattern", "/a/**"],
        &[
            "grant",
            "new",
            "--to",
            "team.pub.pem",
            "--pattern",
            "/a/**",
            "--identity",
            "root.pem",
            "--agent",
            gone,
        ],
        &["grant", "ls", "--agent", gone],
        &["grant", "check", "--pattern", "/**", "--as", "team.pub.pem", "--agent", gone],
        &["grant", "revoke", "12", "--identity", "root.pem"],
        &["grant", "revoke", "1234abcd", "--identity", "root.pem", "--agent", gone],
        &["explain", "/a", "--as", "team.pub.pem", "--agent", gone],
        &["floor", "/a/**", "--before", "never", "--identity", "root.pem"],
        &["floor", "/a/**", "--before", "now", "--identity", "root.pem", "--agent", gone],
        &["status", "--agent", gone],
        &["digest", "--agent", gone],
        &["refusals", "--agent", gone],
        &["sync", "127.0.0.1:9", "--agent", gone],
        &["sync", "127.0.0.1:9", "--data-dir", "data"],
        &["sync", "127.0.0.1:9", "--data-dir", "data", "--root", "root.pub.pem"],
        &["adopt", "/a/**"],
        &["adopt", "/a/**", "--identity", "team.pem", "--agent", gone],
        &["export", "--agent", gone],
        &["export", "-o", "missing/file", "--agent", gone],
        &["import", "missing", "--agent", gone],
        &["import", "--dir", "missing", "--under", "/a", "--agent", gone],
        &["verify", "missing", "--root", "root.pub.pem"],
        &["verify", "root.pem", "--root", "root.pub.pem"],
        &["verify", "root.pem"],
        &["completions", "tcsh"],
        &["man", "root.pem"],
        &["status", "--agent", gone, "--token-file", "missing"],
        &["agent"],
        &["agent", "--data-dir", "data", "--root", "missing.pem"],
        &["agent", "--data-dir", "data", "--root", "small.pub.pem"],
        &["agent", "--data-dir", "data", "--root", "root.pub.pem", "--http", "0.0.0.0:0"],
        &["agent", "--data-dir", "data", "--root", "root.pub.pem", "--peer", "127.0.0.1:9"],
        &["agent", "--data-dir", "data", "--root", "root.pub.pem", "--peer", "nonsense"],
        &["agent", "--data-dir", "data", "--root", "root.pub.pem", "--allow-peers", "root.pem"],
        &["keygen", "-y", "missing"],
        &["keygen", "-o", "missing/dir"],
        &["keygen", "--bits", "1024"],
    ] {
        let ran = desk.run(args);
        assert_ne!(ran.code, 0, "{args:?}: {ran:?}");
        assert!(!ran.err.trim().is_empty(), "{args:?} says nothing");
        assert_eq!(ran.text(), "", "{args:?} writes an error to standard output");

        let as_json = desk.run(&[&["--output", "json"], args].concat());
        assert_eq!(as_json.code, ran.code, "{args:?}");
        let last = as_json.err.lines().last().unwrap_or_default();
        let object: serde_json::Value =
            serde_json::from_str(last).unwrap_or_else(|_| panic!("{args:?}: {as_json:?}"));
        assert_eq!(object["exit"], ran.code, "{args:?}");
        assert!(ran.err.contains(&format!("[{}]", object["code"].as_str().unwrap())), "{args:?}: {ran:?}");
    }
}

#[test]
fn defect_15_keygen_never_overwrites() {
    let desk = Desk::new(PROGRAM);
    fs::write(desk.path("kept"), "a key").unwrap();
    desk.run(&["keygen", "-o", "kept"]).fails(1, "file.exists");
    assert_eq!(desk.read("kept"), "a key");
    #[cfg(unix)]
    {
        // Nor does it write through a link that leads nowhere yet.
        std::os::unix::fs::symlink("target", desk.path("link")).unwrap();
        desk.run(&["keygen", "-o", "link"]).fails(1, "file.exists");
        assert!(!desk.path("target").exists());
    }
}

#[cfg(unix)]
#[test]
fn defect_15_the_secret_is_its_owners_alone() {
    let desk = Desk::new(PROGRAM);
    // Whatever the umask allows to others.
    let mut shell = std::process::Command::new("sh");
    let line = format!("umask 000 && exec {} keygen -o new.pem", PROGRAM);
    assert!(shell.args(["-c", &line]).current_dir(desk.path("")).status().unwrap().success());
    assert_eq!(mode(&desk.path("new.pem")), 0o600);
}
