//! HTTP over raw TCP, for clients that stall where no library would.

use crate::wait::soon;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Connects to an agent.
pub async fn open(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("the door is open")
}

/// Connects to an agent from 127.0.0.`source`, which is another address to the agent.
pub async fn open_from(source: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, source], 0))).expect("all of 127.0.0.0/8 is here");
    socket.connect(address).await.expect("the door is open")
}

/// Sends one request on a new connection from 127.0.0.`source`. The answer must come within a second.
pub async fn ask_from(source: u8, address: SocketAddr, request: &str) -> String {
    let answer = async {
        let mut stream = open_from(source, address).await;
        send(&mut stream, request.as_bytes()).await;
        until_closed(&mut stream).await
    };
    timeout(Duration::from_secs(1), answer).await.expect("an answer within a second")
}

/// Sends bytes; no error if the other side has closed already.
pub async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
}

/// Reads to the end of the first line, which must be `line`.
pub async fn until_line(stream: &mut TcpStream, line: &str) {
    let mut bytes = vec![0; line.len() + 2];
    let read = soon(stream.read_exact(&mut bytes)).await;
    read.expect("the connection stays");
    assert_eq!(String::from_utf8_lossy(&bytes), format!("{line}\r\n"));
}

/// Reads until the data contain `text`, and returns them.
pub async fn until_contains(stream: &mut TcpStream, text: &str) -> String {
    let (mut all, mut part) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = soon(stream.read(&mut part)).await.expect("the connection stays");
        assert!(read > 0, "it ends before {text:?}: {}", String::from_utf8_lossy(&all));
        // The text may have begun in the previous part.
        let from = all.len().saturating_sub(text.len());
        all.extend_from_slice(&part[..read]);
        if all[from..].windows(text.len()).any(|window| window == text.as_bytes()) {
            return String::from_utf8_lossy(&all).into_owned();
        }
    }
}

/// Reads until the agent closes the connection, and returns the data.
pub async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset also counts as the end.
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends one request on a new connection and returns the answer.
pub async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = open(address).await;
    send(&mut stream, request.as_bytes()).await;
    until_closed(&mut stream).await
}

/// Returns a request `POST /v1/facts` with this body.
pub fn post(body: &str) -> String {
    format!(
        "POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends `GET` for a target. Returns the answer with its head.
pub async fn get(address: SocketAddr, target: &str) -> String {
    ask(address, &format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}

/// Parses the body of an answer as JSON.
pub fn json(answer: &str) -> serde_json::Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}
