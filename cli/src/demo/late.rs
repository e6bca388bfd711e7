//! The last step of the demonstration: a late replica receives a chain of grants and the entries under it in one
//! session.

use super::cast::Cast;
use super::stage::{PATIENCE, Stage, put};
use super::tell::{bytes, eventually, line, step, verified, verify};
use anyhow::Context;
use bytes::Bytes;
use kvgossip_agent::{Agent, now};
use kvgossip_api::{SyncOutcome, SyncReport};
use kvgossip_engine::View;
use kvgossip_grants::{
    Explanation, Fact, Grant, GrantId, Key, PathPrefix, Signed, Signer, SigningKey, Verdict,
};
use kvgossip_transport::Code::Busy;
use std::path::Path;
use tokio::sync::broadcast::Receiver;

/// Number of keys written under each grant of the chain.
const WRITES: usize = 5;

/// A grant of the chain, with its holder.
struct Level<'a> {
    who: &'static str,
    key: &'a SigningKey,
    /// Prefix of the keys that the holder writes.
    prefix: &'static str,
    grant: GrantId,
}

/// Delegates below the team's grant, then starts replica 4 and waits until it has caught up.
pub(super) async fn join_late(
    cast: &Cast,
    stage: &Stage,
    dir: &Path,
    team: &Signed<Grant>,
) -> anyhow::Result<Agent> {
    step(7, "A replica that comes late gets a chain of three grants in one session");
    let levels = delegate(cast, stage, team).await?;
    for level in &levels {
        for number in 0..WRITES {
            let key = Key::parse(&format!("{}/{number}", level.prefix))?;
            let value = Bytes::from(format!("written by {}, {number}", level.who));
            let fact = cast.entry(level.key, &key, &value, now(), level.grant)?;
            verify_merged(put(stage, 0, fact).await?, "an entry of the chain")?;
        }
    }
    eventually("all three are equal", PATIENCE, async || stage.all_equal()).await?;
    line(format!("{WRITES} entries were written under each of the three grants"));

    let (first, view) = (&stage.agents[0], stage.agents[0].store().view());
    first.peers().set_allowed([cast.replicas[LATE].id()].into_iter().collect());
    let late = cast.start_late(LATE, dir, first).await?;
    line("replica 4 starts empty; it is told of replica 1, and replica 1 of it, and nothing else");
    let mut reports = late.peers().reports();
    let target = format!("{}@{}", first.peers().id(), first.peers().address());
    // The result is in the session reports, whichever side opened the session.
    if let Err(error) = late.sync_with(&target, PathPrefix::root()).await
        && error.code != Busy.name()
    {
        anyhow::bail!("the session of replica 4 failed: {} ({})", error.message, error.code);
    }
    let report = first_that_moves(&mut reports).await?;
    check_session(&report, &view)?;
    eventually("replica 4 is equal to the others", PATIENCE, async || {
        stage.all_equal() && late.store().view().root() == stage.root(0)
    })
    .await?;
    verified(format!("all four have root digest {}", stage.root(0).short()));
    for (depth, level) in (1..).zip(&levels) {
        check_level(&late, level, depth).await?;
    }
    verified("replica 4 shows what each of the three wrote, and why each may: 1, 2 and 3 grants below root");
    Ok(late)
}

/// Index of the late replica, from 0.
const LATE: usize = 3;

fn verify_merged(verdict: Verdict, what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(verdict == Verdict::Merged, "{what} was not merged: {verdict:?}");
    Ok(())
}

/// The team delegates a part to the deployer, and the deployer a part of that to the service.
async fn delegate<'a>(cast: &'a Cast, stage: &Stage, team: &Signed<Grant>) -> anyhow::Result<[Level<'a>; 3]> {
    let deployer = cast.grant(&cast.team, cast.deployer.public(), "/app/chain/deploy/**", Some(team.id()))?;
    let service = cast.grant(
        &cast.deployer,
        cast.service.public(),
        "/app/chain/deploy/service/**",
        Some(deployer.id()),
    )?;
    for (who, grant) in [("the deployer", &deployer), ("the service", &service)] {
        verify_merged(put(stage, 0, Fact::Grant(grant.clone())).await?, who)?;
    }
    line(format!(
        "root gave the team /app/** ({}); the team gives the deployer /app/chain/deploy/** ({}),",
        team.id().short(),
        deployer.id().short()
    ));
    line(format!(
        "and the deployer gives the service /app/chain/deploy/service/** ({})",
        service.id().short()
    ));
    Ok([
        Level { who: "the team", key: &cast.team, prefix: "/app/chain", grant: team.id() },
        Level { who: "the deployer", key: &cast.deployer, prefix: "/app/chain/deploy", grant: deployer.id() },
        Level {
            who: "the service",
            key: &cast.service,
            prefix: "/app/chain/deploy/service",
            grant: service.id(),
        },
    ])
}

/// Returns the first session of the late replica that failed or transferred facts. Sessions rejected as busy do not
/// count.
async fn first_that_moves(reports: &mut Receiver<SyncReport>) -> anyhow::Result<SyncReport> {
    let first = async {
        loop {
            let report = reports.recv().await.context("replica 4 has stopped")?;
            let moved = report.received.entry_facts + report.received.authority_facts;
            let met_another = report.reasons.iter().any(|reason| reason == Busy.name());
            if moved > 0 || (report.outcome != SyncOutcome::Equal && !met_another) {
                return anyhow::Ok(report);
            }
        }
    };
    tokio::time::timeout(PATIENCE, first).await.context("replica 4 had no session")?
}

/// Checks that one session transferred everything, and nothing twice.
fn check_session(report: &SyncReport, view: &View) -> anyhow::Result<()> {
    let authority = view.authority_tree().len() as u64;
    let entries: u64 = view.keys("", None).map(|(_, frontier)| frontier.len() as u64).sum();
    let (received, sent) = (&report.received, &report.sent);
    anyhow::ensure!(
        report.outcome == SyncOutcome::Equal
            && (received.authority_facts, received.entry_facts) == (authority, entries),
        "the first session of replica 4 ended {} ({}) with {} of {authority} authority facts and {} of {entries} entries",
        report.outcome,
        report.reasons.join(", "),
        received.authority_facts,
        received.entry_facts
    );
    verified(format!("one session brought all {authority} authority facts and all {entries} entries"));
    line(format!(
        "it took {} ms and {:.1} round trips; replica 4 received {} and sent {}, {} of that to find what it lacks",
        report.took_us / 1_000,
        f64::from(report.flights) / 2.0,
        bytes(received.overhead + received.authority + received.entries),
        bytes(sent.overhead + sent.authority + sent.entries),
        bytes(received.overhead + sent.overhead)
    ));
    verify(report.waste == 0, "nothing was received without effect")
}

/// Checks that the late replica shows a value that the level's holder wrote, with the chain of grants that justifies
/// it.
async fn check_level(late: &Agent, level: &Level<'_>, depth: usize) -> anyhow::Result<()> {
    let key = Key::parse(&format!("{}/0", level.prefix))?;
    let shown = late.read(&key).await?.context("a key of the chain is unset")?;
    let expected = format!("written by {}, 0", level.who);
    anyhow::ensure!(
        shown.value().is_some_and(|value| value == expected.as_bytes()),
        "{key} has another value at replica 4"
    );
    let view = late.store().view();
    match view.authority().explain(&key, level.key.public().entity(), now()) {
        Explanation::Accepted(chain)
            if chain.len() == depth && chain.last().map(|link| link.grant) == Some(level.grant) =>
        {
            Ok(())
        }
        other => anyhow::bail!("replica 4 explains {key} in another way: {other:?}"),
    }
}
