//! Serves Serf's RPC for a running member, so that Serf's command line can be used with it.
//!
//! It is off unless the application starts a [`Server`]. Requests that a member alone cannot serve are passed
//! to the application through [`Host`]; a plain [`Membership`] is a host too.
//!
//! ```
//! use kvgossip_membership::{Membership, Options, driver::rpc};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let loopback = "127.0.0.1:0".parse()?;
//! let (member, _events) = Membership::start(Options::new("first", loopback)).await?;
//! let server = rpc::Server::bind(rpc::Options::new(loopback), member)?;
//! println!("serf members -rpc-addr={}", server.local_addr());
//! tokio::spawn(server.run());
//! # Ok(())
//! # }
//! ```
//!
//! [`Limits`] bounds all resources that clients can use: connections, request sizes, the time for each stage of
//! a connection, subscriptions, and the data queued for each of them, here and in the system. A client that
//! does not read its data is disconnected, which is logged; items that a subscriber does not read in time are
//! dropped, and their number is logged.

mod commands;
mod connection;
mod feeds;
mod keys;
mod logs;
mod places;
mod seldom;
mod writer;

use parking_lot::Mutex;
use std::{collections::HashMap, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::Instant,
};

use super::Membership;
use crate::{
    rpc::{AuthKey, Limits, message::Stats},
    wire::{Text, serf::Tags},
};
use connection::Connection;
use places::{PlaceId, PlaceRequest, Places, Standing};
use seldom::Seldom;

pub use logs::{Level, Logs, MAX_LINE_BYTES, RECENT_LINES};

/// Maximum number of connections that the system holds until the server accepts them.
const BACKLOG: u32 = 128;
/// Size of the system's send buffer for each client, in bytes. Linux reserves twice as much, including its own
/// bookkeeping.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Pause after an error of the listener itself, so that the task does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Options of an RPC server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on; it must be a loopback address unless clients must present a key.
    pub addr: SocketAddr,
    /// Key that clients must present; `None` requires none.
    pub auth: Option<AuthKey>,
    /// Limits on clients: numbers, sizes and times.
    pub limits: Limits,
}

impl Options {
    /// Creates options for a server on `addr`, with the default limits and without a key.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, auth: None, limits: Limits::default() }
    }

    /// Rejects an address that is not a loopback address if there is no key, because the server would be open
    /// to the network.
    pub fn check(&self) -> Result<(), Error> {
        if self.auth.is_none() && !self.addr.ip().is_loopback() {
            return Err(Error::NotLoopback(self.addr));
        }
        Ok(())
    }
}

/// Error of starting an RPC server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This address is not a loopback address, and there is no key: anyone who reaches it could control the
    /// member.
    #[error("RPC on {0} would be open to the network: without a key it is served on loopback addresses only")]
    NotLoopback(SocketAddr),
    /// The address cannot be bound.
    #[error("RPC cannot be served on {addr}: {source}")]
    Bind {
        /// Address to listen on.
        addr: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Functions that an RPC server needs from the application. Error texts are sent to clients.
pub trait Host: Send + Sync + 'static {
    /// Returns the served member, or the reason why it is not available any more.
    fn member(&self) -> Result<Membership, String>;

    /// Returns an error text if clients must not set or delete the tag of this name.
    fn check_tag(&self, _name: &Text) -> Result<(), String> {
        Ok(())
    }

    /// Makes the member leave its cluster gracefully; requested by a client.
    fn leave(&self) -> impl Future<Output = Result<(), String>> + Send {
        async { self.member()?.leave().await.map_err(|error| error.to_string()) }
    }

    /// Called after the client that requested a leave has received the reply. Serf's agents end then.
    fn left(&self) {}

    /// Sections for `serf info`, in addition to those about the member itself.
    fn stats(&self) -> Stats {
        Stats::new()
    }

    /// Log for `serf monitor`; `None` if there is none.
    fn logs(&self) -> Option<&Logs> {
        None
    }
}

impl Host for Membership {
    fn member(&self) -> Result<Membership, String> {
        Ok(self.clone())
    }
}

/// State shared by all connections of a server.
struct Shared<H> {
    host: H,
    auth: Option<AuthKey>,
    limits: Limits,
    listings: Semaphore,
    /// Rate limit for log lines about clients that were refused.
    refusals: Seldom,
    /// Rate limit for log lines about clients that were disconnected because they do not read.
    deaf: Seldom,
    places: Mutex<Places>,
    began: Instant,
}

impl<H> Shared<H> {
    /// Calls `change` with the table of places and the current time.
    fn places<T>(&self, change: impl FnOnce(&mut Places, Duration) -> T) -> T {
        change(&mut self.places.lock(), self.began.elapsed())
    }
}

/// Place of a connection in the table of places, freed when dropped.
struct ConnectionPermit<H> {
    shared: Arc<Shared<H>>,
    id: PlaceId,
}

impl<H: Host> ConnectionPermit<H> {
    /// Returns a callback that records whether the connection's socket is blocked.
    fn on_stall(&self) -> Arc<dyn Fn(bool) + Send + Sync> {
        let (shared, id) = (self.shared.clone(), self.id);
        Arc::new(move |is_stalled| shared.places(|places, _| places.stall(id, is_stalled)))
    }
}

impl<H> ConnectionPermit<H> {
    fn turn(&self, standing: Standing) {
        self.shared.places(|places, now| places.turn(self.id, standing, now));
    }
}

impl<H> Drop for ConnectionPermit<H> {
    fn drop(&mut self) {
        self.shared.places(|places, _| places.leave(self.id));
    }
}

/// RPC server with a bound address. Dropping the future of [`Server::run`] closes all connections.
pub struct Server<H> {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared<H>>,
}

impl<H> std::fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl<H: Host> Server<H> {
    /// Binds the address of `options`. Fails if it cannot be bound, or would be open to the network without a
    /// key.
    pub fn bind(options: Options, host: H) -> Result<Self, Error> {
        options.check()?;
        let addr = options.addr;
        let failed = |source| Error::Bind { addr, source };
        let listener = listen(addr).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let listings = Semaphore::new(options.limits.listings.max(1));
        let places = Mutex::new(Places::new(options.limits.connections));
        let shared = Shared {
            host,
            auth: options.auth,
            limits: options.limits,
            listings,
            refusals: Seldom::default(),
            deaf: Seldom::default(),
            places,
            began: Instant::now(),
        };
        Ok(Self { listener, addr: bound, shared: Arc::new(shared) })
    }

    /// Address that the server listens on, with the port that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts and serves clients until the future is dropped.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        let mut ends: HashMap<PlaceId, tokio::task::AbortHandle> = HashMap::new();
        let full = Seldom::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => {
                    ends.retain(|_, end| !end.is_finished());
                    continue;
                }
            };
            let (socket, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting an RPC connection failed");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let id = match self.shared.places(|places, now| places.enter(from.ip(), now)) {
                PlaceRequest::Granted(id, victim) => {
                    // Aborting the task drops its socket, which closes it.
                    victim.and_then(|victim| ends.remove(&victim)).inspect(|end| end.abort());
                    id
                }
                PlaceRequest::Refused => {
                    if let Some(suppressed) = full.turn() {
                        let most = self.shared.limits.connections;
                        tracing::warn!(%from, suppressed, "all {most} RPC connections are taken");
                    }
                    continue;
                }
            };
            if let Err(error) = bound(&socket, &self.shared.limits) {
                // The socket is gone already.
                tracing::debug!(%from, "an RPC connection cannot be bounded: {error}");
                self.shared.places(|places, _| places.leave(id));
                continue;
            }
            let place = ConnectionPermit { shared: self.shared.clone(), id };
            ends.insert(id, connections.spawn(Connection::new(place, socket, from).serve()));
        }
    }
}

/// Limits the system's send buffer of a client's connection, and (on Linux) how long data waits in it while the
/// client reads nothing.
fn bound(socket: &TcpStream, limits: &Limits) -> io::Result<()> {
    // Replies are small and awaited, so delaying them has no benefit.
    socket.set_nodelay(true)?;
    let socket = socket2::SockRef::from(socket);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits.stall_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = limits;
    Ok(())
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit this, so that a vanished client does not keep its place forever.
    socket.set_keepalive(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Builds one section of [`Host::stats`] from names and values.
pub fn section<const N: usize>(values: [(&str, String); N]) -> Tags {
    values.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_system_keeps_for_a_client_is_bounded() {
        let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, (socket, _)) = (client.expect("connected"), accepted.expect("accepted"));
        bound(&socket, &Limits::default()).expect("bounded");
        let socket = socket2::SockRef::from(&socket);
        assert!(socket.send_buffer_size().expect("a size") <= 2 * SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().expect("a time"), Some(Duration::from_secs(10)));
    }
}
