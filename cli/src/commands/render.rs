//! `render`: keeps a file up to date with the tree.

use super::template::{self, Known, Wants};
use super::watch_command;
use crate::codes;
use crate::connect::{AgentArgs, LiveArgs, say_if_slow, until_stopped};
use crate::error::{Exit, Failure, Result};
use crate::files::{self, Replacement};
use crate::live_report;
use crate::output::{self, printable, say};
use crate::text::show_bytes;
use clap::Args;
use kvgossip_agent::files::read_regular;
use kvgossip_api::FIRST_SYNC;
use kvgossip_client::{Client, Dirty, Endpoint, Matching, Subscription};
use kvgossip_grants::{Filter, Key};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Maximum size of a template, in bytes.
const MAX_TEMPLATE_BYTES: usize = 4 << 20;
/// Maximum number of times that a template may ask for further keys after it got the values of the previous ones.
const MAX_ROUNDS: usize = 32;
/// Time for which changes are collected before the template is rendered again.
const GATHER: Duration = Duration::from_millis(20);

/// Keep a file in step with the tree.
///
/// The template (Jinja syntax) asks with `get("/my/key")`, `get("/my/key", "default")` and `entries("/my/**",
/// "!/my/tmp/**")`, whose rows have `key`, `name` and `value`. Whenever these values change and the text differs, the
/// file is replaced in one step. While a value is unknown, or the template fails, the file stays as it is.
#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// The template.
    template: PathBuf,
    /// The file to write; `-` is standard output, which gets the whole text at each change.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    out: PathBuf,
    /// Write the file once, when everything is known, and end. --timeout limits the wait.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    agent: AgentArgs,
    /// Command to run after each change of the file, one at a time.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs `render`.
pub(crate) fn render(args: &RenderArgs) -> Result<Exit> {
    let source = files::read(&args.template, MAX_TEMPLATE_BYTES)?;
    let source = source.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        let text = format!(
            "{} is no template: it has to be UTF-8 of at most {}",
            args.template.display(),
            show_bytes(MAX_TEMPLATE_BYTES as u64)
        );
        Failure::new(codes::TEMPLATE_INVALID, text)
    })?;
    let (builder, endpoint) = (args.agent.live(&args.live)?, args.agent.endpoint()?);
    let limit = args.agent.timeout_or(kvgossip_client::DEFAULT_TIMEOUT);
    until_stopped(args.once, async {
        let client = builder.build()?;
        let mut job = Job {
            args,
            source,
            held: Subscriptions::default(),
            client: client.clone(),
            endpoint,
            said: None,
            printed: None,
        };
        let work = async {
            if !args.once {
                return job.keep().await;
            }
            job.write_once(limit).await
        };
        tokio::select! {
            // The report never completes.
            () = live_report::report(&client) => Ok(()),
            done = work => done,
        }
    })?;
    Ok(Exit::Ok)
}

struct Job<'a> {
    args: &'a RenderArgs,
    source: String,
    held: Subscriptions,
    client: Client,
    endpoint: Endpoint,
    /// Last error message printed, so that a repeated one is printed once; `None` if none was.
    said: Option<String>,
    /// Text last written to standard output; `None` before the first.
    printed: Option<String>,
}

/// Subscriptions to the keys and filters that the template asked for.
#[derive(Default)]
struct Subscriptions {
    wants: Wants,
    keys: BTreeMap<Key, Subscription>,
    filters: BTreeMap<Vec<String>, Filtered>,
}

struct Filtered {
    matching: Matching,
    /// Whether all keys of the filter were known once. Before, keys whose value has not been verified would be rendered
    /// as unset; later, the last verified values are used.
    was_whole: bool,
}

impl Job<'_> {
    /// Writes the file at every change, without end.
    async fn keep(&mut self) -> Result<()> {
        loop {
            match self.settle().await {
                Ok(text) => {
                    self.said = None;
                    match self.write(&text).await {
                        Ok(Ok(())) => {}
                        Ok(Err(how)) => say(&format!("the command failed: {how}")),
                        Err(failure) => return Err(failure),
                    }
                }
                Err(failure) => self.complain(&failure),
            }
            self.held.changed().await?;
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Writes the file once, when everything is known.
    async fn write_once(&mut self, limit: Duration) -> Result<()> {
        let text = tokio::time::timeout(limit, self.settle()).await.map_err(|_| {
            let text =
                format!("no agent sent in time everything that {} asks for", self.args.template.display());
            let trouble = self.client.watch_trouble().borrow().clone();
            // Problems that are more specific than a timeout.
            let telling = trouble.as_ref().filter(|it| it.code == FIRST_SYNC || it.is_of_rights());
            let code = telling.map_or("client.not_ready", |trouble| &trouble.code);
            let failure = Failure::new(code, text);
            match trouble {
                Some(trouble) => failure.note(trouble.message),
                None => failure,
            }
        })??;
        match self.write(&text).await? {
            Ok(()) => Ok(()),
            Err(how) => Err(Failure::new(codes::COMMAND_FAILED, format!("the command failed: {how}"))),
        }
    }

    fn complain(&mut self, failure: &Failure) {
        let text = if files::is_dash(&self.args.out) {
            format!("nothing is printed: {}", failure.message())
        } else {
            format!("the file stays as it is: {}", failure.message())
        };
        if self.said.as_ref() != Some(&text) {
            say(&text);
            self.said = Some(text);
        }
    }

    /// Renders until the template asks for nothing more and everything that it asked for is known.
    async fn settle(&mut self) -> Result<String> {
        let name = self.args.template.display().to_string();
        for _ in 0..MAX_ROUNDS {
            say_if_slow(&self.endpoint, self.held.known_once()).await?;
            let rendered = template::render(&name, &self.source, &self.held.snapshot());
            if rendered.wants == self.held.wants {
                return rendered.text;
            }
            self.held.want(&self.client, rendered.wants)?;
        }
        Err(Failure::new(codes::TEMPLATE_INVALID, "the template asks for ever more keys"))
    }

    /// Writes the text to the file or standard output if it has changed, then runs the command.
    async fn write(&mut self, text: &str) -> Result<Result<(), String>> {
        let is_changed = if files::is_dash(&self.args.out) { self.print(text)? } else { self.replace(text)? };
        if !is_changed {
            return Ok(Ok(()));
        }
        watch_command::run(&self.args.command, &[], b"").await
    }

    /// Prints the text to standard output if it has changed; returns whether it has.
    fn print(&mut self, text: &str) -> Result<bool> {
        if self.printed.as_deref() == Some(text) {
            return Ok(false);
        }
        output::raw(text.as_bytes())?;
        self.printed = Some(text.to_owned());
        Ok(true)
    }

    /// Replaces the file if its text has changed; returns whether it has.
    fn replace(&self, text: &str) -> Result<bool> {
        let path = &self.args.out;
        if read_regular(path, text.len()).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(false);
        }
        let replacement = Replacement::begin(path)?;
        let unwritable = |error| files::unwritable(path, &error);
        let mut file = replacement.file().map_err(unwritable)?;
        file.write_all(text.as_bytes()).map_err(unwritable)?;
        if let Ok(old) = std::fs::metadata(path) {
            file.set_permissions(old.permissions()).map_err(unwritable)?;
        }
        replacement.finish()?;
        say(&format!("{} was written", printable(&path.display().to_string())));
        Ok(true)
    }
}

impl Subscriptions {
    fn want(&mut self, client: &Client, wants: Wants) -> Result<()> {
        self.keys.retain(|key, _| wants.keys.contains(key));
        self.filters.retain(|globs, _| wants.filters.contains(globs));
        for key in &wants.keys {
            self.keys.entry(key.clone()).or_insert_with(|| client.subscribe(key));
        }
        for globs in &wants.filters {
            let filter = Filter::parse(globs)
                .map_err(|error| Failure::new(codes::GLOB_MALFORMED, error.to_string()))?;
            let subscribe = || Filtered { matching: client.subscribe_filter(&filter), was_whole: false };
            self.filters.entry(globs.clone()).or_insert_with(subscribe);
        }
        self.wants = wants;
        Ok(())
    }

    /// Waits until everything was received in full at least once and no received key is unknown. When an agent is
    /// lost, the last known values are used.
    async fn known_once(&mut self) -> Result<()> {
        for sub in self.keys.values_mut() {
            sub.wait_for(|state| state.value != kvgossip_client::Value::Unknown).await?;
        }
        for Filtered { matching, was_whole } in self.filters.values_mut() {
            loop {
                let status = matching.status();
                *was_whole |= matches!(status.dirty, None | Some(Dirty::Behind));
                if *was_whole && status.unknown == 0 {
                    break;
                }
                matching.next_status().await?;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Known {
        let mut known = Known::default();
        for (key, sub) in &mut self.keys {
            let value = sub.mark_seen().value;
            known.keys.insert(key.clone(), value.entry().map(|entry| entry.value.clone()));
        }
        for (globs, Filtered { matching, .. }) in &mut self.filters {
            // Drained before the entries are read: changes in between are handled in the next round.
            while matching.pop().is_some() {}
            let entries = matching.entries().into_iter().map(|(key, entry)| (key, entry.value));
            known.filters.insert(globs.clone(), entries.collect());
        }
        known
    }

    /// Waits for a change of any subscription.
    async fn changed(&mut self) -> Result<()> {
        type Wait<'a> = Pin<Box<dyn Future<Output = Result<(), kvgossip_client::Closed>> + 'a>>;
        let keys =
            self.keys.values_mut().map(|sub| Box::pin(async { sub.changed().await.map(|_| ()) }) as Wait<'_>);
        let filters = self
            .filters
            .values_mut()
            .map(|all| Box::pin(async { all.matching.next().await.map(|_| ()) }) as Wait<'_>);
        let mut waits: Vec<Wait<'_>> = keys.chain(filters).collect();
        std::future::poll_fn(|context| {
            for wait in &mut waits {
                if let Poll::Ready(done) = wait.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
            }
            Poll::Pending
        })
        .await?;
        Ok(())
    }
}
