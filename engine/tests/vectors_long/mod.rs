//! Vectors of a key with more than 16 entries: its digest, and a session that goes down into it.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use super::{NONCES, Peer, run, short, write_run};
use kvgossip_engine::session::Outcome;
use kvgossip_engine::tree::{Tree, leaf_digest};
use kvgossip_grants::{Digest, Fact, FactId, GrantId, Verdict};
use kvgossip_testkit::vectors::Vectors;
use kvgossip_testkit::vectors::cast::{Cast, HOUR, JANUARY, Named, fact};
use std::collections::BTreeSet;

const KEY: &str = "/app/crowd";

/// T of ids, from the leaf digest of one id alone.
fn tree_of(ids: &[FactId], digits: &str) -> Digest {
    let mut tree = Tree::new();
    for id in ids.iter().map(|id| (hex::encode(id.0), *id)).filter(|(key, _)| key.starts_with(digits)) {
        tree.insert(id.0.as_bytes(), leaf_digest(id.0.as_bytes(), &[id.1]));
    }
    tree.digest()
}

pub(crate) fn write_leaf(out: &mut Vectors) {
    let ids: Vec<FactId> = (0..17).map(|number| FactId([number; 32])).collect();
    let tree = tree_of(&ids, "");
    let layout = [&b"kvgossip/leaf\0\0\0\x02\0\0\0/a\x11\0\0\0"[..], &tree.0].concat();
    let digest = Digest(*blake3::hash(&layout).as_bytes());
    assert_eq!(leaf_digest(b"/a", &ids), digest);
    out.section("long-leaf");
    out.field("key", "/a");
    out.field("ids", 17);
    out.field("tree", tree);
    out.field("digest", digest);
}

/// Grants of the entity `ops` to itself, and the entry of the key under each.
fn crowd(cast: &Cast, facts: &[Named<'_>]) -> Vec<(Fact, Fact)> {
    let parent = GrantId(fact(facts, "grant-to-ops").id().0);
    let one = |number: u8| {
        let grant = cast.grant(&cast.ops, &cast.ops, KEY, |grant| {
            grant.parent = Some(parent);
            grant.nonce = [number; 16];
        });
        let value = format!("of {number:02}");
        let time = JANUARY + HOUR + u64::from(number);
        let entry = cast.entry(&cast.ops, Some(grant.id()), KEY, time, Some(value.as_bytes()));
        (Fact::Grant(grant), entry)
    };
    (0..24).map(one).collect()
}

/// A session between 15 and 20 entries of one key; 13 of them are the same.
pub(crate) fn write_session(out: &mut Vectors, cast: &Cast, facts: &[Named<'_>]) {
    let crowd = crowd(cast, facts);
    let mut peers = [Peer::new(cast), Peer::new(cast)];
    let has = [(0..13).chain(20..22).collect(), (0..20).collect::<Vec<usize>>()];
    for (side, name) in ["c", "d"].into_iter().enumerate() {
        out.section(&format!("replica-{name}"));
        out.field("names", "grant-to-ops");
        let grants = crowd.iter().map(|(grant, _)| grant);
        let entries = has[side].iter().map(|number| &crowd[*number].1);
        assert_eq!(peers[side].offer(fact(facts, "grant-to-ops")), Verdict::Merged);
        for (number, fact) in (1..).zip(grants.chain(entries)) {
            out.hex(&format!("record-{number:02}"), &fact.to_record());
            assert_eq!(peers[side].offer(fact.clone()), Verdict::Merged);
        }
        peers[side].write_roots(out);
    }
    let ids: Vec<FactId> = has[1].iter().map(|number| crowd[*number].1.id()).collect();
    let transcript = write_run(out, "session-6", &run(&mut peers, "/", NONCES), Outcome::Equal);
    peers[0].write_roots(out);
    let known: BTreeSet<u32> = crowd.iter().map(|(_, entry)| short(&entry.id().0)).collect();
    assert!(transcript.ids.iter().all(|id| known.contains(id)) && transcript.ids.len() < 20);
    // The responder opens with one part for each first digit.
    for digit in
        "0123456789abcdef".chars().filter(|digit| ids.iter().any(|id| hex::encode(id.0).starts_with(*digit)))
    {
        assert!(transcript.digests.contains(&short(&tree_of(&ids, &digit.to_string()).0)), "{digit}");
    }
}
