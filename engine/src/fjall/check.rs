//! Consistency check of a store: compares its tables with each other.

use super::error::engine_error;
use super::rows;
use super::tables::Tables;
use crate::storage::{IndexEntry, StorageError, Summary};
use fjall::{Readable, Snapshot};
use kvgossip_grants::{ClusterId, Fact, FactId, Key};

/// Reads every row. Entries and index must name the same entries, each record must be the fact that its row names, no
/// citation may be missing, and the counts must be those of the summary. While a sweep is pending, there may be more
/// entries and facts than the summary counts, and citations may be missing.
///
/// Whether the index gives the summary's root is checked by the code that loads it.
pub(super) fn check(
    tables: &Tables,
    snapshot: &Snapshot,
    cluster: ClusterId,
    summary: Option<&Summary>,
) -> Result<(), StorageError> {
    let sweep_pending = summary.is_some_and(|summary| summary.sweep_pending);
    let authority_facts = check_authority(tables, snapshot, cluster)?;
    let keys = check_entries(tables, snapshot, cluster, sweep_pending)?;
    let (said_facts, said_keys) = summary.map_or((0, 0), |summary| (summary.authority_facts, summary.keys));
    // While a sweep is pending there may be more.
    let fits = |found: u64, said: u64| found == said || sweep_pending && found > said;
    if !fits(authority_facts, said_facts) || !fits(keys, said_keys) {
        return Err(StorageError::Damaged(format!(
            "it has {authority_facts} authority facts and {keys} keys, and says {said_facts} and {said_keys}"
        )));
    }
    Ok(())
}

fn check_authority(tables: &Tables, snapshot: &Snapshot, cluster: ClusterId) -> Result<u64, StorageError> {
    let mut count = 0;
    for row in snapshot.iter(&tables.authority) {
        let (id, record) = row.into_inner().map_err(engine_error)?;
        let id = <[u8; 32]>::try_from(id.as_ref()).ok().map(FactId);
        if id.is_none_or(|id| !is_record_of(cluster, &record, &id)) {
            return Err(StorageError::Damaged("an authority record is not the fact it is stored as".into()));
        }
        count += 1;
    }
    Ok(count)
}

/// Checks that the rows of each entry are consistent; returns the number of keys.
fn check_entries(
    tables: &Tables,
    snapshot: &Snapshot,
    cluster: ClusterId,
    sweep_pending: bool,
) -> Result<u64, StorageError> {
    let mut entries = snapshot.iter(&tables.entries);
    let (mut keys, mut last) = (0, None);
    for row in snapshot.iter(&tables.index) {
        let (row, value) = row.into_inner().map_err(engine_error)?;
        let (key, entry) = read_index(&row, &value)?;
        // Both tables have the same order, so their rows match unless one of them is incomplete.
        let next = entries.next().map(|next| next.into_inner().map_err(engine_error)).transpose()?;
        let Some((_, record)) = next.filter(|(at, _)| **at == *row) else {
            return Err(StorageError::Damaged(format!("entries and index differ at {key}")));
        };
        if !is_record_of(cluster, &record, &entry.id.into()) {
            return Err(StorageError::Damaged(format!("a record of {key} is not the entry it is stored as")));
        }
        if let Some(grant) = entry.grant.filter(|_| !sweep_pending) {
            let cited = snapshot.contains_key(&tables.by_grant, rows::citation_row(&grant, &key));
            if !cited.map_err(engine_error)? {
                return Err(StorageError::Damaged(format!("the citation of a grant by {key} is missing")));
            }
        }
        if last.as_ref() != Some(&key) {
            keys += 1;
            last = Some(key);
        }
    }
    if entries.next().is_some() {
        return Err(StorageError::Damaged("there are entries after the last that the index names".into()));
    }
    Ok(keys)
}

/// Decodes a row of `index`.
pub(super) fn read_index(row: &[u8], value: &[u8]) -> Result<(Key, IndexEntry), StorageError> {
    let (key, id) = rows::parse_entry_row(row)
        .ok_or_else(|| StorageError::Damaged("the key of an index row does not read".into()))?;
    match rows::decode_index(id, value) {
        Some(entry) => Ok((key, entry)),
        None => Err(StorageError::Damaged(format!("the index row of {key} does not read"))),
    }
}

fn is_record_of(cluster: ClusterId, record: &[u8], id: &FactId) -> bool {
    Fact::from_record(cluster, record).is_ok_and(|fact| fact.id() == *id)
}
