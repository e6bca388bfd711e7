//! `members`, `join`, `leave`, `event` and `query`: uses the agent's gossip.

use crate::clocks::show_offset;
use crate::connect::{AgentArgs, converse};
use crate::error::{Exit, Failure, Result};
use crate::output::{self, Format, counted, printable, short, short_or, table};
use crate::text::{self, TextFault, shown_names};
use crate::{codes, files, time};
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Args;
use kvgossip_agent::gossip::{JoinTarget, ParseJoinError};
use kvgossip_api::{
    EventRequest, Holds, JoinResponse, MAX_JOINS, MAX_QUERY_MS, MemberRow, MembersResponse, QueryRequest,
    QueryResponse,
};
use kvgossip_membership::core::MAX_LIMIT;
use serde_json::json;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Maximum size of a payload that is read, in bytes: the highest limit that an agent can have. The agent checks its
/// own limit.
const MAX_PAYLOAD: usize = MAX_LIMIT;
/// Time to wait for the agent's answer after the query has ended.
const SLACK: Duration = Duration::from_secs(30);
/// Duration assumed for a query without an explicit one, in a very large cluster.
const LONGEST_QUERY: Duration = Duration::from_secs(30);

/// List the members of the gossip: how they are, and whether they hold the same.
#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    /// Also show the members' tags.
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Make the agent join the gossip of these members.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// Any members of the cluster; the port is 7946 if none is given.
    #[arg(required = true, value_name = "HOST[:PORT]", value_parser = join_target)]
    addresses: Vec<JoinTarget>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Make the agent leave the gossip, so that the others do not take it for failed.
///
/// The agent goes on serving what it holds and stays connected with listed peers. It comes back when it is started
/// with --join.
#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    #[command(flatten)]
    agent: AgentArgs,
}

/// Send an event to all members; Serf agents run their handlers for it.
#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    /// The event's name.
    name: String,
    /// Payload of the event: at most 512 bytes (or the agent's --user-event-size-limit) with the name and the
    /// encoding, some 30 bytes; `-` is standard input.
    payload: Option<OsString>,
    /// Let handlers merge several events of this name into one.
    #[arg(long)]
    coalesce: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Ask members, and print their answers.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The query's name.
    name: String,
    /// Payload of the query: at most 1024 bytes (or the agent's --query-size-limit) with the name, the filters and the
    /// encoding; `-` is standard input.
    payload: Option<OsString>,
    /// Ask only this member, by its name as `members` shows it. Repeatable.
    #[arg(long = "node", value_name = "NAME", value_parser = shown_names())]
    nodes: Vec<String>,
    /// Ask only members whose tag matches this regular expression. Repeatable.
    #[arg(long = "tag", value_name = "TAG=REGEX", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Do not ask every member for an acknowledgement.
    #[arg(long)]
    no_ack: bool,
    /// Number of other members through which answers are sent in addition, 0 to 5.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = text::within(0..=5u8))]
    relay_factor: u8,
    /// Time to wait for answers, at most 5m [default: grows with the cluster, some seconds].
    #[arg(long, value_name = "DURATION", value_parser = query_wait)]
    wait: Option<Duration>,
    #[command(flatten)]
    agent: AgentArgs,
}

pub(crate) fn join_target(text: &str) -> std::result::Result<JoinTarget, String> {
    text.parse().map_err(|error: ParseJoinError| error.to_string())
}

/// Parses `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no NAME=VALUE")),
    }
}

/// Parses the duration of a query, at most 5 minutes.
fn query_wait(text: &str) -> std::result::Result<Duration, TextFault> {
    let longest = Duration::from_millis(MAX_QUERY_MS);
    let wait = time::duration(text)?;
    match wait <= longest {
        true => Ok(wait),
        false => {
            let most = time::show_duration(MAX_QUERY_MS * 1000);
            let reason = format!("a query waits at most {most} for its answers");
            Err(TextFault::whole(codes::USAGE, "what --wait takes", &reason, text))
        }
    }
}

/// Returns the payload in base64, read from standard input if it is `-`; empty if none is given.
fn payload(given: Option<&OsString>) -> Result<String> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = match given {
        None => Vec::new(),
        Some(text) if text == "-" => {
            let read = files::read(Path::new("-"), MAX_PAYLOAD)?;
            read.ok_or_else(|| {
                Failure::new(
                    codes::USAGE,
                    format!("standard input has more than {}", text::show_bytes(MAX_PAYLOAD as u64)),
                )
            })?
        }
        Some(text) => text.as_bytes().to_vec(),
    };
    Ok(BASE64_STANDARD.encode(bytes))
}

/// Runs `members`.
pub(crate) fn members(args: &MembersArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let answer = converse(&client, async { Ok(client.members().await?) })?;
    match format {
        Format::Json => answer.members.iter().try_for_each(output::json)?,
        Format::Text => output::text(&members_text(&answer, args.long))?,
    }
    if answer.left_out > 0 {
        let more = counted(answer.left_out, "more member is", "more members are");
        eprintln!("{more} not listed: those that are connected come first, then those that live");
    }
    Ok(Exit::Ok)
}

fn members_text(answer: &MembersResponse, long: bool) -> String {
    if answer.gossip.is_none() {
        let why = if answer.left {
            "it has left; start it again with --join or --rejoin to come back"
        } else {
            "it was started without --bind"
        };
        return format!("the agent takes no part in gossip: {why}\n");
    }
    let rows: Vec<_> = answer.members.iter().map(member_row).collect();
    let mut text = String::new();
    let head = ["NAME", "ADDRESS", "STATUS", "REPLICA", "ROOT", "HOLDS", "ROUND TRIP", "CLOCK", "LAST SYNC"];
    let lines = table(head, &rows);
    let mut lines = lines.lines();
    text.extend(lines.next().into_iter().flat_map(|line| [line, "\n"]));
    for (line, member) in lines.zip(&answer.members) {
        text.push_str(line);
        text.push('\n');
        if let Some(note) = note(member) {
            text.push_str(&format!("    {}\n", printable(&note)));
        }
        for (name, value) in member.tags.iter().filter(|_| long) {
            text.push_str(&format!("    {}\n", printable(&format!("{name}={value}"))));
        }
    }
    text
}

/// Describes what is wrong with a member; `None` if nothing is.
fn note(member: &MemberRow) -> Option<String> {
    if let Some(cluster) = &member.other_cluster {
        return Some(format!("a replica of another cluster, {cluster}: nothing is synced with it"));
    }
    member
        .contested
        .then(|| "another member announces this replica, too, and this one has not proved its key".to_owned())
}

fn member_row(member: &MemberRow) -> [String; 9] {
    let status = if member.suspect { "suspect" } else { &member.status };
    let since = member.holds_since_us.map(|at| format!(" since {}", time::show(at))).unwrap_or_default();
    let holds = match (&member.replica, member.local, member.holds, member.lag_us) {
        (None, ..) => "-".to_owned(),
        (_, true, ..) => "this agent".to_owned(),
        (_, _, Holds::Unknown, _) => match member.root_at_us {
            Some(at) => format!("unknown, last heard {}", time::show(at)),
            None => "unknown".to_owned(),
        },
        (_, _, Holds::Same, _) => format!("the same{since}"),
        (_, _, Holds::Differs, Some(lag)) => format!("older, for {}", time::show_duration(lag)),
        (_, _, Holds::Differs, None) => format!("something else{since}"),
    };
    let says = match member.says {
        Some(Holds::Same) => " (says: the same)",
        Some(Holds::Differs) => " (says: something else)",
        Some(Holds::Unknown) | None => "",
    };
    let last = member.last_sync.as_ref();
    [
        member.name.clone(),
        member.address.clone(),
        status.to_owned(),
        short_or(member.replica.as_ref(), "-").to_owned(),
        member.root.as_deref().map_or("-", short).to_owned(),
        format!("{holds}{says}"),
        member.rtt_us.map_or("-".to_owned(), time::show_duration),
        member.clock_offset_us.map_or("-".to_owned(), show_offset),
        match (&member.shut_out, last) {
            (Some(out), _) => {
                format!("{}, shut out for {} more", printable(&out.code), time::show_duration(out.left_us))
            }
            (None, Some(sync)) => format!("{} at {}", sync.outcome, time::show(sync.ended_at_us)),
            (None, None) => "-".to_owned(),
        },
    ]
}

/// Runs `join`.
pub(crate) fn join(args: &JoinArgs, format: Format) -> Result<Exit> {
    if args.addresses.len() > MAX_JOINS {
        let message =
            format!("{} members are named, and at most {MAX_JOINS} are joined at once", args.addresses.len());
        return Err(Failure::new(codes::USAGE, message).note("name a few: they tell of all the others"));
    }
    let client = args.agent.client()?;
    let addresses = args.addresses.iter().map(ToString::to_string).collect();
    let JoinResponse { joined: answered, failed } =
        converse(&client, async { Ok(client.join(addresses).await?) })?;
    match format {
        Format::Json => output::json(&json!({ "joined": answered, "failed": failed }))?,
        Format::Text => {
            output::text(&format!("{answered} of {} answered\n", args.addresses.len()))?;
            failed.iter().for_each(|why| output::say(&format!("no answer: {why}")));
        }
    }
    Ok(Exit::Ok)
}

/// Runs `leave`.
pub(crate) fn leave(args: &LeaveArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    converse(&client, async { Ok(client.leave().await?) })?;
    match format {
        Format::Json => output::json(&json!({}))?,
        Format::Text => output::text("the agent has left the gossip\n")?,
    }
    Ok(Exit::Ok)
}

/// Runs `event`.
pub(crate) fn event(args: &EventArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let event = EventRequest {
        name: args.name.clone(),
        payload_b64: payload(args.payload.as_ref())?,
        coalesce: args.coalesce,
    };
    converse(&client, async { Ok(client.event(&event).await?) })?;
    if format == Format::Json {
        output::json(&json!({}))?;
    }
    Ok(Exit::Ok)
}

/// Runs `query`.
pub(crate) fn query(args: &QueryArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let query = QueryRequest {
        name: args.name.clone(),
        payload_b64: payload(args.payload.as_ref())?,
        nodes: args.nodes.clone(),
        tags: args.tags.iter().cloned().collect(),
        ack: !args.no_ack,
        relay_factor: args.relay_factor,
        timeout_ms: args.wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    };
    let limit = args.agent.timeout_or(args.wait.unwrap_or(LONGEST_QUERY) + SLACK);
    let answer = converse(&client, async { Ok(client.query(&query, limit).await?) })?;
    match format {
        Format::Json => output::json(&answer)?,
        Format::Text => output::text(&answers_text(&answer))?,
    }
    Ok(Exit::Ok)
}

fn answers_text(answer: &QueryResponse) -> String {
    let mut text = String::new();
    for name in &answer.acks {
        text.push_str(&printable(&format!("{name} has received it")));
        text.push('\n');
    }
    for response in &answer.responses {
        let payload = response.payload.as_deref().map(str::trim_end);
        let said = payload.map_or_else(|| format!("(base64) {}", response.payload_b64), str::to_owned);
        text.push_str(&printable(&format!("{}: {said}", response.from)));
        text.push('\n');
    }
    text.push_str(&format!("{} acknowledged, {} answered\n", answer.acks.len(), answer.responses.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};
    use kvgossip_membership::Limits;
    use std::os::unix::ffi::OsStringExt;

    fn query(args: Vec<OsString>) -> Result<QueryArgs> {
        let command = QueryArgs::augment_args(Command::new("query").no_binary_name(true));
        let parsed = command.try_get_matches_from(args).map_err(|error| crate::usage::usage(&error))?;
        Ok(QueryArgs::from_arg_matches(&parsed).expect("good values"))
    }

    #[test]
    fn what_any_agent_may_take_is_read() {
        let least = Limits::default();
        for most in [Limits { user_event: MAX_PAYLOAD, ..least }, Limits { query: MAX_PAYLOAD, ..least }] {
            assert_eq!(most.check(), Ok(()));
        }
        assert!(Limits { query: MAX_PAYLOAD + 1, ..least }.check().is_err());
    }

    #[test]
    fn a_wait_that_no_agent_allows_is_refused_by_its_option_s_name() {
        let wait = query(vec!["load".into(), "--wait=5m".into()]).expect("allowed").wait;
        assert_eq!(wait, Some(Duration::from_millis(MAX_QUERY_MS)));
        let refused = query(vec!["load".into(), "--wait=6m".into()]).expect_err("too long");
        assert_eq!(refused.code(), codes::USAGE);
        let told = refused.message();
        assert!(told.contains("--wait") && told.contains("5 min") && !told.contains("timeout_ms"), "{told}");
    }

    #[test]
    fn a_name_in_bytes_that_are_not_utf_8_is_told_how_it_is_shown() {
        let name = OsString::from_vec(b"--node=caf\xe9".to_vec());
        let refused = query(vec!["load".into(), name]).expect_err("no UTF-8");
        let told = format!("{refused:?}");
        assert!(refused.message().contains("as it is shown"), "{told}");
        assert!(told.contains("caf\\\\xe9"), "the debug form doubles the backslash: {told}");
        let shown = query(vec!["load".into(), "--node=caf\\xe9".into()]).expect("the shown form");
        assert_eq!(shown.nodes, ["caf\\xe9"]);
    }
}
