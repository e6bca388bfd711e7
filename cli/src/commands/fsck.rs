//! `kvgossip fsck`: checks the store of an agent that is not running.

use crate::codes;
use crate::commands::agent_files::ROOT_NAME;
use crate::error::{Exit, Failure, Result, without_words_on_panic};
use crate::files;
use crate::output::{self, Format, counted, printable};
use crate::progress::Progress;
use clap::Args;
use kvgossip_engine::StorageError;
use kvgossip_engine::fsck::{Fault, FaultKind, Report, fsck as check};
use kvgossip_grants::{PublicKey, RsaVerifier};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Check the store of an agent that does not run.
///
/// The command computes everything anew from the signed facts and compares it with the store: signatures and chains,
/// digests, index, counts and the number of the last batch. It changes nothing in the store. It takes a minute per
/// million entries and core. Ends with exit code 8 if something is wrong.
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// The agent's data directory.
    #[arg(value_name = "DATA-DIR")]
    data_dir: PathBuf,
    /// The public key of the cluster's root [default: root.pub.pem in the data directory, where the agent leaves it].
    #[arg(long, value_name = "PUB.pem")]
    root: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown<'a> {
    sound: bool,
    batch: u64,
    last_batch: Option<u64>,
    authority_facts: u64,
    keys: u64,
    entries: u64,
    citations: u64,
    root: Option<String>,
    fault_count: u64,
    faults: Vec<ShownFault<'a>>,
    remarks: &'a [String],
}

#[derive(Serialize)]
struct ShownFault<'a> {
    kind: &'a str,
    place: &'a str,
    what: &'a str,
}

/// Checks the store.
pub(crate) fn fsck(args: &FsckArgs, format: Format) -> Result<Exit> {
    let (dir, root) = (&args.data_dir, root(args)?);
    let mut progress = Progress::start();
    let checked = without_words_on_panic(|| {
        check(dir, &root, &RsaVerifier, &mut |done, total| {
            let keys = counted(total, "key", "keys");
            progress.tell(|| format!("{}: {done} of {keys} checked", files::name(dir)));
        })
    });
    progress.clear();
    let report = checked.map_err(|error| unchecked(dir, &error))?;
    match format {
        Format::Json => output::json(&shown(&report))?,
        Format::Text => output::text(&text(dir, &report))?,
    }
    if report.is_sound() {
        return Ok(Exit::Ok);
    }
    if is_older(&report) {
        let what = if report.batch == 0 { "is empty, and" } else { "is whole, and" };
        let message = format!("the store in {} {what} older than what it acknowledged", files::name(dir));
        return Err(Failure::advised("store.rolled_back", message));
    }
    let faults = if report.fault_count == 1 { "fault" } else { "faults" };
    let message = format!("the store in {} has {} {faults}", files::name(dir), report.fault_count);
    Err(Failure::new("store.damaged", message).note(
        "start `kvgossip agent` once with --move-damaged-aside, which keeps this store under another name and begins with an \
         empty one: peers fill it, and what no peer has is lost",
    ))
}

/// Returns the failure of a check that could not be made. Where the disk is the reason, the store may be sound.
fn unchecked(dir: &Path, error: &StorageError) -> Failure {
    let text = match error {
        StorageError::Missing(_) => error.to_string(),
        _ => format!("{}: {error}", files::name(dir)),
    };
    match error {
        StorageError::Full | StorageError::NoRoom { .. } | StorageError::Io(_) => {
            Failure::new(error.code(), format!("{text}: nothing was checked")).note(
                "the check writes a working copy beside the store: make room, or copy the data directory to a disk that can be \
                 written to",
            )
        }
        _ => Failure::advised(error.code(), text),
    }
}

/// Whether the only fault is that the last batches are missing, so that an agent can continue from there.
fn is_older(report: &Report) -> bool {
    report.fault_count == 1 && report.faults.iter().all(|fault| fault.kind == FaultKind::RolledBack)
}

fn root(args: &FsckArgs) -> Result<PublicKey> {
    let left = args.data_dir.join(ROOT_NAME);
    match &args.root {
        Some(path) => files::root_key(path),
        None if files::stands(&left) => files::kept_public_key(&left),
        None if !args.data_dir.join("store").exists() => {
            let text = format!("{} holds no store", files::name(&args.data_dir));
            Err(Failure::advised("store.missing", text))
        }
        None => Err(Failure::new(codes::USAGE, format!("{} is not there", files::name(&left)))
            .note("write --root PUB.pem: signatures are checked from the cluster's root on")),
    }
}

fn shown(report: &Report) -> Shown<'_> {
    Shown {
        sound: report.is_sound(),
        batch: report.batch,
        last_batch: report.last_batch,
        authority_facts: report.authority_facts,
        keys: report.keys,
        entries: report.entries,
        citations: report.citations,
        root: report.root.map(|root| root.to_string()),
        fault_count: report.fault_count,
        faults: report.faults.iter().map(shown_fault).collect(),
        remarks: &report.remarks,
    }
}

fn shown_fault(fault: &Fault) -> ShownFault<'_> {
    ShownFault { kind: fault.kind.as_str(), place: &fault.place, what: &fault.what }
}

fn text(dir: &Path, report: &Report) -> String {
    let mut text = String::new();
    for fault in &report.faults {
        let _ = writeln!(text, "{}", printable(&fault.to_string()));
    }
    let untold = report.fault_count - report.faults.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more");
    }
    for remark in &report.remarks {
        let _ = writeln!(text, "note: {}", printable(remark));
    }
    let Report { authority_facts, keys, entries, batch, .. } = report;
    let verdict = match report.is_sound() {
        true => "sound",
        false if is_older(report) => "older than what it acknowledged",
        false => "damaged",
    };
    let _ = writeln!(
        text,
        "{}: {verdict}, {} of {}, {}, batch {batch}",
        printable(&files::name(dir)),
        counted(*entries, "entry", "entries"),
        counted(*keys, "key", "keys"),
        counted(*authority_facts, "grant, revocation or floor", "grants, revocations and floors")
    );
    if let Some(root) = report.root {
        let _ = writeln!(text, "root {root}");
    }
    text
}
