//! `watch`: prints changes of keys as text or JSON, or runs a command for each.

use super::watch_command::Runner;
use super::watch_told::Told;
use crate::answer::unexpected;
use crate::codes;
use crate::connect::{AgentArgs, LiveArgs, say_if_slow, until_stopped};
use crate::error::{Exit, Failure, Result};
use crate::live_report;
use crate::output::{self, Format, say};
use crate::text;
use clap::Args;
use kvgossip_client::{BuildError, Cause, Change, Client, Closed, Dirty, Endpoint, State, Value};
use kvgossip_grants::{Filter, FilterRule, Key};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use tokio::task::JoinSet;

/// Follow keys as they change.
///
/// A key is followed whether it is set or not. Globs work as for `ls`. First come the present values, and `absent` for
/// each key that is named in full and unset. Then comes every change: written, deleted, revoked, floored, expired.
/// Changes that come faster than they are read become one, with the latest value. When the agent is lost, the command
/// says so, keeps the last values, and goes on when an agent is back.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// A key, or globs such as /my/**/sta* or !/my/tmp/**.
    #[arg(value_name = "KEY|GLOB", required = true, value_parser = text::filter_rule)]
    what: Vec<FilterRule>,
    /// Stop after this many lines, counting those of present values and of named keys that are unset.
    #[arg(long, value_name = "N", value_parser = text::whole::<u64>)]
    count: Option<u64>,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    agent: AgentArgs,
    /// Run this at each change, one at a time, with KVGOSSIP_KEY, KVGOSSIP_EVENT, KVGOSSIP_ENTRY and KVGOSSIP_VALUE,
    /// and with the value on standard input. If the key changes meanwhile, the command runs once more, with the latest
    /// value.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::new(codes::INTERNAL, error.to_string())
    }
}

impl From<Closed> for Failure {
    fn from(error: Closed) -> Self {
        Self::new("client.closed", error.to_string())
    }
}

/// Runs `watch`.
pub(crate) fn watch(args: &WatchArgs, format: Format) -> Result<Exit> {
    let mut sink = Sink {
        format,
        left: args.count,
        runner: (!args.command.is_empty()).then(|| Runner::new(&args.command)),
    };
    let (builder, endpoint) = (args.agent.live(&args.live)?, args.agent.endpoint()?);
    let ended = until_stopped(args.count.is_some(), async {
        let client = builder.build()?;
        let one = match args.what.as_slice() {
            [rule] if !rule.excludes && rule.glob.is_literal() => Key::parse(rule.glob.as_str()).ok(),
            _ => None,
        };
        tokio::select! {
            // The report never completes.
            () = live_report::report(&client) => Ok(()),
            done = async {
                match one {
                    Some(key) => watch_key(&client, &endpoint, &key, &mut sink).await,
                    None => watch_globs(&client, &endpoint, &args.what, &mut sink).await,
                }
            } => done,
        }
    })?;
    // Without --count, Ctrl-C is the normal end.
    ended.map_or(Ok(Exit::Ok), |()| sink.end())
}

/// Destination of the changes: standard output or a command, and the number of lines that are left.
struct Sink {
    format: Format,
    left: Option<u64>,
    runner: Option<Runner>,
}

impl Sink {
    /// Reports a change; returns whether more are wanted.
    async fn take(&mut self, told: Told) -> Result<bool> {
        match &mut self.runner {
            Some(runner) => runner.run(&told).await?,
            None => told.tell(self.format)?,
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(self.left != Some(0))
    }

    fn end(self) -> Result<Exit> {
        match self.runner.map_or(0, |runner| runner.failures()) {
            0 => Ok(Exit::Ok),
            failures => {
                let times = output::counted(failures, "time", "times");
                Err(Failure::new(codes::COMMAND_FAILED, format!("the command failed {times}")))
            }
        }
    }
}

async fn watch_key(client: &Client, endpoint: &Endpoint, key: &Key, sink: &mut Sink) -> Result<()> {
    if sink.left == Some(0) {
        return Ok(());
    }
    let (mut values, mut dirt) = (client.subscribe(key), client.subscribe(key));
    let (mut first, mut known) = (true, client.subscribe(key));
    let has_told = Cell::new(false);
    let values = async {
        say_if_slow(endpoint, known.wait_for(|state| state.value != Value::Unknown)).await?;
        drop(known);
        loop {
            let State { value, cause, .. } = values.next_value().await?;
            if value == Value::Unknown {
                continue;
            }
            has_told.set(true);
            let told = Told::of(key, value.entry().cloned(), cause, std::mem::take(&mut first));
            if !sink.take(told).await? {
                return Ok(());
            }
        }
    };
    let dirt = async {
        loop {
            tell_dirt(dirt.next_dirtiness().await?, has_told.get());
        }
    };
    tokio::select! {
        biased;
        done = values => done,
        done = dirt => done,
    }
}

async fn watch_globs(
    client: &Client,
    endpoint: &Endpoint,
    rules: &[FilterRule],
    sink: &mut Sink,
) -> Result<()> {
    if sink.left == Some(0) {
        return Ok(());
    }
    let filter = Filter::parse(rules.iter().map(ToString::to_string));
    let filter = filter.map_err(|error| Failure::new(codes::GLOB_MALFORMED, error.to_string()))?;
    let (mut changes, mut status) = (client.subscribe_filter(&filter), client.subscribe_filter(&filter));
    // Keys given in full and not reported yet.
    let mut untold: BTreeSet<Key> = rules
        .iter()
        .filter(|rule| !rule.excludes && rule.glob.is_literal())
        .filter_map(|rule| Key::parse(rule.glob.as_str()).ok())
        .filter(|key| filter.includes(key))
        .collect();
    let mut unset = JoinSet::new();
    for key in &untold {
        let mut named = client.subscribe(key);
        unset.spawn(async move {
            let known = named.wait_for(|state| state.value == Value::Absent).await;
            known.map(|_| named.key().clone())
        });
    }
    let has_told = Cell::new(false);
    let changes = async {
        let mut loaded = client.subscribe_filter(&filter);
        // Loaded, not clean: one key that does not verify must not delay the others.
        say_if_slow(endpoint, loaded.loaded()).await?;
        has_told.set(true);
        // Entries present when loading has ended are current values, not changes.
        let mut standing: BTreeSet<Key> = loaded.entries().into_keys().collect();
        drop(loaded);
        loop {
            let told = tokio::select! {
                Some(key) = unset.join_next() => {
                    let key = key.map_err(|_| unexpected("a subscription broke"))??;
                    if !untold.contains(&key) {
                        continue;
                    }
                    standing.remove(&key);
                    Told::of(&key, None, Some(Cause::Loaded), true)
                }
                change = changes.next() => match change? {
                    Change::Added { entry, cause } | Change::Updated { entry, cause } => {
                        let first = standing.remove(&entry.key);
                        Told::of(&entry.key.clone(), Some(entry), Some(cause), first)
                    }
                    Change::Removed { key, cause } => Told::of(&key, None, Some(cause), false),
                },
            };
            untold.remove(&told.key);
            if !sink.take(told).await? {
                return Ok(());
            }
        }
    };
    let status = async {
        let mut last = None;
        loop {
            let now = status.next_status().await?.dirty;
            if now != last {
                tell_dirt(now, has_told.get());
                last = now;
            }
        }
    };
    tokio::select! {
        biased;
        done = changes => done,
        done = status => done,
    }
}

/// Prints on standard error whether the values may be out of date. Before the first report there are none.
fn tell_dirt(dirt: Option<Dirty>, has_told: bool) {
    match dirt {
        Some(Dirty::Disconnected) if !has_told => say("no agent is connected: nothing is known yet"),
        Some(Dirty::Unsynced) if !has_told => {
            say("the agent was never compared with a peer: what it lacks proves nothing");
        }
        // The values themselves show it.
        None | Some(Dirty::Loading) => {}
        Some(Dirty::Disconnected) => say("no agent is connected: the last known values stay"),
        Some(Dirty::Unsynced) => say(
            "the agent was never compared with a peer: what it lacks proves nothing, and the last known values stay",
        ),
        Some(Dirty::Behind) => say("the agent is behind what was seen already: the later values stay"),
        Some(_) => say("the agent holds entries that do not verify or read: the last verified values stay"),
    }
}
