//! What stands before every request over TCP: the host it names, and the routes that have no other gate.

use kvgossip_agent::http::HttpLimits;
use kvgossip_testkit::agents::*;
use kvgossip_testkit::http::{ask, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_answered_however_many_requests_are_worked_on() {
    let mut config = config(0);
    // As if all of them were worked on.
    config.http_limits = HttpLimits { requests: 0, walks: 0, ..HttpLimits::default() };
    let agent = start(config).await;
    let address = agent.http_address().expect("HTTP is served");
    let busy = get(address, "/v1/status").await;
    assert!(busy.starts_with("HTTP/1.1 503 ") && busy.contains("http.busy"), "{busy}");
    for route in ["/healthz", "/readyz"] {
        let answer = get(address, route).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{route}: {answer}");
    }
    agent.stop().await;
}

/// A web page whose own name leads to this address has the browser send that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_other_hosts_are_refused_on_every_route() {
    let mut config = config(0);
    config.http_hosts = vec!["store.internal".to_owned()];
    let agent = start(config).await;
    let address = agent.http_address().expect("HTTP is served");
    let request =
        |host: &str, target: &str| format!("GET {target} HTTP/1.1\r\n{host}connection: close\r\n\r\n");
    for target in
        ["/healthz", "/readyz", "/metrics", "/v1/status", "/v1/keys", "/v1/watch?key=/k", "/nowhere"]
    {
        for host in
            ["host: evil.example\r\n", "host: evil.example:7948\r\n", "host: 127.0.0.1.evil.example\r\n"]
        {
            let answer = ask(address, &request(host, target)).await;
            assert!(
                answer.starts_with("HTTP/1.1 403 ") && answer.contains("\"http.host\""),
                "{host} {target}: {answer}"
            );
        }
    }
    for host in ["host: localhost\r\n", "host: 127.0.0.1:7948\r\n", "host: store.internal:80\r\n"] {
        let answer = ask(address, &request(host, "/v1/status")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    agent.stop().await;
}
