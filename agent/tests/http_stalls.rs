//! Clients of the HTTP API that stall, come in crowds or ask for much: everybody else is served.

mod common;

use common::*;
use kvgossip_agent::http::HttpLimits;
use kvgossip_agent::{Agent, now};
use kvgossip_grants::{Signer, Verdict};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(300);

async fn agent_with(limits: HttpLimits) -> (Agent, SocketAddr) {
    let mut config = config(0);
    config.http_limits = limits;
    let agent = start(config).await;
    let address = agent.http_address().expect("HTTP is served");
    (agent, address)
}

fn is_well(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_or_a_body_that_stalls_loses_its_place() {
    let limits = HttpLimits {
        tcp_connections: 8,
        head_timeout: SHORT,
        body_stall: SHORT,
        body_timeout: SHORT * 4,
        ..HttpLimits::default()
    };
    let (agent, address) = agent_with(limits).await;
    let stages: [&[u8]; 5] = [
        b"",
        b"GET /v1/status HT",
        b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nx: ",
        b"POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n",
        b"POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"rec",
    ];
    for stage in stages {
        let mut stalled = Vec::new();
        for _ in 0..8 {
            let mut stream = raw::open(address).await;
            raw::send(&mut stream, stage).await;
            stalled.push(stream);
        }
        eventually("a place is free again", async || is_well(&raw::get(address, "/healthz").await)).await;
        for stream in &mut stalled {
            let answer = raw::until_closed(stream).await;
            assert!(answer.is_empty() || answer.contains("http.slow") || answer.contains("408"), "{answer}");
        }
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_has_a_limit_as_a_whole() {
    let limits = HttpLimits { body_stall: SHORT, body_timeout: SHORT * 3, ..HttpLimits::default() };
    let (agent, address) = agent_with(limits).await;
    let mut stream = raw::open(address).await;
    raw::send(&mut stream, b"POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
        .await;
    let (began, mut answer) = (Instant::now(), None);
    while answer.is_none() && began.elapsed() < Duration::from_secs(20) {
        raw::send(&mut stream, b" ").await;
        let wait = tokio::time::timeout(SHORT / 6, raw::until_closed(&mut stream)).await;
        answer = wait.ok();
    }
    let answer = answer.expect("it is ended although it never pauses");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("http.slow"), "{answer}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_hears_so_and_the_socket_has_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(0);
    config.socket = Some(dir.path().join("agent.sock"));
    config.http_limits = HttpLimits { tcp_connections: 4, socket_connections: 2, ..HttpLimits::default() };
    let agent = start(config).await;
    let address = agent.http_address().expect("HTTP is served");
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(raw::open(address).await);
    }
    let busy = raw::get(address, "/healthz").await;
    assert!(busy.starts_with("HTTP/1.1 503 ") && busy.contains("retry-after: 1"), "{busy}");
    assert_eq!(raw::json(&busy)["code"], "http.busy");
    let endpoint = format!("unix:{}", dir.path().join("agent.sock").display());
    let mut stream = tokio::net::UnixStream::connect(&endpoint["unix:".len()..]).await.expect("the socket");
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(is_well(&answer), "{answer}");
    drop(held);
    eventually("places are free again", async || is_well(&raw::get(address, "/healthz").await)).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_have_a_common_budget() {
    let limits = HttpLimits { body_bytes: 64 << 10, ..HttpLimits::default() };
    let (agent, address) = agent_with(limits).await;
    let head = |length: usize| {
        format!(
            "POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n"
        )
    };
    let mut held = raw::open(address).await;
    let patient = head(40 << 10).replace("connection: close", "expect: 100-continue");
    raw::send(&mut held, patient.as_bytes()).await;
    // The agent asks for the body once it has a place for it.
    raw::until_line(&mut held, "HTTP/1.1 100 Continue").await;
    let second = raw::ask(address, &(head(40 << 10) + "{")).await;
    assert!(second.contains("http.busy"), "{second}");
    let small = "{\"records_b64\":[]}";
    let answer = raw::ask(address, &(head(small.len()) + small)).await;
    assert!(is_well(&answer), "{answer}");
    let too_large = raw::ask(address, &head(9 << 20)).await;
    assert!(too_large.starts_with("HTTP/1.1 413 ") && too_large.contains("http.body"), "{too_large}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_reads_loses_its_place() {
    let limits = HttpLimits { tcp_connections: 2, write_stall: SHORT, ..HttpLimits::default() };
    let (agent, address) = agent_with(limits).await;
    let value = vec![7; 1 << 20];
    for number in 0..4 {
        let fact = entry(&format!("/big/{number}"), &value, now(), root(), None);
        assert_eq!(put(&agent, fact).await, Verdict::Merged);
    }
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut stream = raw::open(address).await;
        // Far more than any buffer on the way holds.
        let request = "GET /v1/kv/big/0 HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(32);
        raw::send(&mut stream, request.as_bytes()).await;
        stalled.push(stream);
    }
    eventually("a place is free again", async || is_well(&raw::get(address, "/healthz").await)).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_looks_at_so_many_keys_and_says_where_to_go_on() {
    let limits = HttpLimits { examined_keys: 10, ..HttpLimits::default() };
    let (agent, address) = agent_with(limits).await;
    let facts: Vec<_> =
        (0..35).map(|n| Ok(entry(&format!("/n/{n:02}/x"), b"v", now(), root(), None))).collect();
    agent.put_facts(&facts).await.expect("the store works");
    for route in ["keys", "facts"] {
        let (mut after, mut found, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let query = format!("/v1/{route}?match=/**/x&match=!/n/0*/**{after}");
            let page = raw::json(&raw::get(address, &query).await);
            let rows = page[route].as_array().expect("rows");
            found.extend(rows.iter().map(|row| row["key"].as_str().expect("a key").to_owned()));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(found, (10..35).map(|n| format!("/n/{n:02}/x")).collect::<Vec<_>>(), "{route}");
        assert_eq!(pages, 4, "{route}: ten keys a page, those that are left out counted too");
        // A literal beginning spares the rest.
        let page = raw::json(&raw::get(address, &format!("/v1/{route}?match=/n/33/**")).await);
        assert_eq!(
            (page[route].as_array().map(Vec::len), &page["next"]),
            (Some(1), &serde_json::Value::Null)
        );
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_is_listed_in_pages_whatever_comes_and_goes_meanwhile() {
    let (agent, address) = agent_with(HttpLimits::default()).await;
    let team = identity(1);
    let grants: Vec<_> = (0..7).map(|n| grant(team.public(), &format!("/g/{n}/**"), root(), None)).collect();
    for fact in &grants {
        assert_eq!(put(&agent, kvgossip_grants::Fact::Grant(fact.clone())).await, Verdict::Merged);
    }
    let below = grant(identity(2).public(), "/g/1/x", &team, Some(grants[1].id()));
    assert_eq!(put(&agent, kvgossip_grants::Fact::Grant(below.clone())).await, Verdict::Merged);
    let ids = |page: &serde_json::Value, list: &str| -> Vec<String> {
        let rows = page[list].as_array().expect("rows");
        rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    for (route, list) in [("grants?", "grants"), ("facts?kind=authority&", "facts")] {
        let first = raw::json(&raw::get(address, &format!("/v1/{route}limit=3")).await);
        let mut found = ids(&first, list);
        let mut next = first["next"].as_str().map(str::to_owned);
        let extra = grant(team.public(), "/extra/**", root(), None);
        assert_eq!(put(&agent, kvgossip_grants::Fact::Grant(extra.clone())).await, Verdict::Merged);
        while let Some(after) = next {
            let page = raw::json(&raw::get(address, &format!("/v1/{route}limit=3&after={after}")).await);
            found.extend(ids(&page, list));
            next = page["next"].as_str().map(str::to_owned);
        }
        for fact in &grants {
            assert_eq!(found.iter().filter(|id| **id == fact.id().to_string()).count(), 1, "{route}");
        }
        assert_eq!(found.last(), Some(&below.id().to_string()), "{route}: after what it stands on");
    }
    let broken = raw::get(address, "/v1/grants?after=nowhere").await;
    assert!(broken.starts_with("HTTP/1.1 400 ") && broken.contains("http.query"), "{broken}");
    agent.stop().await;
}
