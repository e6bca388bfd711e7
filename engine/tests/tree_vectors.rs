//! The published vectors, `fixtures/tree-vectors.txt`: made by the test's own writing of the definition, checked
//! against the tree. A change of the file is a change of the protocol.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod tree_oracle;

use kvgossip_engine::tree::{Region, Tree, leaf_digest, root_digest};
use kvgossip_grants::{Digest, EntryId};
use std::collections::BTreeSet;
use std::fmt::Write;
use tree_oracle::{Model, leaf, path, region, root, t};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tree-vectors.txt");

const HEADER: &str = r#"# Vectors of the Merkle prefix tree. Digests and ids are hexadecimal, BYTES are "text" or 0xhex.
#
# leaf BYTES DIGEST ID...            the leaf digest of a key with these entries; above 16 that of a tree over them
# root DIGEST AUTHORITY ENTRIES      the root digest of a replica
# set NAME                           begins a set of keys; what follows is about it
# key BYTES DIGEST                   a key of the set and its leaf digest
# subtree BYTES COUNT DIGEST         of the keys that start with these bytes
# exact BYTES COUNT DIGEST           of this key alone
# path BYTES COUNT DIGEST            of this key and the keys that go on with a slash
"#;

fn id(n: u8) -> EntryId {
    EntryId([n; 32])
}

/// Ids as they are in practice: without any pattern.
fn spread(count: u8) -> Vec<EntryId> {
    let mut ids: Vec<EntryId> = (0..count).map(|n| EntryId(*blake3::hash(&[n]).as_bytes())).collect();
    ids.sort();
    ids
}

fn text(bytes: &[u8]) -> String {
    let printable = bytes.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'"');
    if printable {
        return format!("\"{}\"", str::from_utf8(bytes).unwrap());
    }
    bytes.iter().fold("0x".into(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn bytes(text: &str) -> Vec<u8> {
    match text.strip_prefix("0x") {
        None => text.trim_matches('"').into(),
        Some(hex) => {
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
        }
    }
}

/// Keys `start`, `start + 1`, … below a prefix.
fn numbered(prefix: &str, range: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    range.map(|n| format!("{prefix}{n:02}").into_bytes()).collect()
}

/// A name, keys, and the prefixes whose regions are asked for.
type Set = (&'static str, Vec<Vec<u8>>, Vec<&'static str>);

fn sets() -> Vec<Set> {
    let own_key = [vec!["/a".into(), "/ab".into()], numbered("/a/host", 0..18)].concat();
    let two_levels = [numbered("/dc1/host", 0..20), numbered("/dc2/host", 0..16), vec!["/x".into()]].concat();
    let binary =
        (0..40u8).map(|n| blake3::hash(&[n % 20]).as_bytes()[..usize::from(2 + n / 20)].to_vec()).collect();
    vec![
        ("empty", vec![], vec!["", "/a"]),
        ("one-key", vec!["/a".into()], vec!["", "/a", "/b"]),
        ("full-bucket", numbered("/host", 0..16), vec!["", "/host0", "/host15"]),
        ("split-bucket", numbered("/host", 0..17), vec!["", "/ho", "/host", "/host0", "/host1", "/host2"]),
        ("key-of-its-own", own_key, vec!["", "/", "/a", "/ab", "/a/", "/a/ho", "/a/host1"]),
        (
            "two-levels",
            two_levels,
            vec!["", "/dc", "/dc1", "/dc1/host0", "/dc1/host00", "/dc2", "/x", "/dc3"],
        ),
        ("binary-keys", binary, vec![""]),
    ]
}

fn vectors() -> String {
    let mut out = HEADER.to_owned();
    let few = [("/a", vec![]), ("/a", vec![id(1)]), ("/dc1/host2", vec![id(1), id(2), id(0xff)])];
    let many = [("/a", spread(16)), ("/a", spread(17)), ("/b", spread(17)), ("/a", spread(40))];
    for (key, ids) in few.into_iter().chain(many) {
        let digest = leaf(key.as_bytes(), &ids.iter().copied().collect());
        let ids: Vec<String> = ids.iter().map(EntryId::to_string).collect();
        writeln!(out, "leaf {} {digest} {}", text(key.as_bytes()), ids.join(" ")).unwrap();
    }
    for (authority, entries) in [(t(&Model::new()), t(&Model::new())), (Digest([1; 32]), Digest([2; 32]))] {
        writeln!(out, "root {} {authority} {entries}", root(authority, entries)).unwrap();
    }
    for (name, keys, prefixes) in sets() {
        write_set(&mut out, name, keys, &prefixes);
    }
    out.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn write_set(out: &mut String, name: &str, keys: Vec<Vec<u8>>, prefixes: &[&str]) {
    writeln!(out, "\nset {name}").unwrap();
    let set: Model =
        keys.into_iter().map(|key| (key.clone(), leaf(&key, &BTreeSet::from([id(7)])))).collect();
    for (key, leaf) in &set {
        writeln!(out, "key {} {leaf}", text(key)).unwrap();
    }
    for prefix in prefixes.iter().map(|prefix| prefix.as_bytes()) {
        let regions = [
            ("subtree", region(&set, &Region::Subtree(prefix.into()))),
            ("exact", region(&set, &Region::Exact(prefix.into()))),
            ("path", path(&set, prefix)),
        ];
        for (kind, keys) in regions {
            writeln!(out, "{kind} {} {} {}", text(prefix), keys.len(), t(&keys)).unwrap();
        }
    }
}

#[test]
fn the_fixture_is_what_the_definition_says() {
    let committed = std::fs::read_to_string(FILE).unwrap();
    assert_eq!(committed, vectors());
}

#[test]
fn the_tree_gives_the_vectors() {
    let committed = std::fs::read_to_string(FILE).unwrap();
    let mut tree = Tree::new();
    let mut checked = 0;
    for line in committed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        checked += 1;
        let fields: Vec<&str> = line.split(' ').collect();
        let region = |of: fn(Vec<u8>) -> Region| of(bytes(fields[1]));
        let expected = |count: usize, digest: Digest| {
            assert_eq!(
                (count.to_string().as_str(), digest.to_string().as_str()),
                (fields[2], fields[3]),
                "{line}"
            );
        };
        match fields[0] {
            "leaf" => {
                let ids: Vec<EntryId> = fields[3..].iter().rev().map(|id| id.parse().unwrap()).collect();
                assert_eq!(leaf_digest(&bytes(fields[1]), &ids).to_string(), fields[2], "{line}");
            }
            "root" => {
                let digest = root_digest(&fields[2].parse().unwrap(), &fields[3].parse().unwrap());
                assert_eq!(digest.to_string(), fields[1], "{line}");
            }
            "set" => tree = Tree::new(),
            "key" => drop(tree.insert(&bytes(fields[1]), fields[2].parse::<Digest>().unwrap())),
            "subtree" => {
                let region = region(Region::Subtree);
                expected(tree.count_region(&region), tree.digest_region(&region));
            }
            "exact" => {
                let region = region(Region::Exact);
                expected(tree.count_region(&region), tree.digest_region(&region));
            }
            "path" => {
                let prefix = bytes(fields[1]);
                expected(tree.count_path(&prefix), tree.digest_path(&prefix));
            }
            other => panic!("{other}"),
        }
    }
    assert!(checked > 200, "{checked}");
}

/// `cargo test -p kvgossip-engine --test tree_vectors -- --ignored write_the_fixture`.
#[test]
#[ignore = "it overwrites the fixture that the other test reads: run it by name when the tree's hashes have a new number"]
fn write_the_fixture() {
    std::fs::write(FILE, vectors()).unwrap();
}
