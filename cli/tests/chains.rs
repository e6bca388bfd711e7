//! Clusters that delegate: chains of grants come over in one session, to a directory without an agent and to an agent.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_grants::{
    ClusterId, EntryDraft, EntryFact, Fact, Grant, GrantId, Key, KeyGlob, ReplicaId, Signed, Signer,
    SigningKey,
};
use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, ask};
use kvgossip_testkit::served::{Served, Setup};
use kvgossip_testkit::wait::wait_until;
use kvgossip_transport::ReplicaKey;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn key(desk: &Desk, name: &str) -> SigningKey {
    SigningKey::from_pem(&desk.read(name)).unwrap()
}

fn entry(cluster: ClusterId, number: usize, signer: &SigningKey, grant: GrantId) -> Fact {
    let key = Key::parse(&format!("/chain/{number:02}")).unwrap();
    let value = Some(bytes::Bytes::from_static(b"v"));
    let draft = EntryDraft { key, value, timestamp: kvgossip_agent::now(), grant: Some(grant) };
    Fact::Entry(EntryFact::sign(cluster, draft, signer).unwrap())
}

/// Root gives to team, team to dev, dev to team, and so on; at each level there is an entry.
fn chain(desk: &Desk, depth: usize) -> Vec<Fact> {
    let (root, team, dev) = (key(desk, "root.pem"), key(desk, "team.pem"), key(desk, "dev.pem"));
    let cluster = root.public().cluster();
    let (mut facts, mut parent, mut issuer) = (Vec::new(), None, &root);
    for level in 1..=depth {
        let grantee = if level % 2 == 1 { &team } else { &dev };
        let grant = Grant {
            issuer: issuer.public().entity(),
            grantee: grantee.public().clone(),
            pattern: KeyGlob::parse("/**").unwrap(),
            subgrant: true,
            parent,
            issued_at: kvgossip_agent::now(),
            expires_at: None,
            nonce: [level as u8; 16],
        };
        let grant = Signed::sign(cluster, grant, issuer).unwrap();
        (parent, issuer) = (Some(grant.id()), grantee);
        facts.push(entry(cluster, level, grantee, grant.id()));
        facts.push(Fact::Grant(grant));
    }
    facts
}

#[test]
fn a_chain_of_any_depth_comes_over_in_one_session() {
    for depth in [2, 9, 16] {
        let knows: Vec<ReplicaId> = ["replica-a.pem", "replica-b.pem"]
            .map(|name| ReplicaKey::from_pem(Desk::new(PROGRAM).read(name).as_bytes()).unwrap().id())
            .to_vec();
        let full = Served::start(PROGRAM, Setup { replica: "replica-a.pem", knows, ..Setup::default() });
        full.put(chain(&full.desk, depth));
        let address = format!("{}@{}", full.replica(), full.sync_address());

        // A directory without an agent.
        let desk = Desk::new(PROGRAM);
        let args = ["sync", &address, "--data-dir", "fresh", "--root", "root.pub.pem", "--output", "json"];
        let report = desk.run(&args).exits(0).json();
        let (outcome, merged, rounds) = (&report[0]["outcome"], &report[0]["merged"], &report[0]["rounds"]);
        assert_eq!(
            (outcome.as_str(), merged.as_u64()),
            (Some("equal"), Some(2 * depth as u64)),
            "{report:?}"
        );
        assert_eq!((rounds.as_u64(), report[0]["waste"].as_u64()), (Some(1), Some(0)), "{report:?}");

        // An agent.
        let logs = ["--peer", &address, "--log-level", "debug", "--log-format", "json"];
        let agent = Launch::new(&desk, "running", "replica-b.pem").with(&logs).start(&desk);
        let merged = format!("\"merged\":{},", 2 * depth);
        wait_until("one session has brought all", || desk.read("running.log").contains(&merged));
        let newest = format!("/chain/{depth:02}");
        assert_eq!(ask(&desk, "running", &["get", &newest]).exits(0).text(), "v");
        assert!(agent.stop().success());
        assert!(!desk.read("running.log").contains("session failed"), "{}", desk.read("running.log"));
    }
}
