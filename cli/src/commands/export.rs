//! `export`: writes entries with all authority that justifies them to one file.

use crate::answer::unexpected;
use crate::codes;
use crate::connect::{AgentArgs, interruptible};
use crate::error::{Exit, Failure, Result};
use crate::facts::{authority, next_page, read_fact};
use crate::files;
use crate::output::{self, Format, counted, say};
use crate::progress::Progress;
use crate::text;
use clap::Args;
use kvgossip_client::{AgentClient, ExportWriter, FactKind, FactsQuery};
use kvgossip_grants::{ClusterId, Fact, FactId, FilterRule, Key, MAX_FILTER_GLOBS};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Write entries, with their signatures and all facts that they depend on, to a file.
///
/// The file holds every live grant, revocation and floor, and the entries of the keys that the globs choose (of all
/// keys without globs), deletes included. `verify` checks the file without an agent. `import` takes it in at any
/// replica of the cluster. Globs work as for `ls`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Which keys, such as /my/**; all keys if there is none.
    #[arg(value_name = "GLOB", value_parser = text::filter_rule)]
    globs: Vec<FilterRule>,
    /// The file. An existing one is replaced when the new one is complete. Only the owner may read it. Without -o, or
    /// with `-`, the bytes go to standard output.
    #[arg(short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// What the file holds so far: ids of authority facts, and numbers of entries and keys.
#[derive(Debug, Default)]
struct Written {
    authority: BTreeSet<FactId>,
    entries: u64,
    keys: u64,
    /// Key of the last entry written; `None` before the first. The entries of a key are adjacent.
    last: Option<Key>,
}

/// Runs `export`.
pub(crate) fn export(args: &ExportArgs, format: Format) -> Result<Exit> {
    if args.globs.len() > MAX_FILTER_GLOBS {
        let text =
            format!("at most {MAX_FILTER_GLOBS} globs, not {}: use fewer or wider ones", args.globs.len());
        return Err(Failure::new(codes::USAGE, text));
    }
    let client = args.agent.client()?;
    match args.out.as_deref().filter(|path| !files::is_dash(path)) {
        Some(path) => to_file(&client, args, path, format)?,
        None => to_stdout(&client, args)?,
    }
    Ok(Exit::Ok)
}

fn to_file(client: &AgentClient, args: &ExportArgs, path: &Path, format: Format) -> Result<()> {
    let failed = |error: io::Error| files::unwritable(path, &error);
    let new = files::Replacement::begin(path)?;
    let out = BufWriter::new(new.file().map_err(failed)?);
    let mut export = Export { client, filter: &args.globs, written: Written::default(), failed: &failed };
    interruptible(export.run(out))?;
    new.finish()?;
    let Written { authority, entries, keys, .. } = export.written;
    let facts = entries + authority.len() as u64;
    match format {
        Format::Json => output::json(&json!({
            "file": path.display().to_string(),
            "facts": facts,
            "authority": authority.len(),
            "entries": entries,
            "keys": keys,
        })),
        Format::Text => {
            say(&format!(
                "{}: {} of {}, {}",
                path.display(),
                counted(entries, "entry", "entries"),
                counted(keys, "key", "keys"),
                counted(authority.len() as u64, "authority fact", "authority facts")
            ));
            Ok(())
        }
    }
}

fn to_stdout(client: &AgentClient, args: &ExportArgs) -> Result<()> {
    let out = io::stdout().lock();
    if out.is_terminal() {
        let text = "an export is binary, and standard output is a terminal: nothing was written";
        return Err(Failure::new(codes::USAGE, text).note("  name a file with -o FILE, or use a pipe"));
    }
    let mut export = Export {
        client,
        filter: &args.globs,
        written: Written::default(),
        failed: &|error| Failure::output(&error),
    };
    interruptible(export.run(BufWriter::new(out)))
}

/// An export in progress.
struct Export<'a> {
    client: &'a AgentClient,
    filter: &'a [FilterRule],
    written: Written,
    failed: &'a dyn Fn(io::Error) -> Failure,
}

impl Export<'_> {
    async fn run(&mut self, out: impl Write) -> Result<()> {
        let status = self.client.status().await?;
        let cluster: ClusterId =
            status.cluster.parse().map_err(|_| unexpected("a cluster id that is none"))?;
        let mut progress = Progress::start();
        let mut writer = ExportWriter::new(out, cluster).map_err(self.failed)?;
        self.put_authority(&mut writer, cluster).await?;
        let mut query =
            FactsQuery { kind: FactKind::Entries, filter: self.filter.to_vec(), limit: None, after: None };
        loop {
            let page = self.client.facts(&query).await?;
            for row in &page.facts {
                let fact = read_fact(cluster, row)?;
                self.put_entry(&mut writer, cluster, &fact).await?;
            }
            let entries = self.written.entries;
            progress.tell(|| format!("exporting: {} so far…", counted(entries, "entry", "entries")));
            if !next_page(&mut query, page.next)? {
                break;
            }
        }
        // Authority that changed meanwhile is added, so that the file never shows what was revoked.
        if self.client.status().await?.digests.authority != status.digests.authority {
            self.put_authority(&mut writer, cluster).await?;
        }
        writer.finish().map_err(self.failed)?;
        Ok(())
    }

    /// Writes the authority facts that are not in the file yet.
    async fn put_authority<W: Write>(
        &mut self,
        writer: &mut ExportWriter<W>,
        cluster: ClusterId,
    ) -> Result<()> {
        for fact in authority(self.client, cluster).await? {
            if self.written.authority.insert(fact.id()) {
                writer.push(&fact.to_record()).map_err(self.failed)?;
            }
        }
        Ok(())
    }

    /// Writes an entry after the grant that it cites, which may have arrived while the pages were read.
    async fn put_entry<W: Write>(
        &mut self,
        writer: &mut ExportWriter<W>,
        cluster: ClusterId,
        fact: &Fact,
    ) -> Result<()> {
        let Fact::Entry(entry) = fact else { return Err(unexpected("authority among the entries")) };
        let cited = entry.entry().grant.map(FactId::from);
        if let Some(grant) = cited.filter(|grant| !self.written.authority.contains(grant)) {
            self.put_authority(writer, cluster).await?;
            if !self.written.authority.contains(&grant) {
                // The grant was revoked since, and the entry removed with it.
                return Ok(());
            }
        }
        writer.push(&fact.to_record()).map_err(self.failed)?;
        self.written.entries += 1;
        if self.written.last.as_ref() != Some(&entry.entry().key) {
            self.written.keys += 1;
            self.written.last = Some(entry.entry().key.clone());
        }
        Ok(())
    }
}
