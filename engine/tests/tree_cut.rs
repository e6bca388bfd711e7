//! Cuts into parts, and the keys a cut leaves out.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod tree_oracle;

use kvgossip_engine::tree::{Part, PartsError, Region, Tree};
use kvgossip_grants::Digest;
use proptest::prelude::*;
use tree_oracle::{Model, key, model, prefixes, region, t};

fn check_cut(model: &Model, named: &Region, parts: &[Part], target: usize) -> Result<(), TestCaseError> {
    let expected = region(model, named);
    let regions: Vec<Region> = parts.iter().map(|part| part.region.clone()).collect();
    prop_assert_eq!(named.check_parts(&regions), Ok(()));
    let mut covered = Model::new();
    for part in parts {
        let keys = region(&expected, &part.region);
        prop_assert!(part.count > 0);
        prop_assert_eq!(part.count, keys.len());
        prop_assert_eq!(part.digest, t(&keys));
        covered.extend(keys);
    }
    prop_assert_eq!(covered.len(), parts.iter().map(|part| part.count).sum::<usize>());
    prop_assert_eq!(&covered, &expected);
    if expected.len() <= 16 {
        prop_assert!(parts.len() <= 1, "a bucket stays whole");
    } else {
        prop_assert!(parts.len() >= 2, "the first cut is always made");
        let first_cut = fan_out(&expected);
        prop_assert!(parts.len() <= target.max(first_cut));
        prop_assert!(parts.len() >= first_cut);
        shortest_names(&expected, parts)?;
    }
    Ok(())
}

/// How many parts the node of these keys falls into.
fn fan_out(set: &Model) -> usize {
    let first = set.keys().next().unwrap();
    let common = (0..=first.len()).rev().find(|&n| set.keys().all(|k| k.starts_with(&first[..n]))).unwrap();
    let next: std::collections::BTreeSet<Option<u8>> =
        set.keys().map(|key| key.get(common).copied()).collect();
    next.len()
}

/// A subtree's name without its last byte must name more keys than the subtree has.
fn shortest_names(set: &Model, parts: &[Part]) -> Result<(), TestCaseError> {
    for part in parts {
        if let Region::Subtree(prefix) = &part.region {
            let wider = Region::Subtree(prefix[..prefix.len() - 1].to_vec());
            prop_assert!(region(set, &wider).len() > part.count, "{:?} is longer than needed", part.region);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_cut_covers_its_region_exactly(model in model(200), target in 1..40usize) {
        let tree = Tree::from_sorted(model.clone()).unwrap();
        for prefix in prefixes(&model).into_iter().step_by(7).chain([vec![]]) {
            for named in [Region::Subtree(prefix.clone()), Region::Exact(prefix)] {
                check_cut(&model, &named, &tree.frontier(&named, target), target)?;
            }
        }
    }

    #[test]
    fn gaps_are_the_keys_in_no_part(
        here in model(150), there in model(150), named in key(), target in 1..40usize, drop in any::<u64>(),
    ) {
        let here_tree = Tree::from_sorted(here.clone()).unwrap();
        let there_tree = Tree::from_sorted(there).unwrap();
        for named in [Region::Subtree(named.clone()), Region::Exact(named), Region::all()] {
            let parts = there_tree.frontier(&named, target).into_iter().map(|part| part.region);
            let parts: Vec<Region> = parts.enumerate().filter(|(i, _)| drop >> (i % 64) & 1 == 0).map(|p| p.1).collect();
            let mut expected = region(&here, &named);
            expected.retain(|key, _| !parts.iter().any(|part| part.contains(key)));
            let found: Vec<_> = here_tree.gaps(&named, &parts).unwrap().collect();
            prop_assert!(found.iter().map(|(key, leaf)| (key, *leaf)).eq(&expected));
        }
    }
}

fn numbered(count: usize) -> Tree<Digest> {
    Tree::from_sorted((0..count).map(|n| (format!("/host{n:05}"), Digest([n as u8; 32])))).unwrap()
}

#[test]
fn hostile_parts_are_refused() {
    let tree = numbered(100);
    let region = Region::Subtree(b"/host0000".to_vec());
    let subtree = |text: &str| Region::Subtree(text.into());
    let refused = |parts: &[Region]| tree.gaps(&region, parts).err();
    assert_eq!(refused(&[subtree("/host")]), Some(PartsError::Outside(0)));
    assert_eq!(refused(&[subtree("/host00005"), subtree("/host00003")]), Some(PartsError::OutOfOrder(1)));
    assert_eq!(refused(&[subtree("/host00005"), subtree("/host000050")]), Some(PartsError::Overlap(1)));
    assert_eq!(refused(&[]), None);
}

#[test]
fn the_greatest_bytes_end_the_gaps() {
    let leaf = Digest([1; 32]);
    let tree = Tree::from_sorted([(b"\xff".to_vec(), leaf), (b"\xff\xff".to_vec(), leaf)]).unwrap();
    let parts = [Region::Subtree(b"\xff\xff".to_vec())];
    let gaps: Vec<_> = tree.gaps(&Region::all(), &parts).unwrap().map(|(key, _)| key).collect();
    assert_eq!(gaps, [b"\xff".to_vec()]);
}

#[test]
fn the_biggest_part_is_cut_first() {
    // 10 hosts under /a have 100 keys each, 3 under /b have 30 each.
    let small = (0..90).map(|n| format!("/b{}/k{n:02}", n / 30));
    let keys = (0..1000).map(|n| format!("/a{}/k{n:03}", n / 100)).chain(small);
    let tree = Tree::from_sorted(keys.map(|key| (key, Digest([1; 32])))).unwrap();
    let names = |target| -> Vec<String> {
        let parts = tree.frontier(&Region::all(), target);
        parts.iter().map(|part| String::from_utf8_lossy(part.region.bytes()).into_owned()).collect()
    };
    let hosts = || (0..10).map(|n| format!("/a{n}"));
    assert_eq!(names(1), ["/a", "/b"]);
    assert_eq!(names(10), ["/a", "/b"], "/b would fit, but /a has more keys");
    assert_eq!(names(11), hosts().chain(["/b".into()]).collect::<Vec<_>>());
    assert_eq!(names(19), names(11));
    assert_eq!(names(20).len(), 20);
    assert_eq!(names(20)[..2], ["/a0/k00", "/a0/k01"], "of equals the first is cut");
}

#[test]
fn the_first_cut_may_be_wider_than_asked() {
    let wide = (0..=255u8).flat_map(|a| (0..2u8).map(move |b| (vec![a, b], Digest([a; 32]))));
    let wide = std::iter::once((vec![], Digest([7; 32]))).chain(wide);
    let tree = Tree::from_sorted(wide).unwrap();
    let parts = tree.frontier(&Region::all(), 16);
    assert_eq!(parts.len(), 257);
    assert_eq!(parts[0].region, Region::Exact(vec![]));
    assert_eq!(parts[1].region, Region::Subtree(vec![0]));
}
