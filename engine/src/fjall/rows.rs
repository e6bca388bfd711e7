//! Encoding of the store's rows: keys and values of each keyspace, byte by byte. `docs/storage.md` describes the same
//! for people.
//!
//! Integers are little-endian. Decoding is strict: a row that this module would not have written is refused.

use crate::storage::{IndexEntry, StorageError, Summary};
use crate::view::parse_key;
use kvgossip_grants::{Digest, EntryId, GrantId, Key, Timestamp};

/// Version of the store's format; a store with another one is refused.
pub(super) const FORMAT: u32 = 2;

/// Key in `meta` of the [`FORMAT`], 4 bytes.
pub(super) const META_FORMAT: &[u8] = b"format";
/// Key in `meta` of the cluster's id, 32 bytes.
pub(super) const META_CLUSTER: &[u8] = b"cluster";
/// Key in `meta` of the [`Summary`] of the last batch; missing before the first batch.
pub(super) const META_SUMMARY: &[u8] = b"summary";

/// Terminator of the key in a row of `entries` and `index`. It is less than every byte of a key, so that rows are in
/// the order of keys.
const END_OF_KEY: u8 = 0;
const ID_BYTES: usize = 32;
const SUMMARY_BYTES: usize = 3 * 8 + ID_BYTES + 1;

const FLAG_DELETE: u8 = 1;
const FLAG_GRANT: u8 = 2;
const FLAG_VALUE_BYTES: u8 = 4;

/// Encodes the row key in `entries` and `index`: `key ‖ 0x00 ‖ id`.
pub(super) fn entry_row(key: &Key, id: &EntryId) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.as_bytes().len() + 1 + ID_BYTES);
    row.extend_from_slice(key.as_bytes());
    row.push(END_OF_KEY);
    row.extend_from_slice(id.as_bytes());
    row
}

/// Decodes the bytes of [`entry_row`]; `None` if they are malformed.
pub(super) fn parse_entry_row(row: &[u8]) -> Option<(Key, EntryId)> {
    let (rest, id) = row.split_last_chunk::<ID_BYTES>()?;
    let key = rest.strip_suffix(&[END_OF_KEY])?;
    Some((parse_key(key)?, EntryId(*id)))
}

/// Encodes the row key in `by_grant`: `grant id ‖ key`.
pub(super) fn citation_row(grant: &GrantId, key: &Key) -> Vec<u8> {
    let mut row = Vec::with_capacity(ID_BYTES + key.as_bytes().len());
    row.extend_from_slice(grant.as_bytes());
    row.extend_from_slice(key.as_bytes());
    row
}

/// Returns the key in a row key of `by_grant`; `None` if the row key is malformed.
pub(super) fn cited_key(row: &[u8]) -> Option<Key> {
    parse_key(row.get(ID_BYTES..)?)
}

/// Decodes row key and value of a row of `index`; `Damaged` if either is malformed.
pub(super) fn read_index(row: &[u8], value: &[u8]) -> Result<(Key, IndexEntry), StorageError> {
    let damaged = |what: String| StorageError::Damaged(what);
    let (key, id) =
        parse_entry_row(row).ok_or_else(|| damaged("the key of an index row does not read".into()))?;
    match decode_index(id, value) {
        Some(entry) => Ok((key, entry)),
        None => Err(damaged(format!("the index row of {key} does not read"))),
    }
}

/// Encodes the value of a row of `index`: `flags ‖ timestamp ‖ grant id if flagged ‖ length of the entry's value if
/// flagged`.
pub(super) fn encode_index(entry: &IndexEntry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 8 + ID_BYTES + 4);
    let delete = if entry.is_delete { FLAG_DELETE } else { 0 };
    let grant = if entry.grant.is_some() { FLAG_GRANT } else { 0 };
    let value = if entry.value_bytes.is_some() { FLAG_VALUE_BYTES } else { 0 };
    bytes.push(delete | grant | value);
    bytes.extend_from_slice(&entry.timestamp.as_micros().to_le_bytes());
    if let Some(grant) = &entry.grant {
        bytes.extend_from_slice(grant.as_bytes());
    }
    if let Some(value_bytes) = entry.value_bytes {
        bytes.extend_from_slice(&value_bytes.to_le_bytes());
    }
    bytes
}

/// Decodes the bytes of [`encode_index`] for the entry `id`; `None` if they are malformed.
pub(super) fn decode_index(id: EntryId, mut bytes: &[u8]) -> Option<IndexEntry> {
    let [flags] = take(&mut bytes)?;
    if flags & !(FLAG_DELETE | FLAG_GRANT | FLAG_VALUE_BYTES) != 0 {
        return None;
    }
    let timestamp = Timestamp::from_micros(u64::from_le_bytes(take(&mut bytes)?)).ok()?;
    let grant = if flags & FLAG_GRANT == 0 { None } else { Some(GrantId(take(&mut bytes)?)) };
    let is_valued = flags & FLAG_VALUE_BYTES != 0;
    let value_bytes = if is_valued { Some(u32::from_le_bytes(take(&mut bytes)?)) } else { None };
    let entry = IndexEntry { id, timestamp, grant, is_delete: flags & FLAG_DELETE != 0, value_bytes };
    bytes.is_empty().then_some(entry)
}

/// Encodes the summary: `batch ‖ authority facts ‖ keys ‖ root ‖ 1 while a sweep is pending, else 0`.
pub(super) fn encode_summary(summary: &Summary) -> [u8; SUMMARY_BYTES] {
    let mut bytes = [0; SUMMARY_BYTES];
    bytes[..8].copy_from_slice(&summary.batch.to_le_bytes());
    bytes[8..16].copy_from_slice(&summary.authority_facts.to_le_bytes());
    bytes[16..24].copy_from_slice(&summary.keys.to_le_bytes());
    bytes[24..56].copy_from_slice(summary.root.as_bytes());
    bytes[56] = summary.sweep_pending.into();
    bytes
}

/// Decodes the bytes of [`encode_summary`]; `None` if they are malformed.
pub(super) fn decode_summary(mut bytes: &[u8]) -> Option<Summary> {
    let batch = u64::from_le_bytes(take(&mut bytes)?);
    let authority_facts = u64::from_le_bytes(take(&mut bytes)?);
    let keys = u64::from_le_bytes(take(&mut bytes)?);
    let root = Digest(take(&mut bytes)?);
    let sweep_pending = match take(&mut bytes)? {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    bytes.is_empty().then_some(Summary { batch, authority_facts, keys, root, sweep_pending })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index_entry() -> impl Strategy<Value = IndexEntry> {
        let id = any::<[u8; 32]>().prop_map(EntryId);
        let grant = proptest::option::of(any::<[u8; 32]>().prop_map(GrantId));
        (id, 0..=Timestamp::MAX.as_micros(), grant, any::<bool>(), any::<Option<u32>>()).prop_map(
            |(id, micros, grant, is_delete, value_bytes)| IndexEntry {
                id,
                timestamp: Timestamp::from_micros(micros).unwrap(),
                grant,
                is_delete,
                value_bytes,
            },
        )
    }

    proptest! {
        #[test]
        fn an_index_row_comes_back(entry in index_entry()) {
            let bytes = encode_index(&entry);
            prop_assert_eq!(decode_index(entry.id, &bytes), Some(entry));
        }

        #[test]
        fn any_bytes_read_as_what_was_written_or_not_at_all(bytes in prop::collection::vec(0u8..8, 0..60)) {
            if let Some(entry) = decode_index(EntryId([7; 32]), &bytes) {
                prop_assert_eq!(encode_index(&entry), bytes);
            }
        }

        #[test]
        fn a_summary_comes_back(numbers: [u64; 3], root: [u8; 32], sweep_pending: bool) {
            let [batch, authority_facts, keys] = numbers;
            let summary = Summary { batch, authority_facts, keys, root: Digest(root), sweep_pending };
            let bytes = encode_summary(&summary);
            prop_assert_eq!(decode_summary(&bytes), Some(summary));
            prop_assert_eq!(decode_summary(&bytes[1..]), None);
            prop_assert_eq!(decode_summary(&[&bytes[..], &[0]].concat()), None);
        }

        /// Checks of the store merge two ordered scans and rely on this order.
        #[test]
        fn entries_lie_in_the_order_of_keys_then_ids(
            a in "(/[A-Za-z%25.,=~-]{1,3}){1,3}", b in "(/[A-Za-z%25.,=~-]{1,3}){1,3}", ids: ([u8; 32], [u8; 32]),
        ) {
            let (Ok(a), Ok(b)) = (Key::parse(&a), Key::parse(&b)) else { return Ok(()) };
            let ids = (EntryId(ids.0), EntryId(ids.1));
            prop_assert_eq!(entry_row(&a, &ids.0).cmp(&entry_row(&b, &ids.1)), (&a, ids.0).cmp(&(&b, ids.1)));
        }
    }

    #[test]
    fn a_citation_gives_its_key_back() {
        let key = Key::parse("/a/b").unwrap();
        assert_eq!(cited_key(&citation_row(&GrantId([7; 32]), &key)), Some(key));
        assert_eq!(cited_key(&[7; 31]), None);
        assert_eq!(cited_key(&[7; 32]), None);
    }
}
