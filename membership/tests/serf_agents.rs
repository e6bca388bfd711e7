//! This crate's member and real Serf agents in one cluster, in both directions.
//!
//! Needs the program `serf` (Debian's package `serf`, or a release of Serf) on the PATH.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{Agent, Ours, eventually};
use kvgossip_membership::{
    Event, Key, Keyring, Membership, Options, QueryParams, Status,
    driver::{Answer, Link, LinkFilter},
};

fn tags(pairs: &[(&str, &str)]) -> kvgossip_membership::Tags {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn user_event(event: Event) -> Option<(String, Vec<u8>)> {
    match event {
        Event::UserEvent { name, payload, .. } => Some((name, payload)),
        _ => None,
    }
}

/// A link filter with a switch, and the switch: `true` lets everything pass.
fn switch(blocked: fn(Link) -> bool) -> (LinkFilter, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(true));
    let shared = open.clone();
    (Arc::new(move |link| shared.load(Ordering::Relaxed) || !blocked(link)), open)
}

#[tokio::test]
async fn joins_in_both_directions_with_tags() {
    let agent = Agent::start("agent", &["-tag", "role=web"]).await;
    let first = Ours::start("first", |o| o.tags = tags(&[("kind", "ours"), ("n", "1")])).await;
    first.join(&agent).await;
    let second = Ours::start("second", |o| o.tags = tags(&[("kind", "ours")])).await;
    agent.serf("join", &[&second.member.local_addr().to_string()]).await;
    for name in ["first", "second"] {
        agent.sees(name, "alive").await;
    }
    for ours in [&first, &second] {
        ours.sees("agent", Status::Alive).await;
    }
    first.sees("second", Status::Alive).await;
    let members = agent.members().await;
    assert!(members["first"].1.contains("kind=ours") && members["first"].1.contains("n=1"));
    let seen = first.member.member("agent").await.expect("runs").expect("known");
    assert_eq!((seen.addr, seen.tags), (agent.addr, tags(&[("role", "web")])));

    // Each side knows how far the other is, once it has probed it.
    eventually("ours knows the agent's place", async || {
        first.member.estimated_rtt("agent").await.expect("runs").filter(|rtt| *rtt < Duration::from_secs(1))
    })
    .await;
    eventually("the agent knows our place", async || {
        let rtt = agent.try_serf("rtt", &["agent", "first"]).await?;
        rtt.contains("Estimated agent <-> first rtt").then_some(())
    })
    .await;

    // Changes, in both directions.
    first.member.set_tags(tags(&[("kind", "changed")])).await.expect("fits");
    eventually("the agent sees the new tag", async || {
        agent.members().await["first"].1.contains("kind=changed").then_some(())
    })
    .await;
    agent.serf("tags", &["-set", "role=db", "-set", "zone=b"]).await;
    eventually("ours sees the new tags", async || {
        let seen = second.member.member("agent").await.expect("runs").expect("known");
        (seen.tags == tags(&[("role", "db"), ("zone", "b")])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn events_in_both_directions() {
    let agent = Agent::start("agent", &["-event-handler=user:deploy=cat >> deploy"]).await;
    let mut ours = Ours::start("ours", |_| {}).await;
    ours.join(&agent).await;
    agent.sees("ours", "alive").await;
    agent.serf("event", &["-coalesce=false", "restart", "now"]).await;
    let event = ours.event("the agent's event", user_event).await;
    assert_eq!(event, ("restart".to_owned(), b"now".to_vec()));
    ours.member.user_event("deploy", b"1.2.3", false).await.expect("is sent");
    let file = agent.dir.path().join("deploy");
    eventually("the agent's handler runs", async || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.trim() == "1.2.3").then_some(())
    })
    .await;
    // A second time is a second event; each is heard once.
    ours.member.user_event("deploy", b"1.2.3", false).await.expect("is sent");
    eventually("the handler runs again", async || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.matches("1.2.3").count() == 2).then_some(())
    })
    .await;
    let own = ours.drain().into_iter().filter_map(user_event).filter(|(name, _)| name == "deploy").count();
    assert_eq!(own, 2, "one's own events come back once each");

    // Who joins later and wants no old events gets none.
    let mut late = Ours::start("late", |_| {}).await;
    late.member.join(&[agent.addr], true).await.expect("joins");
    agent.serf("event", &["-coalesce=false", "fresh"]).await;
    assert_eq!(late.event("a fresh event", user_event).await.0, "fresh");
}

#[tokio::test]
async fn queries_in_both_directions() {
    let agent =
        Agent::start("agent", &["-tag=role=web", "-event-handler=query:uptime=echo three days"]).await;
    let other = Agent::start("other", &["-tag=role=db", "-event-handler=query:uptime=echo four days"]).await;
    let mut ours = Ours::start("ours", |o| o.tags = tags(&[("role", "ours")])).await;
    ours.join(&agent).await;
    ours.join(&other).await;
    for a in [&agent, &other] {
        for name in ["agent", "other", "ours"] {
            a.sees(name, "alive").await;
        }
    }

    let ask = async |params: QueryParams| {
        let params = QueryParams { request_ack: true, timeout: Some(Duration::from_secs(3)), ..params };
        let mut answers = ours.member.query("uptime", b"?", params).await.expect("is sent");
        let (mut acks, mut responses) = (Vec::new(), Vec::new());
        while let Some(answer) = answers.next().await {
            match answer {
                Answer::Ack(from) => acks.push(from),
                Answer::Response { from, payload } => responses.push((from, payload)),
            }
        }
        acks.sort();
        responses.sort();
        (acks, responses)
    };
    let three = ("agent".to_owned(), b"three days\n".to_vec());
    let four = ("other".to_owned(), b"four days\n".to_vec());
    let (acks, responses) = ask(QueryParams { relay_factor: 2, ..QueryParams::default() }).await;
    assert_eq!(acks, ["agent", "other", "ours"]);
    assert_eq!(responses, [three.clone(), four.clone()]);
    let (acks, responses) = ask(QueryParams { nodes: vec!["other".into()], ..QueryParams::default() }).await;
    assert_eq!((acks, responses), (vec!["other".to_owned()], vec![four]));
    let (acks, responses) =
        ask(QueryParams { tags: vec![("role".into(), "^w.b$".into())], ..QueryParams::default() }).await;
    assert_eq!((acks, responses), (vec!["agent".to_owned()], vec![three]));

    // The other way round.
    ours.drain();
    let command = async {
        agent.serf("query", &["-timeout=5s", "-relay-factor=2", "-tag=role=ours", "uptime", "of you"]).await
    };
    let answer = async {
        let pick = |event| match event {
            Event::Query(query) => Some(query),
            _ => None,
        };
        let query = ours.event("the agent's query", pick).await;
        assert_eq!(
            (query.name.as_str(), &query.payload[..], query.source.as_str()),
            ("uptime", &b"of you"[..], "agent")
        );
        ours.member.respond(&query, b"one day").await.expect("in time");
    };
    let (text, ()) = tokio::join!(command, answer);
    assert!(text.contains("Ack from 'ours'") && text.contains("Response from 'ours': one day"), "{text}");
    assert!(text.contains("Total Acks: 1") && text.contains("Total Responses: 1"), "{text}");
    let text = agent.serf("query", &["-timeout=2s", "-node=other", "uptime"]).await;
    assert!(!text.contains("ours") && text.contains("four days"), "{text}");
    let queries = ours.drain().into_iter().filter(|e| matches!(e, Event::Query(_))).count();
    assert_eq!(queries, 0, "a query for others is none of ours");
    assert!(agent.serf("reachability", &[]).await.contains("Successfully contacted all live nodes"));
}

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
    let ip = common::fresh_ip();
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
async fn leaving_is_seen_as_leaving() {
    let agent = Agent::start("agent", &[]).await;
    let goer = Agent::start("goer", &[]).await;
    let mut ours = Ours::start("ours", |_| {}).await;
    let leaver = Ours::start("leaver", |_| {}).await;
    for member in [&ours, &leaver] {
        member.join(&agent).await;
        member.join(&goer).await;
    }
    agent.sees("leaver", "alive").await;
    ours.sees("leaver", Status::Alive).await;
    goer.serf("leave", &[]).await;
    leaver.member.leave().await.expect("leaves");
    drop(leaver);
    for name in ["goer", "leaver"] {
        ours.sees(name, Status::Left).await;
        agent.sees(name, "left").await;
    }
    // What has left stays that way when nobody answers any more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let failed = ours.drain().into_iter().any(|event| matches!(event, Event::MemberFailed(_)));
    assert!(!failed, "nobody failed");
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
    let (filter, open) = switch(|_| true);
    let ours = Ours::start("ours", |o| o.link_filter = Some(filter)).await;
    ours.join(&agent).await;
    agent.sees("ours", "alive").await;
    // Long enough to be suspected, too short to be declared dead.
    open.store(false, Ordering::Relaxed);
    eventually("the agent suspects ours", async || agent.log().contains("Suspect ours").then_some(())).await;
    open.store(true, Ordering::Relaxed);
    eventually("ours refutes", async || {
        let refutations = ours.member.stats().await.expect("runs").refutations;
        (refutations > 0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(agent.members().await["ours"].0, "alive");
}

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

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
    eventually("the agent forgets it", async || {
        (!agent.members().await.contains_key("second")).then_some(())
    })
    .await;
    agent.serf("force-leave", &["-prune", "first"]).await;
    eventually("ours forgets it", async || ours.status("first").await.is_none().then_some(())).await;
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
    let start = std::time::Instant::now();
    while !thief.has_ended() {
        assert!(start.elapsed() < common::PATIENCE, "the agent keeps our name");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(thief.log().contains("minority in name conflict resolution"), "{}", thief.log());
    assert_eq!(agent.members().await["ours"].0, "alive");
    // The other way round.
    let mut second = Ours::start("agent", |_| {}).await;
    second.member.join(&[ours.member.local_addr()], false).await.expect("joins");
    second.event("the name is lost", |e| (e == Event::NameLost).then_some(())).await;
    let known = witness.member.member("agent").await.expect("runs").map(|m| m.addr);
    assert_eq!(known, Some(agent.addr));
}

#[tokio::test]
async fn over_ipv6() {
    let free =
        || std::net::TcpListener::bind("[::1]:0").expect("IPv6 on loopback").local_addr().expect("bound");
    let agent = Agent::start_at("agent", free(), &[]).await;
    let ours = Ours::start("ours", |o| o.bind = "[::1]:0".parse().expect("an address")).await;
    ours.join(&agent).await;
    agent.sees("ours", "alive").await;
    assert_eq!(ours.member.member("agent").await.expect("runs").map(|m| m.addr), Some(agent.addr));
    let text = agent.serf("query", &["-timeout=2s", "anything"]).await;
    assert!(text.contains("Ack from 'ours'"), "{text}");
}

#[tokio::test]
async fn a_snapshot_brings_ours_back() {
    let agent = Agent::start("agent", &[]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (path, ip) = (dir.path().join("snapshot"), common::fresh_ip());
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
