//! `explain`, `status`, `digest` and `refusals`: inspects an agent.

use crate::clocks::show_offset;
use crate::connect::{AgentArgs, UnionArgs, converse};
use crate::entity::{Who, who};
use crate::error::{Exit, Failure, Result};
use crate::output::{self, Format, counted, printable, short, short_or, table};
use crate::text::{self, show_bytes};
use crate::time;
use crate::writer::NO_GRANT;
use clap::Args;
use kvgossip_api::{
    ExplainResponse, Grade, GrantBytesRow, Holds, LinkRow, LongKeyRow, PeerRow, RefusalRow, ShutOutRow,
    StatusResponse,
};
use kvgossip_grants::{Code, EntityId, Key, MAX_REJECTED, PathPrefix};

/// Show whether and why an entity may write a key.
///
/// Draws the chain of grants from root down to the entity; --agents asks several agents for grants and revocations. Ends with 4 if the entity may not write the key.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The key, such as /my/key.
    #[arg(value_parser = text::key)]
    key: Key,
    /// The entity: its id (8 digits or more), or a PEM file with its key.
    #[arg(long = "as", value_name = "ENTITY|PUB.pem", value_parser = who)]
    entity: Who,
    #[command(flatten)]
    union: UnionArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Show the state of an agent. Ends with 1 if it is not well or not ready.
///
/// Says "well" if nothing is wrong and the replica is known to hold what others hold; otherwise says why not.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    agent: AgentArgs,
}

/// Show the digests over the tree, or over a part of it.
///
/// Two replicas with equal digests hold the same facts.
#[derive(Debug, Args)]
pub(crate) struct DigestArgs {
    /// Path prefix of the part, such as /my; / is everything.
    #[arg(value_parser = text::prefix, default_value = "/")]
    prefix: PathPrefix,
    #[command(flatten)]
    agent: AgentArgs,
}

/// List facts that the agent refused lately, newest first.
#[derive(Debug, Args)]
pub(crate) struct RefusalsArgs {
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs `explain`.
pub(crate) fn explain(args: &ExplainArgs, format: Format) -> Result<Exit> {
    let union = args.agent.union(&args.union)?;
    let client = if union.is_some() { args.agent.first()? } else { args.agent.client()? };
    let (entity, answer) = converse(&client, async {
        let entity = args.entity.resolve(&client).await?;
        let answer = match union {
            None => client.explain(entity, &args.key).await?,
            Some((builder, agents)) => builder.build()?.asking(agents).explain(entity, &args.key).await?,
        };
        Ok((entity, answer))
    })?;
    match format {
        Format::Json => output::json(&answer)?,
        Format::Text => output::text(&explanation(entity, &args.key, &answer))?,
    }
    Ok(if answer.accepted { Exit::Ok } else { Exit::NotAuthorised })
}

fn explanation(entity: EntityId, key: &Key, answer: &ExplainResponse) -> String {
    let who = entity.short();
    if answer.is_root {
        return format!("yes: {who} is the cluster's root and may write every key\n");
    }
    if answer.accepted {
        let chain = draw_chain(&answer.chain, None);
        return format!("yes: {who} may write {key}, by this chain from root:\n{chain}");
    }
    if answer.rejected.is_empty() {
        return format!("no: {who} may not write {key}: {NO_GRANT}\n");
    }
    let mut text = format!("no: {who} may not write {key}\n");
    for rejected in &answer.rejected {
        let why = format!("{} [{}]", rejected.message, rejected.code);
        text.push_str(&draw_chain(&rejected.chain, Some((rejected.failing, &why))));
    }
    if answer.rejected.len() >= MAX_REJECTED {
        text.push_str(&format!(
            "there may be more: at most {MAX_REJECTED} chains that fail are looked for\n"
        ));
    }
    text
}

/// Formats a chain, one line per grant, root's first. The failing grant is marked with `x`; the reason follows below
/// it.
fn draw_chain(chain: &[LinkRow], fault: Option<(usize, &str)>) -> String {
    let failing = fault.map(|(at, _)| at);
    let row = |(at, link): (usize, &LinkRow)| {
        let mark = if failing == Some(at) { "x" } else { " " };
        let issuer = if at == 0 { "root" } else { short(&link.issuer) };
        let subgrant = if link.subgrant { "may pass on" } else { "" };
        let until = link.expires_at_us.map(|until| format!("until {}", time::show(until)));
        [
            format!(" {mark} {issuer:8} -> {}", short(&link.grantee)),
            link.pattern.clone(),
            format!("grant {}", short(&link.grant)),
            subgrant.to_owned(),
            until.unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = chain.iter().enumerate().map(row).collect();
    let mut text = String::new();
    for (at, line) in table([""; 5], &rows).lines().enumerate() {
        text.push_str(line);
        text.push('\n');
        if let Some((_, why)) = fault.filter(|(failing, _)| *failing == at) {
            text.push_str(&format!("   {}\n", printable(why)));
        }
    }
    text
}

/// Returns the failure of a write that no chain of grants permits.
pub(crate) fn not_allowed(entity: EntityId, key: &Key, answer: &ExplainResponse) -> Failure {
    let (code, why) = match answer.rejected.first() {
        Some(nearest) => (nearest.code.as_str(), nearest.message.as_str()),
        None => (Code::GrantUnknown.as_str(), NO_GRANT),
    };
    let text = format!("{} may not write {key}: {why}", entity.short());
    let hint = format!("  see `kvgossip explain {key} --as {}`", entity.short());
    Failure::with_exit(code, text, Exit::NotAuthorised).note(hint)
}

/// Runs `status`.
pub(crate) fn status(args: &StatusArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let answer = converse(&client, async { Ok(client.status().await?) })?;
    match format {
        Format::Json => output::json(&answer)?,
        Format::Text => output::text(&status_text(&answer))?,
    }
    let is_well = gravest(&answer).is_none_or(|grade| grade == Grade::Note);
    Ok(if is_well { Exit::Ok } else { Exit::Error })
}

fn gravest(status: &StatusResponse) -> Option<Grade> {
    status.reasons.iter().map(|reason| reason.grade).max()
}

fn status_text(status: &StatusResponse) -> String {
    let head = match gravest(status) {
        None => "well\n",
        Some(Grade::Note) => "ready:\n",
        Some(Grade::Unwell) => "not well:\n",
        Some(Grade::Unready) => "not ready:\n",
    };
    let mut text = head.to_owned();
    for reason in &status.reasons {
        text.push_str(&format!("  {}\n", printable(&format!("{}: {}", reason.code, reason.message))));
    }
    let counts = &status.counts;
    let up = time::show_duration(status.now_us.saturating_sub(status.started_at_us));
    let row = |name: &str, value: String| [name.to_owned(), value];
    let rows = [
        row("replica", short(&status.replica).to_owned()),
        row("cluster", format!("{}, root {}", short(&status.cluster), short(&status.root))),
        row("signs as", short_or(status.identity.as_ref(), "nobody: it has no identity").to_owned()),
        row(
            "holds",
            format!(
                "{}, {}, {}, {}",
                counted(counts.keys, "key", "keys"),
                counted(counts.grants, "grant", "grants"),
                counted(counts.revocations, "revocation", "revocations"),
                counted(counts.floors, "floor", "floors")
            ),
        ),
        row(
            "digest",
            format!(
                "{} (authority {}, entries {})",
                short(&status.digests.root),
                short(&status.digests.authority),
                short(&status.digests.entries)
            ),
        ),
        row("equal", equal_text(status)),
        row("waits", waiting_text(status)),
        row("weighs", weight_text(status)),
        row("sync", status.sync_address.clone()),
        row("http", status.http_address.clone().unwrap_or_else(|| "only on the socket".to_owned())),
        row("up", format!("{up}, version {}", status.version)),
    ];
    text.push('\n');
    text.push_str(&table(["", ""], &rows));
    if !status.long_keys.is_empty() {
        let rows: Vec<_> = status.long_keys.iter().map(long_key_row).collect();
        text.push('\n');
        text.push_str(&table(["KEY WITH MANY ENTRIES", "ENTRIES", "TO END MOST, REVOKE"], &rows));
    }
    if !status.store.grants.is_empty() {
        let rows: Vec<_> = status.store.grants.iter().map(grant_bytes_row).collect();
        text.push('\n');
        text.push_str(&table(["HEAVIEST GRANT", "OF", "PATTERN", "ENTRIES", "WEIGHS"], &rows));
    }
    if !status.shut_out.is_empty() {
        let rows: Vec<_> = status.shut_out.iter().map(shut_out_row).collect();
        text.push('\n');
        text.push_str(&table(["SHUT OUT", "FOR", "OFFENCES", "LEFT"], &rows));
    }
    if !status.peers.is_empty() {
        let rows: Vec<_> = status.peers.iter().map(peer_row).collect();
        text.push('\n');
        text.push_str(&table(["PEER", "ADDRESS", "STATE", "ROUND TRIP", "CLOCK", "LAST SYNC"], &rows));
    }
    text
}

/// Describes when the replica and another one were last known to hold the same facts.
fn equal_text(status: &StatusResponse) -> String {
    let ago = |at: u64| time::show_duration(status.now_us.saturating_sub(at));
    let last = status.last_equal_us.map(|at| match status.last_equal_unsure {
        false => format!("with a peer at {}, {} ago", time::show(at), ago(at)),
        true => format!(
            "with a peer before {}; the clock was set back since, and how long before is not known",
            time::show(at)
        ),
    });
    last.unwrap_or_else(|| "never known to hold the same as a peer".to_owned())
}

fn long_key_row(long: &LongKeyRow) -> [String; 3] {
    let grant = long.grants.first();
    let revoke = grant.map(|heavy| {
        format!("grant {} ({})", short(&heavy.grant), counted(heavy.entries, "entry", "entries"))
    });
    [printable(&long.key), long.entries.to_string(), revoke.unwrap_or_else(|| "-".to_owned())]
}

/// Describes the weight of the store and its limit.
fn weight_text(status: &StatusResponse) -> String {
    let store = &status.store;
    let counted = show_bytes(store.counted_bytes);
    match store.limit_bytes {
        None => counted,
        Some(limit) if store.full => {
            format!("{counted} of {}: something had no room, only what fits is taken in", show_bytes(limit))
        }
        Some(limit) => format!("{counted} of {}", show_bytes(limit)),
    }
}

fn grant_bytes_row(row: &GrantBytesRow) -> [String; 5] {
    let (grant, entity) = (short(&row.grant).to_owned(), short(&row.entity).to_owned());
    [grant, entity, printable(&row.pattern), row.entries.to_string(), show_bytes(row.bytes)]
}

fn shut_out_row(row: &ShutOutRow) -> [String; 4] {
    let (replica, left) = (short(&row.replica).to_owned(), time::show_duration(row.left_us));
    [replica, printable(&row.code), row.offences.to_string(), left]
}

/// Describes the facts that the replica declines at present.
fn waiting_text(status: &StatusResponse) -> String {
    let waiting = &status.waiting;
    let early = waiting.facts + waiting.without_room;
    let mut text = match waiting.next_due_us {
        None => "nothing".to_owned(),
        Some(due) => {
            let left = time::show_duration(due.saturating_sub(status.now_us));
            format!(
                "{} ahead of this replica's clock, the next one for {left}: check the clocks",
                counted(early, "entry", "entries")
            )
        }
    };
    if waiting.refused > 0 {
        let refused = counted(waiting.refused, "fact", "facts");
        text.push_str(&format!("; {refused} declined that can never be taken in"));
    }
    text
}

fn peer_row(peer: &PeerRow) -> [String; 6] {
    let state = match (peer.connected, peer.equal) {
        (true, true) => "equal",
        (true, false) if peer.holds == Holds::Differs => "differs",
        (true, false) => "not compared yet",
        (false, _) => "not connected",
    };
    let state = if peer.access.as_deref() == Some("pull_only") {
        format!("{state}, pulls only")
    } else {
        state.to_owned()
    };
    let last = match (&peer.last_error, &peer.last_sync) {
        (Some(error), _) => format!("{} [{}]", error.message, error.code),
        (None, Some(sync)) => format!("{} at {}", sync.outcome, time::show(sync.ended_at_us)),
        (None, None) => "never".to_owned(),
    };
    [
        short_or(peer.id.as_ref(), "unknown").to_owned(),
        peer.address.clone().unwrap_or_else(|| "dialled us".to_owned()),
        state,
        peer.rtt_us.map_or("-".to_owned(), time::show_duration),
        peer.clock_offset_us.map_or("-".to_owned(), show_offset),
        last,
    ]
}

/// Runs `digest`.
pub(crate) fn digest(args: &DigestArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let answer = converse(&client, async { Ok(client.digest(&args.prefix).await?) })?;
    match format {
        Format::Json => output::json(&answer)?,
        Format::Text => {
            let row = |name: &str, value: String| [name.to_owned(), value];
            let mut rows = vec![
                row("prefix", answer.prefix),
                row("keys", answer.keys.to_string()),
                row("entries", answer.entries),
                row("authority", answer.authority),
            ];
            rows.extend(answer.root.map(|root| row("root", root)));
            output::text(&table(["", ""], &rows))?;
        }
    }
    Ok(Exit::Ok)
}

/// Runs `refusals`.
pub(crate) fn refusals(args: &RefusalsArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let answer = converse(&client, async { Ok(client.refusals().await?) })?;
    match format {
        Format::Json => answer.refusals.iter().try_for_each(output::json)?,
        Format::Text => {
            let rows: Vec<_> = answer.refusals.iter().map(refusal_row).collect();
            output::text(&table(["TIME", "FROM", "KIND", "FACT", "VERDICT", "CODE", "KEY"], &rows))?;
        }
    }
    Ok(Exit::Ok)
}

fn refusal_row(row: &RefusalRow) -> [String; 7] {
    [
        time::show(row.at_us),
        short(&row.from).to_owned(),
        row.kind.clone(),
        short_or(row.id.as_ref(), "-").to_owned(),
        row.verdict.clone(),
        row.code.clone(),
        row.key.clone().unwrap_or_default(),
    ]
}
