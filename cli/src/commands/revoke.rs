//! `grant revoke` and `floor`: ends authority and entries.

use super::rehearse;
use crate::codes;
use crate::connect::{AgentArgs, converse, interruptible};
use crate::error::{Exit, Failure, Result};
use crate::factfile::FactFile;
use crate::ids::{IdPrefix, id_prefix};
use crate::output::{self, Format, say};
use crate::sign::{Identity, SignArgs, nonce};
use crate::time::When;
use crate::{text, time};
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Args;
use kvgossip_client::AgentClient;
use kvgossip_grants::{
    By, ClusterId, Code, EntityId, Fact, FilterRule, Floor, Grant, KeyGlob, MAX_FLOOR_PATTERNS, Revocation,
    Signed,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Revoke a grant, with everything that was given under it.
///
/// Root, the issuer and the grantee of the grant can do so. A revocation takes effect at once and for ever; a new
/// grant does not bring the old entries back. Prints the id of the revocation.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The grant's id (8 digits or more).
    #[arg(value_parser = id_prefix)]
    id: IdPrefix,
    /// Show which grants and entries would end, and what the keys would show then; sign nothing.
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// End all entries of matching keys that are older than a time. Only root can.
///
/// A floor applies to every replica and for ever, also to entries that nobody here has seen. Prints the id of the
/// floor.
#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// Globs of the keys, at most 64.
    #[arg(required = true, value_name = "GLOB", value_parser = text::glob)]
    globs: Vec<KeyGlob>,
    /// Entries written before this time end: a time such as 2030-01-31T12:00:00Z, a duration before now, such as 30d,
    /// or `now`.
    #[arg(long, value_name = "T", value_parser = time::when)]
    before: When,
    /// Show which entries would end, and what the keys would show then; sign nothing.
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs `grant revoke`.
pub(crate) fn revoke(args: &RevokeArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    if args.dry_run {
        let lookup = args.sign.source(None, &client)?;
        return interruptible(rehearse::revoke(lookup.as_source(), &args.id, format));
    }
    let identity = args.sign.identity("grant revoke")?;
    // If the command line names the cluster, and a file contains the grant, signing needs no agent.
    let known = identity.expected().filter(|_| args.sign.out.is_some());
    if let (Some(path), Some(cluster)) = (&args.sign.from, known) {
        let grant = grant_in_file(path, cluster, &args.id)?;
        let fact = sign_revocation(&identity, cluster, grant)?;
        args.sign.write_out(&[fact])?;
        return Ok(Exit::Ok);
    }
    let fact = converse(&client, async {
        let cluster = identity.check_cluster(&client.status().await?.cluster)?;
        let grant = match &args.sign.from {
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

/// Returns the capacity in which an entity may revoke a grant, the highest one if it has several; `None` if it may not.
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

/// Returns a live grant of the agent; `None` if it is revoked already.
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

/// Decodes a grant; fails unless it is the requested one: its id covers all that is signed.
fn read_grant(record_b64: &str, cluster: ClusterId, id: &str) -> Result<Signed<Grant>> {
    let record = BASE64_STANDARD.decode(record_b64).ok();
    match record.and_then(|record| Fact::from_record(cluster, &record).ok()) {
        Some(Fact::Grant(grant)) if grant.id().to_string() == id => Ok(grant),
        _ => Err(not_that_grant(id, cluster)),
    }
}

fn not_that_grant(id: &str, cluster: ClusterId) -> Failure {
    let text = format!(
        "the fact that was read for grant {id} is not that grant of cluster {}: nothing was signed",
        cluster.short()
    );
    Failure::new(Code::Malformed.as_str(), text)
}

/// Finds a grant in a file; it need not be live there.
fn grant_in_file(path: &Path, cluster: ClusterId, id: &IdPrefix) -> Result<Signed<Grant>> {
    let mut file = FactFile::open(path, cluster)?;
    let mut found: BTreeMap<String, Option<Signed<Grant>>> = BTreeMap::new();
    while let Some(item) = file.next()? {
        let Some(name) = item.id().filter(|name| item.kind() == "grant" && name.starts_with(id.as_str()))
        else {
            continue;
        };
        let grant = match item.fact {
            Ok(Fact::Grant(grant)) => Some(grant),
            _ => None,
        };
        found.insert(name, grant);
    }
    let whole = id.find("grant", found.keys().map(String::as_str))?;
    found.get(whole).cloned().flatten().ok_or_else(|| not_that_grant(whole, cluster))
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
    let client = args.agent.client()?;
    if args.dry_run {
        let filter = patterns.into_iter().map(|glob| FilterRule { excludes: false, glob }).collect();
        let lookup = args.sign.source(None, &client)?;
        return interruptible(rehearse::floor(lookup.as_source(), filter, before, format));
    }
    let identity = args.sign.identity("floor")?;
    let floor = Floor { patterns, before, nonce: nonce()? };
    if let Some(cluster) = identity.known_root().filter(|_| args.sign.out.is_some()) {
        args.sign.write_out(&[Fact::Floor(identity.sign(cluster, floor)?)])?;
        return Ok(Exit::Ok);
    }
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
