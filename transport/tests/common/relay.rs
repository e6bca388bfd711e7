//! A UDP relay between a dialler and a listener: it can lose what flows back, and change the listener.

use super::ANY_PORT;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::UdpSocket;

pub struct Relay {
    /// Where diallers send to.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    front: UdpSocket,
    listener: Mutex<SocketAddr>,
    mute: AtomicBool,
}

impl Relay {
    pub async fn to(listener: SocketAddr) -> Self {
        let front = UdpSocket::bind(ANY_PORT).await.unwrap();
        let address = front.local_addr().unwrap();
        let shared = Arc::new(Shared { front, listener: Mutex::new(listener), mute: AtomicBool::new(false) });
        tokio::spawn(run(Arc::clone(&shared)));
        Self { address, shared }
    }

    /// Packets go to another listener from now on, from the same sockets.
    pub fn redirect(&self, listener: SocketAddr) {
        *self.shared.listener.lock().unwrap() = listener;
    }

    /// Loses everything that flows back to diallers, or stops doing so.
    pub fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::SeqCst);
    }
}

/// One socket towards the listener for each dialler, so that answers find their way.
async fn run(shared: Arc<Shared>) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((len, dialler)) = shared.front.recv_from(&mut buffer).await {
        let back = match backs.get(&dialler) {
            Some(back) => Arc::clone(back),
            None => {
                let back = Arc::new(UdpSocket::bind(ANY_PORT).await.unwrap());
                tokio::spawn(run_back(Arc::clone(&shared), Arc::clone(&back), dialler));
                backs.insert(dialler, Arc::clone(&back));
                back
            }
        };
        let listener = *shared.listener.lock().unwrap();
        let _ = back.send_to(&buffer[..len], listener).await;
    }
}

async fn run_back(shared: Arc<Shared>, back: Arc<UdpSocket>, dialler: SocketAddr) {
    let mut buffer = vec![0; 65_536];
    while let Ok((len, _)) = back.recv_from(&mut buffer).await {
        if !shared.mute.load(Ordering::SeqCst) {
            let _ = shared.front.send_to(&buffer[..len], dialler).await;
        }
    }
}
