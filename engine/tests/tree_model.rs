//! The tree against a sorted map and the literal definition of its digests.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod tree_oracle;

use kvgossip_engine::tree::{NotAscending, Region, Tree};
use kvgossip_grants::Digest;
use proptest::prelude::*;
use std::ops::Bound;
use tree_oracle::{Model, digest, key, model, path, prefixes, region, t};

fn tree_of(model: &Model) -> Tree<Digest> {
    let mut tree = Tree::new();
    for (key, leaf) in model {
        tree.insert(key, *leaf);
    }
    tree
}

fn contents(tree: &Tree<Digest>) -> Model {
    tree.iter().map(|(key, leaf)| (key, *leaf)).collect()
}

#[derive(Debug, Clone)]
enum Op {
    Insert(Vec<u8>, Digest),
    Remove(Vec<u8>),
    /// Removes the existing key at this place, modulo their number.
    RemoveNth(usize),
    Digest,
    Snapshot,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (key(), digest()).prop_map(|(key, leaf)| Op::Insert(key, leaf)),
        2 => key().prop_map(Op::Remove),
        7 => any::<prop::sample::Index>().prop_map(|index| Op::RemoveNth(index.index(1 << 20))),
        1 => Just(Op::Digest),
        1 => Just(Op::Snapshot),
    ]
}

fn remove(tree: &mut Tree<Digest>, model: &mut Model, key: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(tree.remove(key), model.remove(key));
    prop_assert_eq!(tree.get(key), None);
    Ok(())
}

/// How many nodes there are: as many as are hashed after a write to every key.
fn nodes(mut tree: Tree<Digest>) -> u64 {
    for (key, leaf) in contents(&tree) {
        tree.insert(&key, leaf);
    }
    let before = tree.nodes_hashed();
    tree.digest();
    tree.nodes_hashed() - before
}

proptest! {
    #[test]
    fn any_history_gives_the_map_and_the_digest_of_its_contents(ops in prop::collection::vec(op(), 0..400)) {
        let mut tree = Tree::new();
        let mut model = Model::new();
        let mut snapshots = Vec::new();
        for op in ops {
            match op {
                Op::Insert(key, leaf) => {
                    prop_assert_eq!(tree.insert(&key, leaf), model.insert(key.clone(), leaf));
                    prop_assert_eq!(tree.get(&key), Some(&leaf));
                }
                Op::Remove(key) => remove(&mut tree, &mut model, &key)?,
                Op::RemoveNth(n) => {
                    let Some(key) = model.keys().nth(n % model.len().max(1)).cloned() else { continue };
                    remove(&mut tree, &mut model, &key)?;
                }
                Op::Digest => prop_assert_eq!(tree.digest(), t(&model)),
                Op::Snapshot => snapshots.push((tree.clone(), model.clone())),
            }
            prop_assert_eq!(tree.len(), model.len());
            prop_assert_eq!(tree.is_empty(), model.is_empty());
        }
        snapshots.push((tree, model));
        for (tree, model) in snapshots {
            prop_assert_eq!(&contents(&tree), &model);
            prop_assert_eq!(tree.digest(), t(&model));
            prop_assert_eq!(nodes(tree), nodes(Tree::from_sorted(model).unwrap()), "canonical shape");
        }
    }

    #[test]
    fn every_region_has_the_digest_of_its_keys(model in model(150), digest_first: bool) {
        let tree = tree_of(&model);
        if digest_first {
            tree.digest();
        }
        for prefix in prefixes(&model) {
            let regions = [Region::Subtree(prefix.clone()), Region::Exact(prefix.clone())];
            for named in regions {
                let expected = region(&model, &named);
                prop_assert_eq!(tree.digest_region(&named), t(&expected), "{:?}", named);
                prop_assert_eq!(tree.count_region(&named), expected.len());
                let found: Model = tree.iter_region(&named).map(|(key, leaf)| (key, *leaf)).collect();
                prop_assert_eq!(found, expected);
            }
            let expected = path(&model, &prefix);
            prop_assert_eq!(tree.digest_path(&prefix), t(&expected), "path {:?}", prefix);
            prop_assert_eq!(tree.count_path(&prefix), expected.len());
        }
    }

    #[test]
    fn ranges_are_those_of_the_map(model in model(120), bounds in prop::collection::vec((key(), key()), 20)) {
        let tree = tree_of(&model);
        for (a, b) in bounds {
            let (low, high) = (a.clone().min(b.clone()), a.max(b));
            let pairs = [
                (Bound::Included(low.clone()), Bound::Included(high.clone())),
                (Bound::Included(low.clone()), Bound::Excluded(high.clone())),
                (Bound::Excluded(low.clone()), Bound::Unbounded),
                (Bound::Unbounded, Bound::Excluded(low.clone())),
            ];
            for pair in pairs {
                let expected: Vec<_> = model.range(pair.clone()).collect();
                let found: Vec<_> = tree.range(pair).collect();
                prop_assert!(found.iter().map(|(key, leaf)| (key, *leaf)).eq(expected));
            }
            let backwards = (Bound::Excluded(high), Bound::Excluded(low));
            prop_assert_eq!(tree.range(backwards).count(), 0);
        }
    }

    #[test]
    fn order_and_detours_do_not_matter(model in model(200), extra in model(100), salt: u64) {
        let mut shuffled: Vec<_> = model.iter().collect();
        shuffled.sort_by_key(|(key, _)| *blake3::hash(&[key.as_slice(), &salt.to_le_bytes()].concat()).as_bytes());
        let mut tree = tree_of(&extra);
        tree.digest();
        for (key, leaf) in shuffled {
            tree.insert(key, *leaf);
        }
        for key in extra.keys().filter(|key| !model.contains_key(*key)) {
            tree.remove(key);
        }
        prop_assert_eq!(tree.digest(), t(&model));
        prop_assert_eq!(contents(&tree), model);
    }

    #[test]
    fn building_from_sorted_keys_equals_inserting_them(model in model(300)) {
        let built = Tree::from_sorted(model.clone()).unwrap();
        prop_assert_eq!(built.len(), model.len());
        prop_assert_eq!(built.digest(), t(&model));
        prop_assert_eq!(contents(&built), model);
    }
}

#[test]
fn building_refuses_keys_that_do_not_ascend() {
    let leaf = Digest([1; 32]);
    let result = Tree::from_sorted([("/a", leaf), ("/c", leaf), ("/b", leaf)]);
    assert_eq!(result.unwrap_err(), NotAscending(2));
    let result = Tree::from_sorted([("/a", leaf), ("/a", leaf)]);
    assert_eq!(result.unwrap_err(), NotAscending(1));
}

#[test]
fn the_tree_is_shared_between_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Tree<Digest>>();
}
