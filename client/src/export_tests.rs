//! Export files: round trips, and every kind of damage.

use super::*;

const CLUSTER: ClusterId = ClusterId([7; 32]);

fn file(records: &[&[u8]]) -> Vec<u8> {
    let mut writer = ExportWriter::new(Vec::new(), CLUSTER).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    assert_eq!(writer.facts(), records.len() as u64);
    writer.finish().unwrap()
}

/// Reads all records. Also returns how reading ended.
fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Result<(), ExportError>) {
    let mut reader = match ExportReader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Err(error)),
    };
    assert_eq!(reader.cluster(), CLUSTER);
    let mut records = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => {
                assert!(reader.next_record().unwrap().is_none(), "the end stays the end");
                return (records, Ok(()));
            }
            Err(error) => return (records, Err(error)),
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let long = vec![9; 300];
    for records in [vec![], vec![&b"a"[..]], vec![b"a", &long, b"\0\0"]] {
        let (found, end) = read(&file(&records));
        assert_eq!(found, records);
        end.unwrap();
    }
}

#[test]
fn a_record_of_no_possible_size_is_not_written() {
    let mut writer = ExportWriter::new(Vec::new(), CLUSTER).unwrap();
    assert!(writer.push(b"").is_err());
    assert!(writer.push(&vec![0; MAX_RECORD_BYTES + 1]).is_err());
    writer.push(&vec![0; MAX_RECORD_BYTES]).unwrap();
    assert!(read(&writer.finish().unwrap()).1.is_ok());
}

#[test]
fn every_cut_is_noticed() {
    let whole = file(&[b"first", b"second"]);
    for len in 0..whole.len() {
        let (found, end) = read(&whole[..len]);
        let error = end.unwrap_err();
        if len == 0 {
            assert!(matches!(error, ExportError::NotAnExport), "{len}: {error}");
        } else {
            assert!(
                matches!(error, ExportError::Cut { facts } if facts == found.len() as u64),
                "{len}: {error}"
            );
        }
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let whole = file(&[b"first", b"second"]);
    let head = EXPORT_MAGIC.len() + 1 + 32;
    for at in (0..whole.len()).filter(|at| !(head - 32..head).contains(at)) {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            read(&changed).1.unwrap_err();
        }
    }
    // The hash at the end covers the cluster id too.
    let mut changed = whole;
    changed[head - 1] ^= 1;
    let mut reader = ExportReader::new(&changed[..]).unwrap();
    let end = std::iter::repeat_with(|| reader.next_record()).find(|next| !matches!(next, Ok(Some(_))));
    assert!(matches!(end, Some(Err(ExportError::Damaged { facts: 2, .. }))));
}

#[test]
fn what_stands_behind_the_end_is_noticed() {
    let twice = [file(&[b"a"]), file(&[b"b"])].concat();
    let (found, end) = read(&twice);
    assert_eq!(found.len(), 1);
    assert!(matches!(end, Err(ExportError::Damaged { facts: 1, .. })));
}

#[test]
fn numbers_have_one_spelling() {
    let head = [&EXPORT_MAGIC[..], &[EXPORT_VERSION], &CLUSTER.0].concat();
    for spelling in
        [&[0x81, 0x00][..], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
    {
        let (_, end) = read(&[&head[..], spelling].concat());
        assert!(matches!(end, Err(ExportError::Damaged { facts: 0, .. })), "{spelling:?}");
    }
    // An impossible length is rejected before anything is allocated for it.
    let (_, end) = read(&[&head[..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat());
    assert!(matches!(end, Err(ExportError::Damaged { reason: "a fact is too long", .. })));
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    assert!(matches!(read(b"{\"id\":\"00\"}\nmore and more and more").1, Err(ExportError::NotAnExport)));
    for other in [1, 3] {
        let mut file = file(&[]);
        file[EXPORT_MAGIC.len()] = other;
        assert!(matches!(read(&file).1, Err(ExportError::Version(version)) if version == other));
    }
}
