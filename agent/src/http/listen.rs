//! The listening sockets ("doors") of the HTTP API: a Unix socket and TCP.

use super::handshake::{Shaken, shake, showed_certificate};
use super::patient::Patient;
use super::rights::Certified;
use super::router;
use crate::agent::Agent;
use crate::clients::{Arrivals, Client, Clients, Door, HttpLimits, Source};
use crate::tls::ServerTls;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Maximum size of a request's head, in bytes, and so of the input buffered per connection before any check. A filter
/// of 64 long globs fits, with every byte percent-encoded.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Requested kernel send buffer per connection, in bytes; Linux doubles it.
const SEND_BUFFER_BYTES: u32 = 256 << 10;
/// Maximum number of connections in the kernel's accept queue.
const BACKLOG: u32 = 1024;
/// Pause after a failed accept, so that the task does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Minimum interval between log lines about the connection limit.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// Maximum length of a Unix socket path, in bytes, with the terminating zero.
const MAX_SOCKET_PATH: usize = 108;

/// A bound listening socket.
#[derive(Debug)]
pub enum Listener {
    /// The bound Unix socket.
    Socket(UnixListener),
    /// The bound TCP socket.
    Tcp(TcpListener),
}

/// Binds the Unix socket, accessible to this user alone. A stale socket of a dead agent is replaced.
pub async fn bind_unix(path: &Path) -> io::Result<Listener> {
    use std::os::unix::ffi::OsStrExt;
    let len = path.as_os_str().as_bytes().len();
    if len >= MAX_SOCKET_PATH {
        let message = format!(
            "the path of the socket has {len} bytes, and the system takes {}: give a shorter one with --socket",
            MAX_SOCKET_PATH - 1
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let message = "something other than a socket is in its place: move it away, or give --socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers there"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Listener::Socket(listener))
}

/// Binds a TCP socket. Returns it with its address, which has the port that was picked if `address` has port 0.
pub async fn bind_tcp(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // tokio's own listener sets it, too.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it. The ledger does not count the kernel's buffers, which would otherwise grow to
    // megabytes each.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((Listener::Tcp(listener), address))
}

impl Listener {
    /// Serves until `stop`; requests in progress are finished.
    pub async fn serve(self, agent: Agent, stop: CancellationToken) {
        let door = match &self {
            Self::Socket(_) => Door::Socket,
            Self::Tcp(_) => Door::Tcp,
        };
        let limits = agent.http_limits().clone();
        let tls = agent.tls().filter(|_| door == Door::Tcp).cloned();
        let metrics = agent.intake().metrics().clone();
        let service = TowerToHyperService::new(router(agent, door));
        let clients = Arc::new(Clients::new(door, &limits, metrics));
        let tasks = TaskTracker::new();
        let mut said: Option<Instant> = None;
        let mut arrivals = Arrivals::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // A connection is served only when the one that ends for it has ended, so that no more is held than
                // is counted.
                () = clients.settled(), if !arrivals.is_empty() => {
                    let Some((source, stream)) = arrivals.next(|source| clients.staying(source)) else { continue };
                    let client = clients.open(source);
                    if client.is_in_reserve() && said.is_none_or(|at| at.elapsed() >= LOG_PAUSE) {
                        said = Some(Instant::now());
                        tracing::warn!(
                            code = "http.busy",
                            "all HTTP connections ({}) are taken: --max-connections allows more",
                            door.name()
                        );
                    }
                    let stream = Patient::new(stream, limits.write_stall, Some(client.clone()));
                    let (service, limits) = (service.clone(), limits.clone());
                    tasks.spawn(serve_client(client, stream, service, limits, stop.clone(), tls.clone()));
                    continue;
                }
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((stream, source)) => {
                    if arrivals.push(source, stream, |source| clients.staying(source)).is_some() {
                        clients.ended_waiting();
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting an HTTP connection failed");
                    // Probably no file descriptor is free; one will become free.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Source)> {
        match self {
            Self::Socket(listener) => Ok((Box::new(listener.accept().await?.0), Source::Socket)),
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Source::of(address.ip())))
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn serve_client(
    client: Arc<Client>,
    stream: Patient<Box<dyn Stream>>,
    router: TowerToHyperService<axum::Router>,
    limits: HttpLimits,
    stop: CancellationToken,
    tls: Option<ServerTls>,
) {
    let service = Routes { router, client: client.clone(), certified: None };
    let served = async {
        match tls {
            Some(tls) => serve_tls(stream, service, &limits, stop, &tls).await,
            None => serve_one(stream, service, &limits, stop).await,
        }
    };
    tokio::select! {
        // Others need what the connection holds.
        () = client.felled() => tracing::debug!("an HTTP connection gives way to others"),
        () = served => {}
    }
}

/// The service that answers the requests of one connection.
struct Routes {
    router: TowerToHyperService<axum::Router>,
    client: Arc<Client>,
    /// Set if the client authenticated with a certificate of the configured authority.
    certified: Option<Certified>,
}

impl Service<Request<Incoming>> for Routes {
    type Response = <TowerToHyperService<axum::Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<axum::Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<axum::Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.client.clone());
        if let Some(certified) = self.certified {
            request.extensions_mut().insert(certified);
        }
        self.router.call(request)
    }
}

async fn serve_tls(
    stream: Patient<Box<dyn Stream>>,
    service: Routes,
    limits: &HttpLimits,
    stop: CancellationToken,
    tls: &ServerTls,
) {
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = tokio::time::timeout(limits.tls_timeout, shake(stream, tls)) => shaken,
    };
    match shaken {
        Ok(Shaken::Secure(stream)) => {
            let certified = showed_certificate(&stream).then_some(Certified);
            serve_one(stream, Routes { certified, ..service }, limits, stop).await;
        }
        Ok(Shaken::Over(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake did not end in time"),
    }
}

async fn serve_one(stream: impl Stream, service: Routes, limits: &HttpLimits, stop: CancellationToken) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A client that stalls does not delay the agent's stop.
            tokio::time::timeout(limits.stop_timeout, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}
