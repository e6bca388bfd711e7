//! Keys with more entries than are told at a time: what commands show, write and move.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use bytes::Bytes;
use kvgossip_agent::now;
use kvgossip_grants::{
    EntryDraft, EntryFact, Fact, Grant, GrantId, Key, Signed, Signer, SigningKey, Timestamp,
};
use kvgossip_testkit::served::{Served, Setup};
use kvgossip_testkit::wait::wait_until;
use std::fs;
use std::time::Duration;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// How many entries each of the two keys has.
fn many() -> u64 {
    std::env::var("KVGOSSIP_TEST_ENTRIES").map_or(70, |text| text.parse().unwrap())
}

/// How long their grants hold, in microseconds: long enough to put everything in before it is over.
fn brief_us() -> u64 {
    8_000_000 + 15_000 * many()
}

struct Cast {
    root: SigningKey,
    team: SigningKey,
    dev: SigningKey,
}

impl Cast {
    fn of(served: &Served) -> Self {
        let key = |name: &str| SigningKey::from_pem(&served.desk.read(name)).unwrap();
        Self { root: key("root.pem"), team: key("team.pem"), dev: key("dev.pem") }
    }

    fn grant(&self, number: u64, parent: Option<GrantId>, expires_at: Option<Timestamp>) -> Signed<Grant> {
        let (issuer, grantee) =
            if parent.is_some() { (&self.team, &self.dev) } else { (&self.root, &self.team) };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        let grant = Grant {
            issuer: issuer.public().entity(),
            grantee: grantee.public().clone(),
            pattern: "/k/**".parse().unwrap(),
            subgrant: parent.is_none(),
            parent,
            issued_at: now(),
            expires_at,
            nonce,
        };
        Signed::sign(self.root.public().cluster(), grant, issuer).unwrap()
    }

    fn entry(&self, key: &str, at: Timestamp, grant: GrantId, value: &str) -> Fact {
        let (key, value) = (Key::parse(key).unwrap(), Some(Bytes::copy_from_slice(value.as_bytes())));
        let draft = EntryDraft { key, value, timestamp: at, grant: Some(grant) };
        Fact::Entry(EntryFact::sign(self.root.public().cluster(), draft, &self.dev).unwrap())
    }
}

/// Many entries of each of two keys, whose grants expire; below those of one stands an older value.
#[test]
fn many_expired_grants_hide_neither_the_value_below_them_nor_that_there_is_none() {
    let many = many();
    let served = Served::start(PROGRAM, Setup::default());
    let cast = Cast::of(&served);
    let top = cast.grant(0, None, None);
    let lasting = cast.grant(1, Some(top.id()), None);
    let until = now().saturating_add(brief_us());
    let brief: Vec<_> = (0..many).map(|n| cast.grant(10 + n, Some(top.id()), Some(until))).collect();
    let time = now();
    let mut facts = vec![Fact::Grant(top.clone()), Fact::Grant(lasting.clone())];
    facts.extend(brief.iter().cloned().map(Fact::Grant));
    facts.push(cast.entry("/k/a", time, lasting.id(), "below"));
    for (number, grant) in (1..).zip(&brief) {
        let at = time.saturating_add(number);
        facts.push(cast.entry("/k/a", at, grant.id(), "brief"));
        facts.push(cast.entry("/k/none", at, grant.id(), "brief"));
    }
    served.put(facts);
    let scraped = served.scrape();
    assert!(scraped.contains("\nkvgossip_long_keys 2\n"), "{scraped}");
    assert!(scraped.contains(&format!("\nkvgossip_longest_key_entries {}\n", many + 1)), "{scraped}");
    // With very many of them that is longer than anything else is waited for.
    std::thread::sleep(Duration::from_micros(until.as_micros().saturating_sub(now().as_micros())));
    wait_until("the grants expire", || now() > until);

    assert_eq!(served.run(&["get", "/k/a"]).exits(0).text().trim_end(), "below");
    served.run(&["get", "/k/none"]).exits(3);
    assert_eq!(served.run(&["ls", "/k/*"]).exits(0).text().lines().count(), 1);
    let told = served.run(&["status", "--output", "json"]).exits(0).json();
    let long = &told[0]["long_keys"];
    assert_eq!((&long[0]["key"], &long[0]["entries"]), (&"/k/a".into(), &(many + 1).into()), "{long}");
    assert_eq!(long[0]["grants"][0]["grant"], top.id().to_string());
    assert!(served.run(&["status"]).exits(0).text().contains("/k/none"));

    let template = "{{ get('/k/a', 'default') }} {{ get('/k/none', 'unset') }}{% for e in entries('/k/*') %} {{ e.name }}={{ e.value }}{% endfor %}";
    fs::write(served.path("t"), template).unwrap();
    let render = ["render", "t", "-o", "file", "--once", "--root", "root.pub.pem", "--timeout", "60s"];
    served.run(&render).exits(0);
    assert_eq!(served.desk.read("file"), "below unset a=below");
    let watched = served.run(&["watch", "/k/a", "--count", "1", "--root", "root.pub.pem"]).exits(0);
    assert!(watched.text().contains("below"), "{watched:#?}");
    assert!(!watched.err.contains("does not verify"), "{watched:#?}");
    let watched = served.run(&["watch", "/k/none", "--count", "1", "--root", "root.pub.pem"]).exits(0);
    assert!(watched.text().starts_with("absent  /k/none"), "{watched:#?}");

    // Everything moves, page by page, and is the same elsewhere.
    let exported = served.run(&["export", "-o", "all.kvg", "--output", "json"]).exits(0).json();
    assert_eq!((&exported[0]["entries"], &exported[0]["keys"]), (&(2 * many + 1).into(), &2.into()));
    let empty = Served::start(PROGRAM, Setup { replica: "replica-b.pem", ..Setup::default() });
    fs::copy(served.path("all.kvg"), empty.path("all.kvg")).unwrap();
    empty.run(&["import", "all.kvg"]).exits(0);
    let root = |served: &Served| served.run(&["digest", "--output", "json"]).json()[0]["root"].clone();
    assert_eq!(root(&empty), root(&served));

    let fall = served.run(&["grant", "revoke", &top.id().to_string(), "--dry-run", "--output", "json"]);
    let summary = fall.exits(0).json().pop().unwrap();
    assert_eq!((&summary["entries"], &summary["keys"]), (&(2 * many + 1).into(), &1.into()), "{summary}");
    served.run(&["grant", "revoke", &top.id().to_string(), "--identity", "root.pem"]).exits(0);
    served.run(&["get", "/k/a"]).exits(3);
    served.run(&render).exits(0);
    assert_eq!(served.desk.read("file"), "default unset");
}
