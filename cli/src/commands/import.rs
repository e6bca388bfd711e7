//! `import`: offers the facts of a file to an agent, or the files of a directory as entries.

use super::import_dir::{DirArgs, import_dir};
use crate::answer::unexpected;
use crate::codes;
use crate::connect::{AgentArgs, interruptible};
use crate::error::{Exit, Failure, Result};
use crate::factfile::FactFile;
use crate::offer::{Judge, OfferReport, Offering, incomplete};
use crate::output::{self, Format};
use crate::room;
use clap::{ArgGroup, Args};
use kvgossip_api::VerdictRow;
use kvgossip_client::AgentClient;
use kvgossip_grants::Fact;
use serde_json::json;
use std::path::PathBuf;

/// Take facts of a file in, or the files of a directory as entries.
///
/// FILE is the output of `export` or --out. Nothing in it is signed anew, and the agent judges every fact like a
/// peer's: whatever one replica of the cluster holds, another takes in, in any order. Facts that are not taken in are
/// named with their codes, and stop nothing; the exit code is that of the gravest. What was acknowledged before Ctrl-C
/// stays, and the same command again goes on.
///
/// With --dir each file becomes one entry, signed as by `set`: DIR/a/b under /my becomes /my/a/b. Bytes of a name
/// outside A-Z a-z 0-9 . _ ~ @ : + = , - are spelled as %XX. Unchanged values are not written again, and keys without
/// a file are left alone. A symbolic link counts as its target, if the target is relative and inside DIR; all other
/// links are left out. Names that begin with `..` are skipped: a mounted ConfigMap of Kubernetes keeps its versions
/// there, and is imported under its real names.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["file", "dir"])))]
pub(crate) struct ImportArgs {
    /// The file of facts; `-` is standard input.
    file: Option<PathBuf>,
    #[command(flatten)]
    dir: DirArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// A judge of facts that offers them to an agent.
struct There<'a>(&'a AgentClient);

impl Judge for There<'_> {
    async fn offer(&mut self, facts: Vec<Fact>) -> Result<Vec<VerdictRow>> {
        room::offer(&facts, async |part| self.0.post_facts(part).await).await
    }
}

/// Runs `import`.
pub(crate) fn import(args: &ImportArgs, format: Format) -> Result<Exit> {
    match &args.file {
        Some(path) => import_file(path, args, format),
        None => import_dir(&args.dir, &args.agent, format),
    }
}

fn import_file(path: &std::path::Path, args: &ImportArgs, format: Format) -> Result<Exit> {
    if let Some(option) = args.dir.sign.signing_option() {
        let text = format!("{option} is for --dir: the facts of a file are signed already");
        return Err(Failure::new(codes::USAGE, text));
    }
    let client = args.agent.client()?;
    let cluster = crate::connect::converse(&client, async {
        let status = client.status().await?;
        args.dir.sign.check_expected(&status.cluster)
    })?;
    let mut file = FactFile::open(path, cluster)?;
    let mut judge = There(&client);
    let mut offering = Offering::new(&mut file, &mut judge, "importing", format);
    let offered = interruptible(offering.run());
    let outcome = offering.outcome;
    // A run that failed before its first fact has no summary.
    if offered.is_ok() || outcome.facts + outcome.lacking > 0 {
        show(&outcome, offered.is_ok(), format)?;
    }
    offered.map_err(|failure| {
        if outcome.merged == 0 {
            return failure;
        }
        failure.note(
            "what was acknowledged stays; run the same command again to go on: what is there is passed over",
        )
    })?;
    incomplete(&outcome, "was not taken in", "were not taken in").map_or(Ok(Exit::Ok), Err)
}

fn show(outcome: &OfferReport, is_whole: bool, format: Format) -> Result<()> {
    let OfferReport { facts, merged, known, superseded, refused, lacking, .. } = outcome;
    match format {
        Format::Json => {
            let mut object = serde_json::to_value(outcome).map_err(|_| unexpected("no JSON"))?;
            object["kind"] = json!("summary");
            object["complete"] = json!(is_whole);
            output::json(&object)
        }
        Format::Text => output::text(&format!(
            "{}: {merged} new, {known} there already, {superseded} superseded, {refused} not taken in{}\n",
            output::counted(*facts, "fact", "facts"),
            match lacking {
                0 => String::new(),
                lacking => format!(", {lacking} that lack a grant so far"),
            }
        )),
    }
}
