//! Clients of the HTTP API that stall, come in crowds or ask for much: everybody else is served.

use kvgossip_agent::http::HttpLimits;
use kvgossip_agent::{Agent, now};
use kvgossip_grants::{Signer, Verdict};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::http;
use kvgossip_testkit::wait::eventually;
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
        body_grace: SHORT,
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
            let mut stream = http::open(address).await;
            http::send(&mut stream, stage).await;
            stalled.push(stream);
        }
        eventually("a place is free again", async || is_well(&http::get(address, "/healthz").await)).await;
        for stream in &mut stalled {
            let answer = http::until_closed(stream).await;
            assert!(
                answer.is_empty()
                    || answer.contains("http.slow")
                    || answer.contains("408")
                    || answer.contains("http.busy"),
                "{answer}"
            );
        }
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_has_a_limit_as_a_whole() {
    let limits = HttpLimits { body_grace: SHORT * 3, body_bytes_per_s: 100, ..HttpLimits::default() };
    let (agent, address) = agent_with(limits).await;
    let mut stream = http::open(address).await;
    http::send(&mut stream, b"POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
        .await;
    let (began, mut answer) = (Instant::now(), None);
    while answer.is_none() && began.elapsed() < Duration::from_secs(20) {
        http::send(&mut stream, b" ").await;
        let wait = tokio::time::timeout(SHORT / 6, http::until_closed(&mut stream)).await;
        answer = wait.ok();
    }
    let answer = answer.expect("it is ended although it never pauses");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("http.slow"), "{answer}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_watcher_too_many_hears_so_and_all_else_is_answered_on_both_doors() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(0);
    config.socket = Some(dir.path().join("agent.sock"));
    config.http_limits = HttpLimits { tcp_connections: 4, socket_connections: 4, ..HttpLimits::default() };
    let agent = start(config).await;
    let address = agent.http_address().expect("HTTP is served");
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let on_socket = async |request: &str| {
        let stream = tokio::net::UnixStream::connect(dir.path().join("agent.sock")).await;
        let mut stream = stream.expect("the socket");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    };
    let watch = "GET /v1/watch?key=/a HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (mut over_tcp, mut over_socket) = (Vec::new(), Vec::new());
    // One address has three of four.
    for _ in 0..3 {
        let mut stream = http::open(address).await;
        http::send(&mut stream, watch.as_bytes()).await;
        http::until_line(&mut stream, "HTTP/1.1 200 OK").await;
        over_tcp.push(stream);
        let mut stream = on_socket(watch).await;
        stream.read_exact(&mut [0; 15]).await.expect("an answer");
        over_socket.push(stream);
    }
    let busy = http::ask(address, watch).await;
    assert!(busy.starts_with("HTTP/1.1 503 ") && busy.contains("retry-after: 1"), "{busy}");
    assert_eq!(http::json(&busy)["code"], "http.busy");
    for route in ["/healthz", "/readyz", "/v1/status"] {
        let answer =
            http::ask_from(1, address, &format!("GET {route} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert!(is_well(&answer) && answer.contains("connection: close"), "{route}: {answer}");
        let mut stream = on_socket(&format!("GET {route} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(is_well(&answer), "{route}: {answer}");
    }
    // Another address has the fourth, and a third one that of a watcher of the first.
    let mut others = Vec::new();
    for source in 2..4 {
        let mut stream = http::open_from(source, address).await;
        http::send(&mut stream, watch.as_bytes()).await;
        http::until_line(&mut stream, "HTTP/1.1 200 OK").await;
        others.push(stream);
    }
    drop((over_tcp, over_socket, others));
    eventually("places are free again", async || {
        agent.hub().watchers() == 0 && is_well(&http::get(address, "/healthz").await)
    })
    .await;
    agent.stop().await;
}

/// What `/metrics` says that clients over TCP hold.
fn held(agent: &Agent, what: &str) -> usize {
    let text = agent.metrics_text().expect("a text");
    let name = format!("kvgossip_http_held_bytes{{door=\"tcp\",what=\"{what}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |bytes| bytes.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_count_as_they_arrive_and_the_slowest_gives_way() {
    let limits = HttpLimits { body_bytes: 128 << 10, ..HttpLimits::default() };
    let (agent, address) = agent_with(limits).await;
    let head = "POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let (announced, chunked) = ("content-length: 8388608\r\n\r\n", "transfer-encoding: chunked\r\n\r\n");
    let mut idle = Vec::new();
    for source in 1..=8 {
        for rest in [announced.to_owned(), format!("{chunked}1\r\n{{")] {
            let mut stream = http::open_from(source, address).await;
            http::send(&mut stream, format!("{head}{rest}").as_bytes()).await;
            idle.push(stream);
        }
    }
    let small = http::post("{\"records_b64\":[]}");
    assert!(is_well(&http::ask_from(1, address, &small).await), "announced bytes are not held");
    assert_eq!(held(&agent, "bodies"), 8 * 4096);
    // One that has really sent much, and others that need the room.
    let mut held_most = http::open_from(1, address).await;
    http::send(
        &mut held_most,
        format!("{head}content-length: 65536\r\n\r\n{}", " ".repeat(60_000)).as_bytes(),
    )
    .await;
    eventually("it has arrived", async || held(&agent, "bodies") >= 60_000).await;
    let large = http::post(&format!("{{\"records_b64\":[]}}{}", " ".repeat(80_000)));
    assert!(is_well(&http::ask_from(9, address, &large).await), "there is room for it");
    let told = http::until_closed(&mut held_most).await;
    assert!(!told.contains("http.slow"), "it gives way, and has not run out of time: {told}");
    assert!(held(&agent, "bodies") <= 128 << 10);
    let too_large = http::ask(address, &format!("{head}content-length: 9437184\r\n\r\n")).await;
    assert!(too_large.starts_with("HTTP/1.1 413 ") && too_large.contains("http.body"), "{too_large}");
    drop(idle);
    eventually("nothing is held", async || held(&agent, "bodies") == 0).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_heads_and_bodies_from_eight_addresses_keep_nobody_out() {
    let (agent, address) = agent_with(HttpLimits::default()).await;
    let mut stalled = Vec::new();
    let half_head = "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nx: ";
    let half_body = "POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    let requests = [half_head; 512].into_iter().chain([half_body; 512]);
    for ((number, request), source) in requests.enumerate().zip((1..=8).cycle()) {
        let mut stream = http::open_from(source, address).await;
        http::send(&mut stream, request.as_bytes()).await;
        stalled.push(stream);
        if number == 511 || number == 1023 {
            for source in [1, 9] {
                for route in ["/healthz", "/readyz", "/v1/status", "/v1/keys"] {
                    let request =
                        format!("GET {route} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
                    let answer = http::ask_from(source, address, &request).await;
                    assert!(is_well(&answer), "{route}: {answer}");
                }
                let answer = http::ask_from(source, address, &http::post("{\"records_b64\":[]}")).await;
                assert!(is_well(&answer), "{answer}");
            }
        }
    }
    drop(stalled);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_never_read_hold_a_bounded_part_of_what_they_are_told() {
    const BUDGET: usize = 16 << 20;
    let (agent, address) = agent_with(HttpLimits { answer_bytes: BUDGET, ..HttpLimits::default() }).await;
    let write = async |key: &str, value: &[u8]| {
        assert_eq!(put(&agent, entry(key, value, now(), root(), None)).await, Verdict::Merged);
    };
    for number in 0..4 {
        write(&format!("/big/{number}"), &vec![b'v'; 1 << 20]).await;
    }
    let watch = "GET /v1/watch?match=/** HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut silent = Vec::new();
    for number in 0..64 {
        let mut stream = http::open_from(1 + number % 8, address).await;
        http::send(&mut stream, watch.as_bytes()).await;
        silent.push(stream);
    }
    // More than the buffers of the system take, so many hold an answer and many wait for room.
    eventually("they hold what they may", async || held(&agent, "answers") > BUDGET / 2).await;
    let honest = async |source: u8, target: &str, marker: &str| {
        let mut stream = http::open_from(source, address).await;
        let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        http::send(&mut stream, request.as_bytes()).await;
        http::until_contains(&mut stream, marker).await;
        assert!(held(&agent, "answers") <= BUDGET);
        stream
    };
    let mut small = honest(9, "/v1/watch?key=/small", "event: synced").await;
    for round in 0..3 {
        write("/small", format!("round {round}").as_bytes()).await;
        write("/big/0", &vec![b'w'; 1 << 20]).await;
        let told = format!("round {round}");
        let heard = http::until_contains(&mut small, &told);
        tokio::time::timeout(Duration::from_secs(1), heard).await.expect("small events do not wait");
        assert!(held(&agent, "answers") <= BUDGET);
    }
    // Large ones come as others give way.
    honest(9, "/v1/watch?key=/big/1", "event: synced").await;
    honest(9, "/v1/kv/big/2", "\r\n\r\n").await;
    drop((silent, small));
    eventually("all is given back", async || held(&agent, "answers") == 0 && agent.hub().watchers() == 0)
        .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_event_is_not_made_before_there_is_room_for_it() {
    let (agent, address) = agent_with(HttpLimits { answer_bytes: 1 << 20, ..HttpLimits::default() }).await;
    for (key, value) in [("/big", vec![b'v'; 1 << 20]), ("/small", b"small value".to_vec())] {
        assert_eq!(put(&agent, entry(key, &value, now(), root(), None)).await, Verdict::Merged);
    }
    let watch =
        |key: &str| format!("GET /v1/watch?key={key}&heartbeat_ms=100 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut large = http::open(address).await;
    http::send(&mut large, watch("/big").as_bytes()).await;
    eventually("it watches", async || agent.hub().watchers() == 1).await;
    let mut small = http::open(address).await;
    http::send(&mut small, watch("/small").as_bytes()).await;
    http::until_contains(&mut small, "small value").await;
    // As many signs of life as the large one would have taken.
    for _ in 0..10 {
        http::until_contains(&mut small, ": told ").await;
    }
    let mut told = vec![0; 64 << 10];
    let len = large.try_read(&mut told).unwrap_or_default();
    let told = String::from_utf8_lossy(&told[..len]);
    assert!(!told.contains(&"v".repeat(100)), "the value is told: {told:.1000}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_interests_have_a_common_budget_and_small_ones_are_taken_beside_it() {
    let (agent, address) = agent_with(HttpLimits { interest_bytes: 1 << 20, ..HttpLimits::default() }).await;
    let globs: Vec<_> = (0..64).map(|n| format!("/**/{}/{n}*", "?".repeat(200))).collect();
    let body = serde_json::json!({ "filters": vec![globs; 12] }).to_string();
    let large = http::post(&body).replace("/v1/facts", "/v1/watch");
    let mut held_by_watchers = Vec::new();
    let mut refused = None;
    for source in [1, 1, 2, 3, 4] {
        let mut stream = http::open_from(source, address).await;
        http::send(&mut stream, large.as_bytes()).await;
        let answer = http::until_contains(&mut stream, "\r\n\r\n").await;
        if is_well(&answer) {
            held_by_watchers.push(stream);
        } else {
            refused = Some(answer + &http::until_closed(&mut stream).await);
        }
    }
    let held_bytes = held(&agent, "interests");
    assert!(held_bytes > 300 << 10 && held_bytes <= 1 << 20, "{held_bytes}");
    let refused = refused.expect("not all find room");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("watch.limit"), "{refused}");
    let mut small = http::open_from(1, address).await;
    http::send(&mut small, b"GET /v1/watch?match=/a/** HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    http::until_line(&mut small, "HTTP/1.1 200 OK").await;
    drop((held_by_watchers, small));
    eventually("all is given back", async || held(&agent, "interests") == 0).await;
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
        let mut stream = http::open(address).await;
        // Far more than any buffer on the way holds.
        let request = "GET /v1/kv/big/0 HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(32);
        http::send(&mut stream, request.as_bytes()).await;
        stalled.push(stream);
    }
    eventually("a place is free again", async || is_well(&http::get(address, "/healthz").await)).await;
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
            let page = http::json(&http::get(address, &query).await);
            let rows = page[route].as_array().expect("rows");
            found.extend(rows.iter().map(|row| row["key"].as_str().expect("a key").to_owned()));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(found, (10..35).map(|n| format!("/n/{n:02}/x")).collect::<Vec<_>>(), "{route}");
        assert_eq!(pages, 4, "{route}: ten keys a page, those that are left out counted too");
        // A literal beginning spares the rest.
        let page = http::json(&http::get(address, &format!("/v1/{route}?match=/n/33/**")).await);
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
        let first = http::json(&http::get(address, &format!("/v1/{route}limit=3")).await);
        let mut found = ids(&first, list);
        let mut next = first["next"].as_str().map(str::to_owned);
        let extra = grant(team.public(), "/extra/**", root(), None);
        assert_eq!(put(&agent, kvgossip_grants::Fact::Grant(extra.clone())).await, Verdict::Merged);
        while let Some(after) = next {
            let page = http::json(&http::get(address, &format!("/v1/{route}limit=3&after={after}")).await);
            found.extend(ids(&page, list));
            next = page["next"].as_str().map(str::to_owned);
        }
        for fact in &grants {
            assert_eq!(found.iter().filter(|id| **id == fact.id().to_string()).count(), 1, "{route}");
        }
        assert_eq!(found.last(), Some(&below.id().to_string()), "{route}: after what it stands on");
    }
    let broken = http::get(address, "/v1/grants?after=nowhere").await;
    assert!(broken.starts_with("HTTP/1.1 400 ") && broken.contains("http.query"), "{broken}");
    agent.stop().await;
}
