//! Crashes, pauses, partitions, loss.

use std::{sync::atomic::Ordering, time::Duration};

use kvgossip_membership::{Event, Membership, Options, Status, driver::Link};

use kvgossip_testkit::{
    serf::{Agent, fresh_ip},
    wait::eventually,
};

use crate::{common::Ours, switch, tags};

#[tokio::test]
async fn crashes_are_failures_and_a_restart_heals_them() {
    let agent = Agent::start("agent", &[]).await;
    let mut victim = Agent::start("victim", &[]).await;
    let ours = Ours::start("ours", |_| {}).await;
    let doomed = Ours::start("doomed", |_| {}).await;
    for member in [&ours, &doomed] {
        member.join(&agent).await;
        member.join(&victim).await;
    }
    for name in ["victim", "ours", "doomed"] {
        agent.sees(name, "alive").await;
    }
    ours.sees("doomed", Status::Alive).await;
    victim.kill();
    drop(doomed);
    for name in ["victim", "doomed"] {
        ours.sees(name, Status::Failed).await;
        agent.sees(name, "failed").await;
    }
    let victim = victim.restart().await;
    ours.join(&victim).await;
    ours.sees("victim", Status::Alive).await;
    agent.sees("victim", "alive").await;
    victim.sees("ours", "alive").await;
}

#[tokio::test]
async fn a_quick_restart_of_ours_is_taken_up() {
    let agent = Agent::start("agent", &[]).await;
    let ip = fresh_ip();
    let start = async |version: &'static str| {
        let mut options = Options::new("ours", (ip, 7946).into());
        options.tags = tags(&[("v", version)]);
        let (member, events) = Membership::start(options).await.expect("starts");
        member.join(&[agent.addr], false).await.expect("joins");
        (member, events)
    };
    let shows = async |version: &'static str| {
        eventually("the agent sees the version", async || {
            agent.members().await.get("ours").is_some_and(|(_, tags)| tags.contains(version)).then_some(())
        })
        .await;
    };
    let (member, events) = start("1").await;
    shows("v=1").await;
    member.set_tags(tags(&[("v", "2")])).await.expect("fits");
    shows("v=2").await;
    drop((member, events));
    // The port is free as soon as the task has ended.
    let again =
        eventually("the port is free", async || std::net::TcpListener::bind((ip, 7946)).ok().map(drop));
    again.await;
    let _kept = start("3").await;
    shows("v=3").await;
    agent.sees("ours", "alive").await;
}

#[tokio::test]
async fn a_stopped_agent_fails_and_refutes() {
    let agent = Agent::start("agent", &[]).await;
    let sleeper = Agent::start("sleeper", &[]).await;
    let ours = Ours::start("ours", |_| {}).await;
    ours.join(&agent).await;
    ours.join(&sleeper).await;
    sleeper.sees("ours", "alive").await;
    agent.sees("sleeper", "alive").await;
    sleeper.signal("STOP");
    ours.sees("sleeper", Status::Failed).await;
    sleeper.signal("CONT");
    ours.sees("sleeper", Status::Alive).await;
    agent.sees("sleeper", "alive").await;
    sleeper.sees("ours", "alive").await;
}

#[tokio::test]
async fn a_false_suspicion_of_ours_is_refuted() {
    let agent = Agent::start("agent", &[]).await;
    let mut crashes = Agent::start("crashes", &[]).await;
    let (filter, open) = switch(|_| true);
    let ours = Ours::start("ours", |o| o.link_filter = Some(filter)).await;
    for other in [&agent, &crashes] {
        ours.join(other).await;
        other.sees("ours", "alive").await;
    }
    agent.sees("crashes", "alive").await;
    // Long enough to be suspected, too short to be declared dead.
    open.store(false, Ordering::Relaxed);
    eventually("the agent suspects ours", async || agent.log().contains("Suspect ours")).await;
    open.store(true, Ordering::Relaxed);
    crashes.kill();
    let refutes = async || ours.member.stats().await.expect("runs").refutations > 0;
    eventually("ours refutes", refutes).await;
    // The agent suspected the one that crashed later than ours, and gives every suspect the same time.
    agent.sees("crashes", "failed").await;
    assert_eq!(agent.members().await["ours"].0, "alive");
}

#[tokio::test]
async fn a_partition_heals() {
    let agent = Agent::start("agent", &[]).await;
    let other = Agent::start("other", &[]).await;
    let (filter, open) = switch(|_| true);
    let ours = Ours::start("ours", |o| {
        o.link_filter = Some(filter);
        o.timing.reconnect_interval = Duration::from_secs(2);
    })
    .await;
    ours.join(&agent).await;
    ours.join(&other).await;
    agent.sees("ours", "alive").await;
    open.store(false, Ordering::Relaxed);
    for a in [&agent, &other] {
        a.sees("ours", "failed").await;
        ours.sees(&a.name, Status::Failed).await;
    }
    open.store(true, Ordering::Relaxed);
    for a in [&agent, &other] {
        ours.sees(&a.name, Status::Alive).await;
        a.sees("ours", "alive").await;
    }
}

#[tokio::test]
async fn tcp_replaces_lost_datagrams() {
    let agent = Agent::start("agent", &[]).await;
    let (filter, open) = switch(|link| matches!(link, Link::Udp(_)));
    let mut ours = Ours::start("ours", |o| o.link_filter = Some(filter)).await;
    ours.join(&agent).await;
    agent.sees("ours", "alive").await;
    ours.drain();
    open.store(false, Ordering::Relaxed);
    let stats = async || ours.member.stats().await.expect("runs");
    let before = stats().await.tcp_acks;
    eventually("several probes are answered over TCP", async || {
        (stats().await.tcp_acks >= before + 6).then_some(())
    })
    .await;
    assert_eq!(agent.members().await["ours"].0, "alive");
    assert_eq!(ours.status("agent").await, Some(Status::Alive));
    let failed = ours.drain().into_iter().any(|event| matches!(event, Event::MemberFailed(_)));
    assert!(!failed, "nobody failed");
}

#[tokio::test]
async fn a_snapshot_brings_ours_back() {
    let agent = Agent::start("agent", &[]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (path, ip) = (dir.path().join("snapshot"), fresh_ip());
    let start = async || {
        let mut options = Options::new("ours", (ip, 7946).into());
        options.snapshot = Some(path.clone());
        Membership::start(options).await.expect("starts")
    };
    let (member, events) = start().await;
    member.join(&[agent.addr], false).await.expect("joins");
    agent.sees("ours", "alive").await;
    drop((member, events));
    eventually("the snapshot names the agent", async || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("alive: agent 127.")).then_some(())
    })
    .await;
    agent.sees("ours", "failed").await;
    let (member, _events) = start().await;
    agent.sees("ours", "alive").await;
    assert_eq!(member.member("agent").await.expect("runs").map(|m| m.status), Some(Status::Alive));
}
