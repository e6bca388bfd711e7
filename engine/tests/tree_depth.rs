//! Deep trees on small stacks, and how little an update hashes.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod tree_oracle;

use kvgossip_engine::tree::{BUCKET_MAX, Region, Tree};
use kvgossip_grants::Digest;
use tree_oracle::{Model, t};

/// Less than any thread of the project has.
const SMALL_STACK: usize = 128 * 1024;

fn on_small_stack(work: fn()) {
    let thread = std::thread::Builder::new().stack_size(SMALL_STACK);
    thread.spawn(work).unwrap().join().unwrap();
}

/// Each key extends the one before it: an inner node for nearly every byte.
fn chain(len: usize) -> Model {
    (1..=len).map(|n| ([b"/".as_slice(), &vec![b'a'; n]].concat(), Digest([n as u8; 32]))).collect()
}

#[test]
fn a_chain_of_the_longest_keys_needs_no_stack() {
    let expected = t(&chain(1023));
    EXPECTED.set(expected).unwrap();
    on_small_stack(|| {
        let model = chain(1023);
        let mut tree = Tree::from_sorted(model.clone()).unwrap();
        assert_eq!(Some(&tree.digest()), EXPECTED.get());
        assert_eq!(tree.iter().count(), model.len());
        assert_eq!(tree.split(&Region::all()).len(), 2);
        let snapshot = tree.clone();
        for key in model.keys().rev() {
            assert!(tree.remove(key).is_some());
        }
        assert!(tree.is_empty());
        assert_eq!(Some(&snapshot.digest()), EXPECTED.get());
    });
}

static EXPECTED: std::sync::OnceLock<Digest> = std::sync::OnceLock::new();

#[test]
fn chains_far_beyond_the_longest_keys_need_no_stack_either() {
    on_small_stack(|| {
        let mut tree = Tree::new();
        for (key, leaf) in chain(3_000) {
            tree.insert(&key, leaf);
        }
        tree.digest();
        // Written to while shared: the whole path is copied, then both are dropped.
        let snapshot = tree.clone();
        let longest = [b"/".as_slice(), &[b'a'; 3_000]].concat();
        tree.insert(&longest, Digest([0; 32]));
        assert_ne!(tree.digest(), snapshot.digest());
    });
}

fn ten_thousand() -> Tree<Digest> {
    let keys = (0..10_000).map(|n| {
        let (host, core) = (n / 20, n % 20);
        (format!("/dc{}/host{host:04}/cpu/core{core:02}/user", host % 3), Digest([n as u8; 32]))
    });
    Tree::from_sorted(keys.collect::<std::collections::BTreeMap<_, _>>()).unwrap()
}

/// How many nodes lead to a key: each holds more keys than the next.
fn depth(tree: &Tree<Digest>, key: &[u8]) -> u64 {
    let mut counts: Vec<usize> =
        (0..=key.len()).map(|n| tree.count_region(&Region::Subtree(key[..n].to_vec()))).collect();
    counts.dedup();
    let buckets = counts.iter().filter(|&&count| count <= BUCKET_MAX).count();
    (counts.len() - buckets.saturating_sub(1)) as u64
}

#[test]
fn an_update_hashes_no_more_nodes_than_lead_to_its_key() {
    let mut tree = ten_thousand();
    tree.digest();
    let key = b"/dc1/host0100/cpu/core07/user";
    assert!(tree.get(key).is_some());
    let depth = depth(&tree, key);
    assert!((3..12).contains(&depth), "{depth}");

    let before = tree.nodes_hashed();
    tree.digest();
    assert_eq!(tree.nodes_hashed(), before, "nothing changed");

    tree.insert(key, Digest([0xee; 32]));
    tree.digest();
    assert_eq!(tree.nodes_hashed() - before, depth);

    let before = tree.nodes_hashed();
    tree.remove(key);
    tree.digest();
    assert!(tree.nodes_hashed() - before <= depth + 1);

    let before = tree.nodes_hashed();
    tree.insert(key, Digest([0xee; 32]));
    tree.digest();
    assert!(tree.nodes_hashed() - before <= depth + 1);
}

#[test]
fn a_batch_hashes_each_touched_node_once() {
    let mut tree = ten_thousand();
    tree.digest();
    let all = ten_thousand();
    all.digest();
    let before = tree.nodes_hashed();
    for (key, _) in all.iter() {
        tree.insert(&key, Digest([0xdd; 32]));
    }
    tree.digest();
    assert_eq!(tree.nodes_hashed() - before, all.nodes_hashed());
}

#[test]
fn a_write_leaves_the_digests_of_a_snapshot_in_place() {
    let mut tree = ten_thousand();
    let digest = tree.digest();
    let snapshot = tree.clone();
    tree.insert(b"/dc1/host0100/cpu/core07/user", Digest([0xee; 32]));
    let before = tree.nodes_hashed();
    assert_eq!(snapshot.digest(), digest);
    assert_eq!(tree.nodes_hashed(), before);
}
