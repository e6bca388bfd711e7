//! Checks a store that is not in use: everything in it is recomputed from the signed facts and compared.

mod shadow;

pub use super::check::{Fault, FaultKind, MAX_FAULTS, Report};

use super::check::{check_facts, compare_batch};
use super::directory::{CHECK, Directory, STORE};
use super::last_batch::{LastBatch, Seen};
use super::rows;
use super::tables::Tables;
use crate::storage::StorageError;
use kvgossip_grants::{PublicKey, Verifier};
use shadow::Shadow;
use std::path::Path;

/// Checks the store of the cluster of `root` in the data directory `dir` without changing it. The check reads a copy,
/// `store.check`, which shares the tables and is removed afterwards.
///
/// The check covers the format, every fact with its id, signature and chain, the normal form, the leaf digests, the
/// index, the citations, the counts, the root and the number of the last batch. It calls `progress` from time to time
/// with the number of keys checked and the total number of keys.
///
/// # Errors
/// Everything that prevents the check: no store, a store in use, a newer format, another cluster, a failure of the
/// system. Faults of the store are in the report.
pub fn fsck(
    dir: &Path,
    root: &PublicKey,
    verifier: &dyn Verifier,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, StorageError> {
    let store = dir.join(STORE);
    let seen = LastBatch::peek(dir)?;
    if !store.is_dir() && seen.is_none() {
        return Err(StorageError::Missing(dir.display().to_string()));
    }
    let directory = Directory::take(dir)?;
    if let Some(Seen { format: found, .. }) = seen
        && found != rows::FORMAT
    {
        return Err(StorageError::Format { found, supported: rows::FORMAT });
    }
    let mut report = Report { last_batch: seen.map(|seen| seen.batch), ..Report::default() };
    if seen.is_none() {
        let remark =
            "last-batch is missing or was not written whole: a loss of the last batches would not show";
        report.remarks.push(remark.into());
    }
    if !store.is_dir() {
        compare_batch(&mut report);
        return Ok(report);
    }
    let shadow = Shadow::make(&store, directory.path().join(CHECK))?;
    match Tables::open(shadow.path(), &root.cluster()) {
        Ok(tables) => check_facts(&tables, root, verifier, &mut report, progress),
        Err(error @ StorageError::Damaged(_)) => report.unreadable(STORE, error),
        Err(error) => return Err(error),
    }
    Ok(report)
}
