//! `export`, `import FILE` and `verify`: facts from one agent into a file, checked without any, and into another agent.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_client::{ExportReader, ExportWriter};
use kvgossip_grants::{ClusterId, PublicKey};
use kvgossip_testkit::desk::{Desk, Ran, mode, until};
use kvgossip_testkit::served::{Served, Setup};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn cluster(desk: &Desk) -> ClusterId {
    PublicKey::from_pem(&desk.read("root.pub.pem")).unwrap().cluster()
}

fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = ExportReader::new(bytes).unwrap();
    std::iter::from_fn(|| reader.next_record().unwrap()).collect()
}

fn file(cluster: ClusterId, records: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = ExportWriter::new(Vec::new(), cluster).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    writer.finish().unwrap()
}

fn verify(desk: &Desk, file: &str) -> Ran {
    desk.run(&["verify", file, "--root", "root.pub.pem"])
}

/// Two grants in a chain, a revoked one, a floor, and entries of root, team and developer.
fn busy_agent() -> Served {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    let give = |by: &str, to: &str, pattern: &str, more: &[&str]| {
        let args = ["grant", "new", "--identity", by, "--to", to, "--pattern", pattern];
        served.run(&[&args[..], more].concat()).exits(0).text().trim().to_owned()
    };
    give("root.pem", "team.pub.pem", "/team/**", &["--subgrant"]);
    give("team.pem", "dev.pub.pem", "/team/dev/*", &[]);
    let gone = give("root.pem", "dev.pub.pem", "/gone/**", &[]);
    served.run(&["set", "/gone/x", "1", "--identity", "dev.pem"]).exits(0);
    served.run(&["grant", "revoke", &gone[..8], "--identity", "root.pem"]).exits(0);
    served.run(&["floor", "/old/**", "--before", "1d", "--identity", "root.pem"]).exits(0);
    served.run(&["set", "/a", "1"]).exits(0);
    served.run(&["set", "/deleted", "1"]).exits(0);
    served.run(&["del", "/deleted"]).exits(0);
    served.run(&["set", "/team/x", "2", "--identity", "team.pem"]).exits(0);
    served.run(&["set", "/team/dev/y", "3", "--identity", "dev.pem"]).exits(0);
    served
}

fn digest(served: &Served) -> String {
    served.run(&["digest", "--output", "json"]).json()[0]["root"].as_str().unwrap().to_owned()
}

#[test]
fn an_export_verifies_without_an_agent_and_makes_another_agent_equal() {
    let one = busy_agent();
    let made = one.run(&["export", "-o", "all"]).exits(0);
    assert_eq!(made.err, "all: 4 entries of 4 keys, 4 authority facts\n");
    assert_eq!(mode(&one.path("all")), 0o600);

    let verified = verify(&one.desk, "all").exits(0);
    assert!(verified.text().contains("8 of 8 facts"), "{verified:?}");
    assert!(
        verified.text().contains(&digest(&one)),
        "an export of everything has the agent's digest: {verified:?}"
    );
    // The same from a pipe, in either direction.
    let piped = one.run(&["export"]).exits(0);
    assert_eq!(piped.out, fs::read(one.path("all")).unwrap());
    let again = one.desk.run_with_input(&["verify", "-", "--root", "root.pub.pem"], &piped.out).exits(0);
    assert_eq!(again.out, verified.out);

    let two = Served::start(PROGRAM, Setup { replica: "replica-b.pem", ..Setup::default() });
    fs::copy(one.path("all"), two.path("all")).unwrap();
    let taken = two.run(&["import", "all"]).exits(0);
    assert_eq!(taken.text(), "8 facts: 8 new, 0 there already, 0 superseded, 0 not taken in\n");
    assert_eq!(digest(&two), digest(&one));
    let taken = two.run_with_input(&["import", "-", "--output", "json"], &piped.out).exits(0).json();
    assert_eq!(
        (&taken[0]["kind"], &taken[0]["facts"], &taken[0]["known"]),
        (&"summary".into(), &8.into(), &8.into())
    );
}

#[test]
fn a_part_has_all_that_it_stands_on() {
    let served = busy_agent();
    let made =
        served.run(&["export", "/team/**", "!/team/x", "-o", "part", "--output", "json"]).exits(0).json();
    assert_eq!((&made[0]["entries"], &made[0]["authority"]), (&1.into(), &4.into()));
    let shown =
        served.desk.run(&["verify", "part", "--root", "root.pub.pem", "--output", "json"]).exits(0).json();
    assert_eq!(
        (&shown[0]["verified"], &shown[0]["failed"], &shown[0]["keys"]),
        (&5.into(), &0.into(), &1.into())
    );
    // What is there is replaced, unless it is no file.
    served.run(&["export", "-o", "part"]).exits(0);
    assert_eq!(records(&fs::read(served.path("part")).unwrap()).len(), 8);
    served.run(&["export", "-o", "."]).fails(1, "file.unwritable");
    served.run(&["export", "-o", "missing/part"]).fails(1, "file.unwritable");
    let left: Vec<_> =
        fs::read_dir(served.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".kvgossip-")), "{left:?}");
}

#[test]
fn what_does_not_verify_is_named_and_hides_nothing_else() {
    let served = busy_agent();
    let desk = &served.desk;
    served.run(&["export", "-o", "all"]).exits(0);
    let good = records(&fs::read(desk.path("all")).unwrap());
    let place = good.iter().position(|record| record.windows(7).any(|part| part == b"/team/x")).unwrap();

    // A value that was changed, a record that is none, an entry whose grant is missing.
    let mut forged = good.clone();
    *forged[place].last_mut().unwrap() ^= 1;
    let mut signature = good.clone();
    signature[place][1] ^= 1;
    let noise = [&good[..], &[vec![0; 40]]].concat();
    let is_grant = |record: &Vec<u8>| record[0] & 0xf == 1;
    let ungranted: Vec<_> = good.iter().filter(|record| !is_grant(record)).cloned().collect();
    for (name, records, failed, code) in [
        ("forged", &forged, 1, "entry.value_mismatch"),
        ("signature", &signature, 1, "fact.bad_signature"),
        ("noise", &noise, 1, "fact.malformed"),
        ("ungranted", &ungranted, 2, "grant.unknown"),
    ] {
        fs::write(desk.path(name), file(cluster(desk), records)).unwrap();
        let ran = verify(desk, name).fails(8, code);
        assert!(
            ran.text().contains(&format!("{} of {} facts", records.len() - failed, records.len())),
            "{ran:?}"
        );
        let do_not = if failed == 1 { "does" } else { "do" };
        let told = format!("{failed} of {} facts {do_not} not verify: named above", records.len());
        assert!(ran.err.contains(&told), "{ran:?}");
        let named = ran.text().lines().filter(|line| line.ends_with(&format!("[{code}]"))).count();
        assert_eq!(named, failed, "{ran:?}");
    }
    let named = verify(desk, "signature");
    assert!(named.text().starts_with("entry ") && named.text().contains(" /team/x: "), "{named:?}");

    // An agent takes in what is good of it.
    let other = Served::start(PROGRAM, Setup { replica: "replica-b.pem", ..Setup::default() });
    fs::copy(desk.path("signature"), other.path("bad")).unwrap();
    let taken = other.run(&["import", "bad", "--output", "json"]);
    assert_eq!(taken.code, 8, "{taken:?}");
    let rows = taken.json();
    assert_eq!((&rows[0]["key"], &rows[0]["code"]), (&"/team/x".into(), &"fact.bad_signature".into()));
    assert_eq!((&rows[1]["merged"], &rows[1]["refused"]), (&7.into(), &1.into()));
    assert_eq!(other.run(&["get", "/team/dev/y"]).text(), "3");
}

#[test]
fn a_cut_or_foreign_file_is_told_apart() {
    let served = busy_agent();
    let desk = &served.desk;
    served.run(&["export", "-o", "all"]).exits(0);
    let whole = fs::read(desk.path("all")).unwrap();
    for len in [16, 40, 60, whole.len() / 2, whole.len() - 1] {
        fs::write(desk.path("cut"), &whole[..len]).unwrap();
        verify(desk, "cut").fails(8, "export.damaged");
    }
    // What stood before the cut was taken in, and is said.
    let other = Served::start(PROGRAM, Setup { replica: "replica-b.pem", ..Setup::default() });
    fs::write(other.path("cut"), &whole[..whole.len() - 1]).unwrap();
    let taken = other.run(&["import", "cut"]).fails(8, "export.damaged");
    assert!(taken.text().starts_with("8 facts: 8 new"), "{taken:?}");

    for version in [1, 3] {
        fs::write(desk.path("other"), [&whole[..16], &[version], &whole[17..]].concat()).unwrap();
        verify(desk, "other").fails(1, "export.unknown");
    }
    verify(desk, "root.pem").fails(1, "facts.malformed");
    verify(desk, "missing").fails(1, "file.unreadable");
    verify(desk, ".").fails(1, "file.unreadable");
    desk.run(&["verify", "all", "--root", "team.pub.pem"]).fails(8, "cluster.mismatch");
    desk.run(&["verify", "all", "--root", "small.pub.pem"]).fails(1, "rsa.unsupported");
    served.run(&["import", "all", "--root", "team.pub.pem"]).fails(8, "cluster.mismatch");
    fs::write(desk.path("foreign"), file(ClusterId([9; 32]), &[])).unwrap();
    served.run(&["import", "foreign"]).fails(8, "cluster.mismatch");
}

#[test]
fn facts_may_come_in_any_order_and_as_lines() {
    let served = Served::start(PROGRAM, Setup::default());
    let desk = &served.desk;
    let root = ["--identity", "root.pem", "--root", "root.pub.pem"];
    let new = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**", "--subgrant", "--out", "1"];
    desk.run(&[&new[..], &root].concat()).exits(0);
    // Each step is planned with what the files before say: no agent is asked.
    let gone = ["--agent", "http://127.0.0.1:9", "--root", "root.pub.pem"];
    let new = ["grant", "new", "--to", "dev.pub.pem", "--pattern", "/team/dev/*", "--identity", "team.pem"];
    desk.run(&[&new[..], &["--from", "1", "--out", "2"], &gone].concat()).exits(0);
    fs::write(desk.path("12"), desk.read("2") + &desk.read("1")).unwrap();
    let set = ["set", "/team/dev/x", "by dev", "--identity", "dev.pem", "--from", "12", "--out", "3"];
    desk.run(&[&set[..], &gone].concat()).exits(0);
    let refused = ["set", "/elsewhere", "1", "--identity", "dev.pem", "--from", "12", "--out", "4"];
    desk.run(&[&refused[..], &gone].concat()).fails(4, "entry.out_of_reach");
    let wide = ["grant", "new", "--to", "dev.pub.pem", "--pattern", "/**", "--identity", "team.pem"];
    desk.run(&[&wide[..], &["--from", "1", "--out", "4"], &gone].concat()).fails(4, "grant.out_of_reach");
    desk.run(&["set", "/x", "1", "--identity", "dev.pem", "--from", "12", "--out", "4"]).fails(2, "usage");

    fs::write(desk.path("all"), desk.read("3") + &desk.read("2") + "\n" + &desk.read("1")).unwrap();
    verify(desk, "all").exits(0);
    let taken = served.run(&["import", "all"]).exits(0);
    assert_eq!(taken.text(), "3 facts: 3 new, 0 there already, 0 superseded, 0 not taken in\n");
    assert_eq!(served.run(&["get", "/team/dev/x"]).text(), "by dev");

    // What would fall, read from the file.
    let grant: serde_json::Value = serde_json::from_str(&desk.read("1")).unwrap();
    let id = grant["id"].as_str().unwrap();
    let dry = ["grant", "revoke", &id[..8], "--dry-run", "--from", "all"];
    let fall = desk.run(&[&dry[..], &gone].concat()).exits(0);
    assert_eq!(fall.text().lines().count(), 3, "{fall:?}");
    assert!(fall.text().ends_with("key /team/dev/x: unset\n"), "{fall:?}");

    // A later entry signed by what the file says is later than what the file has.
    let set = ["set", "/team/dev/x", "again", "--identity", "dev.pem", "--from", "all"];
    served.run(&set).fails(2, "usage");
    served.run(&[&set[..], &["--root", "root.pub.pem"]].concat()).exits(0);
    assert_eq!(served.run(&["get", "/team/dev/x"]).text(), "again");
}

/// As docs/operations.md has it: an export is carried to where root's key is, and what root signed is carried back. The
/// export says which cluster is meant, and no agent is asked.
#[test]
fn root_signs_with_an_export_alone() {
    let served = busy_agent();
    served.run(&["export", "-o", "state"]).exits(0);
    let listed = served.run(&["grant", "ls", "--output", "json"]).exits(0).json();
    let team =
        listed.iter().find(|row| row["pattern"] == "/team/**").unwrap()["id"].as_str().unwrap().to_owned();
    let gone = ["--from", "state", "--identity", "root.pem", "--agent", "http://127.0.0.1:9"];
    let sign = |args: &[&str], out: &str| {
        served.desk.run(&[args, &gone[..], &["--out", out]].concat()).exits(0);
    };
    sign(&["grant", "new", "--to", "dev.pub.pem", "--pattern", "/app/**", "--subgrant"], "grant.json");
    sign(&["grant", "revoke", &team[..8]], "revocation.json");
    sign(&["floor", "/deleted", "--before", "now"], "floor.json");
    sign(&["set", "/a", "2"], "set.json");
    sign(&["del", "/a"], "del.json");
    for file in ["grant.json", "revocation.json", "floor.json", "set.json"] {
        let taken = served.run(&["import", file]).exits(0);
        assert_eq!(taken.text(), "1 fact: 1 new, 0 there already, 0 superseded, 0 not taken in\n", "{file}");
    }
    assert_eq!(served.run(&["get", "/a"]).text(), "2");
    served.run(&["get", "/team/x"]).fails(3, "key.unset");
    // Who is not its root has to say whose grants count; so has root with another cluster's file.
    let new = ["grant", "new", "--to", "dev.pub.pem", "--pattern", "/a", "--out", "x", "--from", "state"];
    served.desk.run(&[&new[..], &["--identity", "team.pem"]].concat()).fails(2, "usage");
    fs::write(served.path("state"), file(ClusterId([9; 32]), &[])).unwrap();
    served.desk.run(&[&new[..], &["--identity", "root.pem"]].concat()).fails(2, "usage");
}

#[test]
fn what_lacks_its_chain_is_named_in_the_end() {
    let served = busy_agent();
    served.run(&["export", "-o", "all"]).exits(0);
    let good = records(&fs::read(served.path("all")).unwrap());
    let is_grant = |record: &Vec<u8>| record[0] & 0xf == 1;
    let other = Served::start(PROGRAM, Setup { replica: "replica-b.pem", ..Setup::default() });
    let ungranted: Vec<_> = good.iter().filter(|record| !is_grant(record)).cloned().collect();
    fs::write(other.path("ungranted"), file(cluster(&other.desk), &ungranted)).unwrap();
    let taken = other.run(&["import", "ungranted"]).fails(4, "grant.unknown");
    assert!(
        taken.text().ends_with("6 facts: 4 new, 0 there already, 0 superseded, 2 not taken in\n"),
        "{taken:?}"
    );
    assert_eq!(taken.text().matches("[grant.unknown]").count(), 2, "each once: {taken:?}");
}

#[test]
fn what_lacks_its_chain_is_counted_in_a_cut_file_too() {
    let served = busy_agent();
    served.run(&["export", "-o", "all"]).exits(0);
    let good = records(&fs::read(served.path("all")).unwrap());
    let is_grant = |record: &Vec<u8>| record[0] & 0xf == 1;
    let (grants, others): (Vec<_>, Vec<_>) = good.iter().cloned().partition(is_grant);
    // Chains are found behind what stands on them, but for a part: those that the cut took away.
    let other = Served::start(PROGRAM, Setup { replica: "replica-b.pem", ..Setup::default() });
    for (name, records, summary) in [
        ("ungranted", others.clone(), "6 facts: 4 new, 0 there already, 0 superseded, 2 not taken in\n"),
        (
            "behind",
            [others, grants].concat(),
            "8 facts: 4 new, 4 there already, 0 superseded, 0 not taken in\n",
        ),
    ] {
        let whole = file(cluster(&other.desk), &records);
        fs::write(other.path(name), &whole[..whole.len() - 1]).unwrap();
        let taken = other.run(&["import", name]).fails(8, "export.damaged");
        assert!(taken.text().ends_with(summary), "{name}: {taken:?}");
        let lacking = taken.text().matches("[grant.unknown]").count();
        assert_eq!(lacking, if name == "ungranted" { 2 } else { 0 }, "{name}: {taken:?}");
        assert_eq!(
            taken.err.contains("not taken in, of 6 facts that were judged: 2"),
            name == "ungranted",
            "{taken:?}"
        );
        let verified = other.desk.run(&["verify", name, "--root", "root.pub.pem"]).fails(8, "export.damaged");
        assert!(
            verified.text().contains(&format!("verified  {} of ", records.len() - lacking)),
            "{verified:?}"
        );
        // What was not read to its end looks like no whole one.
        assert!(
            verified.text().contains(", in part: ") && !verified.text().contains("digest"),
            "{verified:?}"
        );
        let verified = other.desk.run(&["verify", name, "--root", "root.pub.pem", "--output", "json"]).json();
        let summary = verified.last().unwrap();
        assert_eq!((&summary["complete"], &summary["root"]), (&false.into(), &serde_json::Value::Null));
        let taken = other.run(&["import", name, "--output", "json"]).json();
        assert_eq!(taken.last().unwrap()["complete"], false);
    }
}

#[test]
fn an_export_is_not_written_to_a_terminal() {
    let served = Served::start(PROGRAM, Setup::default());
    let line = format!("{} export --data-dir .", PROGRAM);
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(served.path("")).stdin(Stdio::null());
    let ran = script.output().expect("script, of Debian's essential bsdutils");
    let text = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(ran.status.code(), Some(2), "{text}");
    assert!(text.contains("standard output is a terminal") && text.contains("-o FILE"), "{text}");
}

/// Passes requests on to an agent until it has seen `posts` of them that post; then it holds everything back.
fn holding_back(agent: &str, posts: usize) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let agent = agent.strip_prefix("http://").unwrap().to_owned();
    thread::spawn(move || {
        let mut seen = 0;
        for stream in listener.incoming() {
            let mut from = stream.unwrap();
            let to = TcpStream::connect(&agent).unwrap();
            let (mut back, mut answer) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            thread::spawn(move || drop(std::io::copy(&mut back, &mut answer)));
            pass_on(&mut from, to, &mut seen, posts);
        }
    });
    url
}

fn pass_on(from: &mut TcpStream, mut to: TcpStream, seen: &mut usize, posts: usize) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        *seen += buffer[..read].windows(15).filter(|part| part == b"POST /v1/facts ").count();
        if *seen > posts {
            // Held until the command goes away.
            while let Ok(1..) = from.read(&mut buffer) {}
            break;
        }
        to.write_all(&buffer[..read]).unwrap();
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn an_import_that_is_interrupted_keeps_what_was_acknowledged_and_goes_on() {
    let one = Served::start(PROGRAM, Setup::default());
    one.fill(1_200);
    one.run(&["export", "-o", "all"]).exits(0);
    let two = Served::start(PROGRAM, Setup { replica: "replica-b.pem", ..Setup::default() });
    let url = holding_back(&two.url(), 1);
    let mut command = one.desk.command(&["import", "all", "--agent", &url]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let count = || two.run(&["ls", "--output", "json"]);
    until(count, |ran| ran.json().len() == 512);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(1), "{out}{err}");
    assert!(out.contains(" not taken in\n") && err.contains("[interrupted]"), "{out}{err}");
    assert!(err.contains("stays; run the same command again to go on"), "{err}");
    assert_eq!(count().json().len(), 512, "what was acknowledged stays");

    let again = one.desk.run(&["import", "all", "--agent", &two.url()]).exits(0);
    assert_eq!(again.text(), "1200 facts: 688 new, 512 there already, 0 superseded, 0 not taken in\n");
    assert_eq!(digest(&two), digest(&one));
}
