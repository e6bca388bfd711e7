//! Clocks that differ, as a person at the command line meets them.

use crate::PROGRAM;
use kvgossip_engine::{FjallStorage, Replica, Storage};
use kvgossip_grants::{
    EntryDraft, EntryFact, Fact, Key, RsaVerifier, Signer, SigningKey, Timestamp, Verdict,
};
use kvgossip_testkit::desk::{Desk, Ran};
use kvgossip_testkit::process::{Launch, ask, status};
use kvgossip_testkit::served::{Served, Setup};
use std::process::Command;

const MINUTE_S: i64 = 60;

fn signed(served: &Served, args: &[&str]) -> Ran {
    served.run(&[args, &["--identity", "root.pem"]].concat())
}

#[test]
fn under_an_agents_clock_that_is_minutes_off_nothing_is_signed_unless_the_command_line_says_so() {
    for ahead_s in [5 * MINUTE_S, -5 * MINUTE_S, 24 * 60 * MINUTE_S] {
        let served = Served::start(PROGRAM, Setup { ahead_s, ..Setup::default() });
        let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**"];
        std::fs::create_dir(served.path("files")).expect("a directory");
        std::fs::write(served.path("files/one"), "value").expect("a file");
        let dir = ["import", "--dir", "files", "--under", "/files"];
        for args in [&["set", "/a", "1"][..], &grant, &dir] {
            let refused = signed(&served, args).fails(1, "clock.skew");
            assert!(refused.err.contains("the agent's clock is") && refused.err.contains("--ignore-clock"));
        }
        served.run(&["get", "/a"]).fails(3, "key.unset");
        for args in [&["set", "/a", "1"][..], &["del", "/a"], &grant, &dir] {
            let done = signed(&served, &[args, &["--ignore-clock"]].concat()).exits(0);
            assert!(done.err.contains("warning: the agent's clock is"), "{done:?}");
        }
    }
}

#[test]
fn a_clock_that_is_half_a_minute_off_is_told_and_one_that_is_right_is_not() {
    let told = Served::start(PROGRAM, Setup { ahead_s: 45, ..Setup::default() });
    let done = signed(&told, &["set", "/a", "1"]).exits(0);
    assert!(
        done.err.contains("warning: the agent's clock is 4") && done.err.contains("ahead of"),
        "{done:?}"
    );
    let right = Served::start(PROGRAM, Setup::default());
    assert_eq!(signed(&right, &["set", "/a", "1"]).exits(0).err, "");
}

/// Puts root's entry into the store of an agent that does not run, as one would whose clock is ahead.
fn write_ahead(desk: &Desk, data: &str, key: &str, ahead_us: u64) {
    let root = SigningKey::from_pem(&desk.read("root.pem")).expect("a private key");
    let mut storage = FjallStorage::open(&desk.path(data), root.public().cluster()).expect("a store");
    let mut replica = Replica::load(root.public().clone(), &storage).expect("a replica");
    let draft = EntryDraft {
        key: Key::parse(key).expect("a key"),
        value: Some("fast".into()),
        timestamp: kvgossip_agent::now().saturating_add(ahead_us),
        grant: None,
    };
    let fact = Fact::Entry(EntryFact::sign(root.public().cluster(), draft, &root).expect("a signature"));
    let verified =
        replica.view().check(fact, Timestamp::MAX).expect("well").verify(&RsaVerifier).expect("signed");
    let applied = replica.apply(vec![verified], storage.reader().as_ref()).expect("a store");
    assert_eq!(applied.verdicts, [Verdict::Merged]);
    storage.commit(&applied.batch.expect("something new")).expect("a store");
}

#[test]
fn an_agent_alone_forgets_the_future_only_when_it_was_told_yes() {
    let desk = Desk::new(PROGRAM);
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let agent = launch.start(&desk);
    agent.ask(&desk, &["set", "/k", "right"]).exits(0);
    agent.ask(&desk, &["set", "/other", "right"]).exits(0);
    assert!(agent.stop().success());
    write_ahead(&desk, "data", "/k", 3_600_000_000);

    let agent = launch.start(&desk);
    let locked = agent.ask(&desk, &["set", "/k", "again"]).fails(1, "entry.not_yet");
    assert!(locked.err.contains("--forget-future") && locked.err.contains("clock"), "{locked:?}");
    let locked =
        agent.ask(&desk, &["set", "/k", "again", "--identity", "root.pem"]).fails(1, "entry.not_yet");
    assert!(
        locked.err.contains("--forget-future") && locked.err.contains("nothing was signed"),
        "{locked:?}"
    );
    assert!(agent.stop().success());

    let forgetful = launch.clone().with(&["--forget-future"]);
    let refused = forgetful.refused(&desk).fails(2, "agent.forget_alone");
    assert!(refused.err.contains("1 key would be unset") && refused.err.contains("\n  /k\n"), "{refused:?}");
    assert!(!refused.err.contains("/other"), "{refused:?}");
    let agent = forgetful.with(&["--yes"]).start(&desk);
    agent.ask(&desk, &["get", "/k"]).fails(3, "key.unset");
    assert_eq!(status(&desk, "data")["waiting"]["facts"], 1);
    agent.ask(&desk, &["set", "/k", "again"]).exits(0);
    let log = desk.read("data.log");
    assert!(
        log.contains("entries ahead of the clock were forgotten") && log.contains("set these keys anew"),
        "{log}"
    );
    assert!(!log.contains("peers bring"), "nobody is named that could: {log}");
    assert!(agent.stop().success());

    // What is forgotten is gone from the disk, and where nothing is to be forgotten nobody is asked.
    let agent = launch.clone().with(&["--forget-future"]).start(&desk);
    assert_eq!(ask(&desk, "data", &["get", "/k"]).exits(0).text(), "again");
    assert!(agent.stop().success());
}

#[test]
fn under_a_clock_that_is_behind_a_key_of_which_an_entry_waits_is_never_called_unset() {
    let right = Served::start(PROGRAM, Setup::default());
    signed(&right, &["set", "/n/1", "value"]).exits(0);
    right.run(&["export", "-o", "all"]).exits(0);
    let behind = Served::start(PROGRAM, Setup { ahead_s: -10 * MINUTE_S, ..Setup::default() });
    std::fs::copy(right.path("all"), behind.path("all")).expect("copied");
    behind.run(&["get", "/n/1"]).fails(3, "key.unset");
    let taken = behind.run(&["import", "all"]);
    assert!(taken.code != 0 && taken.err.contains("entry.not_yet"), "{taken:?}");
    let got = behind.run(&["get", "/n/1"]).fails(1, "entry.not_yet");
    assert!(got.err.contains("by this replica's clock"), "{got:?}");
    behind.run(&["get", "/n/2"]).fails(3, "key.unset");
    let listed = behind.run(&["ls"]).fails(1, "entry.not_yet");
    assert!(listed.err.contains("agent's clock: /n/1"), "{listed:?}");
    std::fs::write(behind.path("template"), "{{ get(\"/n/1\", \"the default\") }}").expect("written");
    let render = ["render", "template", "-o", "out", "--once", "--timeout", "1s", "--root", "root.pub.pem"];
    assert_ne!(behind.run(&render).code, 0);
    assert!(!behind.path("out").exists(), "no file with a default");
}

/// CPU seconds that a shell's children have used, from what `times` says: user and system on the last line.
fn cpu_of_children(script: &str, desk: &Desk) -> f64 {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{script}\ntimes")]).current_dir(desk.path(""));
    let told = String::from_utf8(shell.output().expect("a shell").stdout).expect("text");
    let last = told.lines().last().unwrap_or_default().to_owned();
    let seconds = |text: &str| -> Option<f64> {
        let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
        Some(60.0 * minutes.parse::<f64>().ok()? + seconds.parse::<f64>().ok()?)
    };
    let times: Vec<f64> = last.split_whitespace().map(|text| seconds(text).expect("a time")).collect();
    assert_eq!(times.len(), 2, "{told}");
    times.iter().sum()
}

/// AWS-LC would take 50 ms for its seed alone, if it were left to its own devices.
#[test]
fn a_signed_write_takes_at_most_fifteen_milliseconds_of_cpu() {
    const WRITES: u32 = 10;
    let served = Served::start(PROGRAM, Setup::default());
    let set = format!("{} set /a value --identity root.pem --data-dir . || exit 1", PROGRAM);
    let script = vec![set; WRITES as usize].join("\n");
    // Whatever else runs here makes it dearer, never cheaper.
    let least = (0..3).map(|_| cpu_of_children(&script, &served.desk)).fold(f64::MAX, f64::min);
    assert!(
        least > 0.0 && least <= f64::from(WRITES) * 0.015,
        "{} ms each",
        1_000.0 * least / f64::from(WRITES)
    );
}
