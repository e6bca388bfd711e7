//! `import --dir`: imports each file of a directory as an entry.

use crate::beneath::Beneath;
use crate::codes;
use crate::connect::{AgentArgs, interruptible};
use crate::error::{Exit, Failure, Result};
use crate::files;
use crate::output::{self, Format, MAX_LISTED, counted, printable};
use crate::progress::Progress;
use crate::sign::{Identity, SignArgs};
use crate::survey::{Source, Survey, under};
use crate::text::show_bytes;
use crate::walk::{Found, LeftOut, MAX_NAMES, Walked, read_value, walk};
use crate::writer::{Draft, Writer, plan};
use bytes::Bytes;
use clap::Args;
use kvgossip_client::AgentClient;
use kvgossip_engine::View;
use kvgossip_grants::{Digest, EntryFact, EntryId, Key, Op, PathPrefix, value_hash};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Maximum number of files in a portion, which is read and written at a time.
const PORTION_FILES: usize = 256;
/// Total size of the values at which a portion is closed, in bytes.
const PORTION_BYTES: usize = 2 << 20;

/// What `import --dir` takes.
#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    /// A directory: each file in it becomes an entry. Symbolic links are followed inside the directory only.
    #[arg(long, value_name = "DIR", requires = "under")]
    pub(crate) dir: Option<PathBuf>,
    /// With --dir: the path prefix to put the files under, such as /my.
    #[arg(long, value_name = "KEY", requires = "dir", conflicts_with = "file", value_parser = crate::text::prefix)]
    under: Option<PathPrefix>,
    /// With --dir: show which keys would be set, and write nothing.
    #[arg(long, requires = "dir", conflicts_with_all = ["file", "out"])]
    dry_run: bool,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

/// Number of files by result.
#[derive(Debug, Default)]
struct Tally {
    written: u64,
    unchanged: u64,
    left_out: u64,
    /// Exit code and stable code of the gravest reason to leave a file out; `None` if none was left out.
    gravest: Option<(Exit, String)>,
}

/// Runs `import --dir`.
pub(crate) fn import_dir(args: &DirArgs, agent: &AgentArgs, format: Format) -> Result<Exit> {
    let (Some(dir), Some(prefix)) = (&args.dir, &args.under) else {
        return Err(Failure::new(codes::USAGE, "--dir and --under belong together"));
    };
    let identity = if args.sign.signs() { Some(args.sign.identity("import --dir")?) } else { None };
    if identity.is_none() {
        args.sign.check_unsigned()?;
    }
    let Walked { tree, found, left_out, passed_over } = walk(dir, prefix, MAX_NAMES)?;
    if passed_over > 0 {
        let names = output::counted(passed_over as u64, "name that begins", "names that begin");
        let were = if passed_over == 1 { "was" } else { "were" };
        output::say(&format!("note: {names} with `..` {were} passed over"));
    }
    let mut tally = Tally::default();
    for out in &left_out {
        tally.leave_out(out, None, format)?;
    }
    let client = agent.client()?;
    let source = args.sign.source(identity.as_ref(), &client)?;
    let source = source.as_source();
    let mut run = Run { args, identity: identity.as_ref(), tree: &tree, prefix, format, tally: &mut tally };
    let done = interruptible(run.all(source, &client, found));
    // A run that failed before its first file has no summary, and with --out - the facts are on standard output.
    let began = done.is_ok() || tally.written > 0;
    if began && !args.sign.out.as_deref().is_some_and(files::is_dash) {
        show(&tally, args.dry_run, done.is_ok(), format)?;
    }
    done.map_err(|failure| {
        if tally.written == 0 || args.dry_run {
            return failure;
        }
        failure.note(
            "what was written stays; run the same command again to go on: unchanged files are passed over",
        )
    })?;
    match tally.gravest {
        None => Ok(Exit::Ok),
        Some((exit, code)) => {
            let text =
                format!("{} left out, as named above", counted(tally.left_out, "file was", "files were"));
            Err(Failure::with_exit(code, text, exit))
        }
    }
}

struct Run<'a> {
    args: &'a DirArgs,
    identity: Option<&'a Identity>,
    tree: &'a Beneath,
    prefix: &'a PathPrefix,
    format: Format,
    tally: &'a mut Tally,
}

/// Live entries of one key.
#[derive(Default)]
struct Current {
    /// Hashes of the entries' values, by entry id.
    values: BTreeMap<EntryId, Digest>,
}

impl Run<'_> {
    async fn all(&mut self, source: Source<'_>, client: &AgentClient, files: Vec<Found>) -> Result<()> {
        let mut progress = Progress::start();
        let mut survey = Survey::begin(source).await?;
        let cluster = survey.view().authority().cluster();
        match self.identity {
            Some(identity) => {
                identity.check_cluster(&cluster.to_string())?;
                self.args.sign.check_clock(survey.apart())?;
            }
            None => drop(self.args.sign.check_expected(&cluster.to_string())?),
        }
        let current = self.current(&mut survey, &files, &mut progress).await?;
        let mut writer =
            if self.args.dry_run { None } else { Some(writer(&self.args.sign, self.identity, client)?) };
        let total = files.len();
        let (mut portion, mut bytes) = (Vec::new(), 0);
        for (at, file) in files.into_iter().enumerate() {
            progress.tell(|| format!("importing: {at} of {}…", counted(total as u64, "file", "files")));
            let value = match read_value(self.tree, &file.below) {
                Ok(value) => Bytes::from(value),
                Err(out) => {
                    progress.clear();
                    self.tally.leave_out(&out, Some(&file.key), self.format)?;
                    continue;
                }
            };
            if is_unchanged(survey.view(), survey.now(), &current, &file.key, &value) {
                self.tally.unchanged += 1;
                continue;
            }
            bytes += value.len();
            portion.push((file, value));
            if portion.len() >= PORTION_FILES || bytes >= PORTION_BYTES {
                self.write(&mut writer, &survey, std::mem::take(&mut portion), &mut progress).await?;
                bytes = 0;
            }
        }
        self.write(&mut writer, &survey, portion, &mut progress).await?;
        writer.map_or(Ok(()), Writer::finish)
    }

    /// Returns the live entries of the keys that the files map to.
    async fn current(
        &self,
        survey: &mut Survey<'_>,
        files: &[Found],
        progress: &mut Progress,
    ) -> Result<BTreeMap<Key, Current>> {
        let mut current: BTreeMap<Key, Current> = BTreeMap::new();
        let mut entries = survey.entries(&under(self.prefix))?;
        while let Some(read) = survey.next(&mut entries).await? {
            for entry in &read.entries {
                let key = &entry.entry().key;
                if files.binary_search_by(|file| file.key.cmp(key)).is_ok()
                    && let Op::Set { hash, .. } = entry.entry().op
                {
                    current.entry(key.clone()).or_default().values.insert(EntryFact::id(entry), hash);
                }
            }
            progress.tell(|| format!("comparing with {}…", counted(current.len() as u64, "key", "keys")));
        }
        Ok(current)
    }

    async fn write(
        &mut self,
        writer: &mut Option<Writer<'_>>,
        survey: &Survey<'_>,
        portion: Vec<(Found, Bytes)>,
        progress: &mut Progress,
    ) -> Result<()> {
        let draft =
            |(file, value): &(Found, Bytes)| Draft { key: file.key.clone(), value: Some(value.clone()) };
        let drafts: Vec<Draft> = portion.iter().map(draft).collect();
        let (view, now) = (survey.view(), survey.now());
        let done: Vec<_> = match (writer, self.identity) {
            (Some(writer), _) => {
                writer.write(view, now, drafts).await?.into_iter().map(|id| id.map(Some)).collect()
            }
            (None, Some(identity)) => {
                drafts.iter().map(|draft| plan(identity, view, now, draft).map(|_| None)).collect()
            }
            // Whether the agent may write shows when it writes.
            (None, None) => drafts.iter().map(|_| Ok(None)).collect(),
        };
        progress.clear();
        for ((file, value), done) in portion.iter().zip(done) {
            match done {
                Ok(id) => {
                    self.tally.written += 1;
                    self.show_written(file, value.len(), id)?;
                }
                Err(refused) => {
                    let out = LeftOut::new(self.tree.shown(&file.below), &refused.code, refused.why);
                    self.tally.leave_out(&out, Some(&file.key), self.format)?;
                }
            }
        }
        Ok(())
    }

    fn show_written(&self, file: &Found, bytes: usize, id: Option<EntryId>) -> Result<()> {
        let path = self.tree.shown(&file.below).display().to_string();
        let dry = self.args.dry_run;
        match self.format {
            // With --out -, the facts themselves are on standard output.
            _ if self.args.sign.out.is_some() => Ok(()),
            Format::Json => output::json(&json!({
                "kind": if dry { "would_write" } else { "written" },
                "key": file.key.as_str(),
                "path": path,
                "bytes": bytes,
                "entry": id.map(|id| id.to_string()),
            })),
            Format::Text if dry && self.tally.written <= MAX_LISTED => output::text(
                &(printable(&format!("would set {} to {path} ({})", file.key, show_bytes(bytes as u64)))
                    + "\n"),
            ),
            Format::Text => Ok(()),
        }
    }
}

/// Returns the writer: who signs, and where the entries go.
fn writer<'w>(
    sign: &SignArgs,
    identity: Option<&'w Identity>,
    client: &'w AgentClient,
) -> Result<Writer<'w>> {
    Ok(match (identity, sign.out_file()?) {
        (Some(identity), Some(out)) => Writer::File(identity, out),
        (Some(identity), None) => Writer::Here(identity, client),
        (None, _) => Writer::There(client),
    })
}

fn is_unchanged(
    view: &View,
    now: kvgossip_grants::Timestamp,
    current: &BTreeMap<Key, Current>,
    key: &Key,
    value: &[u8],
) -> bool {
    let shown = view.shown(key, now).and_then(|shown| current.get(key)?.values.get(&shown.id));
    shown.is_some_and(|hash| *hash == value_hash(value))
}

impl Tally {
    fn leave_out(&mut self, out: &LeftOut, key: Option<&Key>, format: Format) -> Result<()> {
        self.left_out += 1;
        let exit = codes::exit(&out.code).unwrap_or(Exit::Error);
        if self.gravest.as_ref().is_none_or(|(gravest, _)| exit > *gravest) {
            self.gravest = Some((exit, out.code.clone()));
        }
        let path = out.path.display().to_string();
        match format {
            Format::Text => {
                output::text(&(printable(&format!("left out: {path}: {} [{}]", out.why, out.code)) + "\n"))
            }
            Format::Json => output::json(&json!({
                "kind": "left_out",
                "path": path,
                "key": key.map(Key::as_str),
                "code": out.code,
                "message": out.why,
            })),
        }
    }
}

fn show(tally: &Tally, dry_run: bool, is_whole: bool, format: Format) -> Result<()> {
    let Tally { written, unchanged, left_out, .. } = tally;
    match format {
        Format::Json => output::json(&json!({
            "kind": "summary",
            "complete": is_whole,
            "dry_run": dry_run,
            "written": if dry_run { 0 } else { *written },
            "would_write": if dry_run { *written } else { 0 },
            "unchanged": unchanged,
            "left_out": left_out,
        })),
        Format::Text => {
            let verb = if dry_run { "would be written" } else { "written" };
            if dry_run {
                output::more(*written, "file", "files", format)?;
            }
            output::text(&format!("{written} {verb}, {unchanged} unchanged, {left_out} left out\n"))
        }
    }
}
