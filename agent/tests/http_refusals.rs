//! Requests that are refused before anything is done: for other hosts, with tokens that are not the agent's, with fields
//! that nobody knows.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::agents::{config, identity, start};
use kvgossip_testkit::http;
use std::net::SocketAddr;

async fn ask(address: SocketAddr, request: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let request =
        format!("{request} HTTP/1.1\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}");
    http::ask(address, &request).await
}

#[track_caller]
fn told(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(code), "{code}: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_host_is_refused_however_it_names_it() {
    let agent = start(config(0)).await;
    let address = agent.http_address().unwrap();
    let get = async |target: &str, hosts: &str| ask(address, &format!("GET {target}"), hosts, "").await;
    for (target, hosts) in [
        ("/healthz", "host: localhost\r\n"),
        ("http://localhost/healthz", "host: localhost\r\n"),
        ("http://127.0.0.1:1/healthz", "host: localhost\r\n"),
    ] {
        told(&get(target, hosts).await, 200, "ok");
    }
    for (target, hosts, status) in [
        ("/healthz", "host: evil.example\r\n", 403),
        ("/healthz", "", 403),
        ("/healthz", "host: localhost\r\nhost: localhost\r\n", 400),
        ("/healthz", "host: localhost\r\nhost: evil.example\r\n", 400),
        ("http://evil.example/healthz", "host: localhost\r\n", 403),
        ("http://evil.example/v1/status", "host: 127.0.0.1\r\n", 403),
        ("http://user@localhost/healthz", "host: localhost\r\n", 403),
        ("http://localhost/healthz", "host: evil.example\r\n", 403),
    ] {
        told(&get(target, hosts).await, status, "http.host");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_unknown_is_refused_by_its_name() {
    let agent = start(config(0)).await;
    let address = agent.http_address().unwrap();
    let headers = "host: localhost\r\ncontent-type: application/json\r\n";
    for (route, body) in [
        ("/v1/facts", r#"{"records_b64":[],"dry_run":true}"#),
        ("/v1/explain", r#"{"entity":"x","key":"/a","dry_run":1}"#),
        ("/v1/watch", r#"{"keys":["/a"],"dry_run":null}"#),
        ("/v1/watch", r#"{"keys":["/a"],"have":{"authority":"","buckets":[],"dry_run":0}}"#),
    ] {
        let answer = ask(address, &format!("POST {route}"), headers, body).await;
        told(&answer, 400, "http.body");
        assert!(answer.contains("unknown field `dry_run`"), "{answer}");
    }
    // So is JSON of another kind; and what is known is taken.
    told(&ask(address, "POST /v1/facts", headers, r#"{"records_b64":1}"#).await, 400, "http.body");
    told(&ask(address, "POST /v1/facts", headers, r#"{"records_b64":[]}"#).await, 200, "verdicts");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_told_from_a_missing_one() {
    let mut config = config(0);
    config.identity = Some(identity(0));
    (config.token, config.read_token) = (Some("writer".into()), Some("reader".into()));
    let agent = start(config).await;
    let address = agent.http_address().unwrap();
    let with = |token: &str| match token {
        "" => "host: localhost\r\n".to_owned(),
        token => format!("host: localhost\r\nauthorization: Bearer {token}\r\n"),
    };
    for (token, reads, writes) in [
        ("", "http.read_right", "http.token"),
        ("other", "http.wrong_token", "http.wrong_token"),
        ("reader", "key.unset", "http.token"),
    ] {
        let read = ask(address, "GET /v1/kv/a", &with(token), "").await;
        told(&read, if token == "reader" { 404 } else { 401 }, reads);
        told(
            &ask(address, "PUT /v1/kv/a", &with(token), "1").await,
            401,
            if token.is_empty() { reads } else { writes },
        );
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_says_and_nothing_reads_is_refused() {
    let mut config = config(0);
    config.identity = Some(identity(0));
    config.token = Some("writer".into());
    let agent = start(config).await;
    let address = agent.http_address().unwrap();
    let json = "host: localhost\r\nauthorization: Bearer writer\r\ncontent-type: application/json\r\n";
    for (request, body) in [
        ("POST /v1/leave", r#"{"zz":1}"#),
        ("POST /v1/leave", "x"),
        ("POST /v1/leave", "[]"),
        ("POST /v1/gossip-keys/list", r#"{"zz":1}"#),
        ("POST /v1/tags", "[]"),
        ("POST /v1/tags", " [{}]"),
        ("POST /v1/watch", "[]"),
        ("POST /v1/facts", "[[]]"),
        ("DELETE /v1/kv/a", r#"{"if":1}"#),
        ("GET /v1/status", "x"),
        ("POST /v1/query", r#"{"name":"q","timeout_ms":300001}"#),
    ] {
        told(&ask(address, request, json, body).await, 400, "http.body");
    }
    for body in ["", "{}", " {} "] {
        told(&ask(address, "POST /v1/leave", json, body).await, 409, "gossip.off");
    }
    for target in ["/v1/keys?limit=99999999999", "/v1/facts?limit=10001", "/v1/watch?key=/a&heartbeat_ms=1"] {
        told(&ask(address, &format!("GET {target}"), json, "").await, 400, "http.query");
    }
    for (headers, status) in [
        ("content-encoding: gzip\r\n", 415),
        ("content-encoding: identity, br\r\n", 415),
        ("content-encoding: identity\r\n", 204),
    ] {
        let headers = format!("{json}{headers}");
        let code = if status == 204 { "kvgossip-entry" } else { "http.header" };
        told(&ask(address, "PUT /v1/kv/a", &headers, "v").await, status, code);
    }
    for (coding, status) in
        [("gzip, chunked", 501), ("gzip\r\ntransfer-encoding: chunked", 501), ("Chunked", 204)]
    {
        let request = format!(
            "PUT /v1/kv/a HTTP/1.1\r\nconnection: close\r\n{json}transfer-encoding: {coding}\r\n\r\n1\r\nv\r\n0\r\n\r\n"
        );
        let answer = http::ask(address, &request).await;
        told(&answer, status, if status == 204 { "kvgossip-entry" } else { "http.header" });
    }
    agent.stop().await;
}
