//! `grant revoke` and `floor`: authority and entries ended.

use super::entry::Pages;
use crate::codes;
use crate::connect::{AgentArgs, converse};
use crate::error::{Exit, Failure, Result};
use crate::files;
use crate::ids::{IdPrefix, id_prefix};
use crate::output::{self, Format, say};
use crate::sign::{Identity, SignArgs, nonce};
use crate::time::When;
use crate::{text, time};
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Args;
use kvgossip_api::{DEFAULT_PAGE_ROWS, GrantRow, KeyRow};
use kvgossip_client::AgentClient;
use kvgossip_grants::{
    By, ClusterId, Code, EntityId, Fact, FilterRule, Floor, Grant, KeyGlob, MAX_FLOOR_PATTERNS, Revocation,
    Signed, Timestamp,
};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The largest file that `--from` reads, in bytes.
const MAX_FACTS_FILE_BYTES: usize = 64 << 20;

/// Take a grant back, with all that was given under it.
///
/// Root, its issuer and its grantee can do so. It holds at once and for ever; a new grant does not bring the old entries
/// back. Prints the id of the revocation.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The grant's id (8 digits or more).
    #[arg(value_parser = id_prefix)]
    id: IdPrefix,
    /// Take the grant from a file (as --out or `grant ls --output json` write it) instead of asking the agent.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Show which grants and keys would go, and sign nothing.
    #[arg(long, conflicts_with_all = ["from", "out"])]
    dry_run: bool,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// End all entries of matching keys that are older than a time. Only root can.
///
/// Holds for every replica and for ever, also for entries that nobody here has seen. Prints the id of the floor.
#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// The keys, as globs; at most 64.
    #[arg(required = true, value_name = "GLOB", value_parser = text::glob)]
    globs: Vec<KeyGlob>,
    /// Entries written before it fall: a time such as 2030-01-31T12:00:00Z, so long ago, such as 30d, or `now`.
    #[arg(long, value_name = "T", value_parser = time::when)]
    before: When,
    /// Show which keys would lose their current entry, and sign nothing.
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs `grant revoke`.
pub(crate) fn revoke(args: &RevokeArgs, format: Format) -> Result<Exit> {
    if args.dry_run {
        return rehearse_revoke(args, format);
    }
    let identity = args.sign.identity("grant revoke")?;
    if let (Some(path), Some(cluster), Some(_)) = (&args.from, identity.known_root(), &args.sign.out) {
        let grant = grant_in_file(path, cluster, &args.id)?;
        let fact = sign_revocation(&identity, cluster, grant)?;
        args.sign.write_out(&[fact])?;
        return Ok(Exit::Ok);
    }
    let client = args.agent.client()?;
    let fact = converse(&client, async {
        let cluster = identity.check_cluster(&client.status().await?.cluster)?;
        let grant = match &args.from {
            Some(path) => grant_in_file(path, cluster, &args.id)?,
            None => match grant_of_agent(&client, cluster, &args.id).await? {
                Some(grant) => grant,
                None => return Ok(None),
            },
        };
        let fact = sign_revocation(&identity, cluster, grant)?;
        args.sign.deliver(&client, std::slice::from_ref(&fact)).await?;
        Ok(Some(fact))
    })?;
    match fact {
        None => say(&format!("grant {} is revoked already", args.id)),
        Some(fact) if args.sign.out.is_none() => show_id(&fact, format)?,
        Some(_) => {}
    }
    Ok(Exit::Ok)
}

fn show_id(fact: &Fact, format: Format) -> Result<()> {
    match format {
        Format::Text => output::text(&format!("{}\n", fact.id())),
        Format::Json => output::json(&json!({ "id": fact.id().to_string(), "kind": fact.kind() })),
    }
}

fn sign_revocation(identity: &Identity, cluster: ClusterId, grant: Signed<Grant>) -> Result<Fact> {
    let by = capacity(identity.entity(), identity.is_root_of(cluster), grant.body()).ok_or_else(|| {
        let text = format!(
            "{} cannot revoke grant {}: only root, its issuer {} and its grantee {} can",
            identity.entity().short(),
            grant.id().short(),
            grant.body().issuer.short(),
            grant.body().grantee.entity().short()
        );
        Failure::new(codes::REVOCATION_STRANGER, text)
    })?;
    let revocation = Revocation { grant, by, revoked_at: time::now() };
    Ok(Fact::Revocation(identity.sign(cluster, revocation)?))
}

/// In which capacity an entity revokes a grant: the one that counts most.
fn capacity(entity: EntityId, is_root: bool, grant: &Grant) -> Option<By> {
    if is_root {
        Some(By::Root)
    } else if grant.issuer == entity {
        Some(By::Issuer)
    } else if grant.grantee.entity() == entity {
        Some(By::Grantee)
    } else {
        None
    }
}

/// A live grant; `None` if it is revoked already.
async fn grant_of_agent(
    client: &AgentClient,
    cluster: ClusterId,
    id: &IdPrefix,
) -> Result<Option<Signed<Grant>>> {
    let answer = client.grants().await?;
    let live = answer.grants.iter().map(|row| row.id.as_str());
    let revoked = answer.revocations.iter().map(|row| row.grant.as_str());
    let whole = id.find("grant", live.chain(revoked))?;
    match answer.grants.iter().find(|row| row.id == whole) {
        Some(row) => read_grant(&row.record_b64, cluster, whole).map(Some),
        None => Ok(None),
    }
}

/// Reads a grant and makes sure that it is the one that is meant: its id covers all that is signed.
fn read_grant(record_b64: &str, cluster: ClusterId, id: &str) -> Result<Signed<Grant>> {
    let record = BASE64_STANDARD.decode(record_b64).ok();
    match record.and_then(|record| Fact::from_record(cluster, &record).ok()) {
        Some(Fact::Grant(grant)) if grant.id().to_string() == id => Ok(grant),
        _ => Err(Failure::new(
            Code::Malformed.as_str(),
            format!(
                "what stands for grant {id} is not that grant of cluster {}: nothing was signed",
                cluster.short()
            ),
        )),
    }
}

/// A line of a file of facts, as far as it matters here.
#[derive(Deserialize)]
struct FactLine {
    id: String,
    kind: String,
    #[serde(default)]
    record_b64: String,
}

fn grant_in_file(path: &std::path::Path, cluster: ClusterId, id: &IdPrefix) -> Result<Signed<Grant>> {
    let fault = |why: &str| Failure::new(codes::FACTS_MALFORMED, format!("{}: {why}", files::name(path)));
    let bytes = files::read(path, MAX_FACTS_FILE_BYTES)?.ok_or_else(|| fault("more than 64 MiB"))?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.is_empty()) {
        let read: FactLine = serde_json::from_slice(line)
            .map_err(|error| fault(&format!("line {number} is not a fact as --out writes it: {error}")))?;
        lines.push(read);
    }
    let grants = || lines.iter().filter(|line| line.kind == "grant");
    let whole = id.find("grant", grants().map(|line| line.id.as_str()))?;
    let record = grants().find(|line| line.id == whole).map_or("", |line| line.record_b64.as_str());
    read_grant(record, cluster, whole)
}

fn rehearse_revoke(args: &RevokeArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    converse(&client, async {
        let answer = client.grants().await?;
        let whole = args.id.find("live grant", answer.grants.iter().map(|row| row.id.as_str()))?;
        let ended = with_descendants(&answer.grants, whole);
        let cites = |row: &KeyRow| row.grant.as_deref().is_some_and(|grant| ended.contains(grant));
        show_rehearsal(&client, Vec::new(), cites, &ended, format).await
    })
}

/// A grant and all that stem from it; each stands after the one above it.
fn with_descendants<'a>(rows: &'a [GrantRow], id: &'a str) -> BTreeSet<&'a str> {
    let mut ended = BTreeSet::from([id]);
    for row in rows {
        if row.parent.as_deref().is_some_and(|parent| ended.contains(parent)) {
            ended.insert(&row.id);
        }
    }
    ended
}

/// Lists the grants and keys that would go.
async fn show_rehearsal(
    client: &AgentClient,
    filter: Vec<FilterRule>,
    falls: impl Fn(&KeyRow) -> bool,
    grants: &BTreeSet<&str>,
    format: Format,
) -> Result<Exit> {
    for grant in grants {
        match format {
            Format::Text => output::text(&format!("grant {grant}\n"))?,
            Format::Json => output::json(&json!({ "kind": "grant", "id": grant }))?,
        }
    }
    let mut pages = Pages::new(client, filter);
    let mut keys = 0u64;
    while let Some(rows) = pages.next(DEFAULT_PAGE_ROWS).await? {
        for row in rows.iter().filter(|row| falls(row)) {
            keys += 1;
            match format {
                Format::Text => output::text(&format!("key {}\n", output::printable(&row.key)))?,
                Format::Json => output::json(&json!({ "kind": "entry", "id": row.entry, "key": row.key }))?,
            }
        }
    }
    say(&format!(
        "nothing was signed; {} grants and the current entries of {keys} keys would go",
        grants.len()
    ));
    Ok(Exit::Ok)
}

/// Runs `floor`.
pub(crate) fn floor(args: &FloorArgs, format: Format) -> Result<Exit> {
    let now = time::now();
    let before = args.before.before(now);
    if before > now {
        let text = format!("{}: {}", time::show(before.as_micros()), Code::FloorFuture.help());
        return Err(Failure::new(Code::FloorFuture.as_str(), text));
    }
    let patterns: Vec<KeyGlob> = args.globs.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    if patterns.len() > MAX_FLOOR_PATTERNS {
        let text =
            format!("a floor has at most {MAX_FLOOR_PATTERNS} globs, not {}; make several", patterns.len());
        return Err(Failure::new(codes::USAGE, text));
    }
    if args.dry_run {
        return rehearse_floor(args, &patterns, before, format);
    }
    let identity = args.sign.identity("floor")?;
    let floor = Floor { patterns, before, nonce: nonce()? };
    if let Some(cluster) = identity.known_root().filter(|_| args.sign.out.is_some()) {
        args.sign.write_out(&[Fact::Floor(identity.sign(cluster, floor)?)])?;
        return Ok(Exit::Ok);
    }
    let client = args.agent.client()?;
    let fact = converse(&client, async {
        let cluster = identity.check_cluster(&client.status().await?.cluster)?;
        if !identity.is_root_of(cluster) {
            let text =
                format!("{} is not the cluster's root: only root can set a floor", identity.entity().short());
            return Err(Failure::new(Code::NotRoot.as_str(), text));
        }
        let fact = Fact::Floor(identity.sign(cluster, floor)?);
        args.sign.deliver(&client, std::slice::from_ref(&fact)).await?;
        Ok(fact)
    })?;
    if args.sign.out.is_none() {
        show_id(&fact, format)?;
    }
    Ok(Exit::Ok)
}

fn rehearse_floor(args: &FloorArgs, patterns: &[KeyGlob], before: Timestamp, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let filter = patterns.iter().cloned().map(|glob| FilterRule { excludes: false, glob }).collect();
    let falls = |row: &KeyRow| row.timestamp_us < before.as_micros();
    converse(&client, show_rehearsal(&client, filter, falls, &BTreeSet::new(), format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_go_with_a_grant() {
        let row = |id: &str, parent: Option<&str>| GrantRow {
            id: id.into(),
            issuer: String::new(),
            grantee: String::new(),
            pattern: String::new(),
            subgrant: true,
            parent: parent.map(Into::into),
            depth: 1,
            issued_at_us: 0,
            expires_at_us: None,
            record_b64: String::new(),
        };
        let rows = [
            row("a", None),
            row("b", None),
            row("a1", Some("a")),
            row("b1", Some("b")),
            row("a11", Some("a1")),
        ];
        assert_eq!(with_descendants(&rows, "a"), BTreeSet::from(["a", "a1", "a11"]));
        assert_eq!(with_descendants(&rows, "b1"), BTreeSet::from(["b1"]));
    }
}
