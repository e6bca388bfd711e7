//! `adopt` and `grant ls --expiring`: what has to be done before a grant ends.

use kvgossip_testkit::served::{Served, Setup};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn give(served: &Served, by: &str, to: &str, pattern: &str, more: &[&str]) -> String {
    let args = ["grant", "new", "--identity", by, "--to", to, "--pattern", pattern];
    served.run(&[&args[..], more].concat()).exits(0).text().trim().to_owned()
}

fn set(served: &Served, key: &str, value: &str, by: &str) {
    served.run(&["set", key, value, "--identity", by]).exits(0);
}

#[test]
fn adopted_entries_outlive_the_grant_they_stood_on() {
    let served = Served::start(PROGRAM, Setup::default());
    let team = give(&served, "root.pem", "team.pub.pem", "/app/**", &["--subgrant"]);
    give(&served, "root.pem", "dev.pub.pem", "/app/kept/*", &[]);
    for key in ["/app/kept/a", "/app/kept/b", "/app/lost"] {
        set(&served, key, key, "team.pem");
    }
    set(&served, "/app/kept/own", "own", "dev.pem");
    // Unset by the team, above an older value of root's: the delete is to stay, too.
    set(&served, "/app/kept/hidden", "old", "root.pem");
    served.run(&["del", "/app/kept/hidden", "--identity", "team.pem"]).exits(0);
    // Unset, and nothing below.
    set(&served, "/app/kept/gone", "x", "team.pem");
    served.run(&["del", "/app/kept/gone", "--identity", "team.pem"]).exits(0);

    let digest = served.run(&["digest"]).out;
    let adopt = ["adopt", "/app/**", "--identity", "dev.pem"];
    let dry = served.run(&[&adopt[..], &["--dry-run"]].concat()).fails(4, "entry.out_of_reach");
    let lines: Vec<_> = dry.text().lines().collect();
    assert_eq!(
        lines[..3],
        ["would adopt /app/kept/a", "would adopt /app/kept/b", "would adopt /app/kept/hidden"]
    );
    assert!(
        lines[3].starts_with("not adopted: /app/lost: ") && lines[3].ends_with("[entry.out_of_reach]"),
        "{dry:?}"
    );
    assert_eq!(lines[4], "3 would be adopted, 1 need nothing, 1 not adopted");
    assert_eq!(served.run(&["digest"]).out, digest, "a rehearsal writes nothing");

    let done = served.run(&[&adopt[..], &["--output", "json"]].concat());
    assert_eq!(done.code, 4, "{done:?}");
    let rows = done.json();
    let kinds: Vec<_> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["adopted", "adopted", "adopted", "refused", "summary"]);
    assert_eq!(
        (&rows[4]["adopted"], &rows[4]["kept"], &rows[4]["refused"]),
        (&3.into(), &1.into(), &1.into())
    );
    let again = served.run(&[&adopt[..], &["!/app/lost"]].concat()).exits(0);
    assert_eq!(again.text(), "0 adopted, 4 need nothing, 0 not adopted\n");

    served.run(&["grant", "revoke", &team[..8], "--identity", "root.pem"]).exits(0);
    for key in ["/app/kept/a", "/app/kept/b"] {
        assert_eq!(served.run(&["get", key]).text(), key);
    }
    for key in ["/app/lost", "/app/kept/hidden", "/app/kept/gone"] {
        served.run(&["get", key]).fails(3, "key.unset");
    }
}

#[test]
fn a_renewed_grant_takes_over_its_own_entries() {
    let served = Served::start(PROGRAM, Setup::default());
    let old = give(&served, "root.pem", "team.pub.pem", "/app/**", &["--expires", "1h"]);
    set(&served, "/app/a", "1", "team.pem");
    give(&served, "root.pem", "team.pub.pem", "/app/**", &["--expires", "30d"]);
    let adopt = ["adopt", "/**", "--identity", "team.pem"];
    assert_eq!(served.run(&adopt).exits(0).text(), "1 adopted, 0 need nothing, 0 not adopted\n");
    served.run(&["grant", "revoke", &old[..8], "--identity", "root.pem"]).exits(0);
    assert_eq!(served.run(&["get", "/app/a"]).text(), "1");
    // From a file, without an agent.
    served.run(&["export", "-o", "all"]).exits(0);
    let offline =
        ["adopt", "/**", "--identity", "root.pem", "--root", "root.pub.pem", "--from", "all", "--out", "new"];
    served.desk.run(&[&offline[..], &["--agent", "http://127.0.0.1:9"]].concat()).exits(0);
    assert_eq!(served.run(&["import", "new"]).exits(0).text().split(',').next(), Some("1 fact: 1 new"));
}

#[test]
fn grants_that_end_soon_are_listed_with_the_reason() {
    let served = Served::start(PROGRAM, Setup::default());
    let soon = give(&served, "root.pem", "team.pub.pem", "/app/**", &["--subgrant", "--expires", "10d"]);
    let below = give(&served, "team.pem", "dev.pub.pem", "/app/dev/**", &[]);
    give(&served, "root.pem", "dev.pub.pem", "/later/**", &["--expires", "90d"]);
    give(&served, "root.pem", "dev.pub.pem", "/never/**", &[]);
    let ids = |within: &str| -> Vec<(String, String)> {
        let rows = served.run(&["grant", "ls", "--expiring", within, "--output", "json"]).exits(0).json();
        let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
        rows.iter().map(|row| (text(row, "id"), text(row, "ends_with"))).collect()
    };
    assert_eq!(ids("9d"), []);
    let mut both = vec![(soon.clone(), soon.clone()), (below, soon)];
    both.sort();
    assert_eq!(ids("11d"), both);
    assert_eq!(ids("100d").len(), 3);
    let text = served.run(&["grant", "ls", "--expiring", "11d"]).exits(0);
    assert!(text.text().starts_with("ENDS") && text.text().contains("  itself "), "{text:?}");
    served.run(&["grant", "ls", "--expiring", "soon"]).fails(2, "time.malformed");
}
