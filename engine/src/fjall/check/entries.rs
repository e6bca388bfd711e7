//! Checks the tables `entries`, `index` and `by_grant` against each other and against the authority set.

use super::super::reads::{self, Rows};
use super::super::rows;
use super::super::tables::Tables;
use super::report::{Fault, FaultKind, Report};
use crate::Frontier;
use crate::leaf::KeyLeaf;
use crate::storage::IndexEntry;
use crate::tree::Tree;
use bytes::Bytes;
use fjall::Snapshot;
use kvgossip_grants::{
    Authority, ClusterId, Digest, EntryFact, EntryId, EntryMeta, Fact, GrantId, Key, Offer, Timestamp,
    Verdict, Verifier,
};
use std::thread;

/// Maximum number of keys, and size of their records in bytes, of a block that is checked at a time.
const BLOCK_KEYS: usize = 4_096;
const BLOCK_BYTES: usize = 16 * 1024 * 1024;

/// Context that the checks of all keys share.
#[derive(Clone, Copy)]
pub(super) struct Court<'a> {
    pub(super) tables: &'a Tables,
    pub(super) snapshot: &'a Snapshot,
    pub(super) cluster: ClusterId,
    /// Whether a sweep is pending, so that ended entries may still be stored.
    pub(super) sweep_pending: bool,
    /// Judge of the entries; `None` if only rows are compared.
    pub(super) judge: Option<Judge<'a>>,
}

/// Decides which entries are valid.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) authority: &'a Authority,
    pub(super) verifier: &'a dyn Verifier,
}

/// All stored rows of one key.
struct Job {
    key: Key,
    rows: Vec<IndexEntry>,
    records: Vec<(EntryId, Bytes)>,
}

struct Judged {
    key: Key,
    /// Whether the key has a live entry; without a judge, whether it has a stored one.
    stands: bool,
    /// Leaf of the key in the tree; `None` without a judge.
    leaf: Option<KeyLeaf>,
    unswept: u64,
    faults: Vec<Fault>,
}

/// Checks all keys and reports their number after each block. Returns `None` if a table could not be read to its end;
/// otherwise the digest of all entries, if facts are judged and the index is in order.
pub(super) fn check(
    court: Court<'_>,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Option<Option<Digest>> {
    let mut stored = Stored::new(court);
    let mut leaves = Vec::new();
    loop {
        let block = stored.block(report);
        if block.is_empty() {
            break;
        }
        for judged in look_at_all(court, block) {
            report.keys += u64::from(judged.stands);
            report.unswept += judged.unswept;
            judged.faults.into_iter().for_each(|fault| report.add(fault));
            if let Some(leaf) = judged.leaf {
                // Only digests are kept: a tree of frontiers would take as much memory as a second replica.
                leaves.push((judged.key, crate::tree::Leaf::digest(&leaf)));
            }
        }
        progress(report.keys);
    }
    if stored.is_broken {
        return None;
    }
    if court.judge.is_none() {
        return Some(None);
    }
    let tree =
        Tree::from_sorted(leaves.into_iter().map(|(key, digest)| (key.as_str().as_bytes().to_vec(), digest)))
            .map_err(|_| report.fault(FaultKind::Index, "index", "it is out of order"));
    Some(tree.ok().map(|tree| tree.digest()))
}

/// Reads all rows of the table `by_grant`, counts them and reports those that cannot be read.
pub(super) fn check_citations(court: Court<'_>, report: &mut Report) {
    for row in Rows::all(court.snapshot, &court.tables.by_grant) {
        match row {
            Err(error) => return report.unreadable("by_grant", error),
            Ok((row, _)) if rows::cited_key(&row).is_some() => report.citations += 1,
            Ok(_) => report.fault(FaultKind::Unreadable, "by_grant", "a citation does not read"),
        }
    }
}

/// Reads the tables `index` and `entries` side by side, key by key, since both have the same order.
struct Stored {
    index: Rows,
    entries: Rows,
    next_row: Option<(Key, IndexEntry)>,
    next_record: Option<(Key, EntryId, Bytes)>,
    has_begun: bool,
    is_broken: bool,
}

impl Stored {
    fn new(court: Court<'_>) -> Self {
        Self {
            index: Rows::all(court.snapshot, &court.tables.index),
            entries: Rows::all(court.snapshot, &court.tables.entries),
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
            let mut job = Job { key, rows: Vec::new(), records: Vec::new() };
            while let Some((_, row)) = self.next_row.take_if(|(key, _)| *key == job.key) {
                job.rows.push(row);
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
            match row {
                Ok((key, row)) => match rows::read_index(&key, &row) {
                    Ok(row) => {
                        self.next_row = Some(row);
                        return;
                    }
                    Err(error) => report.unreadable("index", error),
                },
                Err(error) => {
                    self.is_broken = true;
                    return report.unreadable("index", error);
                }
            }
        }
    }

    fn read_record(&mut self, report: &mut Report) {
        for row in self.entries.by_ref() {
            match row {
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
                    return report.unreadable("entries", error);
                }
            }
        }
    }
}

/// Checks the keys of a block on all cores: nearly all of the time is spent on verifying signatures.
fn look_at_all(court: Court<'_>, block: Vec<Job>) -> Vec<Judged> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = block.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let threads: Vec<_> = block
            .chunks(share)
            .map(|jobs| scope.spawn(move || jobs.iter().map(|job| look(court, job)).collect::<Vec<_>>()))
            .collect();
        // A panic of a check is a fault of this program and is propagated.
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn look(court: Court<'_>, job: &Job) -> Judged {
    let key = &job.key;
    let mut judged = Judged { key: key.clone(), stands: false, leaf: None, unswept: 0, faults: Vec::new() };
    let (mut metas, mut cited) = (Vec::new(), Vec::new());
    for (id, record) in &job.records {
        let refused = |what| Fault::new(FaultKind::Fact, format!("{key} {id}"), what);
        let entry = match read_entry(court.cluster, key, id, record) {
            Ok(entry) => entry,
            Err(what) => {
                judged.faults.push(refused(what));
                continue;
            }
        };
        let row = index_row(&entry);
        match court.judge.map(|judge| judge.judge(key, &entry)) {
            None => {
                compare_index(job, &row, &mut judged.faults);
                judged.stands = true;
                cited.extend(row.grant.filter(|_| !court.sweep_pending));
            }
            Some(Judgement::Stands(meta)) => {
                compare_index(job, &row, &mut judged.faults);
                metas.push(meta);
            }
            Some(Judgement::Ended(_)) if court.sweep_pending => {
                compare_index(job, &row, &mut judged.faults);
                judged.unswept += 1;
            }
            Some(Judgement::Ended(what) | Judgement::Refused(what)) => judged.faults.push(refused(what)),
        }
    }
    let is_stored = |row: &IndexEntry| job.records.binary_search_by_key(&row.id, |(id, _)| *id).is_ok();
    // Records and rows are ordered by id; one is missing only if their numbers differ.
    if job.rows.len() != job.records.len() {
        for row in job.rows.iter().filter(|row| !is_stored(row)) {
            let what = format!("the index names entry {}, which is not stored", row.id);
            judged.faults.push(Fault::new(FaultKind::Index, key, what));
        }
    }
    // Newest first, so that entries come after those that supersede them.
    metas.sort_unstable_by_key(|meta| std::cmp::Reverse(meta.rank()));
    let mut frontier = Frontier::new();
    for meta in metas {
        let id = meta.id;
        match frontier.offer(meta, ()) {
            Offer::Dominated if court.sweep_pending => judged.unswept += 1,
            Offer::Dominated => {
                let what = "another stored entry supersedes it";
                judged.faults.push(Fault::new(FaultKind::Fact, format!("{key} {id}"), what));
            }
            Offer::Known | Offer::Stands { .. } => {}
        }
    }
    cited.extend(frontier.newest_first().filter_map(|entry| entry.meta.grant_id()));
    check_cited(court, key, &cited, &mut judged.faults);
    if !frontier.is_empty() {
        judged.stands = true;
        judged.leaf = Some(KeyLeaf::new(key, frontier));
    }
    judged
}

/// Checks that the table `by_grant` has a row for each of the grants `cited` by entries of `key`, so that a revocation
/// finds the key.
fn check_cited(court: Court<'_>, key: &Key, cited: &[GrantId], faults: &mut Vec<Fault>) {
    for grant in cited {
        let noted = reads::contains(court.snapshot, &court.tables.by_grant, rows::citation_row(grant, key));
        let fault = match noted {
            Ok(true) => continue,
            Ok(false) => {
                let what = format!("that it stands on grant {grant} is not noted");
                Fault::new(FaultKind::Citation, key, what)
            }
            Err(error) => Fault::new(FaultKind::Unreadable, "by_grant", error),
        };
        faults.push(fault);
    }
}

/// Compares the index row of an entry with its record.
fn compare_index(job: &Job, entry: &IndexEntry, faults: &mut Vec<Fault>) {
    let what = match job.rows.binary_search_by_key(&entry.id, |row| row.id) {
        Err(_) => "it is stored, and the index does not name it",
        Ok(at) if !job.rows.get(at).is_some_and(|row| says_the_same(row, entry)) => {
            "the index says other than its record"
        }
        Ok(_) => return,
    };
    faults.push(Fault::new(FaultKind::Index, format!("{} {}", job.key, entry.id), what));
}

/// Whether an index row agrees with the record of its entry. Rows written by older programs lack the length of the
/// value.
fn says_the_same(row: &IndexEntry, of_record: &IndexEntry) -> bool {
    let value_bytes = row.value_bytes.and(of_record.value_bytes);
    let is_told = row.value_bytes.is_none() || of_record.value_bytes.is_some();
    is_told && *row == IndexEntry { value_bytes, ..*of_record }
}

/// Decodes the entry of a record. Returns a text as the error if the record is not the entry that its row names.
fn read_entry(cluster: ClusterId, key: &Key, id: &EntryId, record: &[u8]) -> Result<EntryFact, String> {
    match Fact::from_record(cluster, record) {
        Err(code) => Err(format!("its record does not read: {code}")),
        Ok(Fact::Entry(entry)) if entry.id() == *id && entry.entry().key == *key => Ok(entry),
        Ok(_) => Err("its record is another fact than its row says".into()),
    }
}

/// Returns the index row that an entry should have.
fn index_row(entry: &EntryFact) -> IndexEntry {
    IndexEntry {
        id: entry.id(),
        timestamp: entry.entry().timestamp,
        grant: entry.entry().grant,
        is_delete: entry.value().is_none(),
        value_bytes: entry.value().map(|value| u32::try_from(value.len()).unwrap_or(u32::MAX)),
    }
}

/// Judgement of a stored entry; the text is the reason why it may not be stored.
enum Judgement {
    Stands(EntryMeta),
    /// The entry was valid once: a grant of its chain was revoked, or a floor ended it.
    Ended(String),
    /// The entry was never valid, or its signature is not that of its signer.
    Refused(String),
}

impl Judge<'_> {
    fn judge(&self, key: &Key, entry: &EntryFact) -> Judgement {
        let told = |verdict: Verdict| {
            let code = verdict.code().map_or("unknown", kvgossip_grants::Code::as_str);
            format!("it may not be stored: {code}")
        };
        let unverified = match self.authority.check(Fact::Entry(entry.clone()), Timestamp::MAX) {
            Ok(unverified) => unverified,
            Err(verdict @ Verdict::Unjustified(_)) => return Judgement::Ended(told(verdict)),
            Err(verdict) => return Judgement::Refused(told(verdict)),
        };
        if let Err(verdict) = unverified.verify(self.verifier) {
            return Judgement::Refused(told(verdict));
        }
        let grant = match self.authority.entry_grant(entry.signed()) {
            Ok(grant) => grant.cloned(),
            Err(verdict) => return Judgement::Refused(told(verdict)),
        };
        if self.authority.is_floored(key, entry.entry().timestamp) {
            return Judgement::Ended(told(Verdict::Moot(kvgossip_grants::Code::Floored)));
        }
        Judgement::Stands(EntryMeta::new(entry.id(), entry.entry(), grant))
    }
}
