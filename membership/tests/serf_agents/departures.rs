//! Who leaves, who is made to leave, and who is not let in.

use std::time::Duration;

use kvgossip_membership::{Event, Key, Keyring, Options, Status};

use kvgossip_testkit::{serf::Agent, wait::eventually};

use crate::{common::Ours, user_event};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[tokio::test]
async fn leaving_is_seen_as_leaving() {
    let agent = Agent::start("agent", &[]).await;
    let goer = Agent::start("goer", &[]).await;
    let mut ours = Ours::start("ours", |_| {}).await;
    let leaver = Ours::start("leaver", |_| {}).await;
    let crashes = Ours::start("crashes", |_| {}).await;
    for member in [&ours, &leaver, &crashes] {
        member.join(&agent).await;
        member.join(&goer).await;
    }
    agent.sees("leaver", "alive").await;
    ours.sees("leaver", Status::Alive).await;
    ours.sees("crashes", Status::Alive).await;
    goer.serf("leave", &[]).await;
    leaver.member.leave().await.expect("leaves");
    drop(leaver);
    for name in ["goer", "leaver"] {
        ours.sees(name, Status::Left).await;
        agent.sees(name, "left").await;
    }
    // Nobody of them answers any more, and the one that falls silent last is the only one that fails.
    drop(crashes);
    ours.sees("crashes", Status::Failed).await;
    agent.sees("crashes", "failed").await;
    for name in ["goer", "leaver"] {
        ours.sees(name, Status::Left).await;
        agent.sees(name, "left").await;
    }
    let failed = |event| match event {
        Event::MemberFailed(member) => Some(member.name),
        _ => None,
    };
    assert_eq!(ours.drain().into_iter().filter_map(failed).collect::<Vec<_>>(), ["crashes"]);
}

#[tokio::test]
async fn encrypted_and_compressed_and_closed_to_others() {
    let agent = Agent::start("agent", &[&format!("-encrypt={KEY}")]).await;
    let keyed = |o: &mut Options| {
        o.framing.compress = true;
        o.framing.keyring = Some(Keyring::new(Key::from_base64(KEY).expect("a key")));
    };
    let mut ours = Ours::start("ours", keyed).await;
    ours.join(&agent).await;
    agent.sees("ours", "alive").await;
    agent.serf("event", &["-coalesce=false", "hello", &"x".repeat(300)]).await;
    assert_eq!(ours.event("the event", user_event).await.1, "x".repeat(300).into_bytes());
    let text = agent.serf("query", &["-timeout=2s", "anything"]).await;
    assert!(text.contains("Ack from 'ours'"), "{text}");

    let plain = Ours::start("plain", |_| {}).await;
    let wrong = Ours::start("wrong", |o| {
        o.framing.keyring = Some(Keyring::new(Key::new(&[1; 32]).expect("a key")));
    })
    .await;
    for stranger in [&plain, &wrong] {
        assert!(stranger.member.join(&[agent.addr], false).await.is_err(), "agents keep strangers out");
        assert!(stranger.member.join(&[ours.member.local_addr()], false).await.is_err(), "so do we");
        assert!(ours.member.join(&[stranger.member.local_addr()], false).await.is_err());
    }
    let plain_agent = Agent::start("plain-agent", &[]).await;
    assert!(ours.member.join(&[plain_agent.addr], false).await.is_err());
    for name in ["plain", "wrong", "plain-agent"] {
        assert_eq!(ours.status(name).await, None);
        assert!(!agent.members().await.contains_key(name));
    }

    // The agent's key commands reach our keyring.
    let new = Key::new(&[9; 32]).expect("a key").to_base64();
    agent.serf("keys", &["-install", &new]).await;
    agent.serf("keys", &["-use", &new]).await;
    agent.serf("keys", &["-remove", KEY]).await;
    let text = agent.serf("keys", &["-list"]).await;
    assert!(text.contains(&new) && text.contains("[2/2]") && !text.contains(KEY), "{text}");
    let ring = ours.member.framing().await.expect("runs").keyring.expect("set");
    assert_eq!(ring.keys().iter().map(Key::to_base64).collect::<Vec<_>>(), [new]);
    ours.event("the keyring changed", |e| (e == Event::KeyringChanged).then_some(())).await;
    ours.drain();
    agent.serf("event", &["-coalesce=false", "rotated"]).await;
    assert_eq!(ours.event("an event under the new key", user_event).await.0, "rotated");
}

#[tokio::test]
async fn force_leave_in_both_directions() {
    let agent = Agent::start("agent", &[]).await;
    let mut first = Agent::start("first", &[]).await;
    let mut second = Agent::start("second", &[]).await;
    let ours = Ours::start("ours", |_| {}).await;
    for a in [&agent, &first, &second] {
        ours.join(a).await;
    }
    agent.sees("first", "alive").await;
    agent.sees("second", "alive").await;
    first.kill();
    second.kill();
    for name in ["first", "second"] {
        ours.sees(name, Status::Failed).await;
        agent.sees(name, "failed").await;
    }
    agent.serf("force-leave", &["first"]).await;
    ours.sees("first", Status::Left).await;
    ours.member.force_leave("second", false).await.expect("is known");
    agent.sees("second", "left").await;
    ours.member.force_leave("second", true).await.expect("is known");
    eventually("the agent forgets it", async || !agent.members().await.contains_key("second")).await;
    // A prune is a broadcast and no part of the state that members exchange: when it is lost, as it may be on a busy
    // machine, an operator has to say it again.
    for _ in 0..6 {
        agent.serf("force-leave", &["-prune", "first"]).await;
        let forgotten = eventually("ours forgets it", async || ours.status("first").await.is_none());
        if tokio::time::timeout(Duration::from_secs(10), forgotten).await.is_ok() {
            return;
        }
    }
    panic!("ours does not forget it");
}

#[tokio::test]
async fn whoever_comes_second_loses_a_contested_name() {
    let agent = Agent::start("agent", &[]).await;
    let ours = Ours::start("ours", |_| {}).await;
    let witness = Ours::start("witness", |_| {}).await;
    ours.join(&agent).await;
    witness.join(&agent).await;
    agent.sees("ours", "alive").await;
    witness.sees("ours", Status::Alive).await;
    // An agent that takes our name gives up, because agent and witness say whose it is.
    let mut thief = Agent::start("ours", &[]).await;
    // It may be gone before the command has its answer.
    thief.try_serf("join", &[&agent.addr.to_string()]).await;
    eventually("the agent gives our name up", async || thief.has_ended()).await;
    assert!(thief.log().contains("minority in name conflict resolution"), "{}", thief.log());
    assert_eq!(agent.members().await["ours"].0, "alive");
    // The other way round.
    let mut second = Ours::start("agent", |_| {}).await;
    second.member.join(&[ours.member.local_addr()], false).await.expect("joins");
    second.event("the name is lost", |e| (e == Event::NameLost).then_some(())).await;
    let known = witness.member.member("agent").await.expect("runs").map(|m| m.addr);
    assert_eq!(known, Some(agent.addr));
}
