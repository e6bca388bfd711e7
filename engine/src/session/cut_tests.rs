//! Cuts of the two trees into parts, over keys with few and with many entries.

use super::super::crowd::leaf;
use super::super::forest::Leaf;
use super::*;
use crate::tree::{Tree, leaf_digest};
use kvgossip_grants::{Digest, EntryId, Key};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Ids by key.
type Ids = BTreeMap<String, Vec<EntryId>>;

fn id(key: &str, number: usize) -> EntryId {
    EntryId(*blake3::hash(format!("{key} {number}").as_bytes()).as_bytes())
}

fn forest(ids: &Ids) -> Forest {
    let mut tree = Tree::new();
    for (key, ids) in ids {
        let leaf = leaf(&key.parse::<Key>().expect("a key"), ids.iter().copied());
        tree.insert(key.as_bytes(), leaf);
    }
    Forest::Entries(tree)
}

/// The names of all facts, as `docs/protocol.md` has them.
fn names(ids: &Ids) -> Vec<Vec<u8>> {
    let name = |key: &str, id: &EntryId| format!("{key}\0{id}").into_bytes();
    let mut names: Vec<_> =
        ids.iter().flat_map(|(key, ids)| ids.iter().map(move |id| name(key, id))).collect();
    names.sort();
    names
}

/// The digest of a region from its definition: of whole keys, or of ids of one key.
fn digest(ids: &Ids, region: &Region) -> Digest {
    let mut tree = Tree::new();
    let Some((key, digits)) = region.key().filter(|(_, digits)| !digits.is_empty()) else {
        for (key, ids) in ids {
            if Region::of_key(key.as_bytes()).bytes().starts_with(region.bytes()) {
                tree.insert(key.as_bytes(), leaf_digest(key.as_bytes(), ids));
            }
        }
        return tree.digest();
    };
    let ids = ids.iter().filter(|(other, _)| other.as_bytes() == key).flat_map(|(_, ids)| ids);
    for id in ids {
        let hex = id.to_string();
        if hex.as_bytes().starts_with(digits) {
            tree.insert(hex.as_bytes(), leaf_digest(hex.as_bytes(), &[*id]));
        }
    }
    tree.digest()
}

fn inside(names: &[Vec<u8>], region: &Region) -> Vec<Vec<u8>> {
    names.iter().filter(|name| name.starts_with(region.bytes())).cloned().collect()
}

fn found(leaves: impl Iterator<Item = Leaf>) -> Vec<Vec<u8>> {
    leaves
        .map(|leaf| match leaf {
            Leaf::Entry(key, meta) => format!("{key}\0{}", meta.id).into_bytes(),
            Leaf::Authority(id) => id.to_string().into_bytes(),
        })
        .collect()
}

/// Keys of which some begin like others, and of which some have many entries.
fn ids() -> impl Strategy<Value = Ids> {
    let count = prop_oneof![6 => Just(1usize), 2 => 2..16usize, 2 => 16..19usize, 1 => 19..300usize];
    let key = prop::sample::select(vec!["/a", "/a/b", "/a/b/c", "/ab", "/b", "/b-", "/b/0", "/c"]);
    let suffix = prop_oneof![2 => Just(String::new()), 3 => (0..30u8).prop_map(|n| format!("/{n:02}"))];
    let key = (key, suffix).prop_map(|(key, suffix)| format!("{key}{suffix}"));
    prop::collection::btree_map(key, count, 0..40).prop_map(|counts| {
        let ids = |(key, count): (String, usize)| {
            let ids = (0..count).map(|number| id(&key, number)).collect();
            (key, ids)
        };
        counts.into_iter().map(ids).collect()
    })
}

/// Regions that end anywhere: at nodes, in keys, between key and id, in ids, and nowhere.
fn regions(names: &[Vec<u8>]) -> Vec<Region> {
    let mut regions = vec![Region::all(), Region(b"/nowhere".into()), Region(b"/a\0\0".into())];
    for name in names.iter().step_by(names.len() / 12 + 1) {
        let key = name.iter().position(|byte| *byte == 0).unwrap_or_default();
        for end in [1, key - 1, key, key + 1, key + 2, key + 3, name.len()] {
            regions.push(Region(name[..end].to_vec()));
            regions.push(Region([&name[..end], b"f"].concat()));
        }
    }
    regions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_region_has_the_facts_and_the_digest_that_its_name_says(ids in ids()) {
        let (forest, names) = (forest(&ids), names(&ids));
        for region in regions(&names) {
            let expected = inside(&names, &region);
            prop_assert_eq!(forest.count(&region), expected.len());
            prop_assert_eq!(forest.digest(&region), digest(&ids, &region), "{:?}", region);
            let (mut span, mut taken) = (Some(region.span()), Vec::new());
            while let Some(next) = span {
                let (leaves, rest) = forest.take(next, 7);
                prop_assert!(leaves.len() <= 7);
                taken.extend(found(leaves.into_iter()));
                span = rest;
            }
            prop_assert_eq!(&taken, &expected);
            prop_assert_eq!(found(forest.leaves(&region)), expected);
        }
    }

    #[test]
    fn a_cut_covers_its_region_exactly_in_parts_that_may_be_listed_or_cut(ids in ids(), target in 1..40usize) {
        let (forest, names) = (forest(&ids), names(&ids));
        for region in regions(&names) {
            let expected = inside(&names, &region);
            let parts = forest.cut(&region, target);
            prop_assert!(region.gaps(&parts).is_ok());
            let covered: Vec<_> = parts.iter().flat_map(|part| inside(&names, part)).collect();
            prop_assert_eq!(&covered, &expected);
            prop_assert!(parts.iter().all(|part| forest.count(part) > 0));
            if expected.len() <= 16 {
                prop_assert!(parts.len() <= 1, "what may be listed stays whole");
            } else {
                prop_assert!(parts.len() >= 2, "the first cut is always made");
            }
            // A single key, and the digits of an id, make 16 parts at most; keys may branch more widely.
            prop_assert!(parts.len() <= target.max(31), "{}", parts.len());
        }
    }

    #[test]
    fn gaps_are_the_facts_in_no_part(here in ids(), there in ids(), target in 1..40usize, drop in any::<u64>()) {
        let (forest_here, forest_there) = (forest(&here), forest(&there));
        let here = names(&here);
        for region in regions(&here) {
            let parts = forest_there.cut(&region, target).into_iter().enumerate();
            let parts: Vec<Region> =
                parts.filter(|(at, _)| drop >> (at % 64) & 1 == 0).map(|(_, part)| part).collect();
            let mut expected = inside(&here, &region);
            expected.retain(|name| !parts.iter().any(|part| name.starts_with(part.bytes())));
            let gaps = forest_here.gaps(&region, &parts).expect("parts");
            let missing: Vec<_> =
                gaps.into_iter().flat_map(|gap| found(forest_here.take(gap, usize::MAX).0.into_iter())).collect();
            prop_assert_eq!(missing, expected);
        }
    }
}

fn shown(parts: &[Region]) -> Vec<String> {
    parts.iter().map(|part| String::from_utf8_lossy(part.bytes()).into_owned()).collect()
}

#[test]
fn the_part_with_the_most_facts_is_cut_first() {
    // 10 hosts under /a have 100 keys each, 3 under /b have 30 each.
    let small = (0..90).map(|n| format!("/b{}/k{n:02}", n / 30));
    let keys = (0..1000).map(|n| format!("/a{}/k{n:03}", n / 100)).chain(small);
    let forest = forest(&keys.map(|key| (key.clone(), vec![id(&key, 0)])).collect());
    let names = |target| shown(&forest.cut(&Region::all(), target));
    let hosts = || (0..10).map(|n| format!("/a{n}"));
    assert_eq!(names(1), ["/a", "/b"]);
    assert_eq!(names(10), ["/a", "/b"], "/b would fit, but /a has more facts");
    assert_eq!(names(11), hosts().chain(["/b".into()]).collect::<Vec<_>>());
    assert_eq!(names(19), names(11));
    assert_eq!(names(20).len(), 20);
    assert_eq!(names(20)[..2], ["/a0/k00", "/a0/k01"], "of equals the first is cut");
}

#[test]
fn a_key_with_many_entries_is_cut_like_many_keys() {
    let many = (0..2_000).map(|number| id("/b", number)).collect();
    let keys = |key: &str, ids: Vec<EntryId>| (key.to_owned(), ids);
    let forest = forest(&Ids::from([
        keys("/a", vec![id("/a", 0)]),
        keys("/b", many),
        keys("/b/c", (0..17).map(|number| id("/b/c", number)).collect()),
    ]));
    let names = shown(&forest.cut(&Region::all(), 18));
    let digits = "0123456789abcdef".chars().map(|digit| format!("/b\0{digit}"));
    let expected: Vec<String> =
        ["/a\0".to_owned()].into_iter().chain(digits).chain(["/b/c\0".to_owned()]).collect();
    assert_eq!(names, expected);
    let names = shown(&forest.cut(&Region(b"/b/c".into()), 16));
    assert!(names.len() > 5 && names.iter().all(|name| name.starts_with("/b/c\0")), "{names:?}");
}
