//! What root signs without an agent.

use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::FactRow;
use kvgossip_grants::{Authority, By, ClusterId, Fact, PublicKey, RsaVerifier, Timestamp, Verdict};
use kvgossip_testkit::desk::{Desk, Ran};
use std::fs;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn public(desk: &Desk, name: &str) -> PublicKey {
    PublicKey::from_pem(&desk.read(name)).expect("what the command wrote")
}

/// Reads facts back and takes them in as a replica would.
fn take_in(root: &PublicKey, authority: &mut Authority, lines: &str) -> Vec<(Fact, Verdict)> {
    let rows =
        lines.lines().map(|line| serde_json::from_str::<FactRow>(line).expect("what the command wrote"));
    let facts = rows.map(|row| {
        let record = BASE64_STANDARD.decode(&row.record_b64).expect("what the command wrote");
        let fact = Fact::from_record(root.cluster(), &record).expect("what the command wrote");
        assert_eq!((row.id, row.kind.as_str()), (fact.id().to_string(), fact.kind()));
        let far = Timestamp::MAX;
        let verdict = match authority.check(fact.clone(), far) {
            Ok(unverified) => match unverified.verify(&RsaVerifier) {
                Ok(verified) => authority.merge(verified).verdict,
                Err(verdict) => verdict,
            },
            Err(verdict) => verdict,
        };
        (fact, verdict)
    });
    facts.collect()
}

fn grant_new(desk: &Desk, more: &[&str]) -> Ran {
    let args = ["grant", "new", "--identity", "root.pem", "--to", "team.pub.pem", "--pattern", "/team/**"];
    desk.run(&[&args[..], more].concat())
}

#[test]
fn root_grants_and_revokes_without_an_agent() {
    let desk = Desk::new(PROGRAM);
    let root = public(&desk, "root.pub.pem");
    let mut authority = Authority::new(root.clone());

    let made = grant_new(
        &desk,
        &["--root", "root.pub.pem", "--out", "grant.json", "--subgrant", "--expires", "30d"],
    );
    assert_eq!(made.exits(0).text(), "");
    let (fact, verdict) = take_in(&root, &mut authority, &desk.read("grant.json")).remove(0);
    assert_eq!(verdict, Verdict::Merged);
    let Fact::Grant(grant) = &fact else { panic!("{fact:?}") };
    let body = grant.body();
    assert_eq!(
        (body.grantee.entity(), body.pattern.as_str()),
        (public(&desk, "team.pub.pem").entity(), "/team/**")
    );
    assert!(body.subgrant && body.parent.is_none());
    let days = body.expires_at.unwrap().as_micros() - body.issued_at.as_micros();
    assert_eq!(days, 30 * 86_400 * 1_000_000);

    let id = grant.id().to_string();
    let cluster = root.cluster().to_string();
    let revoke =
        ["grant", "revoke", &id[..8], "--identity", "root.pem", "--from", "grant.json", "--out", "-"];
    let revoked = desk.run(&[&revoke[..], &["--cluster", &cluster]].concat()).exits(0);
    let (fact, verdict) = take_in(&root, &mut authority, revoked.text()).remove(0);
    assert_eq!(verdict, Verdict::Merged);
    let Fact::Revocation(revocation) = &fact else { panic!("{fact:?}") };
    assert_eq!((revocation.body().by, revocation.body().grant.id()), (By::Root, grant.id()));
    assert!(authority.grant(&grant.id()).is_none());
}

#[test]
fn root_sets_a_floor_without_an_agent() {
    let desk = Desk::new(PROGRAM);
    let root = public(&desk, "root.pub.pem");
    let args =
        ["floor", "/b/**", "/a/*", "/b/**", "--before", "2026-01-02T03:04:05Z", "--identity", "root.pem"];
    let made = desk.run(&[&args[..], &["--root", "root.pub.pem", "--out", "-"]].concat()).exits(0);
    let (fact, verdict) = take_in(&root, &mut Authority::new(root.clone()), made.text()).remove(0);
    assert_eq!(verdict, Verdict::Merged);
    let Fact::Floor(floor) = &fact else { panic!("{fact:?}") };
    let patterns: Vec<_> = floor.body().patterns.iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["/a/*", "/b/**"]);
    assert_eq!(floor.body().before.as_micros(), 1_767_323_045_000_000);

    let future =
        ["floor", "/a/*", "--before", "9999-01-01T00:00:00Z", "--identity", "root.pem", "--out", "-"];
    desk.run(&[&future[..], &["--root", "root.pub.pem"]].concat()).fails(1, "floor.future");
}

#[test]
fn a_file_of_facts_is_never_overwritten() {
    let desk = Desk::new(PROGRAM);
    fs::write(desk.path("kept"), "").unwrap();
    grant_new(&desk, &["--root", "root.pub.pem", "--out", "kept"]).fails(1, "file.exists");
    assert_eq!(desk.read("kept"), "");
}

#[test]
fn only_root_does_without_an_agent() {
    let desk = Desk::new(PROGRAM);
    let gone = ["--out", "-", "--agent", "http://127.0.0.1:9"];
    // Another cluster's root: this key issues nothing there by itself, so the agent is asked.
    grant_new(&desk, &[&gone[..], &["--root", "team.pub.pem"]].concat()).fails(5, "agent.unreachable");
    // Nobody said whose cluster it is.
    grant_new(&desk, &gone).fails(5, "agent.unreachable");
    let other = ClusterId([7; 32]).to_string();
    grant_new(&desk, &["--root", "root.pub.pem", "--cluster", &other, "--out", "-"])
        .fails(8, "cluster.mismatch");
}

#[test]
fn a_grant_that_ends_before_it_begins_is_not_made() {
    let desk = Desk::new(PROGRAM);
    for end in ["now", "0s", "2001-01-01T00:00:00Z"] {
        grant_new(&desk, &["--root", "root.pub.pem", "--out", "-", "--expires", end]).fails(2, "time.past");
    }
}

#[test]
fn a_revocation_needs_the_grant_that_it_names() {
    let desk = Desk::new(PROGRAM);
    grant_new(&desk, &["--root", "root.pub.pem", "--out", "grant.json"]).exits(0);
    let line = desk.read("grant.json");
    let row: serde_json::Value = serde_json::from_str(&line).unwrap();
    let id = row["id"].as_str().unwrap();
    let revoke = |id: &str, file: &str| {
        let args = ["grant", "revoke", id, "--identity", "root.pem", "--root", "root.pub.pem", "--out", "-"];
        desk.run(&[&args[..], &["--from", file]].concat())
    };
    revoke("00000000", "grant.json").fails(3, "id.unknown");
    revoke(id, "root.pem").fails(1, "facts.malformed");
    // The bytes are another grant than the line says.
    grant_new(&desk, &["--root", "root.pub.pem", "--out", "other.json"]).exits(0);
    let mut other: serde_json::Value = serde_json::from_str(&desk.read("other.json")).unwrap();
    other["id"] = id.into();
    fs::write(desk.path("forged.json"), other.to_string()).unwrap();
    revoke(id, "forged.json").fails(8, "fact.malformed");
}
