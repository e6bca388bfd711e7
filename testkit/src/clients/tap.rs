//! A TCP proxy to an agent that records what passes and can be cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes that one connection has carried.
#[derive(Default)]
struct Carried {
    there: Mutex<Vec<u8>>,
    back: Mutex<Vec<u8>>,
}

/// One request and its answer on one connection, as text.
pub struct Seen {
    /// Request with its HTTP head.
    pub request: String,
    /// Part of the answer that has arrived so far.
    pub answer: String,
}

impl Seen {
    /// Returns the number of events with this name in the answer.
    pub fn count(&self, event: &str) -> usize {
        self.answer.matches(&format!("event: {event}\n")).count()
    }

    /// Whether the answer has an event about `key`.
    pub fn tells(&self, key: &str) -> bool {
        self.answer.contains(&format!("\"key\":\"{key}\""))
    }

    /// Whether the request sends a cursor.
    pub fn sends_cursor(&self) -> bool {
        self.request.contains("\"cursor\":\"")
    }
}

/// Forwards bytes and records them.
pub struct Tap {
    /// Address of the proxy, for clients.
    pub address: SocketAddr,
    to: Arc<watch::Sender<Option<SocketAddr>>>,
    carried: Arc<Mutex<Vec<Arc<Carried>>>>,
}

impl Tap {
    /// Starts a proxy to an agent.
    pub async fn to(agent: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (to, carried) = (Arc::new(watch::Sender::new(Some(agent))), Arc::new(Mutex::new(Vec::new())));
        let tap = Self { address, to: to.clone(), carried: carried.clone() };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let target = *to.borrow();
                let Some(target) = target else { continue };
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let kept = Arc::new(Carried::default());
                carried.lock().expect("no panic").push(kept.clone());
                let mut cut = to.subscribe();
                tokio::spawn(async move {
                    let (mut near_in, mut near_out) = near.into_split();
                    let (mut far_in, mut far_out) = far.into_split();
                    tokio::select! {
                        () = pass(&mut near_in, &mut far_out, &kept.there) => {}
                        () = pass(&mut far_in, &mut near_out, &kept.back) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        tap
    }

    /// Closes all connections, and any that is opened before [`Tap::mend`].
    pub fn cut(&self) {
        self.to.send_replace(None);
    }

    /// Forwards new connections to this agent from now on.
    pub fn mend(&self, agent: SocketAddr) {
        self.to.send_replace(Some(agent));
    }

    /// Returns the recorded watch requests, oldest first.
    pub fn watches(&self) -> Vec<Seen> {
        let text =
            |bytes: &Mutex<Vec<u8>>| String::from_utf8_lossy(&bytes.lock().expect("no panic")).into_owned();
        let carried = self.carried.lock().expect("no panic");
        let all = carried.iter().map(|kept| Seen { request: text(&kept.there), answer: text(&kept.back) });
        all.filter(|seen| seen.request.starts_with("POST /v1/watch ")).collect()
    }

    /// Returns the last recorded watch request.
    pub fn last(&self) -> Seen {
        self.watches().pop().expect("a watch")
    }
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    kept: &Mutex<Vec<u8>>,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        kept.lock().expect("no panic").extend_from_slice(&bytes[..read]);
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
