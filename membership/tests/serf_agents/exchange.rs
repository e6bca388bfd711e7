//! Joins, tags, events and queries.

use std::time::Duration;

use kvgossip_membership::{Event, QueryParams, Status, Text, driver::Answer};

use kvgossip_testkit::{serf::Agent, wait::eventually};

use crate::{common::Ours, tags, user_event};

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
    assert_eq!(event, ("restart".into(), b"now".to_vec()));
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
    let three = (Text::from("agent"), b"three days\n".to_vec());
    let four = (Text::from("other"), b"four days\n".to_vec());
    let (acks, responses) = ask(QueryParams { relay_factor: 2, ..QueryParams::default() }).await;
    assert_eq!(acks, ["agent", "other", "ours"]);
    assert_eq!(responses, [three.clone(), four.clone()]);
    let (acks, responses) = ask(QueryParams { nodes: vec!["other".into()], ..QueryParams::default() }).await;
    assert_eq!((acks, responses), (vec![Text::from("other")], vec![four]));
    let (acks, responses) =
        ask(QueryParams { tags: vec![("role".into(), "^w.b$".into())], ..QueryParams::default() }).await;
    assert_eq!((acks, responses), (vec![Text::from("agent")], vec![three]));

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
        assert!(query.name == "uptime" && query.payload == b"of you" && query.source == "agent", "{query:?}");
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
