//! An independent implementation of the tree's digests over plain maps.

use crate::naive::Facts;
use kvgossip_grants::{Digest, Fact, FactId, PathPrefix};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of keys, or of ids of one key, that are hashed as a list.
const BUCKET: usize = 16;

/// Keys of a tree with their leaf digests.
type Leaves = BTreeMap<Vec<u8>, Digest>;

/// Digests of a set of facts in normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Digest of grants, revocations and floors.
    pub authority: Digest,
    /// Digest of entries.
    pub entries: Digest,
    /// Root digest over both.
    pub whole: Digest,
}

/// Computes the three digests of a set of facts in normal form.
pub fn roots(facts: &Facts) -> Roots {
    let authority = facts.values().filter(|fact| fact.is_authority());
    let authority = tree(&id_leaves(authority.map(Fact::id)));
    let entries = tree(&entry_leaves(facts, &PathPrefix::root()));
    let whole = hash("kvgossip/root", &[&number(2), &authority.0, &entries.0]);
    Roots { authority, entries, whole }
}

/// Returns the digest of the entries under a path prefix.
pub fn entries_under(facts: &Facts, prefix: &PathPrefix) -> Digest {
    tree(&entry_leaves(facts, prefix))
}

fn entry_leaves(facts: &Facts, prefix: &PathPrefix) -> Leaves {
    let mut frontiers: BTreeMap<Vec<u8>, BTreeSet<FactId>> = BTreeMap::new();
    for fact in facts.values() {
        if let Fact::Entry(entry) = fact
            && prefix.contains(&entry.entry().key)
        {
            frontiers.entry(entry.entry().key.as_bytes().to_vec()).or_default().insert(entry.id().into());
        }
    }
    let leaves = frontiers.into_iter().map(|(key, ids)| {
        let digest = leaf(&key, &ids);
        (key, digest)
    });
    leaves.collect()
}

/// Returns the digest of the tree over a set of keys.
fn tree(leaves: &Leaves) -> Digest {
    let Some(first) = leaves.keys().next() else { return hash("kvgossip/empty", &[]) };
    if leaves.len() <= BUCKET {
        let flat: Vec<u8> = leaves.values().flat_map(|leaf| leaf.0).collect();
        return hash("kvgossip/bucket", &[&number(leaves.len()), &flat]);
    }
    let is_common = |n: &usize| leaves.keys().all(|key| key.starts_with(&first[..*n]));
    let common = (0..=first.len()).rev().find(is_common).unwrap_or(0);
    let prefix = &first[..common];
    let own = leaves.get(prefix).map_or(vec![0], |leaf| [&[1], &leaf.0[..]].concat());
    let mut below: BTreeMap<u8, Leaves> = BTreeMap::new();
    for (key, leaf) in leaves {
        if let Some(next) = key.get(common) {
            below.entry(*next).or_default().insert(key.clone(), *leaf);
        }
    }
    let children: Vec<u8> =
        below.iter().flat_map(|(byte, leaves)| [&[*byte], &tree(leaves).0[..]].concat()).collect();
    hash("kvgossip/inner", &[&number(prefix.len()), prefix, &own, &number(below.len()), &children])
}

fn leaf(key: &[u8], ids: &BTreeSet<FactId>) -> Digest {
    let covered: Vec<u8> = if ids.len() <= BUCKET {
        ids.iter().flat_map(|id| id.0).collect()
    } else {
        tree(&id_leaves(ids.iter().copied())).0.to_vec()
    };
    hash("kvgossip/leaf", &[&number(key.len()), key, &number(ids.len()), &covered])
}

/// Converts ids to the keys and leaves of a tree over ids.
fn id_leaves(ids: impl Iterator<Item = FactId>) -> Leaves {
    let leaves = ids.map(|id| {
        let key = id.to_string().into_bytes();
        let digest = leaf(&key, &BTreeSet::from([id]));
        (key, digest)
    });
    leaves.collect()
}

fn hash(tag: &str, parts: &[&[u8]]) -> Digest {
    let mut bytes = tag.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes.extend(parts.concat());
    Digest(*blake3::hash(&bytes).as_bytes())
}

fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}
