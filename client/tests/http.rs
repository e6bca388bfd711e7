//! The client against servers that behave in every way.

use kvgossip_client::{AgentClient, Endpoint, Token};
use kvgossip_grants::Key;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::Runtime;

/// What a server does with one request.
enum Step {
    /// Answers and keeps the connection.
    Answer(String),
    /// Answers and closes the connection without having said so.
    AnswerAndClose(String),
    /// Closes without an answer.
    Close,
}

/// A server that takes one connection after the other and goes through its steps, whatever connection they fall on.
struct Server {
    endpoint: Endpoint,
    /// Heads of the requests, each with the number of its connection.
    seen: Arc<Mutex<Vec<(usize, String)>>>,
    thread: JoinHandle<()>,
}

impl Server {
    fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let thread = thread::spawn({
            let seen = seen.clone();
            move || serve(&listener, steps, &seen)
        });
        Self { endpoint, seen, thread }
    }

    fn client(&self) -> AgentClient {
        AgentClient::new(self.endpoint.clone())
    }

    /// Waits for the last step to be taken.
    fn requests(self) -> Vec<(usize, String)> {
        self.thread.join().expect("the server's steps");
        std::mem::take(&mut *self.seen.lock().expect("whole"))
    }
}

fn serve(listener: &TcpListener, steps: Vec<Step>, seen: &Mutex<Vec<(usize, String)>>) {
    let mut steps = steps.into_iter().peekable();
    for connection in 0.. {
        if steps.peek().is_none() {
            return;
        }
        let (mut stream, _) = listener.accept().expect("a connection");
        while let Some(step) = steps.peek() {
            let Some(head) = read_head(&mut stream) else { break };
            seen.lock().expect("whole").push((connection, head));
            let (answer, close) = match step {
                Step::Answer(answer) => (answer.as_str(), false),
                Step::AnswerAndClose(answer) => (answer.as_str(), true),
                Step::Close => ("", true),
            };
            stream.write_all(answer.as_bytes()).expect("an answer");
            steps.next();
            if close {
                break;
            }
        }
    }
}

/// The head of a request and its body; none at the end.
fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn refusals() -> String {
    ok(r#"{"refusals":[],"of_a_later_version":1}"#)
}

fn error(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    Runtime::new().expect("a runtime").block_on(future)
}

#[test]
fn a_key_goes_as_it_is_spelled_and_the_token_with_it() {
    let value = "HTTP/1.1 200 OK\r\nkvgossip-entry: {0}\r\nkvgossip-timestamp-us: 7\r\nkvgossip-grant: root\r\ncontent-length: 2\r\n\r\nhi";
    let server = Server::start(vec![Step::Answer(value.replace("{0}", &"ab".repeat(32)))]);
    let token: Token = "s3cret".parse().unwrap();
    let client = server.client().with_token(token);
    let key = Key::parse("/a/%2F%20/~@:+=,-").unwrap();
    let stored = run(client.get(&key)).unwrap().unwrap();
    assert_eq!((&stored.value[..], stored.written.timestamp.as_micros()), (&b"hi"[..], 7));
    assert_eq!(stored.written.grant, None);

    let host = server.endpoint.to_string().replace("http://", "host: ");
    let (_, head) = server.requests().remove(0);
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], "get /v1/kv/a/%2f%20/~@:+=,- http/1.1");
    assert!(lines.contains(&host.as_str()) && lines.contains(&"authorization: bearer s3cret"), "{head}");
}

#[test]
fn connections_are_kept() {
    let server =
        Server::start(vec![Step::Answer(refusals()), Step::Answer(refusals()), Step::Answer(refusals())]);
    let client = server.client();
    run(async {
        for _ in 0..3 {
            client.refusals().await.unwrap();
        }
    });
    drop(client);
    let connections: Vec<usize> = server.requests().into_iter().map(|(connection, _)| connection).collect();
    assert_eq!(connections, [0, 0, 0]);
}

#[test]
fn a_kept_connection_that_the_agent_closed_is_replaced() {
    let steps = (0..20).map(|_| Step::AnswerAndClose(refusals())).collect();
    let server = Server::start(steps);
    let client = server.client();
    run(async {
        for _ in 0..20 {
            // The end of the old connection may be noticed before, while or after the request is written.
            client.refusals().await.unwrap();
        }
    });
    assert_eq!(server.requests().len(), 20);
}

#[test]
fn a_request_that_was_sent_is_not_sent_again() {
    let server = Server::start(vec![Step::Answer(refusals()), Step::Close]);
    let client = server.client();
    let error = run(async {
        client.refusals().await.unwrap();
        client.put(&Key::parse("/a").unwrap(), "v".into(), None).await.unwrap_err()
    });
    assert_eq!(error.code(), "agent.broken", "{error}");
    let requests = server.requests();
    assert_eq!(requests.iter().filter(|(_, head)| head.starts_with("put ")).count(), 1, "{requests:?}");
}

#[test]
fn refusals_keep_their_code_and_other_errors_have_ours() {
    let key = Key::parse("/a").unwrap();
    for (answer, code) in [
        (error("403 Forbidden", r#"{"code":"grant.revoked","message":"gone"}"#), "grant.revoked"),
        (error("404 Not Found", r#"{"code":"http.no_route","message":"no such route"}"#), "http.no_route"),
        (error("404 Not Found", "nope"), "agent.unexpected"),
        (error("500 Internal Server Error", ""), "agent.unexpected"),
        (ok("no headers"), "agent.unexpected"),
        ("garbage\r\n\r\n".to_owned(), "agent.unexpected"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort".to_owned(), "agent.broken"),
    ] {
        let server = Server::start(vec![Step::AnswerAndClose(answer.clone())]);
        let failed = run(server.client().get(&key)).expect_err(&answer);
        assert_eq!(failed.code(), code, "{answer}: {failed}");
        server.requests();
    }
    let unset = error("404 Not Found", r#"{"code":"key.unset","message":"/a has no value"}"#);
    let server = Server::start(vec![Step::AnswerAndClose(unset)]);
    assert_eq!(run(server.client().get(&key)).unwrap(), None);
    server.requests();
}

#[test]
fn an_endless_answer_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_owned();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint: Endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = vec![b' '; 1 << 20];
        // Until the client has had enough.
        (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count()
    });
    let failed = run(AgentClient::new(endpoint).status()).unwrap_err();
    assert_eq!(failed.code(), "agent.unexpected", "{failed}");
    assert!(server.join().unwrap() < 1024);
}

#[test]
fn waiting_has_an_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint: Endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let client = AgentClient::new(endpoint).with_timeout(Duration::from_millis(50));
    assert_eq!(run(client.status()).unwrap_err().code(), "agent.timeout");
    drop(listener);
    assert_eq!(run(client.status()).unwrap_err().code(), "agent.unreachable");
}

#[cfg(unix)]
#[test]
fn a_unix_socket_serves_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let client = AgentClient::new(format!("unix:{}", path.display()).parse().unwrap());
    assert_eq!(run(client.refusals()).unwrap_err().code(), "agent.unreachable");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = read_head(&mut stream).unwrap();
        stream.write_all(refusals().as_bytes()).unwrap();
        head
    });
    assert!(run(client.refusals()).unwrap().refusals.is_empty());
    assert!(server.join().unwrap().contains("host: localhost\r\n"));
}
