//! Conditions of requests for a key, as HTTP has them: who reads what they have already is told so, and who writes on a
//! condition never writes over what another has written.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_agent::{Agent, STOP_LIMIT};
use kvgossip_grants::{MAX_VALUE_BYTES, SigningKey};
use kvgossip_testkit::agents::{KEYS, config, identity, start};
use kvgossip_testkit::http;
use kvgossip_testkit::wait::eventually;
use std::net::SocketAddr;
use std::time::Instant;

/// An agent that signs as root.
async fn signing() -> (Agent, SocketAddr) {
    let mut config = config(0);
    config.identity = Some(SigningKey::from_pem(&KEYS[0].pem).unwrap());
    config.token = Some("token".into());
    let agent = start(config).await;
    let address = agent.http_address().unwrap();
    (agent, address)
}

async fn ask(address: SocketAddr, method: &str, key: &str, conditions: &str, body: &str) -> String {
    let request = format!(
        "{method} /v1/kv{key} HTTP/1.1\r\nhost: localhost\r\nauthorization: bearer token\r\nconnection: close\r\n\
         {conditions}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    http::ask(address, &request).await
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn etag(answer: &str) -> String {
    let tag = header(answer, "etag").expect("an entity tag");
    assert_eq!(
        tag,
        format!("\"{}\"", header(answer, "kvgossip-entry").unwrap()),
        "strong, and the entry's id"
    );
    tag.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_already_is_not_sent_again() {
    let (agent, address) = signing().await;
    let written = ask(address, "PUT", "/a", "", "value").await;
    assert_eq!(status(&written), 204, "{written}");
    let tag = etag(&written);
    for method in ["GET", "HEAD"] {
        let get = async |conditions: &str| ask(address, method, "/a", conditions, "").await;
        let whole = get("").await;
        assert_eq!((status(&whole), etag(&whole)), (200, tag.clone()), "{whole}");
        assert_eq!(header(&whole, "cache-control"), Some("no-cache"));
        assert_eq!(header(&whole, "content-length"), Some("5"));
        assert_eq!(whole.ends_with("\r\n\r\nvalue"), method == "GET", "{whole}");
        for (conditions, expected) in [
            (format!("if-none-match: {tag}\r\n"), 304),
            (format!("if-none-match: \"x\", W/{tag}\r\n"), 304),
            ("if-none-match: *\r\n".into(), 304),
            ("if-none-match: \"x\"\r\n".into(), 200),
            (format!("if-match: {tag}\r\n"), 200),
            ("if-match: *\r\n".into(), 200),
            ("if-match: \"x\"\r\n".into(), 412),
            (format!("if-match: \"x\"\r\nif-none-match: {tag}\r\n"), 412),
            ("if-match: x\r\n".into(), 400),
            ("if-unmodified-since: Sat, 28 Nov 2026 00:00:00 GMT\r\n".into(), 400),
            ("if-modified-since: Sat, 28 Nov 2026 00:00:00 GMT\r\n".into(), 200),
        ] {
            let answer = get(&conditions).await;
            assert_eq!(status(&answer), expected, "{conditions}: {answer}");
            if expected == 304 {
                assert!(etag(&answer) == tag && answer.ends_with("\r\n\r\n"), "{answer}");
            }
            if expected == 412 {
                assert_eq!(header(&answer, "etag"), Some(&*tag), "{answer}");
            }
        }
        // Without a value no condition counts.
        for conditions in ["if-none-match: *\r\n", "if-match: *\r\n"] {
            let answer = ask(address, method, "/none", conditions, "").await;
            assert_eq!(status(&answer), 404, "{answer}");
        }
    }
    let conflict = ask(address, "GET", "/a", "if-match: \"x\"\r\n", "").await;
    assert!(conflict.contains("key.conflict") && conflict.contains(tag.trim_matches('"')), "{conflict}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_condition_does_not_hold_changes_nothing() {
    let (agent, address) = signing().await;
    let first = etag(&ask(address, "PUT", "/a", "if-none-match: *\r\n", "1").await);
    for (method, conditions, expected) in [
        ("PUT", "if-none-match: *\r\n".to_owned(), 412),
        ("DELETE", "if-none-match: *\r\n".to_owned(), 412),
        ("PUT", "if-match: \"x\"\r\n".to_owned(), 412),
        ("DELETE", "if-match: \"x\"\r\n".to_owned(), 412),
        ("PUT", format!("if-match: W/{first}\r\n"), 412),
        ("PUT", format!("if-none-match: \"x\", {first}\r\n"), 412),
        // What is no condition of ours is refused: it would be written over what was not meant.
        ("PUT", "if-match: none\r\n".to_owned(), 400),
        ("PUT", "if-none-match: \r\n".to_owned(), 400),
        ("DELETE", "if-unmodified-since: Sat, 28 Nov 2026 00:00:00 GMT\r\n".to_owned(), 400),
        ("PUT", "content-range: bytes 0-0/9\r\n".to_owned(), 400),
    ] {
        // A delete takes no body.
        let value = if method == "PUT" { "2" } else { "" };
        let answer = ask(address, method, "/a", &conditions, value).await;
        assert_eq!(status(&answer), expected, "{method} {conditions}: {answer}");
        let code = if expected == 412 { "key.conflict" } else { "http.header" };
        assert!(answer.contains(code), "{answer}");
        assert_eq!(
            header(&answer, "etag"),
            (expected == 412).then_some(&*first),
            "what to try again with: {answer}"
        );
        assert_eq!(etag(&ask(address, "GET", "/a", "", "").await), first, "{method} {conditions}");
    }
    let second = etag(&ask(address, "PUT", "/a", &format!("if-match: {first}\r\n"), "2").await);
    assert_eq!(status(&ask(address, "PUT", "/a", &format!("if-match: {first}\r\n"), "3").await), 412);
    let gone = ask(address, "DELETE", "/a", &format!("if-match: \"x\"\r\nif-match: {second}\r\n"), "").await;
    assert!(status(&gone) == 204 && etag(&gone) != second, "{gone}");
    // A tombstone is no value: the key is unset.
    for conditions in ["if-match: *\r\n".to_owned(), format!("if-match: {}\r\n", etag(&gone))] {
        let answer = ask(address, "PUT", "/a", &conditions, "3").await;
        assert_eq!((status(&answer), header(&answer, "etag")), (412, None), "{answer}");
        assert_eq!(status(&ask(address, "DELETE", "/a", &conditions, "").await), 412, "{conditions}");
    }
    assert_eq!(status(&ask(address, "PUT", "/a", "if-none-match: *\r\n", "3").await), 204);
    agent.stop().await;
}

/// Writers that read, and write on the condition that nothing has changed, lose no write of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_is_atomic_with_the_write() {
    const WRITERS: usize = 4;
    const ADDED: usize = 5;
    let (agent, address) = signing().await;
    let created = (0..WRITERS).map(|_| tokio::spawn(ask(address, "PUT", "/n", "if-none-match: *\r\n", "0")));
    let created: Vec<_> = created.collect();
    let mut made = 0;
    for task in created {
        made += usize::from(status(&task.await.unwrap()) == 204);
    }
    assert_eq!(made, 1, "one of all makes it");
    let writers = (0..WRITERS).map(|_| {
        tokio::spawn(async move {
            for _ in 0..ADDED {
                loop {
                    let read = ask(address, "GET", "/n", "", "").await;
                    let number: usize = read.rsplit("\r\n").next().unwrap().parse().unwrap();
                    let condition = format!("if-match: {}\r\n", etag(&read));
                    let answer = ask(address, "PUT", "/n", &condition, &(number + 1).to_string()).await;
                    match status(&answer) {
                        204 => break,
                        other => assert_eq!(other, 412, "{answer}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let last = ask(address, "GET", "/n", "", "").await;
    assert!(last.ends_with(&format!("\r\n\r\n{}", WRITERS * ADDED)), "{last}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_write_hears_that_before_any_condition_and_too_much_is_too_large() {
    let (agent, address) = signing().await;
    let value = "v".repeat(MAX_VALUE_BYTES + 1);
    let answer = ask(address, "PUT", "/a", "", &value).await;
    assert!(status(&answer) == 413 && answer.contains("fact.too_large"), "{answer}");
    assert_eq!(status(&ask(address, "PUT", "/a", "", &value[1..]).await), 204);
    agent.stop().await;

    let mut stranger = config(1);
    (stranger.identity, stranger.token) = (Some(identity(1)), Some("token".into()));
    let agent = start(stranger).await;
    let address = agent.http_address().unwrap();
    let refused = ask(address, "PUT", "/a", "if-match: *\r\n", "1").await;
    assert!(status(&refused) == 403 && refused.contains("grant.unknown"), "{refused}");
    agent.stop().await;
}

/// An agent ends in time whatever its clients do: those that never read, and those that never finish a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_stops_in_time_whatever_its_clients_do() {
    let (agent, address) = signing().await;
    let value = "v".repeat(MAX_VALUE_BYTES);
    for number in 0..8 {
        assert_eq!(status(&ask(address, "PUT", &format!("/large/{number}"), "", &value).await), 204);
    }
    let mut clients = Vec::new();
    for request in [
        "GET /v1/watch?match=/** HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /v1/kv/large/0 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "PUT /v1/kv/b HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer token\r\ncontent-length: 9\r\n\r\n1",
        "GET /v1/sta",
    ] {
        for _ in 0..3 {
            let mut client = http::open(address).await;
            http::send(&mut client, request.as_bytes()).await;
            clients.push(client);
        }
    }
    eventually("they watch", async || agent.hub().watchers() == 3).await;
    let began = Instant::now();
    agent.stop().await;
    assert!(began.elapsed() <= std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    drop(clients);
}

/// Whoever embeds an agent may keep a handle of its store, which keeps the store open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_stops_in_time_though_its_store_stays_open() {
    let agent = start(config(0)).await;
    let store = agent.store().clone();
    let began = Instant::now();
    tokio::time::timeout(10 * STOP_LIMIT, agent.stop()).await.expect("it stops");
    assert!(began.elapsed() >= STOP_LIMIT, "it has waited for the store");
    drop(store);
}
