//! What every route asks of a request: parameters that it has, and the right to read.

use super::operations::{Operation, WATCH, is_repeatable, operations};
use kvgossip_agent::now;
use kvgossip_grants::Verdict;
use kvgossip_testkit::agents::*;
use kvgossip_testkit::http;

/// The answer to an operation with these parameters, over TCP with this token.
async fn operate(address: std::net::SocketAddr, op: &Operation, query: &str, token: &str) -> String {
    let path = op.path.replace("{key}", "a/x");
    let method = op.method.to_uppercase();
    let head = format!(
        "{method} {path}{query} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\ncontent-length: 0\r\n\r\n"
    );
    http::ask(address, &head).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_refuses_parameters_that_are_unknown_repeated_or_ask_for_nothing() {
    let mut config = config(0);
    config.token = Some("token".into());
    let agent = start(config).await;
    let address = agent.http_address().expect("HTTP");
    for op in operations() {
        let refused = async |query: &str, why: &str| {
            let answer = operate(address, &op, query, "token").await;
            let told = answer.starts_with("HTTP/1.1 400 ") && answer.contains("http.query");
            assert!(told && answer.contains(why), "{} {}{query}: {answer}", op.method, op.path);
        };
        for query in ["?cas=0", "?no_such", "?=x"] {
            refused(query, "is no parameter of this route").await;
        }
        for name in op.query {
            if !is_repeatable(op.path, name) {
                refused(&format!("?{name}=1&{name}=1"), &format!("{name} is given more than once")).await;
            }
            if *name == "limit" {
                refused("?limit=0", "asks for nothing").await;
            }
        }
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_reading_is_guarded_every_route_but_those_of_health_needs_the_right() {
    let mut config = config(0);
    (config.token, config.read_token) = (Some("token".into()), Some("reader".into()));
    let agent = start(config).await;
    let address = agent.http_address().expect("HTTP");
    assert_eq!(put(&agent, entry("/a/x", b"v", now(), root(), None)).await, Verdict::Merged);
    for op in operations() {
        let what = format!("{} {}", op.method, op.path);
        for (token, code) in [("", "http.read_right"), ("other", "http.wrong_token")] {
            let answer = operate(address, &op, "", token).await;
            let refused = answer.starts_with("HTTP/1.1 401 ") && answer.contains(code);
            assert_eq!(refused, !op.is_open(), "{what}: {answer}");
            assert!(!refused || answer.contains("www-authenticate: Bearer"), "{answer}");
        }
        // A watch goes on for ever; what changes something is refused for want of a body, or done.
        if op.path == WATCH && op.method == "get" {
            continue;
        }
        let answer = operate(address, &op, "", "reader").await;
        let refused = answer.starts_with("HTTP/1.1 401 ") && answer.contains("http.token");
        assert_eq!(refused, op.token, "{what}: {answer}");
        let answer = operate(address, &op, "", "token").await;
        assert!(!answer.starts_with("HTTP/1.1 401 "), "{what}: {answer}");
    }
    // What is no route tells nothing either.
    let answer = http::get(address, "/v2").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    agent.stop().await;
}
