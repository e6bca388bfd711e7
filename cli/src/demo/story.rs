//! The demonstration, step by step.

use super::cast::Cast;
use super::fill::Item;
use super::late::join_late;
use super::stage::{PATIENCE, Stage, put};
use super::tell::{bytes, eventually, line, say, step, verified, verify};
use super::wire::Wire;
use crate::output::counted;
use anyhow::Context;
use bytes::Bytes;
use kvgossip_agent::now;
use kvgossip_api::SyncReport;
use kvgossip_grants::{By, Code, Fact, Grant, Key, Signed, Signer, Verdict};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;

/// Number of keys written on each side while the network is cut.
const WRITES: usize = 20;
/// Maximum time from equality of both sides to the end of the session.
const LAST_REPORTS: Duration = Duration::from_secs(1);
/// Maximum time until a concurrent second session ends.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// Runs the whole demonstration; fails at the first step that does not hold.
pub(super) async fn tell(items: Vec<Item>) -> anyhow::Result<()> {
    let began = Instant::now();
    say("kvgossip demo: four replicas of one signed tree, on 127.0.0.1, in a temporary directory");
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let cast = Cast::make()?;
    let stage = set_up(&cast, dir.path()).await?;
    let (team, deployer) = delegate(&cast, &stage).await?;
    fill(&cast, &stage, &team, &items).await?;
    repair(&cast, &stage, (&team, &deployer), &items).await?;
    refuse_forgeries(&cast, &stage, &deployer).await?;
    revoke(&cast, &stage, &deployer).await?;
    let late = join_late(&cast, &stage, dir.path(), &team).await?;
    // All at once, since each waits for the others to notice that it leaves.
    let stops: Vec<_> =
        stage.agents.into_iter().chain([late]).map(|agent| tokio::spawn(agent.stop())).collect();
    for stop in stops {
        stop.await?;
    }
    say(&format!("\nEvery step was verified, in {:.1} s.", began.elapsed().as_secs_f64()));
    say("Next: the README's tour runs three agents in three terminals; `kvgossip help` lists the commands.");
    Ok(())
}

async fn set_up(cast: &Cast, dir: &std::path::Path) -> anyhow::Result<Stage> {
    step(1, "A root key makes a cluster, and three agents join it");
    let (uncut, wire) = (Wire::default(), Wire::default());
    let first = cast.start(0, dir, None, &uncut).await?;
    let meeting_point = first.gossip()?.address();
    let second = cast.start(1, dir, Some(meeting_point), &uncut).await?;
    let third = cast.start(2, dir, Some(meeting_point), &wire).await?;
    line(format!("cluster {} is named by its root's public key", cast.cluster().short()));
    for (number, agent) in (1..).zip([&first, &second, &third]) {
        let (id, sessions) = (agent.peers().id().short(), agent.peers().address());
        line(format!(
            "replica {number} is {id}, gossip on {}, sessions on {sessions}",
            agent.gossip()?.address()
        ));
    }
    line("replicas 2 and 3 were told where the gossip of 1 is, and nothing else");
    let stage = Stage { agents: vec![first, second, third], wire };
    for (from, others) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
        let what = "everybody knows and is connected with everybody";
        eventually(what, PATIENCE, async || {
            let connected = others.iter().all(|other| stage.is_connected(from, *other));
            connected && stage.sees(from, &others, "alive").await
        })
        .await?;
    }
    verified(
        "through gossip (Serf's protocol) each knows all three, admits them, and is connected with them",
    );
    Ok(stage)
}

async fn delegate(cast: &Cast, stage: &Stage) -> anyhow::Result<(Signed<Grant>, Signed<Grant>)> {
    step(2, "Authority is delegated by signed grants");
    let team = cast.grant(&cast.root, cast.team.public(), "/app/**", None)?;
    let deployer = cast.grant(&cast.team, cast.deployer.public(), "/app/web/**", Some(team.id()))?;
    line(format!("root gives the team     /app/**       grant {}, may be passed on", team.id().short()));
    line(format!(
        "the team gives deployer /app/web/**   grant {}, under {}",
        deployer.id().short(),
        team.id().short()
    ));
    // At different replicas; the second grant follows when the first, which it depends on, is everywhere.
    verify(
        put(stage, 0, Fact::Grant(team.clone())).await? == Verdict::Merged,
        "replica 1 took the team's grant",
    )?;
    eventually("the grant is everywhere", PATIENCE, async || stage.all_equal()).await?;
    verify(
        put(stage, 2, Fact::Grant(deployer.clone())).await? == Verdict::Merged,
        "replica 3 took the deployer's",
    )?;
    let took = eventually("both grants are everywhere", PATIENCE, async || stage.all_equal()).await?;
    verified(format!("all three hold both grants ({} ms later)", took.as_millis()));
    Ok((team, deployer))
}

async fn fill(cast: &Cast, stage: &Stage, team: &Signed<Grant>, items: &[Item]) -> anyhow::Result<()> {
    step(3, "One replica is filled, the others converge");
    let signing = Instant::now();
    let facts = sign_all(cast, team, items)?;
    let weight: usize = facts.iter().map(Fact::payload_len).sum();
    line(format!(
        "{} signed by the team ({} with values and signatures) in {:.1} s",
        counted(facts.len() as u64, "entry", "entries"),
        bytes(weight as u64),
        signing.elapsed().as_secs_f64()
    ));
    let mut reports = listen(stage);
    let began = Instant::now();
    for chunk in facts.chunks(500) {
        let offered: Vec<_> = chunk.iter().cloned().map(Ok).collect();
        let verdicts = stage.agents[0].put_facts(&offered).await?;
        anyhow::ensure!(
            verdicts.iter().all(|verdict| *verdict == Verdict::Merged),
            "an entry was refused: {verdicts:?}"
        );
    }
    eventually("all three are equal", PATIENCE, async || stage.all_equal()).await?;
    let took = began.elapsed();
    let counts = stage.set_keys();
    verify(
        counts.iter().all(|count| *count == items.len()),
        format!("each replica holds all {}", counted(items.len() as u64, "key", "keys")),
    )?;
    verified(format!(
        "all three have root digest {} ({:.2} s after the first put)",
        stage.root(0).short(),
        took.as_secs_f64()
    ));
    let cost = Cost::gather(&mut reports, |cost| cost.entry_facts >= items.len() as u64).await;
    line(format!(
        "replica 3 received {} and sent {}, in {} session(s)",
        bytes(cost.received),
        bytes(cost.sent),
        cost.sessions
    ));
    Ok(())
}

/// Signs an entry of the team for each of `items`, on two threads.
fn sign_all(cast: &Cast, team: &Signed<Grant>, items: &[Item]) -> anyhow::Result<Vec<Fact>> {
    let time = now();
    let sign = |part: &[Item]| -> anyhow::Result<Vec<Fact>> {
        part.iter().map(|(key, value)| cast.entry(&cast.team, key, value, time, team.id())).collect()
    };
    let (left, right) = items.split_at(items.len() / 2);
    std::thread::scope(|scope| {
        let right = scope.spawn(|| sign(right));
        let mut facts = sign(left)?;
        facts.extend(right.join().map_err(|_| anyhow::anyhow!("signing failed"))??);
        Ok(facts)
    })
}

/// Subscribes to the session reports of replica 3.
fn listen(stage: &Stage) -> Receiver<SyncReport> {
    stage.agents[2].peers().reports()
}

/// Cost of several sessions, summed.
#[derive(Default)]
struct Cost {
    sessions: usize,
    sent: u64,
    received: u64,
    overhead: u64,
    entry_facts: u64,
    waste: u64,
    flights: u32,
}

impl Cost {
    /// Sums session reports until `enough` holds, plus those that follow at once: replicas that discover a difference
    /// at the same time may run a session each.
    async fn gather(reports: &mut Receiver<SyncReport>, enough: impl Fn(&Self) -> bool) -> Self {
        let mut cost = Self::default();
        let mut deadline = tokio::time::Instant::now() + LAST_REPORTS;
        loop {
            if enough(&cost) {
                deadline = deadline.min(tokio::time::Instant::now() + STRAGGLERS);
            }
            let Ok(Ok(report)) = tokio::time::timeout_at(deadline, reports.recv()).await else { return cost };
            let (sent, received) = (report.sent, report.received);
            // A session that found both sides equal, or did not reach the peer, is not a repair.
            if sent.entry_facts + sent.authority_facts + received.entry_facts + received.authority_facts == 0
            {
                continue;
            }
            cost.sessions += 1;
            cost.sent += sent.overhead + sent.authority + sent.entries;
            cost.received += received.overhead + received.authority + received.entries;
            cost.overhead += sent.overhead + received.overhead;
            cost.entry_facts += sent.entry_facts + received.entry_facts;
            cost.waste += report.waste;
            cost.flights = cost.flights.max(report.flights);
        }
    }
}

async fn repair(
    cast: &Cast,
    stage: &Stage,
    (team, deployer): (&Signed<Grant>, &Signed<Grant>),
    items: &[Item],
) -> anyhow::Result<()> {
    step(4, "The network is cut, both sides go on writing, the cut heals");
    stage.wire.set_cut(true);
    line("from now on everything that replica 3 sends, or is sent, is lost");
    let took = eventually("the cut is noticed", PATIENCE, async || {
        let gone = [(2, 0), (2, 1), (0, 2), (1, 2)].iter().all(|(from, to)| !stage.is_connected(*from, *to));
        gone && stage.sees(0, &[2], "failed").await
            && stage.sees(1, &[2], "failed").await
            && stage.sees(2, &[0, 1], "failed").await
    })
    .await?;
    verified(format!("after {:.1} s both sides hold each other for failed", took.as_secs_f64()));
    let update = |number: usize, who: &str| {
        Bytes::from(format!("second version, written by {who} during the cut, {number}"))
    };
    let pick = |number: usize| items[number * items.len() / (2 * WRITES)].0.clone();
    // The keys that differ: with few keys, some are written more than once.
    let mut written = BTreeMap::new();
    for number in 0..WRITES {
        let fact =
            cast.entry(&cast.team, &pick(2 * number), &update(number, "the team"), now(), team.id())?;
        written.insert(pick(2 * number), fact.payload_len() as u64);
        put(stage, 0, fact).await?;
        let key = Key::parse(&format!("/app/web/cut/{number}"))?;
        let fact = cast.entry(&cast.deployer, &key, &update(number, "the deployer"), now(), deployer.id())?;
        written.insert(key, fact.payload_len() as u64);
        put(stage, 2, fact).await?;
    }
    eventually("1 and 2 are equal", PATIENCE, async || stage.root(0) == stage.root(1)).await?;
    verify(
        stage.root(0) != stage.root(2),
        format!(
            "replicas 1 and 2 have root {}, replica 3 has {} ({} packets were lost)",
            stage.root(0).short(),
            stage.root(2).short(),
            stage.wire.dropped()
        ),
    )?;
    let mut reports = listen(stage);
    let healed = Instant::now();
    stage.wire.set_cut(false);
    let back = eventually("gossip sees replica 3 again", PATIENCE, async || {
        stage.sees(0, &[2], "alive").await || stage.sees(1, &[2], "alive").await
    })
    .await?;
    eventually("all three are equal again", PATIENCE, async || stage.all_equal()).await?;
    verified(format!(
        "healed without any further write: gossip sees replica 3 after {} ms, all three are equal at {} after {} ms",
        back.as_millis(),
        stage.root(0).short(),
        healed.elapsed().as_millis()
    ));
    report_repair(&mut reports, items.len(), written.into_values()).await
}

async fn report_repair(
    reports: &mut Receiver<SyncReport>,
    keys: usize,
    written: impl ExactSizeIterator<Item = u64>,
) -> anyhow::Result<()> {
    let differed = written.len() as u64;
    let weight = written.sum();
    let cost = Cost::gather(reports, |cost| cost.entry_facts >= differed).await;
    line(format!("{differed} of {} entries differed; they weigh {}", keys + WRITES, bytes(weight)));
    line(format!(
        "finding and moving them took replica 3 {} beyond that ({} an entry), {:.1} round trips, {} session(s); wasted: {}",
        bytes(cost.overhead),
        bytes(cost.overhead / differed),
        f64::from(cost.flights) / 2.0,
        cost.sessions,
        bytes(cost.waste)
    ));
    verify(
        (differed..=3 * differed).contains(&cost.entry_facts) && cost.overhead < 40_000 && cost.flights <= 14,
        "only what differs was moved, and finding it was cheap",
    )
}

async fn refuse_forgeries(cast: &Cast, stage: &Stage, deployer: &Signed<Grant>) -> anyhow::Result<()> {
    step(5, "Forged and unauthorised writes are refused, with the reason");
    let before = stage.root(1);
    let key = Key::parse("/app/web/cut/0")?;
    let forged = cast.entry(&cast.stranger, &key, &Bytes::from_static(b"mine now"), now(), deployer.id())?;
    expect_refusal(stage, forged, Code::WrongSigner, "a stranger cites the deployer's grant").await?;
    let outside = Key::parse("/app/mail/relay")?;
    let reach = cast.entry(&cast.deployer, &outside, &Bytes::from_static(b"x"), now(), deployer.id())?;
    expect_refusal(stage, reach, Code::OutOfReach, "the deployer writes outside /app/web/**").await?;
    verify(before == stage.root(1), "nothing changed")
}

async fn expect_refusal(stage: &Stage, fact: Fact, code: Code, what: &str) -> anyhow::Result<()> {
    let verdict = put(stage, 1, fact).await?;
    verify(verdict.code() == Some(code) && !verdict.is_taken_in(), format!("{what}: {code}"))?;
    line(format!("    {}", code.help()));
    Ok(())
}

async fn revoke(cast: &Cast, stage: &Stage, deployer: &Signed<Grant>) -> anyhow::Result<()> {
    step(6, "A revocation takes back what it authorised, everywhere");
    let before = stage.set_keys();
    let revocation = cast.revoke(deployer, By::Issuer, &cast.team)?;
    let began = Instant::now();
    verify(
        put(stage, 1, revocation).await? == Verdict::Merged,
        "replica 2 took the team's revocation of the deployer's grant",
    )?;
    eventually("all three are equal", PATIENCE, async || stage.all_equal()).await?;
    let took = began.elapsed();
    let after = stage.set_keys();
    verify(
        before.iter().zip(&after).all(|(before, after)| *before == after + WRITES),
        format!(
            "the deployer's {WRITES} entries fell on all three replicas: {} keys were set, {} are ({} ms)",
            before[0],
            after[0],
            took.as_millis()
        ),
    )?;
    let key = Key::parse("/app/web/cut/0")?;
    let late = cast.entry(&cast.deployer, &key, &Bytes::from_static(b"once more"), now(), deployer.id())?;
    expect_refusal(stage, late, Code::GrantRevoked, "the deployer writes again").await
}
