//! The parts that a region falls into, and what they weigh.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod tree_oracle;

use kvgossip_engine::tree::{Leaf, Region, Tree};
use kvgossip_grants::Digest;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tree_oracle::{key, prefixes};

/// A leaf that weighs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weight(u8);

impl Leaf for Weight {
    fn digest(&self) -> Digest {
        Digest([self.0; 32])
    }

    fn weight(&self) -> usize {
        self.0.into()
    }
}

type Weights = BTreeMap<Vec<u8>, Weight>;

fn within(set: &Weights, region: &Region) -> Weights {
    set.iter().filter(|(key, _)| region.contains(key)).map(|(key, leaf)| (key.clone(), *leaf)).collect()
}

fn weight(set: &Weights) -> usize {
    set.values().map(Leaf::weight).sum()
}

/// The parts of a set as `docs/protocol.md` has them: by what follows the longest common prefix.
fn expected(set: &Weights) -> Vec<Region> {
    let exact = || set.keys().cloned().map(Region::Exact).collect();
    if set.len() <= 16 {
        return exact();
    }
    let first = set.keys().next().unwrap();
    let common = (0..=first.len()).rev().find(|&n| set.keys().all(|k| k.starts_with(&first[..n]))).unwrap();
    let next: BTreeSet<Option<u8>> = set.keys().map(|key| key.get(common).copied()).collect();
    let part = |next: Option<u8>| match next {
        None => Region::Exact(first[..common].to_vec()),
        Some(byte) => Region::Subtree([&first[..common], &[byte]].concat()),
    };
    next.into_iter().map(part).collect()
}

fn check(tree: &Tree<Weight>, set: &Weights) -> Result<(), TestCaseError> {
    let names: BTreeMap<Vec<u8>, Digest> =
        set.iter().map(|(key, leaf)| (key.clone(), leaf.digest())).collect();
    for prefix in prefixes(&names).into_iter().step_by(3).chain([vec![]]) {
        for region in [Region::Subtree(prefix.clone()), Region::Exact(prefix)] {
            let keys = within(set, &region);
            prop_assert_eq!(tree.weight_region(&region), weight(&keys), "{:?}", region);
            let parts = tree.split(&region);
            for part in &parts {
                prop_assert_eq!(part.weight, weight(&within(set, &part.region)));
            }
            let regions: Vec<Region> = parts.into_iter().map(|part| part.region).collect();
            prop_assert_eq!(regions, expected(&keys), "{:?}", region);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_region_falls_into_its_parts_whatever_led_to_it(
        ops in prop::collection::vec((key(), prop::option::weighted(0.7, 0..5u8)), 0..300),
        index in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
    ) {
        let (mut tree, mut set) = (Tree::new(), Weights::new());
        for (key, leaf) in ops {
            match leaf {
                Some(weight) => {
                    tree.insert(&key, Weight(weight));
                    set.insert(key, Weight(weight));
                }
                None => prop_assert_eq!(tree.remove(&key), set.remove(&key)),
            }
        }
        check(&tree, &set)?;
        // Down again: nodes become buckets.
        for index in index {
            let Some(key) = set.keys().nth(index.index(set.len().max(1))).cloned() else { continue };
            prop_assert_eq!(tree.remove(&key), set.remove(&key));
        }
        check(&tree, &set)?;
    }
}

#[test]
fn the_widest_region_has_a_part_for_its_own_key_and_each_byte() {
    let wide = (0..=255u8).flat_map(|a| (0..2u8).map(move |b| (vec![a, b], Digest([a; 32]))));
    let wide = std::iter::once((vec![], Digest([7; 32]))).chain(wide);
    let parts = Tree::from_sorted(wide).unwrap().split(&Region::all());
    assert_eq!(parts.len(), 257);
    assert_eq!((&parts[0].region, parts[0].weight), (&Region::Exact(vec![]), 1));
    assert_eq!((&parts[1].region, parts[1].weight), (&Region::Subtree(vec![0]), 2));
}
