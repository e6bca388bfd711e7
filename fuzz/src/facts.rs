//! Fuzz target for canonical decoding: decoded bytes are encoded to the same bytes, and no decoded fact is trusted.
//!
//! The first byte selects the type of the rest: a record, concatenated records, or a body of each kind.

use crate::Seed;
use bytes::Bytes;
use kvgossip_grants::{
    Authority, Body, By, ClusterId, Entry, Fact, Floor, Grant, MAX_VALUE_BYTES, RECORD_HEAD_BYTES,
    Revocation, RsaVerifier, Signed, Timestamp,
};
use kvgossip_sim::Scribe;
use kvgossip_sim::scribe::{Terms, at};

/// Runs one input: see the [module documentation](self).
pub fn run(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else { return };
    let cluster = Scribe::new(1).cluster();
    match selector % 6 {
        0 => record(cluster, bytes),
        1 => records(cluster, bytes),
        2 => body::<Grant>(cluster, bytes),
        3 => body::<Revocation>(cluster, bytes),
        4 => body::<Floor>(cluster, bytes),
        _ => body::<Entry>(cluster, bytes),
    }
}

fn record(cluster: ClusterId, bytes: &[u8]) {
    let Ok(fact) = Fact::from_record(cluster, bytes) else { return };
    assert_eq!(fact.to_record(), bytes, "a second spelling");
    judge(fact);
}

fn records(cluster: ClusterId, bytes: &[u8]) {
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        let before = rest.clone();
        let fact = Fact::take_record(cluster, &mut rest);
        let read = &before[..before.len() - rest.len()];
        assert!(!read.is_empty(), "no progress");
        if let Ok(fact) = fact {
            assert_eq!(fact.to_record(), read, "a second spelling");
            assert_eq!(Fact::from_record(cluster, read), Ok(fact));
        }
    }
}

fn body<B: Body>(cluster: ClusterId, bytes: &[u8]) {
    let Some(body) = B::decode(cluster, bytes) else { return };
    assert_eq!(body.encode(), bytes, "a second spelling");
    let signed = Signed::<B>::parse(cluster, bytes, &[0; 256]);
    assert_eq!(signed.map(|signed| signed.bytes().to_vec()).as_deref(), Some(bytes));
}

/// Checks a fact of unknown origin up to its signature. No input has a valid signature, which would need a real key.
fn judge(fact: Fact) {
    assert_eq!(fact.payload_len() + RECORD_HEAD_BYTES, fact.to_record().len());
    assert!(fact.payload_len() <= MAX_VALUE_BYTES + 32 * 1024);
    let authority = Authority::new(Scribe::new(1).root().clone());
    if let Ok(unverified) = authority.check(fact, Timestamp::MAX) {
        assert!(unverified.verify(&RsaVerifier).is_err(), "a forged signature");
    }
}

/// Returns one fact of each shape.
fn samples() -> Vec<(&'static str, Fact)> {
    let mut scribe = Scribe::new(3);
    let top = scribe.grant(0, 1, "/my/**/sta*", None, Terms::default());
    let terms = Terms { subgrant: false, issued_at: 7, expires_at: Some(Timestamp::MAX.as_micros()) };
    let below = scribe.grant(1, 2, "/my/%20/?", Some(top.id()), terms);
    let (top_id, value) = (top.id(), [7; 300]);
    let last = Timestamp::MAX.as_micros();
    let patterns: Vec<String> = (0..64).map(|n| format!("/floor/{n:02}/**")).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    vec![
        ("grant_by_root", Fact::Grant(top.clone())),
        ("grant_below", Fact::Grant(below.clone())),
        ("revocation_by_root", scribe.revoke(&below, By::Root, 0, 5)),
        ("revocation_by_issuer", scribe.revoke(&below, By::Issuer, 1, last)),
        ("revocation_by_grantee", scribe.revoke(&top, By::Grantee, 1, 0)),
        ("floor_of_one", scribe.floor(&["/a"], 100)),
        ("floor_of_64", scribe.floor(&patterns, last)),
        ("entry_set", scribe.set(1, "/my/key/state", b"on", 10, Some(top_id))),
        ("entry_set_nothing", scribe.set(1, "/my/key/state", b"", 0, Some(top_id))),
        ("entry_set_more", scribe.set(0, "/a%2Fb", &value, last, None)),
        ("entry_delete", scribe.delete(1, "/my/key/state", 11, Some(top_id))),
        ("entry_delete_by_root", scribe.delete(0, "/a", at(1).as_micros(), None)),
    ]
}

/// Returns records, concatenated records, and bodies.
pub fn seeds() -> Vec<Seed> {
    let samples = samples();
    let mut seeds: Vec<Seed> = Vec::new();
    let mut add =
        |name: String, selector: u8, bytes: &[u8]| seeds.push((name, [&[selector], bytes].concat()));
    for (name, fact) in &samples {
        add(format!("record_{name}"), 0, &fact.to_record());
        let (selector, body) = match fact {
            Fact::Grant(fact) => (2, fact.bytes()),
            Fact::Revocation(fact) => (3, fact.bytes()),
            Fact::Floor(fact) => (4, fact.bytes()),
            Fact::Entry(fact) => (5, fact.signed().bytes()),
        };
        add(format!("body_{name}"), selector, body);
    }
    let all: Vec<u8> = samples.iter().flat_map(|(_, fact)| fact.to_record()).collect();
    add("records".into(), 1, &all);
    // An entry with a wrong value affects no other record.
    let mut spoiled = samples[7].1.to_record().to_vec();
    spoiled.extend(samples[10].1.to_record());
    let at = samples[7].1.to_record().len() - 1;
    spoiled[at] ^= 1;
    add("records_one_spoiled".into(), 1, &spoiled);
    seeds
}
