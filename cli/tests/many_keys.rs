//! A tree of 100,000 keys: what a listing costs whose reader has seen enough, and what rehearsals say.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_api::DEFAULT_PAGE_ROWS;
use kvgossip_testkit::served::{Served, Setup};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const KEYS: usize = 100_000;

/// What this process, where the agent runs, has resident, in KiB.
fn resident_kib() -> usize {
    memory_kib("self", "VmRSS:")
}

fn memory_kib(process: &str, row: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    // One that has ended just now, and is not waited for yet, has no memory any more.
    let line = status.lines().find_map(|line| line.strip_prefix(row)).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How many pages of keys the agent has been asked for.
fn pages(served: &Served) -> usize {
    let scrape = served.scrape();
    let line = |line: &&str| {
        line.starts_with("kvgossip_http_requests_total{") && line.contains("route=\"/v1/keys\"")
    };
    scrape.lines().filter(line).map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

#[test]
fn a_listing_costs_what_its_reader_takes() {
    let served = Served::start(PROGRAM, Setup::default());
    served.fill_unsigned(KEYS);
    let before = resident_kib();

    // As a shell runs it: no word of complaint, and the agent was asked for as much as the pipe held.
    let program = PROGRAM;
    for (line, rows) in [
        (format!("{program} ls --data-dir . | head -n 3"), 3),
        (format!("{program} ls '/fill/0*' --data-dir . --output json | head -n 3"), 3),
        (format!("{program} ls -l --data-dir . | head -n 4"), 4),
    ] {
        let asked = pages(&served);
        // The shell of the pipe is told how both ended.
        let script = format!("({line}; echo ended $?) 2>err; test ! -s err");
        let ran = Command::new("sh").args(["-c", &script]).current_dir(served.path("")).output().unwrap();
        let text = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{line}: {}", served.desk.read("err"));
        assert_eq!(text.lines().count(), rows + 1, "{text}");
        let asked = pages(&served) - asked;
        assert!(asked <= 12, "{line}: {asked} of {} pages", KEYS / DEFAULT_PAGE_ROWS);
    }

    // The command itself, as the shell does not show it.
    let mut command = served.desk.command(&["ls", "--data-dir", "."]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "/fill/000000");
    drop(lines);
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));

    // To its end: everything once and in order, page by page, in little memory on either side.
    let asked = pages(&served);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut count, mut most) = (0, 0);
    for (number, line) in lines.enumerate() {
        assert_eq!(line.unwrap(), format!("/fill/{number:06}"));
        count += 1;
        if number % 20_000 == 0 {
            most = most.max(memory_kib(&child.id().to_string(), "VmHWM:"));
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(count, KEYS);
    assert!((KEYS / DEFAULT_PAGE_ROWS..=KEYS / DEFAULT_PAGE_ROWS + 1).contains(&(pages(&served) - asked)));
    assert!(most < 64 << 10, "the command had {most} KiB");
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 48 << 10, "the agent grew by {grown} KiB");
}

const SIGNED: usize = 20_000;
/// Lines of each kind that a rehearsal shows to people.
const LISTED: usize = 100;

/// Runs a command whose output is JSON lines, and gives them with the most memory that the command had, in KiB.
fn rehearse(served: &Served, args: &[&str]) -> (Vec<serde_json::Value>, usize) {
    let mut command = served.desk.command(&[args, &["--data-dir", ".", "--output", "json"]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut rows, mut most) = (Vec::new(), 0);
    for (number, line) in lines.enumerate() {
        if number % 1_000 == 999 {
            most = most.max(memory_kib(&child.id().to_string(), "VmHWM:"));
        }
        rows.push(serde_json::from_str(&line.unwrap()).unwrap());
    }
    assert!(child.wait().unwrap().success(), "{args:?}");
    (rows, most)
}

#[test]
fn rehearsals_on_a_large_tree_are_summed_up_for_people_and_complete_for_programs() {
    let served = Served::start(PROGRAM, Setup::default());
    let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**", "--identity", "root.pem"];
    let grant = served.run(&grant).exits(0).text().trim().to_owned();
    served.fill_signed(SIGNED, &grant);
    fs::create_dir(served.path("files")).unwrap();
    for number in 0..SIGNED {
        // Half of them as they are already.
        let value = if number % 2 == 0 { "value" } else { "changed" };
        fs::write(served.path("files").join(format!("{number:06}")), value).unwrap();
    }
    let digest = served.run(&["digest"]).exits(0).out;

    let revoke = ["grant", "revoke", &grant[..8], "--dry-run"];
    let floor = ["floor", "/team/**", "--before", "now", "--dry-run"];
    let adopt = ["adopt", "/team/**", "--identity", "root.pem", "--dry-run"];
    let import = ["import", "--dir", "files", "--under", "/team", "--identity", "team.pem", "--dry-run"];
    let sum = format!("1 grant and {SIGNED} entries would end: {SIGNED} keys would be unset");
    for (args, lines, of_all, last) in [
        (&revoke[..], LISTED + 2, SIGNED, sum.clone()),
        (&floor, LISTED + 1, SIGNED, sum.replace("1 grant ", "0 grants ")),
        (&adopt, LISTED + 2, SIGNED, format!("{SIGNED} would be adopted, 0 need nothing, 0 not adopted")),
        (
            &import,
            LISTED + 2,
            SIGNED / 2,
            format!("{0} would be written, {0} unchanged, 0 left out", SIGNED / 2),
        ),
    ] {
        let told = served.run(args).exits(0);
        assert_eq!(told.text().lines().count(), lines, "{args:?}: {}", told.err);
        let more = format!("… and {} more ", of_all - LISTED);
        assert!(told.text().contains(&more), "{args:?}");
        assert!(told.text().contains(&last) || told.err.contains(&last), "{args:?}: {last}: {}", told.err);

        let (rows, most) = rehearse(&served, args);
        let (summary, rows) = rows.split_last().unwrap();
        assert_eq!(summary["kind"], "summary", "{args:?}");
        assert_eq!(rows.iter().filter(|row| row["key"].is_string()).count(), of_all, "{args:?}");
        println!("{args:?}: {most} KiB");
        assert!(most < 128 << 10, "{args:?} had {most} KiB");
    }
    assert_eq!(served.run(&["digest"]).exits(0).out, digest, "nothing was changed");
}
