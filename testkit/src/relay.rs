//! A UDP relay that can be blocked in the middle of a session.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Maximum size of a datagram in bytes.
const MAX_DATAGRAM: usize = 65_536;

/// Forwards all datagrams of one dialler to a listener, and a limited number of the listener's back.
pub struct Relay {
    /// Address of the relay, for the dialler.
    pub address: SocketAddr,
    passed: Arc<AtomicUsize>,
    limit: Arc<AtomicUsize>,
}

impl Relay {
    /// Starts a relay to `listener` that drops the listener's datagrams after the first `limit` ones.
    pub fn to(listener: SocketAddr, limit: usize) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        back.connect(listener).expect("an address of the loopback");
        let relay = Self {
            address: front.local_addr().expect("bound"),
            passed: Arc::default(),
            limit: Arc::new(AtomicUsize::new(limit)),
        };
        let dialler: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let (front2, back2) = (front.try_clone().expect("a handle"), back.try_clone().expect("a handle"));
        let (to, passed, limit) = (dialler.clone(), relay.passed.clone(), relay.limit.clone());
        thread::spawn(move || {
            let mut buffer = [0; MAX_DATAGRAM];
            while let Ok((len, from)) = front.recv_from(&mut buffer) {
                *dialler.lock().expect("whole") = Some(from);
                let _ = back.send(&buffer[..len]);
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; MAX_DATAGRAM];
            while let Ok(len) = back2.recv(&mut buffer) {
                if passed.load(Ordering::SeqCst) < limit.load(Ordering::SeqCst)
                    && let Some(dialler) = *to.lock().expect("whole")
                {
                    passed.fetch_add(1, Ordering::SeqCst);
                    let _ = front2.send_to(&buffer[..len], dialler);
                }
            }
        });
        relay
    }

    /// Returns the number of the listener's datagrams that were forwarded so far.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    /// Removes the limit: no further datagrams are dropped.
    pub fn open(&self) {
        self.limit.store(usize::MAX, Ordering::SeqCst);
    }
}
