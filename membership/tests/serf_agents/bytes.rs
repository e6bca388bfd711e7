//! Names, tags, events and queries that are not UTF-8: Go's strings are bytes.

use std::{net::SocketAddr, time::Duration};

use kvgossip_membership::{
    Event, QueryParams, Status, Text,
    driver::{Answer, rpc},
    wire::serf::Tags,
};

use kvgossip_testkit::{
    serf::{Agent, GOSSIP_PORT, fresh_ip},
    wait::eventually,
};

use crate::{common::Ours, user_event};

/// The letters of a name in Latin-1.
const NAME: &[u8] = b"caf\xe9";
/// As it is shown.
const SHOWN: &str = r"caf\xe9";
/// The handler of the agent: the event's name and what it carries.
const HANDLER: &[u8] = b"-event-handler=user:d\xe9ploy={ printf '%s ' \"$SERF_USER_EVENT\"; cat; } >> deploy";
const ANSWERER: &[u8] = b"-event-handler=query:upt\xefme=printf 'three\\377'";

async fn start() -> Agent {
    let addr = SocketAddr::from((fresh_ip(), GOSSIP_PORT));
    Agent::start_raw(NAME, addr, &[b"-tag=r\xf4le=\xff\xfe", b"-tag=zone=a", HANDLER, ANSWERER]).await
}

fn sorted(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn names_tags_and_events_that_are_no_text_go_both_ways() {
    let mut agent = start().await;
    let own = Text::from(&b"our\xe8"[..]);
    let own_tags: Tags = [("role".into(), b"\xe8"[..].into())].into();
    let mut ours = Ours::start("late to know", |options| {
        (options.name, options.tags) = (own.clone(), own_tags.clone());
    })
    .await;
    ours.join(&agent).await;
    ours.sees(NAME, Status::Alive).await;
    let seen = ours.member.member(NAME).await.expect("runs").expect("known");
    let tags: Tags = [(b"r\xf4le"[..].into(), b"\xff\xfe"[..].into()), ("zone".into(), "a".into())].into();
    assert_eq!((seen.name.to_string().as_str(), seen.tags), (SHOWN, tags));

    // What Serf's command line says of both is the same at either.
    let options = rpc::Options::new(SocketAddr::from((fresh_ip(), 0)));
    let server = rpc::Server::bind(options, ours.member.clone()).expect("a free port");
    let at_ours = format!("-rpc-addr={}", server.local_addr());
    tokio::spawn(server.run());
    let line = [&own[..], b" "].concat();
    eventually("both say the same", async || {
        let theirs = agent.serf_raw("members", &[]).await;
        let here = agent.serf_raw("members", &[at_ours.as_bytes()]).await;
        let knows_us = theirs.windows(line.len()).any(|part| part == line);
        (knows_us && sorted(&here) == sorted(&theirs)).then_some(())
    })
    .await;

    // Events, by each side's tools.
    agent.serf_raw("event", &[b"-coalesce=false", b"r\xe9start", b"n\xf8w"]).await;
    let event = ours.event("the agent's event", user_event).await;
    assert_eq!(event, (b"r\xe9start"[..].into(), b"n\xf8w".to_vec()));
    ours.member.user_event(b"d\xe9ploy", b"1\xff2", false).await.expect("is sent");
    let file = agent.dir.path().join("deploy");
    eventually("the agent's handler runs", async || {
        (std::fs::read(&file).ok()? == b"d\xe9ploy 1\xff2\n").then_some(())
    })
    .await;

    // Queries.
    let params = QueryParams {
        nodes: vec![NAME.into()],
        tags: vec![(b"r\xf4le"[..].into(), "^..$".into())],
        timeout: Some(Duration::from_secs(20)),
        ..QueryParams::default()
    };
    let mut answers = ours.member.query(b"upt\xefme", b"", params).await.expect("is sent");
    let answer = Answer::Response { from: NAME.into(), payload: b"three\xff".to_vec() };
    assert_eq!(answers.next().await, Some(answer));
    let ask = agent.serf_raw("query", &[b"-timeout=2s", b"-node=our\xe8", b"-tag=role=^.$", b"l\xefve"]);
    let pick = |event| match event {
        Event::Query(query) => Some(query),
        _ => None,
    };
    let (text, asked) = tokio::join!(ask, ours.event("the agent's query", pick));
    assert!(*asked.name == *b"l\xefve" && *asked.source == *NAME, "{asked:?}");
    assert!(text.windows(15).any(|part| part == b"Ack from 'our\xe8'"), "{}", Text::from(text));

    // Both go on comparing their states.
    let merges = ours.member.stats().await.expect("runs").merges;
    ours.join(&agent).await;
    agent.serf("join", &[&ours.member.local_addr().to_string()]).await;
    let stats = ours.member.stats().await.expect("runs");
    assert!(stats.merges >= merges + 2 && stats.malformed == 0 && stats.refused.total() == 0, "{stats:?}");
    assert!(!agent.log().contains("[ERR] memberlist"), "{}", agent.log());

    agent.kill();
    ours.sees(NAME, Status::Failed).await;
    ours.member.force_leave(Text::from_shown(SHOWN), false).await.expect("is known");
    ours.sees(NAME, Status::Left).await;
}

/// A member that knows others by such names hands them on, and a newcomer finds them all.
#[tokio::test]
async fn newcomers_learn_of_such_members_from_either_side_and_from_a_snapshot() {
    let agent = start().await;
    let first = Ours::start("first", |_| {}).await;
    first.join(&agent).await;
    first.sees(NAME, Status::Alive).await;
    let snapshot = agent.dir.path().join("snapshot");
    let second = Ours::start("second", |options| options.snapshot = Some(snapshot.clone())).await;
    assert_eq!(second.member.join(&[first.member.local_addr()], false).await.expect("joins"), 1);
    second.sees(NAME, Status::Alive).await;
    let theirs = Agent::start("theirs", &[]).await;
    theirs.serf("join", &[&second.member.local_addr().to_string()]).await;
    eventually("an agent hears of it from ours", async || {
        let members = theirs.serf_raw("members", &[]).await;
        members.windows(NAME.len()).any(|part| part == NAME).then_some(())
    })
    .await;

    let line = [b"alive: ", NAME, b" ", agent.addr.to_string().as_bytes(), b"\n"].concat();
    eventually("it is remembered as Serf remembers it", async || {
        let written = std::fs::read(&snapshot).ok()?;
        written.windows(line.len()).any(|part| part == line).then_some(())
    })
    .await;
    drop(second);
    let again = Ours::start("third", |options| options.snapshot = Some(snapshot)).await;
    again.sees(NAME, Status::Alive).await;
}
