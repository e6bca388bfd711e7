//! The published vectors of export files, `fixtures/export-vectors.txt`, and `fixtures/export-v2.kvgossip`, a whole file
//! that is kept for ever: what this version writes, every later one reads. The bytes are put together a second time here,
//! as `docs/protocol.md` says.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_client::{ExportError, ExportReader, ExportWriter};
use kvgossip_grants::Fact;
use kvgossip_testkit::vectors::Vectors;
use kvgossip_testkit::vectors::cast::{Cast, fact, facts};
use std::path::Path;

const FILE: &str = "client/tests/fixtures/export-vectors.txt";
const WHOLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/export-v2.kvgossip");

const HEADER: &str = "\
Vectors of export files; docs/protocol.md explains them. Bytes are hexadecimal. The facts stand by their names in
grants/tests/fixtures/fact-vectors.txt; export-v2.kvgossip is the file [whole], as it lies on a disk.

Made anew with `KVGOSSIP_BLESS=1 cargo test -p kvgossip-client --test export_vectors`, only for a new format version.";

/// Facts of every kind, each behind what its chain needs.
const WHOLE_FACTS: [&str; 6] =
    ["floor", "grant-to-ops", "revocation-of-guest", "grant-to-web", "entry-set", "entry-of-root"];

fn records(cast: &Cast, names: &[&str]) -> Vec<Vec<u8>> {
    let facts = facts(cast);
    names.iter().map(|name| fact(&facts, name).to_record().to_vec()).collect()
}

fn written(cast: &Cast, records: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = ExportWriter::new(Vec::new(), cast.cluster()).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    writer.finish().unwrap()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Head, frames and end, from the definition.
fn by_hand(cast: &Cast, records: &[Vec<u8>]) -> [Vec<u8>; 3] {
    let head = [&b"kvgossip/export\0\x02"[..], &cast.cluster().0].concat();
    let frames: Vec<u8> =
        records.iter().flat_map(|record| [varint(record.len()), record.clone()].concat()).collect();
    let count = [vec![0], varint(records.len())].concat();
    let hash = blake3::hash(&[&head[..], &frames, &count].concat());
    [head, frames, [&count[..], hash.as_bytes()].concat()]
}

fn vectors() -> Vectors {
    let cast = Cast::new();
    let mut out = Vectors::new(FILE, HEADER);
    for (section, names) in [("empty", &[][..]), ("one", &["entry-of-root"]), ("whole", &WHOLE_FACTS)] {
        let records = records(&cast, names);
        let parts = by_hand(&cast, &records);
        assert_eq!(written(&cast, &records), parts.concat(), "{section}");
        out.section(section);
        out.field("facts", names.join(" "));
        for (name, bytes) in ["head", "frames", "end"].iter().zip(&parts) {
            out.hex(name, bytes);
        }
    }
    out
}

#[test]
fn files_are_what_the_vectors_say() {
    vectors().settle();
}

#[test]
fn the_document_quotes_the_vectors() {
    vectors().check_quotes("exports", 1);
}

#[test]
fn the_file_of_version_2_is_written_and_read() {
    let cast = Cast::new();
    let records = records(&cast, &WHOLE_FACTS);
    if std::env::var_os("KVGOSSIP_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(WHOLE, written(&cast, &records)).unwrap();
    }
    assert!(Path::new(WHOLE).exists());
    let kept = std::fs::read(WHOLE).unwrap();
    assert_eq!(kept, written(&cast, &records));

    let mut reader = ExportReader::new(&kept[..]).unwrap();
    assert_eq!(reader.cluster(), cast.cluster());
    let mut names = WHOLE_FACTS.iter();
    while let Some(record) = reader.next_record().unwrap() {
        let read = Fact::from_record(cast.cluster(), &record).unwrap();
        assert_eq!(read, fact(&facts(&cast), names.next().unwrap()));
    }
    assert_eq!(names.next(), None);
}

/// Its facts are those of another cluster: nothing of it is called damaged.
#[test]
fn a_file_of_version_1_is_refused_as_such() {
    let old = std::fs::read(WHOLE.replace("-v2.", "-v1.")).unwrap();
    let refused = ExportReader::new(&old[..]).unwrap_err();
    assert!(matches!(refused, ExportError::Version(1)), "{refused}");
    assert!(refused.to_string().contains("take a program of the version that wrote it"));
}
