//! Commands against a real agent.

use kvgossip_api::FactRow;
use kvgossip_testkit::desk::{Desk, Ran, answer_once, until};
use kvgossip_testkit::served::{Served, Setup};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

#[test]
fn values_are_kept_byte_for_byte() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    let key = "/raw/%20@:+=,-";
    let value = b"\0\xff line\n";
    served.run_with_input(&["set", key, "-"], value).exits(0);
    assert_eq!(served.run(&["get", key]).exits(0).out, value);

    let shown = served.run(&["get", key, "--output", "json"]).exits(0).json().remove(0);
    assert_eq!((&shown["key"], &shown["value_b64"]), (&key.into(), &"AP8gbGluZQo=".into()));
    assert!(shown.get("value").is_none() && shown["grant"].is_null());

    served.run(&["set", key, "text"]).exits(0);
    let shown = served.run(&["get", key, "--output", "json"]).exits(0).json().remove(0);
    assert_eq!(shown["value"], "text");

    std::fs::write(served.path("empty"), "").unwrap();
    served.run(&["set", key, "--file", "empty"]).exits(0);
    assert_eq!(served.run(&["get", key]).exits(0).out, b"");

    served.run(&["del", key]).exits(0);
    served.run(&["get", key]).fails(3, "key.unset");
}

#[test]
fn values_have_a_limit_that_is_told_before_anything_is_sent() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    std::fs::write(served.path("largest"), vec![b'x'; 1 << 20]).unwrap();
    std::fs::write(served.path("larger"), vec![b'x'; (1 << 20) + 1]).unwrap();
    served.run(&["set", "/a", "--file", "largest"]).exits(0);
    assert_eq!(served.run(&["get", "/a"]).exits(0).out.len(), 1 << 20);
    served.run(&["set", "/a", "--file", "larger"]).fails(1, "fact.too_large");
    let gone = ["set", "/a", "--file", "larger", "--agent", "http://127.0.0.1:9"];
    served.desk.run(&gone).fails(1, "fact.too_large");
}

#[test]
fn an_agent_without_an_identity_signs_nothing() {
    let served = Served::start(PROGRAM, Setup::default());
    served.run(&["set", "/a", "1"]).fails(4, "agent.no_identity");
    served.run(&["del", "/a"]).fails(4, "agent.no_identity");
    // Whoever signs needs nothing of the kind.
    served.run(&["set", "/a", "1", "--identity", "root.pem"]).exits(0);
    assert_eq!(served.run(&["get", "/a"]).text(), "1");
    served.run(&["del", "/a", "--identity", "root.pem"]).exits(0);
    served.run(&["get", "/a"]).fails(3, "key.unset");
    served.run(&["del", "/a", "--identity", "root.pem"]).fails(3, "key.unset");
}

#[test]
fn tcp_needs_the_token_for_what_the_agent_signs() {
    let token = "s3cret";
    let served =
        Served::start(PROGRAM, Setup { identity: Some("root.pem"), token: Some(token), ..Setup::default() });
    std::fs::write(served.path("token"), format!("{token}\n")).unwrap();
    std::fs::write(served.path("wrong"), "wrong").unwrap();
    let url = served.url();
    let run = |args: &[&str]| served.desk.run(&[args, &["--agent", &url]].concat());
    run(&["set", "/a", "1"]).fails(4, "http.token");
    run(&["set", "/a", "1", "--token-file", "wrong"]).fails(4, "http.wrong_token");
    run(&["sync", "127.0.0.1:9"]).fails(4, "http.token");
    run(&["set", "/a", "1", "--token-file", "token"]).exits(0);
    // Reading and what is signed here need none.
    assert_eq!(run(&["get", "/a"]).text(), "1");
    run(&["set", "/a", "2", "--identity", "root.pem"]).exits(0);
    assert_eq!(run(&["get", "/a"]).text(), "2");
}

#[test]
fn the_environment_names_agent_and_identity() {
    let served = Served::start(PROGRAM, Setup::default());
    let mut command = served.desk.command(&["set", "/a", "1"]);
    command.env("KVGOSSIP_DATA_DIR", served.path("")).env("KVGOSSIP_IDENTITY", "root.pem");
    assert!(command.status().unwrap().success());
    let mut command = served.desk.command(&["get", "/a"]);
    command.env("KVGOSSIP_AGENT", served.url()).env("KVGOSSIP_DATA_DIR", "elsewhere");
    assert_eq!(command.output().unwrap().stdout, b"1");
    // What stands on the line counts before the environment.
    let mut command = served.desk.command(&["get", "/a", "--data-dir", "."]);
    command.env("KVGOSSIP_AGENT", "http://127.0.0.1:9");
    assert_eq!(command.output().unwrap().stdout, b"1");
}

#[test]
fn a_condition_is_compared_where_the_agent_signs() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    served.run(&["set", "/a", "1", "--if-id", "00000000"]).fails(6, "key.conflict");
    let written =
        served.run(&["set", "/a", "1", "--if-id", "none", "--output", "json"]).exits(0).json().remove(0);
    let entry = written["entry"].as_str().unwrap();
    let conflict = served.run(&["set", "/a", "2", "--if-id", "none"]).fails(6, "key.conflict");
    assert!(conflict.err.contains("--if-id none writes only where the key is unset"), "{conflict:?}");
    let conflict = served.run(&["set", "/a", "2", "--if-id", &"0".repeat(64)]).fails(6, "key.conflict");
    assert!(conflict.err.contains("only over the entry that it names"), "{conflict:?}");
    served.run(&["set", "/a", "2", "--if-id", &entry[..8]]).exits(0);
    served.run(&["del", "/a", "--if-id", entry]).fails(6, "key.conflict");
    assert_eq!(served.run(&["get", "/a"]).text(), "2");
}

#[test]
fn keys_are_listed_by_filter_and_in_pages() {
    let served = Served::start(PROGRAM, Setup::default());
    served.fill(1_050);
    let all = served.run(&["ls"]).exits(0);
    assert_eq!(all.text().lines().count(), 1_050);
    assert!(all.text().lines().is_sorted());
    assert_eq!(served.run(&["ls", "--limit", "1001"]).text().lines().count(), 1_001);
    assert_eq!(served.run(&["ls", "--limit", "0"]).exits(0).text(), "");
    assert_eq!(served.run(&["ls", "/fill/000?", "!/fill/0005"]).text().lines().count(), 9);
    assert_eq!(served.run(&["ls", "!/fill/*"]).exits(0).text(), "");
    let long = served.run(&["ls", "-l", "/fill/0001"]).exits(0);
    let lines: Vec<_> = long.text().lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["WRITTEN", "ENTRY", "GRANT", "KEY"]);
    assert_eq!((lines[1][2], lines[1][3]), ("root", "/fill/0001"));
    let rows = served.run(&["ls", "--limit", "3", "--output", "json"]).json();
    assert_eq!((rows.len(), &rows[2]["key"]), (3, &"/fill/0002".into()));
}

#[test]
fn authority_is_given_used_explained_and_taken_back() {
    let served = Served::start(PROGRAM, Setup::default());
    let team = ["--identity", "team.pem"];
    let refused = served.run(&[&["set", "/team/a", "1"][..], &team].concat()).fails(4, "grant.unknown");
    assert!(refused.err.contains("kvgossip explain /team/a --as"), "{refused:?}");
    served.run(&["explain", "/team/a", "--as", "team.pub.pem"]).exits(4);

    let new = [
        "grant",
        "new",
        "--identity",
        "root.pem",
        "--to",
        "team.pub.pem",
        "--pattern",
        "/team/**",
        "--subgrant",
    ];
    let grant = served.run(&[&new[..], &["--expires", "30d"]].concat()).exits(0);
    let grant = grant.text().trim();
    assert_eq!(grant.len(), 64);
    served.run(&[&["set", "/team/a", "1"][..], &team].concat()).exits(0);
    served.run(&[&["set", "/other", "1"][..], &team].concat()).fails(4, "entry.out_of_reach");

    // The team passes a part of it on.
    let sub = ["grant", "new", "--to", "dev.pub.pem", "--pattern", "/team/dev/*", "--identity", "team.pem"];
    let sub = served.run(&sub).exits(0);
    served.run(&["set", "/team/dev/x", "2", "--identity", "dev.pem"]).exits(0);
    let chain = served.run(&["explain", "/team/dev/x", "--as", "dev.pub.pem"]).exits(0);
    let lines: Vec<&str> = chain.text().lines().collect();
    assert_eq!(lines.len(), 3, "{chain:?}");
    assert!(
        lines[0].starts_with("yes: ")
            && lines[1].contains("root     -> ")
            && lines[2].contains("/team/dev/*")
    );

    let listed = served.run(&["grant", "ls"]).exits(0);
    assert!(listed.text().contains(&format!("\n  {}  ", &sub.text()[..8])), "indented below: {listed:?}");

    // Taking the upper grant back ends the lower one.
    let rehearsed = served.run(&["grant", "revoke", &grant[..8], "--dry-run"]).exits(0);
    let lines: Vec<_> = rehearsed.text().lines().collect();
    assert!(lines[0].starts_with(&format!("grant {grant} to ")) && lines[0].ends_with(" over /team/**"));
    assert!(lines[1].starts_with(&format!("grant {} to ", sub.text().trim())));
    assert_eq!(lines[2..], ["key /team/a: unset", "key /team/dev/x: unset"]);
    assert!(
        rehearsed.err.contains("2 grants and 2 entries would end: 2 keys would be unset"),
        "{rehearsed:?}"
    );
    served.run(&["get", "/team/a"]).exits(0);
    served.run(&["grant", "revoke", &grant[..8], "--identity", "dev.pem"]).fails(4, "revocation.stranger");
    served.run(&["grant", "revoke", &grant[..8], "--identity", "root.pem"]).exits(0);
    for key in ["/team/a", "/team/dev/x"] {
        served.run(&["get", key]).fails(3, "key.unset");
    }
    served.run(&["set", "/team/a", "1", "--identity", "team.pem"]).fails(4, "grant.revoked");
    let no = served.run(&["explain", "/team/a", "--as", "team.pub.pem"]).exits(4);
    assert!(no.text().contains("\n x root") && no.text().contains("[grant.revoked]"), "{no:?}");
    let again = served.run(&["grant", "revoke", grant, "--identity", "root.pem"]).exits(0);
    assert!(again.err.contains("revoked already"));
    served.run(&["grant", "revoke", "00000000", "--identity", "root.pem"]).fails(3, "id.unknown");
}

#[test]
fn defect_3_nobody_gives_away_more_than_they_hold() {
    let served = Served::start(PROGRAM, Setup::default());
    let give = |identity: &str, to: &str, more: &[&str]| {
        let args = ["grant", "new", "--identity", identity, "--to", to, "--pattern"];
        served.run(&[&args[..], more].concat())
    };
    give("root.pem", "team.pub.pem", &["/cfg/**", "--subgrant"]).exits(0);
    let refused = give("team.pem", "dev.pub.pem", &["/**"]).fails(4, "grant.out_of_reach");
    assert_eq!(served.run(&["grant", "ls"]).text().lines().count(), 2, "one head, one grant");

    let check = ["grant", "check", "--pattern", "/**", "--as", "team.pub.pem"];
    let json = served.run(&[&check[..], &["--output", "json"]].concat()).exits(4).json();
    let example = json[0]["counterexample"].as_str().unwrap();
    assert!(example.starts_with('/') && !example.starts_with("/cfg/"), "a key beyond /cfg/**: {example}");
    let checked = served.run(&check).exits(4);
    assert!(checked.text().starts_with("no: ") && checked.text().contains(example), "{checked:?}");
    assert!(refused.err.contains(example), "{refused:?}");
    served.run(&["grant", "check", "--pattern", "/cfg/x/*", "--as", "team.pub.pem"]).exits(0);
    served.run(&["grant", "check", "--pattern", "/**", "--as", "root.pub.pem"]).exits(0);

    // Two grants that cover the pattern only together give two new ones, and they are enough.
    give("root.pem", "team.pub.pem", &["/a/b", "--subgrant"]).exits(0);
    give("root.pem", "team.pub.pem", &["/a/*/**", "--subgrant"]).exits(0);
    let made = give("team.pem", "dev.pub.pem", &["/a/**/b"]).exits(0);
    assert_eq!(made.text().lines().count(), 2, "{made:?}");
    for key in ["/a/b", "/a/x/y/b"] {
        served.run(&["set", key, "1", "--identity", "dev.pem"]).exits(0);
    }
    // What was given without --subgrant goes no further.
    give("dev.pem", "team.pub.pem", &["/a/b"]).fails(4, "grant.no_subgrant");
}

#[test]
fn signed_facts_can_be_written_out_instead_of_sent() {
    let served = Served::start(PROGRAM, Setup::default());
    let out = served.run(&["set", "/a", "1", "--identity", "root.pem", "--out", "-"]).exits(0);
    let row: FactRow = serde_json::from_str(out.text()).unwrap();
    assert_eq!((row.kind.as_str(), row.key.as_deref()), ("entry", Some("/a")));
    served.run(&["get", "/a"]).fails(3, "key.unset");

    let listed =
        served.run(&["grant", "new", "--identity", "root.pem", "--to", "team.pub.pem", "--pattern", "/a"]);
    let grant = listed.exits(0).text().trim().to_owned();
    // What `grant ls` prints is what an offline root needs to revoke.
    std::fs::write(served.path("grants.json"), served.run(&["grant", "ls", "--output", "json"]).out).unwrap();
    let offline =
        ["grant", "revoke", &grant[..8], "--identity", "root.pem", "--from", "grants.json", "--out", "-"];
    let revoked = served.desk.run(&[&offline[..], &["--root", "root.pub.pem"]].concat()).exits(0);
    let row: FactRow = serde_json::from_str(revoked.text()).unwrap();
    assert_eq!(row.kind, "revocation");
}

#[test]
fn nothing_is_signed_for_another_cluster() {
    let served = Served::start(PROGRAM, Setup::default());
    let other = ["--root", "team.pub.pem"];
    let run = |args: &[&str]| served.run(&[args, &other].concat());
    run(&["set", "/a", "1", "--identity", "root.pem"]).fails(8, "cluster.mismatch");
    run(&["floor", "/a", "--before", "now", "--identity", "root.pem"]).fails(8, "cluster.mismatch");
    run(&["grant", "new", "--to", "dev.pub.pem", "--pattern", "/a", "--identity", "root.pem"])
        .fails(8, "cluster.mismatch");
    served.run(&["set", "/a", "1", "--identity", "root.pem", "--root", "root.pub.pem"]).exits(0);
}

#[test]
fn a_floor_ends_older_entries() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    served.run(&["set", "/tmp/a", "1"]).exits(0);
    served.run(&["set", "/kept", "1"]).exits(0);
    let floor = ["floor", "/tmp/**", "--before", "now"];
    let rehearsed = served.run(&[&floor[..], &["--dry-run"]].concat()).exits(0);
    assert_eq!(rehearsed.text(), "key /tmp/a: unset\n");
    served.run(&[&floor[..], &["--identity", "team.pem"]].concat()).fails(4, "grant.not_root");
    served.run(&[&floor[..], &["--identity", "root.pem"]].concat()).exits(0);
    served.run(&["get", "/tmp/a"]).fails(3, "key.unset");
    served.run(&["get", "/kept"]).exits(0);
}

#[test]
fn ids_may_be_shortened_to_eight_digits() {
    let served = Served::start(PROGRAM, Setup::default());
    let status = served.run(&["status", "--output", "json"]).exits(0).json().remove(0);
    let root = status["root"].as_str().unwrap();
    let yes = served.run(&["explain", "/a", "--as", &root[..8]]).exits(0);
    assert!(yes.text().contains("the cluster's root"), "{yes:?}");
    served.run(&["explain", "/a", "--as", "00000000"]).fails(3, "id.unknown");
    served.run(&["explain", "/a", "--as", &"0".repeat(64)]).exits(4);
}

#[test]
fn two_agents_sync_and_compare() {
    let one = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    let two = Served::start(
        PROGRAM,
        Setup { replica: "replica-b.pem", knows: vec![one.replica()], ..Setup::default() },
    );
    one.run(&["set", "/a/x", "1"]).exits(0);
    let digest =
        |served: &Served, prefix: &str| served.run(&["digest", prefix, "--output", "json"]).json().remove(0);
    assert_ne!(digest(&one, "/")["root"], digest(&two, "/")["root"]);

    let address = one.sync_address();
    let differs = two.run(&["diff", &address, "/a"]).exits(7);
    assert!(differs.text().contains("/a/x") && differs.text().starts_with('<'), "{differs:?}");
    two.run(&["diff", "nonsense"]).fails(2, "peer.malformed");
    // The agents may be at it by themselves: then one that is asked to says so.
    let free = |ran: &Ran| !ran.err.contains("[session.busy]");
    let synced = until(|| two.run(&["sync", &address]), free).exits(0);
    assert!(synced.text().starts_with("equal with "), "{synced:?}");
    assert_eq!(digest(&one, "/")["root"], digest(&two, "/")["root"]);
    assert_eq!(digest(&two, "/a")["keys"], 1);
    let equal = until(|| two.run(&["diff", &address]), |ran| ran.code == 0).exits(0);
    assert!(equal.text().starts_with("equal with "), "{equal:?}");
    assert_eq!(two.run(&["get", "/a/x"]).text(), "1");
    let text = two.run(&["digest"]).exits(0);
    assert!(text.text().contains(digest(&one, "/")["root"].as_str().unwrap()));

    let id = one.replica().to_string();
    let row = |ran: &Ran| ran.text().lines().find(|line| line.starts_with(&id[..8])).map(str::to_owned);
    let equal =
        |ran: &Ran| row(ran).is_some_and(|row| row.contains("  equal  ") && row.contains("equal at "));
    let well = until(|| two.run(&["status"]), equal).exits(0);
    assert!(well.text().starts_with("well\n"), "{well:?}");

    two.run(&["sync", "nonsense"]).fails(2, "peer.malformed");
    two.run(&["sync", "00000000"]).fails(3, "peer.not_connected");
}

#[test]
fn refusals_are_listed() {
    let served = Served::start(PROGRAM, Setup::default());
    let empty = served.run(&["refusals"]).exits(0);
    assert_eq!(empty.text().lines().count(), 1, "only the head: {empty:?}");
    served.refuse_one();
    let listed = served.run(&["refusals"]).exits(0);
    assert!(
        listed.text().contains("entry.wrong_signer") || listed.text().contains("grant.not_root"),
        "{listed:?}"
    );
    assert_eq!(served.run(&["refusals", "--output", "json"]).json().len(), 1);
}

#[test]
fn an_agent_that_says_nothing_or_nonsense_is_told_apart() {
    let desk = Desk::new(PROGRAM);
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let waited = desk.run(&["status", "--agent", &url, "--timeout", "1500ms"]).fails(7, "agent.timeout");
    assert!(waited.err.starts_with(&format!("waiting for the agent at {url}")), "{waited:?}");

    for (answer, code) in [
        ("SSH-2.0-OpenSSH_9.0\r\n", "agent.unexpected"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnope\n", "agent.unexpected"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "agent.unexpected"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{", "agent.broken"),
        ("", "agent.broken"),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || answer_once(&listener, answer.as_bytes()));
        desk.run(&["status", "--agent", &url]).fails(5, code);
        server.join().unwrap();
    }
}
