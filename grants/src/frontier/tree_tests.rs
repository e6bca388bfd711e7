//! Compares the tree with sorted lists: its shape, its summaries and its snapshots.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;

struct Numbers;

impl Content for Numbers {
    type Item = u32;
    /// The greatest remainder of division by 97.
    type Summary = u32;

    fn summary(item: &u32) -> u32 {
        item % 97
    }

    fn join(one: &u32, other: &u32) -> u32 {
        *one.max(other)
    }
}

/// Asserts the balance, sizes and summaries of a subtree; returns its depth and items.
fn check(link: &Link<Numbers>, items: &mut Vec<u32>) -> usize {
    let Some(node) = link else { return 0 };
    let (left, right) = (weight(&node.left), weight(&node.right));
    assert!(left <= DELTA * right && right <= DELTA * left, "{left} beside {right}");
    let before = items.len();
    let left = check(&node.left, items);
    items.push(node.item);
    let right = check(&node.right, items);
    assert_eq!(node.size, items.len() - before);
    assert_eq!(Some(node.summary), items[before..].iter().map(|item| item % 97).max());
    1 + left.max(right)
}

fn checked(tree: &Tree<Numbers>) -> (usize, Vec<u32>) {
    let mut items = Vec::new();
    (check(&tree.0, &mut items), items)
}

#[test]
fn changes_in_any_order_keep_balance_and_snapshots_stay() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut tree, mut model) = (Tree::<Numbers>::from_sorted(Vec::new()), BTreeSet::new());
    let mut snapshots: Vec<(Tree<Numbers>, Vec<u32>)> = Vec::new();
    for step in 0..20_000_u32 {
        let item = rng.random_range(0..4_000);
        let place = |other: &u32| other.cmp(&item);
        // First grows, then shrinks.
        if rng.random_range(0..20_000) > step {
            tree.insert(item, place);
            model.insert(item);
        } else {
            assert_eq!(tree.remove(place), model.remove(&item).then_some(item));
        }
        if step % 1_000 == 0 {
            let expected: Vec<u32> = model.iter().copied().collect();
            assert_eq!(checked(&tree).1, expected);
            snapshots.push((tree.clone(), expected));
        }
    }
    for (tree, expected) in snapshots {
        assert_eq!(checked(&tree).1, expected);
        assert_eq!(checked(&Tree::from_sorted(expected.clone())).1, expected);
        assert!(tree.iter().eq(&expected));
        assert!(tree.iter_back().eq(expected.iter().rev()));
        assert_eq!((tree.first(), tree.last()), (expected.first(), expected.last()));
        let item = rng.random_range(0..4_000);
        assert!(
            tree.iter_back_from(|other| other.cmp(&item))
                .eq(expected.iter().rev().filter(|other| **other < item))
        );
        for least in [0, 90, 96, 97] {
            let holds = |item: &u32| item % 97 >= least;
            let found = expected.iter().rfind(|item| holds(item));
            assert_eq!(tree.last_where(|most| *most >= least), found);
            let run = |other: &u32| (other / 500).cmp(&3);
            let selected: Vec<u32> =
                expected.iter().copied().filter(|other| other / 500 == 3 && holds(other)).collect();
            assert_eq!(tree.select(run, |most| *most >= least), selected);
        }
    }
}

#[test]
fn ascending_and_descending_insertion_and_removal_from_one_end_stay_shallow() {
    for descending in [false, true] {
        let mut tree = Tree::<Numbers>::from_sorted(Vec::new());
        let items = (0..4_096).map(|n: u32| if descending { 4_096 - n } else { n });
        for item in items.clone() {
            tree.insert(item, |other| other.cmp(&item));
        }
        assert!(checked(&tree).0 <= 29, "{}", checked(&tree).0);
        for item in items.take(4_000) {
            assert_eq!(tree.remove(|other| other.cmp(&item)), Some(item));
        }
        assert!(checked(&tree).0 <= 16, "{}", checked(&tree).0);
    }
}
