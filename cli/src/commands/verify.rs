//! `verify`: checks a file of facts against the root's key, without an agent.

use crate::connect::interruptible;
use crate::error::{Exit, Result};
use crate::factfile::FactFile;
use crate::files;
use crate::offer::{Judge, OfferReport, Offering, incomplete, row_of};
use crate::output::{self, Format, counted, table};
use crate::snapshot::Snapshot;
use clap::Args;
use kvgossip_api::VerdictRow;
use kvgossip_grants::Fact;
use serde_json::json;
use std::path::PathBuf;

/// Check every signature and every chain of grants in a file, without an agent.
///
/// Reads the output of `export` and --out. Facts that do not verify are named, and the command ends with 8, as it does
/// for a file that was cut off or damaged. The shown digest is that of a replica with just these facts: for an export
/// of everything it equals that of `kvgossip digest`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// The public key of the cluster's root.
    #[arg(long, value_name = "PUB.pem")]
    root: PathBuf,
}

/// A judge of facts that merges them into a replica in this process.
struct Here(Snapshot);

impl Judge for Here {
    async fn offer(&mut self, facts: Vec<Fact>) -> Result<Vec<VerdictRow>> {
        let ids: Vec<_> = facts.iter().map(|fact| fact.id().to_string()).collect();
        let verdicts = self.0.take(facts)?;
        Ok(ids.into_iter().zip(verdicts).map(|(id, verdict)| row_of(Some(id), verdict)).collect())
    }
}

/// Runs `verify`.
pub(crate) fn verify(args: &VerifyArgs, format: Format) -> Result<Exit> {
    let root = files::root_key(&args.root)?;
    let mut file = FactFile::open(&args.file, root.cluster())?;
    let mut judge = Here(Snapshot::new(root));
    let mut offering = Offering::new(&mut file, &mut judge, "verifying", format);
    let read = interruptible(offering.run());
    let outcome = offering.outcome;
    // A run that failed before its first fact has no summary.
    if read.is_ok() || outcome.facts + outcome.lacking > 0 {
        show(&judge.0, &outcome, read.is_ok(), format)?;
    }
    read?;
    match incomplete(&outcome, "does not verify", "do not verify") {
        // Whatever the reason, the file is not what it should be.
        Some(failure) => Err(failure.ending_with(Exit::Integrity)),
        None => Ok(Exit::Ok),
    }
}

/// Prints the result. For a part of the file no digest is shown, since it would be taken for that of the whole.
fn show(snapshot: &Snapshot, outcome: &OfferReport, is_whole: bool, format: Format) -> Result<()> {
    let view = snapshot.view();
    let authority = view.authority();
    let counts = [
        ("key", "keys", view.entries().len()),
        ("grant", "grants", authority.grants().count()),
        ("revocation", "revocations", authority.revocations().count()),
        ("floor", "floors", authority.floors().count()),
    ];
    let verified = outcome.facts - outcome.refused;
    if format == Format::Json {
        let mut object = json!({
            "kind": "summary",
            "complete": is_whole,
            "cluster": authority.cluster().to_string(),
            "facts": outcome.facts,
            "verified": verified,
            "superseded": outcome.superseded,
            "failed": outcome.refused,
            "root": is_whole.then(|| view.root().to_string()),
        });
        for (_, name, count) in counts {
            object[name] = count.into();
        }
        return output::json(&object);
    }
    let counts = counts.map(|(one, many, count)| counted(count as u64, one, many)).join(", ");
    let row = |name: &str, value: String| [name.to_owned(), value];
    let in_part =
        if is_whole { "" } else { ", in part: the file does not read to its end as it was written" };
    let mut rows = vec![
        row("cluster", authority.cluster().to_string()),
        row("verified", format!("{verified} of {}{in_part}", counted(outcome.facts, "fact", "facts"))),
        row("holds", counts),
    ];
    if is_whole {
        rows.push(row("digest", view.root().to_string()));
    }
    output::text(&table(["", ""], &rows))
}
