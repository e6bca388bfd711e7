//! `explain`, `status`, `digest` and `refusals`: what an agent knows and does.

use crate::connect::{AgentArgs, converse};
use crate::entity::{Who, who};
use crate::error::{Exit, Failure, Result};
use crate::output::{self, Format, printable, short, short_or, table};
use crate::{text, time};
use clap::Args;
use kvgossip_api::{ExplainResponse, LinkRow, PeerRow, RefusalRow, StatusResponse};
use kvgossip_grants::{Code, EntityId, Key, PathPrefix};

/// Show whether and why an entity may write a key.
///
/// Draws the chain of grants from root down to the entity. Ends with 4 if the entity may not write the key.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The key, such as /my/key.
    #[arg(value_parser = text::key)]
    key: Key,
    /// The entity: its id (8 digits or more), or a PEM file with its key.
    #[arg(long = "as", value_name = "ENTITY|PUB.pem", value_parser = who)]
    entity: Who,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Show how an agent is. Ends with 1 if it is not well.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    agent: AgentArgs,
}

/// Show the digests over the tree, or over a part of it.
///
/// Two replicas with equal digests hold the same.
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
    let client = args.agent.client()?;
    let (entity, answer) = converse(&client, async {
        let entity = args.entity.resolve(&client).await?;
        Ok((entity, client.explain(entity, &args.key).await?))
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
        return format!("no: {who} may not write {key}: no grant to it is known here\n");
    }
    let mut text = format!("no: {who} may not write {key}\n");
    for rejected in &answer.rejected {
        let why = format!("{} [{}]", rejected.message, rejected.code);
        text.push_str(&draw_chain(&rejected.chain, Some((rejected.failing, &why))));
    }
    text
}

/// One line for each grant, from root's down; the failing one is marked with `x`, and its reason stands below it.
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

/// The failure of a write that no chain of grants allows.
pub(crate) fn not_allowed(entity: EntityId, key: &Key, answer: &ExplainResponse) -> Failure {
    let (code, why) = match answer.rejected.first() {
        Some(nearest) => (nearest.code.as_str(), nearest.message.as_str()),
        None => (Code::GrantUnknown.as_str(), "no grant to it is known here; ask for one, or sync first"),
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
    Ok(if answer.ready { Exit::Ok } else { Exit::Error })
}

fn status_text(status: &StatusResponse) -> String {
    let mut text = if status.ready { "well\n".to_owned() } else { "not well:\n".to_owned() };
    for reason in status.reasons.iter().filter(|_| !status.ready) {
        text.push_str(&format!("  {}\n", printable(reason)));
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
                "{} keys, {} grants, {} revocations, {} floors",
                counts.keys, counts.grants, counts.revocations, counts.floors
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
        row("sync", status.sync_address.clone()),
        row("http", status.http_address.clone().unwrap_or_else(|| "only on the socket".to_owned())),
        row("up", format!("{up}, version {}", status.version)),
    ];
    text.push('\n');
    text.push_str(&table(["", ""], &rows));
    if !status.peers.is_empty() {
        let rows: Vec<_> = status.peers.iter().map(peer_row).collect();
        text.push('\n');
        text.push_str(&table(["PEER", "ADDRESS", "STATE", "ROUND TRIP", "LAST SYNC"], &rows));
    }
    text
}

fn peer_row(peer: &PeerRow) -> [String; 5] {
    let state = match (peer.connected, peer.equal) {
        (true, true) => "equal",
        (true, false) if peer.last_sync.is_none() => "not compared yet",
        (true, false) => "differs",
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
