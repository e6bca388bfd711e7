//! Checks `entries`, `digests` and `by_grant` against each other and against the authority.

use super::super::error::engine_error;
use super::super::tables::Tables;
use super::super::{check::read_index, rows};
use super::report::{Fault, FaultKind, Report};
use crate::frontier::{EntryMeta, Frontier};
use crate::replica::index_row;
use crate::storage::IndexRow;
use crate::tree::Tree;
use bytes::Bytes;
use fjall::{Readable, Snapshot};
use kvgossip_grants::{Authority, Digest, EntryId, Fact, Key, Timestamp, Verdict, Verifier};
use std::thread;

/// Keys that are judged at a time, and how many bytes of records there may be.
const BLOCK_KEYS: usize = 4_096;
const BLOCK_BYTES: usize = 16 * 1024 * 1024;

/// What all judges look at.
#[derive(Clone, Copy)]
pub(super) struct Court<'a> {
    pub(super) tables: &'a Tables,
    pub(super) snapshot: &'a Snapshot,
    pub(super) authority: &'a Authority,
    pub(super) verifier: &'a dyn Verifier,
}

/// All that is stored of a key.
struct Job {
    key: Key,
    row: Option<IndexRow>,
    records: Vec<(EntryId, Bytes)>,
}

struct Judged {
    key: Key,
    frontier: Option<Frontier>,
    faults: Vec<Fault>,
}

/// Goes through all keys; says after each block how many were judged. Gives the digest over all entries, unless
/// something could not be read.
pub(super) fn check(court: Court<'_>, report: &mut Report, progress: &mut dyn FnMut(u64)) -> Option<Digest> {
    let mut stored = Stored::new(court);
    let mut leaves = Vec::new();
    loop {
        let block = stored.block(report);
        if block.is_empty() {
            break;
        }
        for judged in judge_all(court, block) {
            report.keys += u64::from(judged.frontier.is_some());
            judged.faults.into_iter().for_each(|fault| report.add(fault));
            if let Some(frontier) = judged.frontier {
                // Digests only: a tree of frontiers would be a second replica.
                leaves.push((judged.key, crate::tree::Leaf::digest(&frontier)));
            }
        }
        progress(report.keys);
    }
    if stored.is_broken {
        return None;
    }
    Tree::from_sorted(leaves.into_iter().map(|(key, digest)| (key.as_str().as_bytes().to_vec(), digest)))
        .map_err(|_| report.fault(FaultKind::Index, "digests", "it is out of order"))
        .ok()
        .map(|tree| tree.digest())
}

/// Reads `by_grant` through.
pub(super) fn check_citations(court: Court<'_>, report: &mut Report) {
    for row in court.snapshot.iter(&court.tables.by_grant) {
        match row.key().map_err(engine_error) {
            Err(error) => return report.unreadable("by_grant", &error),
            Ok(row) if rows::cited_key(&row).is_some() => report.citations += 1,
            Ok(_) => report.fault(FaultKind::Unreadable, "by_grant", "a citation does not read"),
        }
    }
}

/// Both tables at once: they lie in the same order.
struct Stored {
    index: fjall::Iter,
    entries: fjall::Iter,
    next_row: Option<(Key, IndexRow)>,
    next_record: Option<(Key, EntryId, Bytes)>,
    has_begun: bool,
    is_broken: bool,
}

impl Stored {
    fn new(court: Court<'_>) -> Self {
        Self {
            index: court.snapshot.iter(&court.tables.digests),
            entries: court.snapshot.iter(&court.tables.entries),
            next_row: None,
            next_record: None,
            has_begun: false,
            is_broken: false,
        }
    }

    fn block(&mut self, report: &mut Report) -> Vec<Job> {
        if !self.has_begun {
            self.has_begun = true;
            self.read_row(report);
            self.read_record(report);
        }
        let (mut block, mut bytes) = (Vec::new(), 0);
        while block.len() < BLOCK_KEYS && bytes < BLOCK_BYTES && !self.is_broken {
            let key = match (&self.next_row, &self.next_record) {
                (Some((row, _)), Some((record, ..))) => row.min(record).clone(),
                (Some((key, _)), None) | (None, Some((key, ..))) => key.clone(),
                (None, None) => break,
            };
            let mut job = Job { key, row: None, records: Vec::new() };
            if let Some((_, row)) = self.next_row.take_if(|(key, _)| *key == job.key) {
                job.row = Some(row);
                self.read_row(report);
            }
            while let Some((_, id, record)) = self.next_record.take_if(|(key, ..)| *key == job.key) {
                bytes += record.len();
                job.records.push((id, record));
                self.read_record(report);
            }
            block.push(job);
        }
        block
    }

    fn read_row(&mut self, report: &mut Report) {
        for row in self.index.by_ref() {
            match row.into_inner().map_err(engine_error) {
                Ok((key, row)) => match read_index(&key, &row) {
                    Ok(row) => {
                        self.next_row = Some(row);
                        return;
                    }
                    Err(error) => report.unreadable("digests", &error),
                },
                Err(error) => {
                    self.is_broken = true;
                    return report.unreadable("digests", &error);
                }
            }
        }
    }

    fn read_record(&mut self, report: &mut Report) {
        for row in self.entries.by_ref() {
            match row.into_inner().map_err(engine_error) {
                Ok((row, record)) => match rows::parse_entry_row(&row) {
                    Some((key, id)) => {
                        report.entries += 1;
                        self.next_record = Some((key, id, Bytes::copy_from_slice(&record)));
                        return;
                    }
                    None => report.fault(FaultKind::Unreadable, "entries", "the key of a row does not read"),
                },
                Err(error) => {
                    self.is_broken = true;
                    return report.unreadable("entries", &error);
                }
            }
        }
    }
}

/// Judges on all cores: signatures take nearly all of the time.
fn judge_all(court: Court<'_>, block: Vec<Job>) -> Vec<Judged> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = block.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let judges: Vec<_> = block
            .chunks(share)
            .map(|jobs| scope.spawn(move || jobs.iter().map(|job| judge(court, job)).collect::<Vec<_>>()))
            .collect();
        // A judge that panics is a defect of this program; its panic goes on here.
        judges
            .into_iter()
            .flat_map(|judge| judge.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn judge(court: Court<'_>, job: &Job) -> Judged {
    let (key, mut faults, mut metas) = (&job.key, Vec::new(), Vec::new());
    for (id, record) in &job.records {
        match read_entry(court, key, id, record) {
            Ok(meta) => metas.push(meta),
            Err(what) => faults.push(Fault::new(FaultKind::Fact, format!("{key} {id}"), what)),
        }
    }
    let superseded = |meta: &&EntryMeta| metas.iter().any(|other| other.dominates(meta));
    faults.extend(metas.iter().filter(superseded).map(|meta| {
        Fault::new(FaultKind::Fact, format!("{key} {}", meta.id), "another stored entry supersedes it")
    }));
    for grant in metas.iter().filter_map(EntryMeta::grant_id) {
        let cited = court.snapshot.contains_key(&court.tables.by_grant, rows::citation_row(&grant, key));
        match cited.map_err(engine_error) {
            Ok(true) => {}
            Ok(false) => faults.push(Fault::new(
                FaultKind::Citation,
                key,
                format!("that it stands on grant {grant} is not noted"),
            )),
            Err(error) => faults.push(Fault::new(FaultKind::Unreadable, "by_grant", error)),
        }
    }
    let are_whole = faults.is_empty();
    let frontier = Frontier::new(key, metas.into());
    let what = match (&job.row, &frontier) {
        (None, _) => Some("it has entries, and the index does not name it"),
        (Some(_), None) if are_whole => Some("the index names it, and it has no entries"),
        // A record that is no fact has been told already.
        (Some(row), Some(frontier)) if are_whole && *row != index_row(frontier) => {
            Some("the index says other than its entries")
        }
        _ => None,
    };
    faults.extend(what.map(|what| Fault::new(FaultKind::Index, key, what)));
    Judged { key: key.clone(), frontier, faults }
}

fn read_entry(court: Court<'_>, key: &Key, id: &EntryId, record: &[u8]) -> Result<EntryMeta, String> {
    let authority = court.authority;
    let told = |verdict: Verdict| {
        let code = verdict.code().map_or("unknown", kvgossip_grants::Code::as_str);
        format!("it may not be stored: {code}")
    };
    let entry = match Fact::from_record(authority.cluster(), record) {
        Err(code) => return Err(format!("its record does not read: {code}")),
        Ok(Fact::Entry(entry)) if entry.id() == *id && entry.entry().key == *key => entry,
        Ok(_) => return Err("its record is another fact than its row says".into()),
    };
    let fact = Fact::Entry(entry.clone());
    let unverified = authority.check(fact, Timestamp::MAX).map_err(told)?;
    unverified.verify(court.verifier).map_err(told)?;
    let grant = authority.entry_grant(entry.entry()).map_err(told)?.cloned();
    if authority.is_floored(key, entry.entry().timestamp) {
        return Err(told(Verdict::Moot(kvgossip_grants::Code::Floored)));
    }
    Ok(EntryMeta::new(*id, entry.entry(), grant))
}
