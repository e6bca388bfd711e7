//! What goes wrong outside a command: ports that are taken, readers that go away, roots that are others.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::Launch;
use kvgossip_testkit::served::{Served, Setup};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Stdio;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

#[test]
fn a_port_that_is_taken_is_named() {
    let desk = Desk::new(PROGRAM);
    let (tcp, udp) = (
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
    );
    let (http, sync) = (tcp.local_addr().unwrap().to_string(), udp.local_addr().unwrap().to_string());
    let start = |http: &str, sync: &str| {
        let args =
            ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--replica-key", "replica-a.pem"];
        desk.run(&[&args[..], &["--http", http, "--sync", sync]].concat()).fails(1, "agent.address")
    };
    let refused = start(&http, "127.0.0.1:0");
    assert!(refused.err.contains(&http) && refused.err.contains("another --http address"), "{refused:?}");
    let refused = start("127.0.0.1:0", &sync);
    assert!(refused.err.contains("the address is that of --sync"), "{refused:?}");
    // The option that was given is named, not the one that takes its address from it.
    let args = ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--replica-key", "replica-a.pem"];
    let foreign = ["--http", "127.0.0.1:0", "--plaintext-gossip", "--bind", "192.0.2.1:7946"];
    let refused = desk.run(&[&args[..], &foreign].concat()).fails(1, "agent.address");
    assert!(refused.err.contains("192.0.2.1") && refused.err.contains("that of --bind"), "{refused:?}");
}

#[test]
fn what_is_no_key_of_gossip_and_no_limit_of_a_store_is_misuse() {
    let served = Served::start(PROGRAM, Setup::default());
    for verb in ["install", "use", "remove"] {
        let refused = served.run(&["gossip-key", verb, "bad-key"]).fails(2, "usage");
        assert!(refused.err.contains("no key of gossip") && !refused.err.contains("bad-key"), "{refused:?}");
    }
    let input = served.run_with_input(&["gossip-key", "install", "-"], b"AAAA\n").fails(2, "usage");
    assert!(input.err.contains("no key of gossip"), "{input:?}");
    let agent = ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--max-store", "1K"];
    let refused = served.desk.run(&agent);
    assert!(refused.code == 2 && refused.err.contains("the least limit is 1M"), "{refused:?}");
}

/// More keys than a pipe holds, so that the command still writes when its reader goes.
#[test]
fn a_listing_ends_quietly_when_its_reader_has_seen_enough() {
    let served = Served::start(PROGRAM, Setup::default());
    served.fill(2_500);
    for more in [&["--output", "json"][..], &["-l"]] {
        let mut command = served.desk.command(&[&["ls", "--data-dir", "."], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().is_ok());
        drop(lines);
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""), "{more:?}");
    }
}

/// What is said of wrong files, to the letter: command line, exit code, standard error.
#[test]
fn wrong_files_are_named_with_what_is_wrong() {
    let desk = Desk::new(PROGRAM);
    std::fs::write(desk.path("noise.pem"), [0xff; 100]).unwrap();
    std::fs::create_dir(desk.path("dir")).unwrap();
    let bits = "the RSA key has 1024 bits; only 2048, 3072 and 4096 are accepted: make one with `kvgossip keygen` [rsa.unsupported]";
    let exponent =
        "the RSA key's public exponent is not 65537; make a new key with `kvgossip keygen` [rsa.unsupported]";
    let missing = "No such file or directory (os error 2) [file.unreadable]";
    let cases: [(&str, i32, String); 18] = [
        // Bad PEM.
        ("keygen -y cut.pem", 1, "cut.pem: this is not a valid RSA private key [pem.invalid]".into()),
        ("keygen -y noise.pem", 1, "noise.pem: this is not a PEM file: it is not text [pem.invalid]".into()),
        (
            "keygen -y encrypted.pem",
            1,
            "encrypted.pem: the private key is encrypted; decrypt it first, for example with `openssl pkey` [pem.invalid]"
                .into(),
        ),
        (
            "set /a v --identity root.pub.pem",
            1,
            "root.pub.pem: this is a public key; a private key is needed here [pem.invalid]".into(),
        ),
        (
            "agent --data-dir data --root elliptic.pub.pem",
            1,
            "elliptic.pub.pem: this is not an RSA public key: `kvgossip keygen -y KEY` prints that of a private key [pem.invalid]".into(),
        ),
        (
            "agent --data-dir data --root root.pub.pem --replica-key cut.pem",
            1,
            "cut.pem: this is not a valid RSA private key [pem.invalid]".into(),
        ),
        // 1024 bits, and an exponent of 3.
        ("keygen -y small.pem", 1, format!("small.pem: {bits}")),
        ("set /a v --identity small.pem", 1, format!("small.pem: {bits}")),
        ("agent --data-dir data --root small.pub.pem", 1, format!("small.pub.pem: {bits}")),
        ("verify all --root small.pub.pem", 1, format!("small.pub.pem: {bits}")),
        ("keygen -y exponent3.pem", 1, format!("exponent3.pem: {exponent}")),
        (
            "grant new --to exponent3.pub.pem --pattern /a --identity root.pem",
            1,
            format!("exponent3.pub.pem: {exponent}"),
        ),
        // Files that cannot be read.
        ("set /a --file missing", 1, format!("cannot read missing: {missing}")),
        ("set /a --file dir", 1, "cannot read dir: Is a directory (os error 21) [file.unreadable]".into()),
        ("verify missing --root root.pub.pem", 1, format!("cannot read missing: {missing}")),
        (
            "agent --data-dir data --root root.pub.pem --config missing.toml",
            1,
            format!("cannot read missing.toml: {missing}"),
        ),
        (
            "agent --data-dir root.pem --root root.pub.pem",
            1,
            "the data directory root.pem cannot be made: File exists (os error 17) [file.unwritable]".into(),
        ),
        // A value without end.
        (
            "set /a --file /dev/zero",
            1,
            "the value for /a has more than 1 MiB; store it in parts or elsewhere [fact.too_large]".into(),
        ),
    ];
    for (line, exit, told) in cases {
        let args: Vec<&str> = line.split(' ').collect();
        let ran = desk.run(&args).exits(exit);
        assert_eq!((ran.err, ran.out.len()), (format!("error: {told}\n"), 0), "{line}");
    }
    assert!(!desk.path("data/store").exists(), "nothing was begun");
}

#[test]
fn an_agent_that_meets_what_is_not_its_own_says_so_to_the_letter() {
    let desk = Desk::new(PROGRAM);
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let agent = launch.start(&desk);
    let second = launch.refused(&desk).exits(6);
    let told = "error: data: the data directory is in use by another process [store.in_use]\nstop that agent, or talk to it\n";
    assert!(second.err.ends_with(told), "{second:?}");
    // A root that is not the agent's, where the command line names one.
    let root = agent.ask(&desk, &["set", "/a", "v", "--identity", "root.pem", "--root", "team.pub.pem"]);
    let root = root.exits(8);
    assert!(root.err.starts_with("error: ") && root.err.ends_with(" [cluster.mismatch]\n"), "{root:?}");
    let (named, own) = (cluster(&desk, "team.pub.pem"), cluster(&desk, "root.pub.pem"));
    assert!(root.err.contains(&named[..8]) && root.err.contains(&own[..8]), "both are named: {root:?}");
    assert!(agent.stop().success());
    // The directory of another cluster.
    std::fs::copy(desk.path("team.pub.pem"), desk.path("root.pub.pem")).unwrap();
    let foreign = launch.refused(&desk).fails(1, "store.foreign_cluster");
    assert!(foreign.err.contains("data: ") && foreign.err.contains(&own[..8]), "{foreign:?}");
}

fn cluster(desk: &Desk, root: &str) -> String {
    use kvgossip_grants::PublicKey;
    PublicKey::from_pem(&desk.read(root)).unwrap().cluster().to_string()
}

/// Closed standard streams, as a badly written supervisor leaves them.
#[test]
fn closed_streams_are_no_reason_to_fail_or_to_panic() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    let program = PROGRAM;
    for (line, exit) in [
        ("status --data-dir . <&- >&- 2>&-", 0),
        ("set /a v --data-dir . <&- >&- 2>&-", 0),
        ("get /b --data-dir . >&- 2>&-", 3),
        ("get 2>&-", 2),
        ("ls --data-dir . > /dev/full 2>&-", 1),
        ("get /a --data-dir . > /dev/full 2>&-", 1),
    ] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("{program} {line}")]).current_dir(served.path("")).stdin(Stdio::null());
        assert_eq!(shell.status().unwrap().code(), Some(exit), "{line}");
    }
    assert_eq!(served.run(&["get", "/a"]).text(), "v");
}

#[test]
fn the_private_key_of_root_does_not_belong_to_a_replica() {
    let desk = Desk::new(PROGRAM);
    for (root, warned) in [("root.pem", true), ("root.pub.pem", false)] {
        let ran = desk.run(&["agent", "--data-dir", "data", "--root", root, "--identity", "cut.pem"]);
        let ran = ran.fails(1, "pem.invalid");
        assert_eq!(ran.err.contains("root.pem is a private key"), warned, "{ran:?}");
    }
}
