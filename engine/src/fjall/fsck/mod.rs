//! Checks a store that is not in use: everything in it is recomputed from the signed facts and compared.

mod authority;
mod entries;
mod report;
mod shadow;

pub use report::{Fault, FaultKind, MAX_FAULTS, Report};

use super::directory::{CHECK, Directory, STORE};
use super::error::engine_error;
use super::last_batch::{LastBatch, Seen};
use super::rows;
use super::tables::Tables;
use crate::storage::{StorageError, Summary};
use crate::tree::root_digest;
use entries::Court;
use kvgossip_grants::{Digest, PublicKey, Verifier};
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
        Ok(tables) => check(&tables, root, verifier, &mut report, progress),
        Err(error @ StorageError::Damaged(_)) => report.unreadable(STORE, &error),
        Err(error) => return Err(error),
    }
    Ok(report)
}

fn check(
    tables: &Tables,
    root: &PublicKey,
    verifier: &dyn Verifier,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) {
    let snapshot = tables.db.snapshot();
    let summary = read_summary(tables, report);
    report.batch = summary.map_or(0, |summary| summary.batch);
    compare_batch(report);
    let total = summary.map_or(0, |summary| summary.keys);
    progress(0, total);
    let sweep_pending = summary.is_some_and(|summary| summary.sweep_pending);
    let (authority, authority_root) =
        authority::check(tables, &snapshot, root, verifier, sweep_pending, report);
    let court = Court { tables, snapshot: &snapshot, authority: &authority, verifier, sweep_pending };
    let entries_root = entries::check(court, report, &mut |done| progress(done, total));
    entries::check_citations(court, report);
    if report.unswept > 0 {
        report.remarks.push(format!(
            "entries and authority facts that have ended and are still stored: {}; the agent removes them when it runs",
            report.unswept
        ));
    }
    if let (Some(authority), Some(entries)) = (authority_root, entries_root) {
        let root = root_digest(&authority, &entries);
        report.root = Some(root);
        compare_summary(summary, root, report);
    }
}

fn read_summary(tables: &Tables, report: &mut Report) -> Option<Summary> {
    match tables.meta.get(rows::META_SUMMARY).map_err(engine_error) {
        Err(error) => report.unreadable("meta", &error),
        Ok(None) => return None,
        Ok(Some(bytes)) => match rows::decode_summary(&bytes) {
            Some(summary) => return Some(summary),
            None => report.fault(FaultKind::Unreadable, "meta", "the summary does not read"),
        },
    }
    None
}

fn compare_batch(report: &mut Report) {
    let (Some(acknowledged), found) = (report.last_batch, report.batch) else { return };
    if found < acknowledged {
        let what = format!("batches up to {acknowledged} were acknowledged, and it ends with {found}");
        report.fault(FaultKind::RolledBack, STORE, what);
    } else if found > acknowledged {
        report.remarks.push(format!(
            "last-batch says {acknowledged} and the store has {found}: the machine, or the agent, ended in between"
        ));
    }
}

fn compare_summary(summary: Option<Summary>, root: Digest, report: &mut Report) {
    let Some(said) = summary else {
        if report.authority_facts + report.keys > 0 {
            report.fault(FaultKind::Summary, "meta", "there are facts, and no summary");
        }
        return;
    };
    for (what, said, found) in [
        ("authority facts", said.authority_facts.to_string(), report.authority_facts.to_string()),
        ("keys", said.keys.to_string(), report.keys.to_string()),
        ("root", said.root.to_string(), root.to_string()),
    ] {
        if said != found {
            report.fault(FaultKind::Summary, what, format!("the summary says {said}, and there is {found}"));
        }
    }
}
