//! An export made after a grant has expired imports alike, whatever is there; and commands still sign nothing under the
//! expired grant.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use bytes::Bytes;
use kvgossip_agent::now;
use kvgossip_client::{ExportReader, ExportWriter};
use kvgossip_grants::{
    EntryDraft, EntryFact, Fact, Grant, GrantId, Key, KeyGlob, PublicKey, Signed, Signer, SigningKey,
    Timestamp,
};
use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::served::{Served, Setup};
use std::fs;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

struct Signers {
    root: SigningKey,
    team: SigningKey,
    dev: SigningKey,
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_micros(now().as_micros() - seconds * 1_000_000).unwrap()
}

impl Signers {
    fn of(desk: &Desk) -> Self {
        let key = |name: &str| SigningKey::from_pem(&desk.read(name)).unwrap();
        Self { root: key("root.pem"), team: key("team.pem"), dev: key("dev.pem") }
    }

    fn grant(
        &self,
        by: &SigningKey,
        to: &PublicKey,
        pattern: &str,
        parent: Option<GrantId>,
        expires_at: Option<Timestamp>,
    ) -> Signed<Grant> {
        let grant = Grant {
            issuer: by.public().entity(),
            grantee: to.clone(),
            pattern: KeyGlob::parse(pattern).unwrap(),
            subgrant: true,
            parent,
            issued_at: ago(100),
            expires_at,
            nonce: [9; 16],
        };
        Signed::sign(self.root.public().cluster(), grant, by).unwrap()
    }

    fn entry(&self, by: &SigningKey, key: &str, grant: Option<GrantId>) -> Fact {
        let (key, value) = (Key::parse(key).unwrap(), Some(Bytes::from_static(b"value")));
        let draft = EntryDraft { key, value, timestamp: ago(50), grant };
        Fact::Entry(EntryFact::sign(self.root.public().cluster(), draft, by).unwrap())
    }

    /// Two grants in a chain whose upper one has expired, and entries of all three.
    fn facts(&self) -> Vec<Fact> {
        let upper = self.grant(&self.root, self.team.public(), "/team/**", None, Some(ago(10)));
        let lower = self.grant(&self.team, self.dev.public(), "/team/dev/*", Some(upper.id()), None);
        vec![
            self.entry(&self.team, "/team/x", Some(upper.id())),
            self.entry(&self.dev, "/team/dev/y", Some(lower.id())),
            self.entry(&self.root, "/team/by-root", None),
            Fact::Grant(lower),
            Fact::Grant(upper),
        ]
    }
}

fn digest(served: &Served) -> String {
    served.run(&["digest", "--output", "json"]).json()[0]["root"].as_str().unwrap().to_owned()
}

fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = ExportReader::new(bytes).unwrap();
    std::iter::from_fn(|| reader.next_record().unwrap()).collect()
}

/// Imports these records, in this order.
fn import(served: &Served, records: &[Vec<u8>]) -> String {
    let cluster = PublicKey::from_pem(&served.desk.read("root.pub.pem")).unwrap().cluster();
    let mut writer = ExportWriter::new(Vec::new(), cluster).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    fs::write(served.path("facts"), writer.finish().unwrap()).unwrap();
    served.run(&["import", "facts"]).exits(0).text().to_owned()
}

#[test]
fn an_export_imports_alike_whatever_is_there() {
    let one = Served::start(PROGRAM, Setup::default());
    one.relay(Signers::of(&one.desk).facts());
    let expected = digest(&one);
    one.run(&["export", "-o", "all"]).exits(0);
    let all = records(&fs::read(one.path("all")).unwrap());
    assert_eq!(all.len(), 5);
    let verified = one.desk.run(&["verify", "all", "--root", "root.pub.pem"]).exits(0);
    assert!(verified.text().contains(&expected), "{verified:?}");
    let fresh = || Served::start(PROGRAM, Setup { replica: "replica-b.pem", ..Setup::default() });

    let empty = fresh();
    assert_eq!(import(&empty, &all), "5 facts: 5 new, 0 there already, 0 superseded, 0 not taken in\n");
    assert_eq!(digest(&empty), expected);

    // The authority was there first.
    let prepared = fresh();
    let is_entry = |record: &&Vec<u8>| record[0] & 0xf == 4;
    let authority: Vec<_> = all.iter().filter(|record| !is_entry(record)).cloned().collect();
    assert_eq!(authority.len(), 2);
    import(&prepared, &authority);
    assert_eq!(import(&prepared, &all), "5 facts: 3 new, 2 there already, 0 superseded, 0 not taken in\n");
    assert_eq!(digest(&prepared), expected);

    let mut order = all.clone();
    for turn in 0..all.len() {
        order.rotate_left(1);
        let mut order = order.clone();
        if turn % 2 == 0 {
            order.reverse();
        }
        let other = fresh();
        import(&other, &order);
        assert_eq!(digest(&other), expected, "turn {turn}");
    }
}

#[test]
fn nothing_is_signed_under_a_grant_that_has_expired() {
    let served = Served::start(PROGRAM, Setup::default());
    served.relay(Signers::of(&served.desk).facts());
    let before = digest(&served);
    fs::create_dir(served.path("conf")).unwrap();
    fs::write(served.path("conf/f"), "1").unwrap();
    let team = ["--identity", "team.pem"];
    for verb in [
        &["set", "/team/new", "1"][..],
        &["set", "/team/x", "2"],
        &["grant", "new", "--to", "dev.pub.pem", "--pattern", "/team/other/*"],
        &["adopt", "/team/by-root"],
        &["import", "--dir", "conf", "--under", "/team"],
    ] {
        served.run(&[verb, &team].concat()).fails(4, "grant.expired");
        served.run(&[verb, &team, &["--out", "signed"]].concat()).fails(4, "grant.expired");
        let _ = fs::remove_file(served.path("signed"));
    }
    assert_eq!(digest(&served), before);
}
