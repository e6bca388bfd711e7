//! The published vectors of signed facts, `fixtures/fact-vectors.txt`. The bytes are also put together by hand here,
//! as `docs/protocol.md` says, and the signatures checked with another library. A change of the file is a change of
//! the protocol.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[path = "vectors_by_hand/mod.rs"]
mod by_hand;

use by_hand::{
    entry_by_hand, floor_by_hand, grant_by_hand, preimage_by_hand, record_by_hand, revocation_by_hand,
};
use kvgossip_grants::{
    Authority, Body, Code, Fact, FactId, Floor, KeyGlob, MAX_AHEAD_MICROS, MAX_BODY_BYTES, MAX_DEPTH,
    MAX_FILTER_GLOBS, MAX_FLOOR_PATTERNS, MAX_GLOB_BYTES, MAX_KEY_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS,
    MAX_VALUE_BYTES, MAX_WILDCARDS, Op, PublicKey, PublicKeyError, RsaVerifier, Signed, Signer, Timestamp,
    Verdict,
};
use kvgossip_testkit::vectors::Vectors;
use kvgossip_testkit::vectors::cast::{Cast, HOUR, JANUARY, Named, at, fact, facts, nonce};
use std::fmt::Display;

const FILE: &str = "grants/tests/fixtures/fact-vectors.txt";

const HEADER: &str = "\
Vectors of keys, ids and signed facts; docs/protocol.md explains them. Bytes are hexadecimal, times are
microseconds, `none` is an absent option. The private keys are in test-only-keys.

[tags]          what every hash and signature begins with
[limits]        constants of the protocol, by their names in the code
[key-NAME]      a public key and the entity it makes
[cluster]       the cluster of key-root
[FACT]          what the fact says, then its bytes
[refused-NAME]  a record that nobody takes, whoever signed it, and the code
[spki-NAME]     bytes that are no public key

Made anew with `KVGOSSIP_BLESS=1 cargo test -p kvgossip-grants --test vectors`, only for a new format version.";

/// What is hashed or signed, each under its own tag.
const TAGS: [&str; 13] = [
    "entity", "cluster", "replica", "grant", "revoke", "floor", "entry", "leaf", "empty", "bucket", "inner",
    "root", "salt",
];

fn or_none(value: Option<impl Display>) -> String {
    value.map_or("none".into(), |value| value.to_string())
}

/// Bodies that break a rule of their own: name, kind, tag, bytes.
fn bad_bodies(facts: &[Named<'_>]) -> Vec<(&'static str, u8, &'static str, Vec<u8>)> {
    let (grant, set) = (body_of(facts, "grant-to-ops"), body_of(facts, "entry-set"));
    let revocation = body_of(facts, "revocation-of-ops");
    // Behind the version byte, the issuer, and the SPKI of 422 bytes with its length.
    let pattern = 1 + 32 + 2 + 422;
    let subgrant = pattern + 1 + "/app/**".len();
    let time = 2 + "/app/web/title".len();
    let len = time + by_hand::varint(JANUARY).len() + 1;
    let splice =
        |body: &[u8], from: usize, to: usize, bytes: &[u8]| [&body[..from], bytes, &body[to..]].concat();
    let set_with = |from: usize, to: usize, bytes: &[u8]| splice(&set, from, to, bytes);
    let grant_with = |at: usize, byte: u8| splice(&grant, at, at + 1, &[byte]);
    let floor = |patterns: &[&str]| floor_by_hand(patterns.iter().copied(), JANUARY, &nonce(0));
    let many: Vec<String> = (0..65).map(|n| format!("/{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let after_9999 = by_hand::varint(Timestamp::MAX.as_micros() + 1);
    let issuer = revocation.len() - 1 - by_hand::varint(JANUARY).len();
    vec![
        ("version-0", 4, "entry", set_with(0, 1, &[0])),
        ("long-varint", 4, "entry", set_with(1, 2, &[0x8e, 0x00])),
        ("time-after-9999", 4, "entry", set_with(time, len - 1, &after_9999)),
        ("value-too-large", 4, "entry", set_with(len, len + 1, &by_hand::varint(MAX_VALUE_BYTES as u64 + 1))),
        ("key-triplet", 4, "entry", set_with(3, 6, b"%41")),
        ("bool", 1, "grant", grant_with(subgrant, 2)),
        ("option", 1, "grant", grant_with(subgrant + 1, 2)),
        ("pattern", 1, "grant", grant_with(pattern + 1 + "/app".len(), b'*')),
        ("issuer-is-root", 2, "revoke", splice(&revocation, issuer, issuer + 1, &[1])),
        ("floor-empty", 3, "floor", floor(&[])),
        ("floor-unsorted", 3, "floor", floor(&["/b", "/a"])),
        ("floor-twice", 3, "floor", floor(&["/a", "/a"])),
        ("floor-65-patterns", 3, "floor", floor(&many)),
    ]
}

/// Records that nobody takes: bad bodies, which root has signed, and good ones in a bad frame.
fn refused(cast: &Cast) -> Vec<(&'static str, Vec<u8>, Code)> {
    let facts = facts(cast);
    let signed = |kind: u8, tag: &str, body: &[u8]| {
        let signature = cast.root.sign(&preimage_by_hand(tag, &cast.cluster(), body)).unwrap();
        let value: &[u8] = if kind == 4 { b"hello\n" } else { b"" };
        record_by_hand(kind, body, &signature, value)
    };
    let floor = body_of(&facts, "floor");
    let record = |name: &str| fact(&facts, name).to_record();
    let set = record("entry-set");
    let (last, but_last) = set.split_last().unwrap();
    let bodies = bad_bodies(&facts).into_iter();
    let mut records: Vec<_> = bodies
        .map(|(name, kind, tag, body)| {
            let code = if name == "value-too-large" { Code::TooLarge } else { Code::Malformed };
            (name, signed(kind, tag, &body), code)
        })
        .collect();
    let of_version = |version: u8, name: &str| [&[version], &body_of(&facts, name)[1..]].concat();
    records.extend([
        ("grant-of-version-1", signed(1, "grant", &of_version(1, "grant-to-ops")), Code::Version),
        ("revocation-of-version-1", signed(2, "revoke", &of_version(1, "revocation-of-ops")), Code::Version),
        ("floor-of-version-1", signed(3, "floor", &of_version(1, "floor")), Code::Version),
        ("entry-of-version-1", signed(4, "entry", &of_version(1, "entry-set")), Code::Version),
        ("entry-of-version-3", signed(4, "entry", &of_version(3, "entry-set")), Code::Version),
        (
            "version-1-in-a-bad-frame",
            record_by_hand(5, &of_version(1, "floor"), &[0; 256], b""),
            Code::Malformed,
        ),
    ]);
    records.extend([
        ("kind", signed(5, "floor", &floor), Code::Malformed),
        ("short-signature", record_by_hand(3, &floor, &[0; 128], b""), Code::Malformed),
        ("behind-a-floor", [&record("floor")[..], &[0]].concat(), Code::Malformed),
        ("behind-a-value", [&set[..], &[0]].concat(), Code::Malformed),
        ("behind-a-delete", [&record("entry-delete")[..], &[0]].concat(), Code::Malformed),
        ("cut-value", but_last.to_vec(), Code::Malformed),
        ("other-value", [but_last, &[last ^ 1]].concat(), Code::ValueMismatch),
    ]);
    records
}

fn body_of(facts: &[Named<'_>], name: &str) -> Vec<u8> {
    signed_parts(&fact(facts, name)).1
}

/// Tag, body, preimage and signature.
fn signed_parts(fact: &Fact) -> (&'static str, Vec<u8>, Vec<u8>, Vec<u8>) {
    fn of<B: Body>(signed: &Signed<B>, tag: &'static str) -> (&'static str, Vec<u8>, Vec<u8>, Vec<u8>) {
        (tag, signed.bytes().to_vec(), signed.preimage(), signed.signature().to_vec())
    }
    match fact {
        Fact::Grant(fact) => of(fact, "grant"),
        Fact::Revocation(fact) => of(fact, "revoke"),
        Fact::Floor(fact) => of(fact, "floor"),
        Fact::Entry(fact) => of(fact.signed(), "entry"),
    }
}

/// Public keys that are none: one byte differs from one that is.
fn bad_keys(cast: &Cast) -> Vec<(&'static str, Vec<u8>)> {
    let good = cast.root.public().spki_der();
    let edit = |at: usize, byte: u8| {
        let mut der = good.to_vec();
        der[at] = byte;
        der
    };
    vec![
        ("exponent-65539", edit(good.len() - 1, 3)),
        ("even-modulus", edit(good.len() - 6, good[good.len() - 6] & 0xfe)),
        ("2047-bits", edit(33, good[33] & 0x7f)),
        ("trailing-byte", [good, &[0]].concat()),
    ]
}

fn vectors() -> Vectors {
    let cast = Cast::new();
    let mut out = Vectors::new(FILE, HEADER);
    out.section("tags");
    for name in TAGS {
        out.hex(name, &by_hand::tag(name));
    }
    write_limits(&mut out);
    for (name, key) in [("root", &cast.root), ("ops", &cast.ops), ("web", &cast.web), ("guest", &cast.guest)]
    {
        out.section(&format!("key-{name}"));
        out.field("bits", key.public().bits());
        out.hex("spki", key.public().spki_der());
        out.field("entity", key.public().entity());
    }
    out.section("cluster");
    out.field("id", cast.cluster());
    for (name, _, fact) in facts(&cast) {
        out.section(name);
        write_meaning(&mut out, &fact);
        let (_, body, preimage, signature) = signed_parts(&fact);
        out.hex("body", &body);
        out.hex("preimage", &preimage);
        out.hex("signature", &signature);
        out.field("id", fact.id());
        out.hex("record", &fact.to_record());
    }
    for (name, record, code) in refused(&cast) {
        out.section(&format!("refused-{name}"));
        out.field("code", code);
        out.hex("record", &record);
    }
    for (name, der) in bad_keys(&cast) {
        out.section(&format!("spki-{name}"));
        out.hex("der", &der);
    }
    out
}

fn write_limits(out: &mut Vectors) {
    out.section("limits");
    out.field("MAX_KEY_BYTES", MAX_KEY_BYTES);
    out.field("MAX_SEGMENTS", MAX_SEGMENTS);
    out.field("MAX_SEGMENT_BYTES", MAX_SEGMENT_BYTES);
    out.field("MAX_GLOB_BYTES", MAX_GLOB_BYTES);
    out.field("MAX_WILDCARDS", MAX_WILDCARDS);
    out.field("MAX_FILTER_GLOBS", MAX_FILTER_GLOBS);
    out.field("MAX_VALUE_BYTES", MAX_VALUE_BYTES);
    out.field("MAX_BODY_BYTES", MAX_BODY_BYTES);
    out.field("MAX_FLOOR_PATTERNS", MAX_FLOOR_PATTERNS);
    out.field("MAX_DEPTH", MAX_DEPTH);
    out.field("MAX_AHEAD_MICROS", MAX_AHEAD_MICROS);
    out.field("MAX_TIME", Timestamp::MAX.as_micros());
}

fn write_meaning(out: &mut Vectors, fact: &Fact) {
    match fact {
        Fact::Grant(fact) => {
            let body = fact.body();
            out.field("issuer", body.issuer);
            out.field("grantee", body.grantee.entity());
            out.field("pattern", &body.pattern);
            out.field("subgrant", body.subgrant);
            out.field("parent", or_none(body.parent));
            out.field("issued_at", body.issued_at.as_micros());
            out.field("expires_at", or_none(body.expires_at.map(Timestamp::as_micros)));
            out.hex("nonce", &body.nonce);
        }
        Fact::Revocation(fact) => {
            out.field("grant", fact.body().grant.id());
            out.field("by", fact.body().by.as_str());
            out.field("revoked_at", fact.body().revoked_at.as_micros());
        }
        Fact::Floor(fact) => {
            let patterns: Vec<&str> = fact.body().patterns.iter().map(KeyGlob::as_str).collect();
            out.field("patterns", patterns.join(" "));
            out.field("before", fact.body().before.as_micros());
            out.hex("nonce", &fact.body().nonce);
        }
        Fact::Entry(fact) => {
            let entry = fact.entry();
            out.field("key", &entry.key);
            out.field("timestamp", entry.timestamp.as_micros());
            match entry.op {
                Op::Set { len, hash } => {
                    out.hex("value", fact.value().unwrap());
                    out.field("value_len", len);
                    out.field("value_hash", hash);
                }
                Op::Delete => out.field("delete", true),
            }
            out.field("signer", entry.signer);
            out.field("grant", or_none(entry.grant));
        }
    }
}

#[test]
fn the_fixture_is_what_the_code_says() {
    vectors().settle();
}

#[test]
fn the_document_quotes_the_vectors() {
    vectors().check_quotes("facts", 7);
}

#[test]
fn bytes_are_laid_out_as_the_document_says() {
    let cast = Cast::new();
    for (name, signer, fact) in facts(&cast) {
        let (tag, body, preimage, signature) = signed_parts(&fact);
        let (kind, expected, value) = match &fact {
            Fact::Grant(fact) => (1, grant_by_hand(fact.body()), vec![]),
            Fact::Revocation(fact) => (2, revocation_by_hand(fact.body()), vec![]),
            Fact::Floor(fact) => {
                let Floor { patterns, before, nonce } = fact.body();
                (3, floor_by_hand(patterns.iter().map(KeyGlob::as_str), before.as_micros(), nonce), vec![])
            }
            Fact::Entry(fact) => {
                (4, entry_by_hand(fact.entry()), fact.value().map(|value| value.to_vec()).unwrap_or_default())
            }
        };
        assert_eq!(body, expected, "{name}");
        assert_eq!(preimage, preimage_by_hand(tag, &cast.cluster(), &body), "{name}");
        assert_eq!(fact.id(), FactId(*blake3::hash(&preimage).as_bytes()), "{name}");
        assert_eq!(fact.to_record(), record_by_hand(kind, &body, &signature, &value), "{name}");
        assert!(by_hand::signature_holds(signer.public().spki_der(), &preimage, &signature), "{name}");
    }
}

#[test]
fn ids_of_keys_are_the_tagged_hashes() {
    let cast = Cast::new();
    for key in [&cast.root, &cast.ops, &cast.web, &cast.guest] {
        let spki = key.public().spki_der();
        assert_eq!(spki, by_hand::spki(key.public().bits(), &spki[33..spki.len() - 5]));
        let entity = by_hand::hash(&[&by_hand::tag("entity"), spki]);
        assert_eq!(key.public().entity().0, entity);
        assert_eq!(key.public().cluster().0, by_hand::hash(&[&by_hand::tag("cluster"), &[2], spki]));
    }
}

#[test]
fn every_fact_is_read_back_and_judged() {
    let cast = Cast::new();
    let mut authority = Authority::new(cast.root.public().clone());
    for (name, _, fact) in facts(&cast) {
        let judge = |fact| authority.check(fact, at(JANUARY + 12 * HOUR))?.verify(&RsaVerifier);
        let record = fact.to_record();
        assert_eq!(Fact::from_record(cast.cluster(), &record), Ok(fact.clone()), "{name}");
        for at in [record.len() / 3, record.len() - 1] {
            let mut damaged = record.to_vec();
            damaged[at] ^= 1;
            let read = Fact::from_record(cast.cluster(), &damaged);
            assert!(read.is_err() || judge(read.unwrap()).is_err(), "{name}: byte {at}");
        }
        let verified = judge(fact.clone()).unwrap();
        if fact.is_authority() {
            // Revocations of a grant come in ascending rank, so that each betters the one before.
            assert_eq!(authority.merge(verified).verdict, Verdict::Merged, "{name}");
        }
    }
}

#[test]
fn what_is_refused_is_refused_for_its_shape() {
    let cast = Cast::new();
    for (name, record, code) in refused(&cast) {
        assert_eq!(Fact::from_record(cast.cluster(), &record), Err(code), "{name}");
    }
    for (name, der) in bad_keys(&cast) {
        let error = PublicKey::from_spki_der(&der).unwrap_err();
        assert!(!matches!(error, PublicKeyError::NotPem), "{name}: {error}");
    }
}
