//! `get`, `set`, `del` and `ls`: entries.

use crate::answer::unexpected;
use crate::clocks::{self, Asked};
use crate::codes;
use crate::connect::{AgentArgs, UnionArgs, converse, converse_at, in_parts};
use crate::error::{Exit, Failure, Result};
use crate::files;
use crate::ids::{IdPrefix, id_prefix};
use crate::output::{self, Format, short, short_or};
use crate::sign::{Identity, SignArgs};
use crate::survey::{Survey, under};
use crate::writer::{Draft, plan};
use crate::{text, time};
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use clap::Args;
use kvgossip_api::{DEFAULT_PAGE_ROWS, KeyRow};
use kvgossip_client::{AgentClient, IfEntry, KeysQuery, Stored, Written};
use kvgossip_grants::{
    ClusterId, Code, EntryDraft, Fact, FilterRule, Key, MAX_FILTER_GLOBS, MAX_VALUE_BYTES, PathPrefix,
};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Print a key's value.
///
/// The bytes go to standard output as they are; a newline is added only for a terminal. One agent can withhold what it
/// knows: --agents asks several agents and prints the newest valid value that any of them holds.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The key, such as /my/key.
    #[arg(value_parser = text::key)]
    key: Key,
    #[command(flatten)]
    union: UnionArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Set a key's value.
///
/// With --identity the command signs the entry. Without it the agent signs with its own identity, if it has one.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The key, such as /my/key.
    #[arg(value_parser = text::key)]
    key: Key,
    /// The value; `-` is standard input.
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_negative_numbers = true)]
    value: Option<OsString>,
    /// Take the value from a file; `-` is standard input.
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    #[command(flatten)]
    only_if: IfArgs,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Unset a key.
///
/// With --identity the command signs the entry. Without it the agent signs with its own identity, if it has one.
#[derive(Debug, Args)]
pub(crate) struct DelArgs {
    /// The key, such as /my/key.
    #[arg(value_parser = text::key)]
    key: Key,
    #[command(flatten)]
    only_if: IfArgs,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// The condition of a write.
#[derive(Debug, Args)]
struct IfArgs {
    /// Write only if the agent shows this entry for the key; `none`: only if the key is unset. Only if the agent
    /// signs, because only the agent can compare and write in one step.
    #[arg(long, value_name = "ID", value_parser = condition)]
    if_id: Option<Condition>,
}

#[derive(Clone, Debug)]
enum Condition {
    Unset,
    Entry(IdPrefix),
}

fn condition(text: &str) -> Result<Condition, text::TextFault> {
    if text == "none" { Ok(Condition::Unset) } else { id_prefix(text).map(Condition::Entry) }
}

/// List keys.
///
/// The last glob that matches a key decides; `!GLOB` leaves keys out. A key that matches none is listed only if the
/// first glob begins with `!`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Which keys, such as /my/**/sta* or !/my/tmp/**; all keys if there is none.
    #[arg(value_name = "GLOB", value_parser = text::filter_rule)]
    globs: Vec<FilterRule>,
    /// Maximum number of keys.
    #[arg(long, value_name = "N", value_parser = text::whole::<usize>)]
    limit: Option<usize>,
    /// Show when each was written, its entry and the grant that the entry cites.
    #[arg(short)]
    long: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs `get`.
pub(crate) fn get(args: &GetArgs, format: Format) -> Result<Exit> {
    let found = match args.agent.union(&args.union)? {
        None => {
            let client = args.agent.client()?;
            converse(&client, async { Ok(client.get(&args.key).await?) })?
        }
        Some((builder, agents)) => converse_at(&args.agent.endpoint()?, async {
            let entry = builder.build()?.asking(agents).get(&args.key).await?;
            Ok(entry.map(|entry| Stored {
                written: Written { entry: entry.id, timestamp: entry.timestamp, grant: entry.grant },
                value: entry.value,
            }))
        })?,
    };
    let found = found.ok_or_else(|| unset(&args.key))?;
    match format {
        Format::Text => output::raw(&found.value)?,
        Format::Json => output::json(&value_object(&args.key, &found))?,
    }
    Ok(Exit::Ok)
}

fn unset(key: &Key) -> Failure {
    Failure::new(codes::KEY_UNSET, format!("{key} is not set"))
}

fn value_object(key: &Key, found: &Stored) -> serde_json::Value {
    let mut object = written_object(key, &found.written);
    if let Ok(text) = str::from_utf8(&found.value) {
        object["value"] = text.into();
    }
    object["value_b64"] = BASE64_STANDARD.encode(&found.value).into();
    object
}

fn written_object(key: &Key, written: &Written) -> serde_json::Value {
    json!({
        "key": key.as_str(),
        "entry": written.entry.to_string(),
        "timestamp_us": written.timestamp.as_micros(),
        "grant": written.grant.map(|grant| grant.to_string()),
    })
}

/// Runs `set`.
pub(crate) fn set(args: &SetArgs, format: Format) -> Result<Exit> {
    let from_stdin = args.value.as_deref() == Some(OsStr::new("-"));
    let file = args.file.as_deref().or(from_stdin.then_some(Path::new("-")));
    if file.is_some_and(files::is_dash) && args.sign.takes_stdin() {
        return Err(Failure::new(
            codes::USAGE,
            "the value and the identity cannot both come from standard input",
        ));
    }
    let value: Bytes = match (file, &args.value) {
        (Some(path), _) => files::read(path, MAX_VALUE_BYTES)?.ok_or_else(|| too_large(&args.key))?.into(),
        (None, value) => value.clone().unwrap_or_default().into_encoded_bytes().into(),
    };
    if value.len() > MAX_VALUE_BYTES {
        return Err(too_large(&args.key));
    }
    Write { key: &args.key, value: Some(value), only_if: &args.only_if, sign: &args.sign, agent: &args.agent }
        .run(format)
}

fn too_large(key: &Key) -> Failure {
    let limit = text::show_bytes(MAX_VALUE_BYTES as u64);
    let text = format!("the value for {key} has more than {limit}; store it in parts or elsewhere");
    Failure::new(Code::TooLarge.as_str(), text)
}

/// Runs `del`.
pub(crate) fn del(args: &DelArgs, format: Format) -> Result<Exit> {
    Write { key: &args.key, value: None, only_if: &args.only_if, sign: &args.sign, agent: &args.agent }
        .run(format)
}

/// One write to one key, with the condition and the signer that the command line gives.
struct Write<'a> {
    key: &'a Key,
    /// Value to set; `None`: unset the key.
    value: Option<Bytes>,
    only_if: &'a IfArgs,
    sign: &'a SignArgs,
    agent: &'a AgentArgs,
}

impl Write<'_> {
    fn run(self, format: Format) -> Result<Exit> {
        let client = self.agent.client()?;
        let written = if self.sign.signs() {
            if self.only_if.if_id.is_some() {
                let text =
                    "--if-id only works where the agent signs: leave --identity (KVGOSSIP_IDENTITY) out";
                return Err(Failure::new(codes::USAGE, text));
            }
            let identity = self.sign.identity("set")?;
            if self.sign.from.is_some() {
                converse(&client, self.sign_by_file(&client, &identity))?
            } else {
                converse(&client, self.sign_here(&client, &identity))?
            }
        } else {
            self.sign.check_unsigned()?;
            converse(&client, self.sign_there(&client))?
        };
        if format == Format::Json && self.sign.out.is_none() {
            output::json(&written_object(self.key, &written))?;
        }
        Ok(Exit::Ok)
    }

    /// Has the agent sign the entry with its own identity.
    async fn sign_there(&self, client: &AgentClient) -> Result<Written> {
        let only_if = match &self.only_if.if_id {
            None => None,
            Some(Condition::Unset) => Some(IfEntry::None),
            Some(Condition::Entry(wanted)) => Some(IfEntry::Is(self.current(client, wanted).await?)),
        };
        let written = match &self.value {
            Some(value) => client.put(self.key, value.clone(), only_if).await,
            None => client.delete(self.key, only_if).await,
        };
        written.map_err(|error| {
            let is_conflict = error.code() == codes::KEY_CONFLICT;
            let failure = Failure::from(error);
            match &self.only_if.if_id {
                Some(Condition::Unset) if is_conflict => {
                    failure.note("  --if-id none writes only where the key is unset: nothing was written")
                }
                Some(Condition::Entry(_)) if is_conflict => {
                    failure.note("  --if-id writes only over the entry that it names: nothing was written")
                }
                _ => failure,
            }
        })
    }

    /// Returns the wanted id if it is whole, else the id of the entry that the key shows at the agent. Fails if that
    /// one does not start with the wanted digits.
    async fn current(&self, client: &AgentClient, wanted: &IdPrefix) -> Result<kvgossip_grants::EntryId> {
        if let Ok(id) = wanted.as_str().parse() {
            return Ok(id);
        }
        let found = client.get(self.key).await?.map(|found| found.written.entry);
        found.filter(|id| id.to_string().starts_with(wanted.as_str())).ok_or_else(|| {
            let is = found.map_or("unset".to_owned(), |id| format!("at entry {}", id.short()));
            Failure::new(
                codes::KEY_CONFLICT,
                format!("{} is {is}, not at {wanted}: nothing was written", self.key),
            )
        })
    }

    /// Signs in this process, from the state in a file of facts.
    async fn sign_by_file(&self, client: &AgentClient, identity: &Identity) -> Result<Written> {
        let lookup = self.sign.source(Some(identity), client)?;
        let mut survey = Survey::begin(lookup.as_source()).await?;
        let cluster = survey.view().authority().cluster();
        identity.check_cluster(&cluster.to_string())?;
        let mut entries = survey.entries(&under(&PathPrefix::from(self.key)))?;
        while survey.next(&mut entries).await?.is_some() {}
        if self.value.is_none() && survey.view().shown(self.key, survey.now()).is_none() {
            return Err(unset(self.key));
        }
        let draft = Draft { key: self.key.clone(), value: self.value.clone() };
        let draft = plan(identity, survey.view(), survey.now(), &draft).map_err(|refused| {
            let text = format!("{} may not write {}: {}", identity.entity().short(), self.key, refused.why);
            Failure::new(refused.code, text)
        })?;
        self.sign_and_deliver(client, identity, cluster, draft).await
    }

    async fn sign_and_deliver(
        &self,
        client: &AgentClient,
        identity: &Identity,
        cluster: ClusterId,
        draft: EntryDraft,
    ) -> Result<Written> {
        let (timestamp, grant) = (draft.timestamp, draft.grant);
        let fact = identity.sign_entry(cluster, draft)?;
        let written = Written { entry: fact.id(), timestamp, grant };
        self.sign.deliver(client, &[Fact::Entry(fact)]).await?;
        Ok(written)
    }

    /// Signs the entry in this process, under the grant that the agent names, and sends it to the agent.
    async fn sign_here(&self, client: &AgentClient, identity: &Identity) -> Result<Written> {
        let asked = Asked::now();
        let answer = client.explain(identity.entity(), self.key).await?;
        let apart = asked.answered(answer.now_us);
        let cluster = identity.check_cluster(&answer.cluster)?;
        if !answer.accepted {
            return Err(super::inspect::not_allowed(identity.entity(), self.key, &answer));
        }
        if self.value.is_none() && answer.current.is_none() {
            return Err(unset(self.key));
        }
        let grant = match answer.chain.last() {
            Some(link) => Some(link.grant.parse().map_err(|_| unexpected("a grant's id that is none"))?),
            None => None,
        };
        self.sign.check_clock(apart)?;
        let timestamp = clocks::stamp(answer.stamp_us, answer.now_us)?;
        let draft = EntryDraft { key: self.key.clone(), value: self.value.clone(), timestamp, grant };
        self.sign_and_deliver(client, identity, cluster, draft).await
    }
}

/// Maximum number of keys in unknown state that an error names.
const MAX_UNKNOWN_NAMED: usize = 8;

/// Runs `ls`.
pub(crate) fn ls(args: &LsArgs, format: Format) -> Result<Exit> {
    if args.globs.len() > MAX_FILTER_GLOBS {
        let text =
            format!("at most {MAX_FILTER_GLOBS} globs, not {}: use fewer or wider ones", args.globs.len());
        return Err(Failure::new(codes::USAGE, text));
    }
    let client = args.agent.client()?;
    let mut pages = Pages::new(&client, args.globs.clone());
    let (mut left, mut first) = (args.limit.unwrap_or(usize::MAX), true);
    let next = async || {
        if left == 0 {
            return Ok(None);
        }
        let mut rows = pages.next(left.min(DEFAULT_PAGE_ROWS)).await?;
        if let Some(rows) = &mut rows {
            rows.truncate(left);
            left -= rows.len();
        }
        Ok(rows)
    };
    in_parts(&client, next, |rows| show_keys(&rows, args.long, std::mem::take(&mut first), format))?;
    check_known(&pages)
}

/// Fails if keys may be missing from the list because their state is unknown.
fn check_known(pages: &Pages<'_>) -> Result<Exit> {
    if pages.unknown.is_empty() {
        return Ok(Exit::Ok);
    }
    let named = pages.unknown.join(", ");
    let more =
        if pages.more_unknown > 0 { format!(", and {} more", pages.more_unknown) } else { String::new() };
    let text = format!(
        "it is not known whether these keys are set, as entries of them wait until they are due by the agent's clock: {named}{more}"
    );
    Err(Failure::new(Code::NotYet.as_str(), text)
        .note("see `kvgossip status` for which clock is wrong, or ask another agent"))
}

fn show_keys(rows: &[KeyRow], long: bool, first: bool, format: Format) -> Result<()> {
    match format {
        Format::Json => output::json_rows(rows),
        Format::Text if long => {
            let head = if first { ["WRITTEN", "ENTRY", "GRANT", "KEY"] } else { [""; 4] };
            let cells = rows.iter().map(|row| {
                let (entry, grant) = (short(&row.entry).to_owned(), short_or(row.grant.as_ref(), "root"));
                // The first three columns have fixed widths, so that pages align.
                [time::show(row.timestamp_us), entry, format!("{grant:8}"), row.key.clone()]
            });
            output::text(&output::table(head, &cells.collect::<Vec<_>>()))
        }
        Format::Text => {
            let lines: String = rows.iter().map(|row| output::printable(&row.key) + "\n").collect();
            output::text(&lines)
        }
    }
}

/// The keys of a filter, requested page by page.
pub(crate) struct Pages<'a> {
    client: &'a AgentClient,
    query: KeysQuery,
    ended: bool,
    /// First keys whose state is unknown, at most [`MAX_UNKNOWN_NAMED`].
    unknown: Vec<String>,
    /// Number of keys whose state is unknown, beyond those in `unknown`.
    more_unknown: usize,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(client: &'a AgentClient, filter: Vec<FilterRule>) -> Self {
        Self {
            client,
            query: KeysQuery { filter, ..KeysQuery::default() },
            ended: false,
            unknown: Vec::new(),
            more_unknown: 0,
        }
    }

    /// Requests the next page, of about `limit` rows; `None` after the last page.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Option<Vec<KeyRow>>> {
        if self.ended {
            return Ok(None);
        }
        self.query.limit = Some(limit);
        let page = self.client.keys(&self.query).await?;
        // An agent that returned the same place again would make the command loop forever.
        if page.next.is_some() && page.next == self.query.after {
            return Err(unexpected("pages that do not advance"));
        }
        self.ended = page.next.is_none();
        self.query.after = page.next;
        let room = MAX_UNKNOWN_NAMED.saturating_sub(self.unknown.len());
        self.more_unknown += page.unknown.len().saturating_sub(room);
        self.unknown.extend(page.unknown.into_iter().take(room));
        Ok(Some(page.keys))
    }
}
