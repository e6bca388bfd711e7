//! The check of a whole store: one walk over all tables, at one of two depths.
//!
//! An agent checks the rows of its open store: each record is the fact that its row names, and entries, index,
//! citations and counts agree. [`fsck`](super::fsck::fsck) also judges every fact, and computes the root digest from
//! the valid ones.

mod authority;
mod entries;
mod report;

pub use report::{Fault, FaultKind, MAX_FAULTS, Report};

use super::directory::STORE;
use super::reads;
use super::rows;
use super::tables::Tables;
use crate::storage::{StorageError, Summary};
use crate::tree::root_digest;
use entries::{Court, Judge};
use fjall::Snapshot;
use kvgossip_grants::{ClusterId, Digest, PublicKey, Verifier};

/// Checks the rows of a store of `cluster`. While a sweep is pending, there may be more entries and facts than the
/// summary counts, and citations of them may be missing.
///
/// It does not compute the root digest from the index: whoever loads the index does.
///
/// # Errors
/// The failure of the first table that cannot be read, else [`StorageError::Damaged`] with the first fault.
pub(super) fn check_rows(
    tables: &Tables,
    snapshot: &Snapshot,
    cluster: ClusterId,
) -> Result<(), StorageError> {
    let mut report = Report::default();
    let summary = read_summary(tables, snapshot, &mut report);
    let court = Court { tables, snapshot, cluster, sweep_pending: sweeps(summary), judge: None };
    let (_, all_read) = authority::read(court, &mut report);
    let entries = entries::check(court, &mut report, &mut |_| {});
    entries::check_citations(court, &mut report);
    if all_read && entries.is_some() {
        compare_counts(summary, court.sweep_pending, &mut report);
    }
    report.into_result()
}

/// Checks the rows of a store and judges every fact, starting from `root`: its signature, its chain, and whether it is
/// part of the normal form. From time to time, calls `progress` with the number of keys checked and the total number.
pub(super) fn check_facts(
    tables: &Tables,
    root: &PublicKey,
    verifier: &dyn Verifier,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) {
    let snapshot = tables.db.snapshot();
    let summary = read_summary(tables, &snapshot, report);
    report.batch = summary.map_or(0, |summary| summary.batch);
    compare_batch(report);
    let total = summary.map_or(0, |summary| summary.keys);
    progress(0, total);
    let rows = Court {
        tables,
        snapshot: &snapshot,
        cluster: root.cluster(),
        sweep_pending: sweeps(summary),
        judge: None,
    };
    let (authority, authority_root) = authority::judge(rows, root, verifier, report);
    let court = Court { judge: Some(Judge { authority: &authority, verifier }), ..rows };
    let entries_root = entries::check(court, report, &mut |done| progress(done, total)).flatten();
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
        // Facts that wait for a sweep are counted separately.
        compare_counts(summary, false, report);
        compare_root(summary, root, report);
    }
}

fn sweeps(summary: Option<Summary>) -> bool {
    summary.is_some_and(|summary| summary.sweep_pending)
}

fn read_summary(tables: &Tables, snapshot: &Snapshot, report: &mut Report) -> Option<Summary> {
    match reads::get(snapshot, &tables.meta, rows::META_SUMMARY) {
        Err(error) => report.unreadable("meta", error),
        Ok(None) => return None,
        Ok(Some(bytes)) => match rows::decode_summary(&bytes) {
            Some(summary) => return Some(summary),
            None => report.fault(FaultKind::Unreadable, "meta", "the summary does not read"),
        },
    }
    None
}

pub(super) fn compare_batch(report: &mut Report) {
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

fn compare_counts(summary: Option<Summary>, may_be_more: bool, report: &mut Report) {
    let Some(said) = summary else {
        if report.authority_facts + report.keys > 0 {
            report.fault(FaultKind::Summary, "meta", "there are facts, and no summary");
        }
        return;
    };
    let counts =
        [("authority facts", said.authority_facts, report.authority_facts), ("keys", said.keys, report.keys)];
    for (what, said, found) in counts {
        if found != said && !(may_be_more && found > said) {
            report.fault(FaultKind::Summary, what, format!("the summary says {said}, and there is {found}"));
        }
    }
}

fn compare_root(summary: Option<Summary>, root: Digest, report: &mut Report) {
    if let Some(said) = summary.map(|summary| summary.root).filter(|said| *said != root) {
        report.fault(FaultKind::Summary, "root", format!("the summary says {said}, and there is {root}"));
    }
}
