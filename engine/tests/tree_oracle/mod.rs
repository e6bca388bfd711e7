//! The definition of the tree's digests, written down a second time and as literally as possible.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]
#![allow(dead_code, reason = "each test file uses a part")]

use kvgossip_engine::tree::Region;
use kvgossip_grants::{Digest, EntryId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Keys with their leaf digests.
pub(crate) type Model = BTreeMap<Vec<u8>, Digest>;

pub(crate) fn hash(tag: &str, parts: &[&[u8]]) -> Digest {
    let mut bytes = tag.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes.extend(parts.concat());
    Digest(*blake3::hash(&bytes).as_bytes())
}

fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap().to_le_bytes()
}

/// The digest of a key with ids: the list of up to 16, or T of the set of more.
pub(crate) fn leaf(key: &[u8], ids: &BTreeSet<EntryId>) -> Digest {
    let covered: Vec<u8> = match ids.len() {
        0..=16 => ids.iter().flat_map(|id| id.0).collect(),
        _ => t(&id_set(ids)).0.to_vec(),
    };
    hash("kvgossip/leaf", &[&number(key.len()), key, &number(ids.len()), &covered])
}

/// Ids as a set of keys: 64 hexadecimal digits, each with the leaf digest of itself.
pub(crate) fn id_set(ids: &BTreeSet<EntryId>) -> Model {
    let digits =
        |id: &EntryId| id.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    ids.iter().map(|id| (digits(id), leaf(&digits(id), &BTreeSet::from([*id])))).collect()
}

pub(crate) fn root(authority: Digest, entries: Digest) -> Digest {
    hash("kvgossip/root", &[&number(2), &authority.0, &entries.0])
}

/// The function T of the module's documentation.
pub(crate) fn t(set: &Model) -> Digest {
    if set.is_empty() {
        return hash("kvgossip/empty", &[]);
    }
    if set.len() <= 16 {
        let leaves: Vec<u8> = set.values().flat_map(|leaf| leaf.0).collect();
        return hash("kvgossip/bucket", &[&number(set.len()), &leaves]);
    }
    let first = set.keys().next().unwrap();
    let common = (0..=first.len()).rev().find(|&n| set.keys().all(|k| k.starts_with(&first[..n]))).unwrap();
    let prefix = &first[..common];
    let own = set.get(prefix).map_or(vec![0], |leaf| [&[1], leaf.as_bytes().as_slice()].concat());
    let next: BTreeSet<u8> = set.keys().filter_map(|key| key.get(common).copied()).collect();
    let children: Vec<u8> = next
        .iter()
        .flat_map(|&byte| {
            let below = region(set, &Region::Subtree([prefix, &[byte]].concat()));
            [[byte].as_slice(), &t(&below).0].concat()
        })
        .collect();
    hash("kvgossip/inner", &[&number(prefix.len()), prefix, &own, &number(next.len()), &children])
}

/// The keys of a region.
pub(crate) fn region(set: &Model, region: &Region) -> Model {
    set.iter().filter(|(key, _)| region.contains(key)).map(|(key, leaf)| (key.clone(), *leaf)).collect()
}

/// The keys of a path prefix.
pub(crate) fn path(set: &Model, prefix: &[u8]) -> Model {
    let inside = |key: &[u8]| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    set.iter().filter(|(key, _)| inside(key)).map(|(key, leaf)| (key.clone(), *leaf)).collect()
}

/// Every prefix of every key, each also one byte longer in a few ways: regions that end at nodes, in the middle
/// of edges, at keys, beside them, and nowhere.
pub(crate) fn prefixes(set: &Model) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::from([vec![], b"nowhere".to_vec()]);
    for key in set.keys() {
        for end in 0..=key.len() {
            found.insert(key[..end].to_vec());
            found.extend([b'/', b'b', 0xff].map(|byte| [&key[..end], &[byte]].concat()));
        }
    }
    found
}

/// Keys that often share prefixes, extend each other, or have the extreme bytes.
pub(crate) fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(b"ab/\0\xff".to_vec());
    let short = prop::collection::vec(byte, 0..7);
    let path = (0..3u8, 0..40u8).prop_map(|(dc, host)| format!("/dc{dc}/host{host}/cpu").into_bytes());
    let chain = (0..60usize).prop_map(|len| vec![b'a'; len]);
    prop_oneof![3 => short, 2 => path, 1 => chain]
}

pub(crate) fn digest() -> impl Strategy<Value = Digest> {
    any::<u8>().prop_map(|byte| Digest([byte; 32]))
}

pub(crate) fn model(max: usize) -> impl Strategy<Value = Model> {
    prop::collection::btree_map(key(), digest(), 0..max)
}
