//! `grant new`, `grant ls` and `grant check`: issues and inspects grants.

use super::expiring;
use super::revoke::{RevokeArgs, revoke};
use crate::answer::{agent_time, unexpected};
use crate::clocks::Asked;
use crate::codes;
use crate::connect::{AgentArgs, converse};
use crate::entity::{Who, who};
use crate::error::{Exit, Failure, Result};
use crate::files;
use crate::output::{self, Format, printable, short, table};
use crate::sign::{Identity, SignArgs, nonce};
use crate::survey::Survey;
use crate::time::When;
use crate::{text, time};
use clap::{Args, Subcommand};
use kvgossip_api::{GrantRow, GrantsResponse, PlanResponse, RevocationRow};
use kvgossip_client::AgentClient;
use kvgossip_grants::{ClusterId, EntityId, Fact, Grant, GrantId, KeyGlob, PublicKey, Timestamp};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Give, list, check and take back authority over keys.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    #[command(subcommand)]
    verb: GrantVerb,
}

#[derive(Debug, Subcommand)]
enum GrantVerb {
    New(NewArgs),
    Ls(LsArgs),
    Check(CheckArgs),
    Revoke(RevokeArgs),
}

/// Give an entity authority over the keys that a pattern matches.
///
/// Root grants in its own right. Everybody else grants under grants that they hold with --subgrant; the command makes
/// as many new grants as the pattern needs. A pattern beyond those grants is refused. Prints the id of each new grant.
#[derive(Debug, Args)]
struct NewArgs {
    /// The public key of the grantee.
    #[arg(long, value_name = "PUB.pem")]
    to: PathBuf,
    /// Glob of the keys, such as /team/**.
    #[arg(long, value_name = "P", value_parser = text::glob)]
    pattern: KeyGlob,
    /// Let the grantee pass authority on.
    #[arg(long)]
    subgrant: bool,
    /// End of the grant: a time such as 2030-01-31T12:00:00Z, or a duration from now, such as 30d.
    #[arg(long, value_name = "T", value_parser = time::when)]
    expires: Option<When>,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// List live grants and revocations.
///
/// With --output json each line also has the signed grant, which `grant revoke --from` reads.
#[derive(Debug, Args)]
struct LsArgs {
    /// List only grants that end within this time, such as 30d, by themselves or with a grant above them, including
    /// those that have ended. The soonest comes first.
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    expiring: Option<Duration>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Check whether an entity could give a pattern away.
///
/// Shows the grants that the entity would issue under. If it cannot grant the pattern, shows a key that it does not
/// reach, and ends with 4.
#[derive(Debug, Args)]
struct CheckArgs {
    /// Glob of the keys, such as /team/**.
    #[arg(long, value_name = "P", value_parser = text::glob)]
    pattern: KeyGlob,
    /// The entity: its id (8 digits or more), or a PEM file with its key.
    #[arg(long = "as", value_name = "ENTITY|PUB.pem", value_parser = who)]
    entity: Who,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs `grant`.
pub(crate) fn grant(args: &GrantArgs, format: Format) -> Result<Exit> {
    match &args.verb {
        GrantVerb::New(args) => new(args, format),
        GrantVerb::Ls(args) => ls(args, format),
        GrantVerb::Check(args) => check(args, format),
        GrantVerb::Revoke(args) => revoke(args, format),
    }
}

fn new(args: &NewArgs, format: Format) -> Result<Exit> {
    let grantee = files::public_key(&args.to)?;
    let identity = args.sign.identity("grant new")?;
    let facts = match identity.known_root().filter(|_| args.sign.out.is_some()) {
        Some(cluster) => {
            let facts = vec![mint(args, &identity, cluster, &grantee, None, time::now())?];
            args.sign.write_out(&facts)?;
            facts
        }
        None => {
            let client = args.agent.client()?;
            converse(&client, async {
                let facts = plan_and_mint(args, &identity, &client, &grantee).await?;
                args.sign.deliver(&client, &facts).await?;
                Ok(facts)
            })?
        }
    };
    if args.sign.out.is_none() {
        facts.iter().try_for_each(|fact| show_new(fact, format))?;
    }
    Ok(Exit::Ok)
}

fn show_new(fact: &Fact, format: Format) -> Result<()> {
    match format {
        Format::Text => output::text(&format!("{}\n", fact.id())),
        Format::Json => output::json(&json!({ "id": fact.id().to_string(), "kind": fact.kind() })),
    }
}

/// Issues one grant of the pattern under each parent grant that is needed.
async fn plan_and_mint(
    args: &NewArgs,
    identity: &Identity,
    client: &AgentClient,
    grantee: &PublicKey,
) -> Result<Vec<Fact>> {
    let (plan, apart) = match &args.sign.from {
        None => {
            let asked = Asked::now();
            let plan = client.plan(identity.entity(), &args.pattern).await?;
            let apart = asked.answered(plan.now_us);
            (plan, apart)
        }
        Some(_) => {
            let lookup = args.sign.source(Some(identity), client)?;
            let survey = Survey::begin(lookup.as_source()).await?;
            (survey.plan(identity.entity(), &args.pattern), survey.apart())
        }
    };
    let cluster = identity.check_cluster(&plan.cluster)?;
    if let Some(failure) = plan_refusal(identity.entity(), &args.pattern, &plan) {
        return Err(failure);
    }
    args.sign.check_clock(apart)?;
    let now = agent_time(plan.now_us)?;
    if identity.is_root_of(cluster) {
        return Ok(vec![mint(args, identity, cluster, grantee, None, now)?]);
    }
    if plan.parents.is_empty() {
        return Err(unexpected("a plan without parents"));
    }
    let parents =
        plan.parents.iter().map(|parent| parent.parse().map_err(|_| unexpected("a grant's id that is none")));
    parents.map(|parent| mint(args, identity, cluster, grantee, Some(parent?), now)).collect()
}

/// Returns the failure of an entity that cannot grant a pattern, with a key that it does not reach; `None` if it can.
fn plan_refusal(issuer: EntityId, pattern: &KeyGlob, plan: &PlanResponse) -> Option<Failure> {
    let why = plan.refusal.as_ref()?;
    let text = format!("{} cannot give {pattern} away: {}", issuer.short(), why.message);
    let failure = Failure::with_exit(why.code.clone(), text, Exit::NotAuthorised);
    Some(match example(plan) {
        Some(key) => failure.note(format!("  for example, it does not reach {key}")),
        None => failure,
    })
}

/// Returns a key that the entity does not reach; `None` if there is none, or the agent's message contains it.
fn example(plan: &PlanResponse) -> Option<&str> {
    let named = |key: &&str| plan.refusal.as_ref().is_some_and(|why| why.message.contains(*key));
    plan.counterexample.as_deref().filter(|key| !named(key))
}

fn mint(
    args: &NewArgs,
    identity: &Identity,
    cluster: ClusterId,
    grantee: &PublicKey,
    parent: Option<GrantId>,
    now: Timestamp,
) -> Result<Fact> {
    let expires_at = args.expires.map(|when| when.after(now));
    if let Some(end) = expires_at.filter(|end| *end <= now) {
        let text = format!(
            "--expires {} is not in the future: the grant would be of no use",
            time::show(end.as_micros())
        );
        return Err(Failure::new(codes::TIME_PAST, text));
    }
    let grant = Grant {
        issuer: identity.entity(),
        grantee: grantee.clone(),
        pattern: args.pattern.clone(),
        subgrant: args.subgrant,
        parent,
        issued_at: now,
        expires_at,
        nonce: nonce()?,
    };
    Ok(Fact::Grant(identity.sign(cluster, grant)?))
}

fn check(args: &CheckArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let (entity, plan) = converse(&client, async {
        let entity = args.entity.resolve(&client).await?;
        Ok((entity, client.plan(entity, &args.pattern).await?))
    })?;
    match format {
        Format::Json => output::json(&plan)?,
        Format::Text => output::text(&check_text(entity, &args.pattern, &plan))?,
    }
    Ok(if plan.refusal.is_none() { Exit::Ok } else { Exit::NotAuthorised })
}

fn check_text(entity: EntityId, pattern: &KeyGlob, plan: &PlanResponse) -> String {
    let who = entity.short();
    if let Some(why) = &plan.refusal {
        let mut text = format!(
            "no: {who} cannot give {pattern} away: {} [{}]\n",
            printable(&why.message),
            printable(&why.code)
        );
        if let Some(key) = example(plan) {
            text.push_str(&format!("  for example, it does not reach {}\n", printable(key)));
        }
        return text;
    }
    if plan.is_root {
        return format!("yes: {who} is the cluster's root and can give every key away\n");
    }
    let parents: String =
        plan.parents.iter().map(|parent| format!("  under grant {}\n", short(parent))).collect();
    format!("yes: {who} can give {pattern} away\n{parents}")
}

fn ls(args: &LsArgs, format: Format) -> Result<Exit> {
    let client = args.agent.client()?;
    let answer = converse(&client, async { Ok(client.grants().await?) })?;
    if let Some(within) = args.expiring {
        return expiring::show(&answer.grants, within, time::now(), format);
    }
    match format {
        Format::Json => {
            answer.grants.iter().try_for_each(|row| output::json(&Kinded { kind: "grant", row }))?;
            answer
                .revocations
                .iter()
                .try_for_each(|row| output::json(&Kinded { kind: "revocation", row }))?;
        }
        Format::Text => output::text(&grants_text(&answer, time::now()))?,
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Kinded<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    row: &'a T,
}

fn grants_text(answer: &GrantsResponse, now: Timestamp) -> String {
    let rows: Vec<_> =
        as_tree(&answer.grants).into_iter().map(|(level, row)| grant_row(level, row, now)).collect();
    let mut text = table(["GRANT", "FROM", "TO", "SUBGRANT", "ENDS", "PATTERN"], &rows);
    if !answer.revocations.is_empty() {
        let rows: Vec<_> = answer.revocations.iter().map(revocation_row).collect();
        text.push('\n');
        text.push_str(&table(["REVOKED", "BY", "TO", "AT", "PATTERN"], &rows));
    }
    text
}

/// Orders grants below their parents, each with its depth. No row occurs twice, even if the agent's answer has wrong
/// parents.
fn as_tree(rows: &[GrantRow]) -> Vec<(usize, &GrantRow)> {
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let mut below: BTreeMap<Option<&str>, Vec<&GrantRow>> = BTreeMap::new();
    for row in rows {
        let parent = row.parent.as_deref().filter(|parent| ids.contains(parent));
        below.entry(parent).or_default().push(row);
    }
    // A stack: the next row to show is the last one.
    let mut stack: Vec<_> =
        below.remove(&None).unwrap_or_default().into_iter().rev().map(|row| (0, row)).collect();
    let mut tree = Vec::with_capacity(rows.len());
    while let Some((level, row)) = stack.pop() {
        tree.push((level, row));
        let children = below.remove(&Some(row.id.as_str())).unwrap_or_default();
        stack.extend(children.into_iter().rev().map(|child| (level + 1, child)));
    }
    tree
}

fn grant_row(level: usize, row: &GrantRow, now: Timestamp) -> [String; 6] {
    let ends = match row.expires_at_us {
        None => "never".to_owned(),
        Some(end) if end < now.as_micros() => format!("{} (over)", time::show(end)),
        Some(end) => time::show(end),
    };
    [
        format!("{:indent$}{}", "", short(&row.id), indent = 2 * level),
        if row.parent.is_none() { "root".to_owned() } else { short(&row.issuer).to_owned() },
        short(&row.grantee).to_owned(),
        if row.subgrant { "yes" } else { "no" }.to_owned(),
        ends,
        row.pattern.clone(),
    ]
}

fn revocation_row(row: &RevocationRow) -> [String; 5] {
    [
        short(&row.grant).to_owned(),
        row.by.clone(),
        short(&row.grantee).to_owned(),
        time::show(row.revoked_at_us),
        row.pattern.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, parent: Option<&str>) -> GrantRow {
        GrantRow {
            id: id.into(),
            issuer: "issuer00".into(),
            grantee: "grantee0".into(),
            pattern: "/a/**".into(),
            subgrant: true,
            parent: parent.map(Into::into),
            depth: 1,
            issued_at_us: 0,
            expires_at_us: None,
            record_b64: String::new(),
        }
    }

    #[test]
    fn grants_stand_below_their_parents() {
        let rows = [
            row("a", None),
            row("b", None),
            row("a1", Some("a")),
            row("b1", Some("b")),
            row("a11", Some("a1")),
        ];
        let tree: Vec<_> = as_tree(&rows).into_iter().map(|(level, row)| (level, row.id.as_str())).collect();
        assert_eq!(tree, [(0, "a"), (1, "a1"), (2, "a11"), (0, "b"), (1, "b1")]);
    }

    #[test]
    fn a_lying_agent_cannot_keep_the_tree_growing() {
        let rows =
            [row("a", Some("b")), row("b", Some("a")), row("c", Some("elsewhere")), row("c", Some("c"))];
        let tree: Vec<_> = as_tree(&rows).into_iter().map(|(_, row)| row.id.as_str()).collect();
        assert_eq!(tree, ["c", "c"]);
    }
}
