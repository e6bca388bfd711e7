//! A stretch of network that belongs to the demonstration, so that it can be cut.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The most senders that are told apart; only the demonstration's own agents use it.
const MAX_FLOWS: usize = 16;

/// Passes datagrams on to one address and back, unless it is cut.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    cut: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(super) async fn start(to: SocketAddr) -> std::io::Result<Self> {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let (cut, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let address = front.local_addr()?;
        let task = tokio::spawn(forward(front, to, cut.clone(), dropped.clone()));
        Ok(Self { address, cut, dropped, task })
    }

    /// Cuts the wire, or mends it.
    pub(super) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// How many datagrams were lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(front: Arc<UdpSocket>, to: SocketAddr, cut: Arc<AtomicBool>, dropped: Arc<AtomicU64>) {
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = front.recv_from(&mut buffer).await {
        if cut.load(Ordering::Relaxed) {
            dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if !flows.contains_key(&from) {
            if flows.len() >= MAX_FLOWS {
                continue;
            }
            let Ok(back) = UdpSocket::bind("127.0.0.1:0").await else { continue };
            let back = Arc::new(back);
            tokio::spawn(backward(back.clone(), front.clone(), from, cut.clone(), dropped.clone()));
            flows.insert(from, back);
        }
        if let Some(back) = flows.get(&from) {
            // A datagram that cannot be sent is a lost one; QUIC sends it again.
            let _ = back.send_to(&buffer[..len], to).await;
        }
    }
}

async fn backward(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    cut: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok((len, _)) = back.recv_from(&mut buffer).await {
        if cut.load(Ordering::Relaxed) {
            dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            let _ = front.send_to(&buffer[..len], to).await;
        }
    }
}
