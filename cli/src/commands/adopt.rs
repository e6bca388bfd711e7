//! `adopt`: signs entries again under another identity, so that they outlive the grant that they cite.

use crate::codes;
use crate::connect::{AgentArgs, interruptible};
use crate::error::{Exit, Failure, Result};
use crate::output::{self, Format, MAX_LISTED, counted, printable};
use crate::progress::Progress;
use crate::sign::{Identity, SignArgs};
use crate::survey::{Source, Survey, Whole};
use crate::text;
use crate::writer::{Draft, Refused, Writer, plan};
use bytes::Bytes;
use clap::Args;
use kvgossip_client::AgentClient;
use kvgossip_engine::Frontier;
use kvgossip_grants::{EntryId, FilterRule, MAX_FILTER_GLOBS, Op};
use serde_json::json;

/// Sign the values of keys again, with another identity or under a newer grant.
///
/// Before a grant is revoked or ends, adopt what was written under it; otherwise it ends with the grant. A matching
/// key gets a new entry with the same value if another entity wrote it, or if it cites another grant than `set` would
/// cite. Deletes are adopted if older entries are below them. Every entry is verified before it is signed. Keys that
/// --identity may not write are named, and stop nothing. Globs work as for `ls`.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Which keys, such as /my/**.
    #[arg(value_name = "GLOB", required = true, value_parser = text::filter_rule)]
    globs: Vec<FilterRule>,
    /// Show which entries would be signed, and sign nothing.
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Number of keys by result, and exit code and stable code of the gravest refusal.
#[derive(Debug, Default)]
struct Tally {
    adopted: u64,
    /// Number of keys whose entry the identity has already signed under its best grant.
    kept: u64,
    refused: u64,
    gravest: Option<(Exit, String)>,
}

/// Runs `adopt`.
pub(crate) fn adopt(args: &AdoptArgs, format: Format) -> Result<Exit> {
    if args.globs.len() > MAX_FILTER_GLOBS {
        let text =
            format!("at most {MAX_FILTER_GLOBS} globs, not {}: use fewer or wider ones", args.globs.len());
        return Err(Failure::new(codes::USAGE, text));
    }
    let identity = args.sign.identity("adopt")?;
    let client = args.agent.client()?;
    let lookup = args.sign.source(Some(&identity), &client)?;
    let mut run = Run { args, identity: &identity, format, tally: Tally::default() };
    let done = interruptible(run.all(lookup.as_source(), &client));
    // A run that failed before its first key has no summary.
    if done.is_ok() || run.tally.adopted + run.tally.refused > 0 {
        run.show(done.is_ok())?;
    }
    done.map_err(|failure| {
        if run.tally.adopted == 0 || args.dry_run {
            return failure;
        }
        failure.note("what was adopted stays; run the same command again to go on: it is passed over")
    })?;
    match run.tally.gravest {
        None => Ok(Exit::Ok),
        Some((exit, code)) => {
            let text =
                format!("{} not adopted, as named above", counted(run.tally.refused, "key was", "keys were"));
            Err(Failure::with_exit(code, text, exit))
        }
    }
}

struct Run<'a> {
    args: &'a AdoptArgs,
    identity: &'a Identity,
    format: Format,
    tally: Tally,
}

impl Run<'_> {
    async fn all(&mut self, source: Source<'_>, client: &AgentClient) -> Result<()> {
        let mut progress = Progress::start();
        let mut survey = Survey::begin(source).await?;
        self.identity.check_cluster(&survey.view().authority().cluster().to_string())?;
        self.args.sign.check_clock(survey.apart())?;
        let mut writer = match (self.args.dry_run, self.args.sign.out_file()?) {
            (true, _) => None,
            (false, Some(out)) => Some(Writer::File(self.identity, out)),
            (false, None) => Some(Writer::Here(self.identity, client)),
        };
        let mut entries = survey.entries(&self.args.globs)?;
        while let Some(read) = survey.next(&mut entries).await? {
            let drafts = self.drafts(&survey, &read.keys);
            progress.clear();
            self.write(&mut writer, &survey, drafts).await?;
            let keys = self.tally.adopted + self.tally.kept + self.tally.refused;
            progress.tell(|| format!("adopting: {} so far…", counted(keys, "key", "keys")));
        }
        writer.map_or(Ok(()), Writer::finish)
    }

    /// Returns the drafts of the entries to sign again.
    fn drafts(&mut self, survey: &Survey<'_>, keys: &[Whole]) -> Vec<Draft> {
        let (view, now, signer) = (survey.view(), survey.now(), self.identity.entity());
        let mut drafts = Vec::new();
        for Whole { key, shown } in keys {
            let Some((frontier, fact)) = view.frontier(key).zip(shown.as_ref()) else { continue };
            let entry = fact.entry();
            if says_nothing(frontier, entry.op) {
                continue;
            }
            let draft = Draft { key: entry.key.clone(), value: fact.value().cloned() };
            let cites_best =
                || plan(self.identity, view, now, &draft).is_ok_and(|new| new.grant == entry.grant);
            if entry.signer == signer && cites_best() {
                self.tally.kept += 1;
            } else {
                drafts.push(draft);
            }
        }
        drafts
    }

    async fn write(
        &mut self,
        writer: &mut Option<Writer<'_>>,
        survey: &Survey<'_>,
        drafts: Vec<Draft>,
    ) -> Result<()> {
        let (view, now) = (survey.view(), survey.now());
        let done: Vec<Result<Option<EntryId>, Refused>> = match writer {
            Some(writer) => {
                let written = writer.write(view, now, drafts.clone()).await?;
                written.into_iter().map(|id| id.map(Some)).collect()
            }
            None => drafts.iter().map(|draft| plan(self.identity, view, now, draft).map(|_| None)).collect(),
        };
        for (draft, done) in drafts.iter().zip(done) {
            match done {
                Ok(id) => {
                    self.tally.adopted += 1;
                    self.show_adopted(draft, id)?;
                }
                Err(refused) => self.refuse(draft, &refused)?,
            }
        }
        Ok(())
    }

    fn show_adopted(&self, draft: &Draft, id: Option<EntryId>) -> Result<()> {
        let dry = self.args.dry_run;
        match self.format {
            // With --out -, the facts themselves are on standard output.
            _ if self.args.sign.out.is_some() => Ok(()),
            Format::Json => output::json(&json!({
                "kind": if dry { "would_adopt" } else { "adopted" },
                "key": draft.key.as_str(),
                "bytes": draft.value.as_ref().map(Bytes::len),
                "entry": id.map(|id| id.to_string()),
            })),
            Format::Text if dry && self.tally.adopted <= MAX_LISTED => {
                output::text(&format!("would adopt {}\n", draft.key))
            }
            Format::Text => Ok(()),
        }
    }

    fn refuse(&mut self, draft: &Draft, refused: &Refused) -> Result<()> {
        self.tally.refused += 1;
        let exit = codes::exit(&refused.code).unwrap_or(Exit::Error);
        if self.tally.gravest.as_ref().is_none_or(|(gravest, _)| exit > *gravest) {
            self.tally.gravest = Some((exit, refused.code.clone()));
        }
        match self.format {
            Format::Text => {
                let line = format!("not adopted: {}: {} [{}]", draft.key, refused.why, refused.code);
                output::text(&(printable(&line) + "\n"))
            }
            Format::Json => output::json(&json!({
                "kind": "refused",
                "key": draft.key.as_str(),
                "code": refused.code,
                "message": refused.why,
            })),
        }
    }

    fn show(&self, is_whole: bool) -> Result<()> {
        let (dry, Tally { adopted, kept, refused, .. }) = (self.args.dry_run, &self.tally);
        // With --out -, the facts themselves are on standard output.
        let to_stdout = self.args.sign.out.as_deref().is_some_and(crate::files::is_dash);
        match self.format {
            _ if to_stdout => Ok(()),
            Format::Json => output::json(&json!({
                "kind": "summary",
                "complete": is_whole,
                "dry_run": dry,
                "adopted": if dry { 0 } else { *adopted },
                "would_adopt": if dry { *adopted } else { 0 },
                "kept": kept,
                "refused": refused,
            })),
            Format::Text => {
                let verb = if dry { "would be adopted" } else { "adopted" };
                if dry {
                    output::more(*adopted, "key", "keys", self.format)?;
                }
                output::text(&format!("{adopted} {verb}, {kept} need nothing, {refused} not adopted\n"))
            }
        }
    }
}

/// Whether the entry is a delete without which its key would remain unset.
fn says_nothing(frontier: &Frontier, op: Op) -> bool {
    op == Op::Delete && frontier.len() == 1
}
