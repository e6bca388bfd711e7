//! The tree over a key's ids, kept by one id more or less, against the definition of its leaf digest.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod tree_oracle;

use kvgossip_engine::tree::{IdTree, Region, leaf_digest};
use kvgossip_grants::EntryId;
use proptest::prelude::*;
use std::collections::BTreeSet;
use tree_oracle::{id_set, leaf, region, t};

/// Ids of which many begin alike.
fn id() -> impl Strategy<Value = EntryId> {
    (0..4u8, 0..40u8).prop_map(|(first, last)| {
        let mut id = [first << 4; 32];
        id[31] = last;
        EntryId(id)
    })
}

fn check(tree: &IdTree, ids: &BTreeSet<EntryId>) -> Result<(), TestCaseError> {
    let digest = tree.leaf_digest(b"/a/key");
    prop_assert_eq!(digest, leaf(b"/a/key", ids));
    let reversed: Vec<EntryId> = ids.iter().rev().copied().collect();
    prop_assert_eq!(leaf_digest(b"/a/key", &reversed), digest);
    let set = id_set(ids);
    for digits in ["", "0", "1", "10", "20", "3030", "4"] {
        let digits = Region::Subtree(digits.into());
        prop_assert_eq!(tree.tree().digest_region(&digits), t(&region(&set, &digits)));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_gives_the_digest_of_what_is_there(
        ops in prop::collection::vec((id(), prop::bool::weighted(0.6)), 0..80),
        falling in prop::bool::ANY,
    ) {
        let (mut ids, mut tree) = (BTreeSet::new(), IdTree::default());
        for (id, inserts) in ops {
            let snapshot = (tree.clone(), ids.clone());
            if inserts {
                tree.insert(id);
                ids.insert(id);
            } else {
                tree.remove(id);
                ids.remove(&id);
            }
            check(&tree, &ids)?;
            check(&snapshot.0, &snapshot.1)?;
        }
        while let Some(id) = ids.pop_first().filter(|_| falling) {
            tree.remove(id);
            check(&tree, &ids)?;
        }
    }
}

#[test]
fn seventeen_ids_are_not_taken_for_a_list() {
    let ids: Vec<EntryId> = (0..17).map(|n| EntryId([n; 32])).collect();
    let root = t(&id_set(&ids.iter().copied().collect()));
    let alone = leaf_digest(b"/a", &[EntryId(root.0)]);
    assert_ne!(leaf_digest(b"/a", &ids), alone, "one id that is the root of the seventeen");
}

#[test]
fn one_id_more_among_many_hashes_the_way_to_it_alone() {
    let ids: Vec<EntryId> =
        (0..24_001u32).map(|n| EntryId(*blake3::hash(&n.to_le_bytes()).as_bytes())).collect();
    let (last, most) = ids.split_last().unwrap();
    let mut tree = IdTree::new(most.iter().copied());
    tree.leaf_digest(b"/a");
    let before = tree.tree().nodes_hashed();
    tree.insert(*last);
    let digest = tree.leaf_digest(b"/a");
    // log16(24,000 / 16) inner nodes, and a bucket.
    let hashed = tree.tree().nodes_hashed() - before;
    assert!(hashed <= 5, "{hashed}");
    assert_eq!(digest, leaf_digest(b"/a", &ids));
}
