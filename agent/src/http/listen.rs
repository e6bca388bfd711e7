//! The two doors of the HTTP API: a Unix socket and TCP.

use super::error::BUSY_RETRY_S;
use super::limits::HttpLimits;
use super::patient::Patient;
use super::{Door, ServerTls, router};
use crate::agent::Agent;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many connections are told at a time that there is no room for them; any more are just closed.
const MAX_TURNED_AWAY: usize = 32;
/// That the limit is reached is said in the log this often at most.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// So long it may take to tell one of them.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest path of a Unix socket that the system takes, in bytes, with its ending zero.
const MAX_SOCKET_PATH: usize = 108;

/// A bound door.
#[derive(Debug)]
pub enum Listener {
    /// The Unix socket.
    Socket(UnixListener),
    /// TCP.
    Tcp(TcpListener),
}

/// Binds the Unix socket, for this user alone. A socket that a dead agent left behind is taken over.
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

/// Binds TCP.
pub async fn bind_tcp(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((Listener::Tcp(listener), address))
}

impl Listener {
    /// Serves until `stop`; requests under way are finished.
    pub async fn serve(self, agent: Agent, stop: CancellationToken) {
        let door = match &self {
            Self::Socket(_) => Door::Socket,
            Self::Tcp(_) => Door::Tcp,
        };
        let limits = agent.http_limits().clone();
        let connections = match door {
            Door::Socket => limits.socket_connections,
            Door::Tcp => limits.tcp_connections,
        };
        let tls = agent.tls().filter(|_| door == Door::Tcp).cloned();
        let service = TowerToHyperService::new(router(agent.clone(), door));
        let places = Arc::new(Semaphore::new(connections));
        let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
        let tasks = TaskTracker::new();
        let mut said: Option<Instant> = None;
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            let stream = match stream {
                Ok(stream) => Patient::new(stream, limits.write_stall),
                Err(error) => {
                    tracing::warn!(%error, "accepting an HTTP connection failed");
                    // Most likely no descriptor is free: one will be.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let metrics = agent.intake().metrics().clone();
            let Ok(place) = places.clone().try_acquire_owned() else {
                metrics.turned_away(door.name());
                if said.is_none_or(|at| at.elapsed() >= LOG_PAUSE) {
                    said = Some(Instant::now());
                    tracing::warn!(
                        code = "http.busy",
                        "all {connections} HTTP connections ({}) are taken: --max-connections allows more",
                        door.name()
                    );
                }
                // Within TLS nothing can be said before a handshake, which is what there is no room for.
                if tls.is_none()
                    && let Ok(turn) = turned_away.clone().try_acquire_owned()
                {
                    tasks.spawn(async move {
                        turn_away(stream, connections).await;
                        drop(turn);
                    });
                }
                continue;
            };
            let (service, limits, stop, tls) = (service.clone(), limits.clone(), stop.clone(), tls.clone());
            tasks.spawn(async move {
                metrics.connection_opened(door.name());
                match tls {
                    Some(tls) => serve_tls(stream, service, &limits, stop, &tls).await,
                    None => serve_one(stream, service, &limits, stop).await,
                }
                metrics.connection_closed(door.name());
                drop(place);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Socket(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Says that there is no room for a connection, without having read its request.
async fn turn_away(mut stream: Patient<Box<dyn Stream>>, connections: usize) {
    let message = format!(
        "the agent serves {connections} connections at a time, and all are taken: try again in a moment, or let it serve \
         more with --max-connections"
    );
    let body = serde_json::json!({ "code": "http.busy", "message": message }).to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: {BUSY_RETRY_S}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let tell = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would take the answer back.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // Nothing is owed to a client that does not listen.
    let _ = tokio::time::timeout(TURN_AWAY_TIMEOUT, tell).await;
}

async fn serve_tls(
    stream: Patient<Box<dyn Stream>>,
    service: TowerToHyperService<axum::Router>,
    limits: &HttpLimits,
    stop: CancellationToken,
    tls: &ServerTls,
) {
    let handshake = tokio_rustls::TlsAcceptor::from(tls.config()).accept(stream);
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = tokio::time::timeout(limits.tls_timeout, handshake) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => serve_one(stream, service, limits, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake did not end in time"),
    }
}

async fn serve_one(
    stream: impl Stream,
    service: TowerToHyperService<axum::Router>,
    limits: &HttpLimits,
    stop: CancellationToken,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A client that stalls does not keep the agent.
            tokio::time::timeout(limits.stop_timeout, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}
