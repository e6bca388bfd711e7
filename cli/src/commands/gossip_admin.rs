//! `force-leave`, `gossip-key` and `tags`: administration of the gossip.

use super::members::pair;
use crate::codes;
use crate::connect::{AgentArgs, converse};
use crate::error::{Exit, Failure, Result};
use crate::files;
use crate::output::{self, Format, counted, printable, table};
use crate::text::shown_names;
use clap::{Args, Subcommand};
use kvgossip_api::{ForceLeaveRequest, GossipKeyRequest, GossipKeysResponse, KeyAction, TagsRequest};
use kvgossip_membership::Key;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Default timeout of `gossip-key`, in which members have to answer.
const LIMIT: Duration = Duration::from_secs(60);
/// Maximum size of a gossip key as text with surrounding blanks, in bytes.
const MAX_KEY_TEXT: usize = 256;

/// Declare that a failed member has left, so that the others stop trying it.
///
/// A live member refutes this and stays.
#[derive(Debug, Args)]
pub(crate) struct ForceLeaveArgs {
    /// The member's name, as `members` shows it.
    #[arg(value_parser = shown_names())]
    name: String,
    /// Forget it at once, here and at all members.
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// List and change the keys that encrypt the gossip.
///
/// To change keys: install the new key, use it, remove the old one. All members do each step, including Serf agents;
/// the command ends with 7 if some have not. A member that was cut off meanwhile has only the old key, and is not
/// admitted any more.
#[derive(Debug, Args)]
pub(crate) struct GossipKeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    List(ListArgs),
    Install(InstallArgs),
    Use(UseArgs),
    Remove(RemoveArgs),
}

/// List the keys, and how many members have each. The output holds secrets.
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    agent: AgentArgs,
}

/// Make all members add a key, which decrypts from then on.
#[derive(Debug, Args)]
struct InstallArgs {
    #[command(flatten)]
    key: KeyArgs,
}

/// Make all members encrypt with a key that they have.
#[derive(Debug, Args)]
struct UseArgs {
    #[command(flatten)]
    key: KeyArgs,
}

/// Make all members forget a key that none encrypts with.
#[derive(Debug, Args)]
struct RemoveArgs {
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// The key in base64, or `-` for standard input. Other users of this machine can see the command line.
    key: String,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Change the tags of the agent, which all members see, until it is started again.
#[derive(Debug, Args)]
pub(crate) struct TagsArgs {
    #[command(subcommand)]
    verb: TagsVerb,
}

#[derive(Debug, Subcommand)]
enum TagsVerb {
    Set(SetArgs),
    Delete(DeleteArgs),
}

/// Set tags to values.
#[derive(Debug, Args)]
struct SetArgs {
    /// The tags.
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Remove tags.
#[derive(Debug, Args)]
struct DeleteArgs {
    /// The tags' names, as `members --long` shows them.
    #[arg(required = true, value_name = "NAME", value_parser = shown_names())]
    names: Vec<String>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs `force-leave`.
pub(crate) fn force_leave(args: &ForceLeaveArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let request = ForceLeaveRequest { name: args.name.clone(), prune: args.prune };
    let answer = converse(&client, async { Ok(client.force_leave(&request).await?) })?;
    match format {
        Format::Json => output::json(&answer)?,
        Format::Text if answer.alive => output::text(&alive_text(&args.name))?,
        Format::Text => output::text(&format!("{} counts as having left\n", printable(&args.name)))?,
    }
    Ok(Exit::Ok)
}

fn alive_text(name: &str) -> String {
    let name = printable(name);
    format!(
        "{name} is alive as this agent sees it: it refutes this, and stays a member; to have it leave, run `kvgossip leave` at \
         its own agent. If it has just ended, it counts as having left as soon as that is noticed\n"
    )
}

/// Runs `tags`.
pub(crate) fn tags(args: &TagsArgs, format: Format) -> Result<Exit> {
    let (request, agent) = match &args.verb {
        TagsVerb::Set(args) => {
            let set = args.tags.iter().cloned().collect();
            (TagsRequest { set, delete: Vec::new() }, &args.agent)
        }
        TagsVerb::Delete(args) => {
            (TagsRequest { delete: args.names.clone(), ..TagsRequest::default() }, &args.agent)
        }
    };
    let client = agent.client()?;
    converse(&client, async { Ok(client.change_tags(&request).await?) })?;
    if format == Format::Json {
        output::json(&json!({}))?;
    }
    Ok(Exit::Ok)
}

/// Runs `gossip-key`.
pub(crate) fn gossip_key(args: &GossipKeyArgs, format: Format) -> Result<Exit> {
    let answer = match &args.verb {
        KeyVerb::List(args) => {
            let (client, limit) = (args.agent.client()?, args.agent.timeout_or(LIMIT));
            converse(&client, async { Ok(client.gossip_keys(limit).await?) })?
        }
        KeyVerb::Install(args) => change(&args.key, KeyAction::Install)?,
        KeyVerb::Use(args) => change(&args.key, KeyAction::Use)?,
        KeyVerb::Remove(args) => change(&args.key, KeyAction::Remove)?,
    };
    match format {
        Format::Json => output::json(&answer)?,
        Format::Text => output::text(&keys_text(&answer))?,
    }
    Ok(if answer.failure.is_none() { Exit::Ok } else { Exit::TimedOut })
}

fn change(args: &KeyArgs, action: KeyAction) -> Result<GossipKeysResponse> {
    let request = GossipKeyRequest { action, key: key_text(&args.key)? };
    let (client, limit) = (args.agent.client()?, args.agent.timeout_or(LIMIT));
    converse(&client, async { Ok(client.change_gossip_keys(&request, limit).await?) })
}

fn key_text(given: &str) -> Result<String> {
    let text = if given == "-" { key_from_input()? } else { given.to_owned() };
    // The error message does not repeat the key.
    let malformed = |error| Failure::new(codes::USAGE, format!("the text is no key of gossip: {error}"));
    Key::from_base64(&text).map_err(malformed)?;
    Ok(text)
}

fn key_from_input() -> Result<String> {
    let read = files::read(Path::new("-"), MAX_KEY_TEXT)?;
    let text = read.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| Failure::new(codes::USAGE, "standard input holds no key in base64"))?;
    Ok(text.trim().to_owned())
}

fn keys_text(answer: &GossipKeysResponse) -> String {
    let mut text = String::new();
    if !answer.keys.is_empty() {
        let rows: Vec<_> = answer
            .keys
            .iter()
            .map(|key| [key.key.clone(), format!("{} of {}", key.members, answer.members)])
            .collect();
        text.push_str(&table(["KEY", "MEMBERS"], &rows));
    }
    for (name, message) in &answer.messages {
        text.push_str(&printable(&format!("{name}: {message}")));
        text.push('\n');
    }
    let done = answer.answered.saturating_sub(answer.failed);
    let members = counted(answer.members, "member has", "members have");
    text.push_str(&format!("{done} of {members} done it\n"));
    text
}
