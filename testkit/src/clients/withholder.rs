//! Proxies to an agent that withhold or delay what it sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with facts that clients offer to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offers {
    /// Offered facts are forwarded to the agent.
    Pass,
    /// Offered facts are reported as merged, and dropped.
    Swallow,
    /// Offered facts are refused for a reason that an honest agent may have.
    Refuse,
    /// Offered facts are never answered.
    Hang,
}

/// A proxy in front of an agent that withholds events.
pub struct Withholder {
    /// Address of the proxy, for clients.
    pub address: SocketAddr,
    offered: Arc<AtomicUsize>,
    muted: Arc<watch::Sender<bool>>,
}

impl Withholder {
    /// Starts a proxy in front of an agent.
    pub async fn before(agent: SocketAddr, offers: Offers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (offered, muted) = (Arc::new(AtomicUsize::new(0)), Arc::new(watch::Sender::new(false)));
        let this = Self { address, offered: offered.clone(), muted: muted.clone() };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(serve(near, agent, offers, offered.clone(), muted.subscribe()));
            }
        });
        this
    }

    /// Returns the number of requests that offered facts.
    pub fn offered(&self) -> usize {
        self.offered.load(Ordering::SeqCst)
    }

    /// From now on, open streams carry no events, only comments that keep them alive. Later streams carry everything.
    pub fn mute(&self) {
        self.muted.send_replace(true);
    }
}

async fn serve(
    near: TcpStream,
    agent: SocketAddr,
    offers: Offers,
    offered: Arc<AtomicUsize>,
    muted: watch::Receiver<bool>,
) {
    let (mut near_in, mut near_out) = near.into_split();
    let mut head = vec![0; 65_536];
    let Ok(read @ 1..) = near_in.read(&mut head).await else { return };
    head.truncate(read);
    if head.starts_with(b"POST /v1/facts ") {
        offered.fetch_add(1, Ordering::SeqCst);
        if offers != Offers::Pass {
            return answer(head, near_in, near_out, offers).await;
        }
    }
    let Ok(far) = TcpStream::connect(agent).await else { return };
    let (mut far_in, mut far_out) = far.into_split();
    if far_out.write_all(&head).await.is_err() {
        return;
    }
    let is_stream = head.starts_with(b"POST /v1/watch ") && !*muted.borrow();
    tokio::select! {
        _ = tokio::io::copy(&mut near_in, &mut far_out) => {}
        () = pass_back(&mut far_in, &mut near_out, muted, is_stream) => {}
    }
}

async fn pass_back(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut muted: watch::Receiver<bool>,
    is_stream: bool,
) {
    let mut bytes = vec![0; 65_536];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            Ok(_) = muted.wait_for(|muted| *muted && is_stream) => break,
        };
        let Ok(read @ 1..) = read else { return };
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    // Each write is one chunk.
    while to.write_all(b"e\r\n: still here\n\n\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A proxy to an honest agent that delays the events of streams.
pub struct Delay {
    /// Address of the proxy, for clients.
    pub address: SocketAddr,
    delay: Arc<watch::Sender<Duration>>,
    idle: Arc<watch::Sender<usize>>,
}

impl Delay {
    /// Starts a proxy in front of an agent, without a delay.
    pub async fn before(agent: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (delay, idle) = (Arc::new(watch::Sender::new(Duration::ZERO)), Arc::new(watch::Sender::new(0)));
        let this = Self { address, delay: delay.clone(), idle: idle.clone() };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(late(near, agent, delay.clone(), idle.clone()));
            }
        });
        this
    }

    /// Sets the delay of data that arrive from the agent from now on.
    pub fn set(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }

    /// Waits until the agent reports that nothing is left to send.
    pub async fn idle(&self) {
        let mut idle = self.idle.subscribe();
        let before = *idle.borrow();
        idle.wait_for(|now| *now > before).await.expect("the way is open");
    }
}

async fn late(
    near: TcpStream,
    agent: SocketAddr,
    delay: Arc<watch::Sender<Duration>>,
    idle: Arc<watch::Sender<usize>>,
) {
    let (mut near_in, mut near_out) = near.into_split();
    let mut head = vec![0; 65_536];
    let Ok(read @ 1..) = near_in.read(&mut head).await else { return };
    let Ok(far) = TcpStream::connect(agent).await else { return };
    let (mut far_in, mut far_out) = far.into_split();
    if far_out.write_all(&head[..read]).await.is_err() {
        return;
    }
    let is_stream = head.starts_with(b"POST /v1/watch ");
    let (queue, mut queued) = tokio::sync::mpsc::unbounded_channel();
    let take = async {
        let mut bytes = vec![0; 65_536];
        while let Ok(read @ 1..) = far_in.read(&mut bytes).await {
            let due = tokio::time::Instant::now() + if is_stream { *delay.borrow() } else { Duration::ZERO };
            let _ = queue.send((due, bytes[..read].to_vec()));
            if is_stream && bytes[..read].windows(7).any(|seen| seen == b": told ") {
                idle.send_modify(|count| *count += 1);
            }
        }
    };
    let give = async {
        while let Some((due, bytes)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            if near_out.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut near_in, &mut far_out) => {}
        () = take => {}
        () = give => {}
    }
}

/// Reads the whole offer of facts and answers it as `offers` says.
async fn answer(mut request: Vec<u8>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, offers: Offers) {
    let body = loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
        });
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && length.is_some_and(|length| body.len() >= length)
        {
            break body.to_owned();
        }
        let mut more = vec![0; 65_536];
        let Ok(read @ 1..) = from.read(&mut more).await else { return };
        request.extend_from_slice(&more[..read]);
    };
    let facts: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let count = facts["records_b64"].as_array().expect("facts").len();
    let (status, json) = match offers {
        Offers::Refuse => {
            let error = serde_json::json!({ "code": "store.full", "message": "the disk is full" });
            ("503 Service Unavailable", error)
        }
        Offers::Hang => return std::future::pending().await,
        Offers::Pass | Offers::Swallow => {
            let row = serde_json::json!({ "id": null, "verdict": "merged", "code": null, "message": null });
            ("200 OK", serde_json::json!({ "verdicts": vec![row; count] }))
        }
    };
    let json = json.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    );
    let _ = to.write_all(head.as_bytes()).await;
}

/// Returns an address that accepts connections and never sends anything.
pub async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    address
}

/// Returns an address that answers every request with a stream of heartbeats and no events.
pub async fn endless() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 65536];
                let _ = stream.read(&mut request).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(b":\n\n").await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
    });
    address
}
