//! HTTP/1.1 client of one agent, with a few kept-alive connections.

use crate::endpoint::Endpoint;
use crate::error::{ClientError, MAX_MESSAGE_CHARS};
use crate::tls::{Authorities, ClientCertificate, SystemAuthoritiesError};
use crate::token::Token;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use kvgossip_api::ApiError;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time limit of establishing a connection to an agent, including TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Default time limit of a request to an agent and its whole answer.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of the body of an agent's answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Maximum number of idle connections kept for later requests.
pub const MAX_IDLE_CONNECTIONS: usize = 8;

type Body = Full<Bytes>;
type Sender = SendRequest<Body>;

/// HTTP client of one agent, with its credentials and up to [`MAX_IDLE_CONNECTIONS`] idle connections.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) endpoint: Endpoint,
    pub(crate) token: Option<Token>,
    /// Certificate authorities; `None` uses the system's.
    pub(crate) authorities: Option<Authorities>,
    /// Client certificate to present to agents that request one; `None` presents none.
    pub(crate) certificate: Option<ClientCertificate>,
    /// The system's authorities, loaded on first use because that takes tens of milliseconds.
    of_system: Arc<OnceCell<Authorities>>,
    /// TLS configuration, built on first use.
    tls: OnceCell<Arc<ClientConfig>>,
    pub(crate) timeout: Duration,
    idle: Mutex<Vec<Sender>>,
}

/// Request to an agent.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query, sent verbatim.
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<(&'static str, Bytes)>,
    /// Time limit of the request; `None` uses that of the [`Http`].
    pub(crate) timeout: Option<Duration>,
}

impl Ask {
    pub(crate) fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: None, timeout: None }
    }
}

/// Successful response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((bare(host), port)).await?;
    // Failure to disable Nagle's algorithm only costs delay.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn of_system() -> Result<Authorities, SystemAuthoritiesError> {
    let read = tokio::task::spawn_blocking(Authorities::of_system).await;
    read.unwrap_or_else(|_| Err(SystemAuthoritiesError::default()))
}

/// Removes the brackets of an IPv6 host.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl Http {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            token: None,
            authorities: None,
            certificate: None,
            of_system: Arc::default(),
            tls: OnceCell::new(),
            timeout: DEFAULT_TIMEOUT,
            idle: Mutex::default(),
        }
    }

    /// Returns a client of the same agent with changed settings. It shares no connections.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut new = Self::new(self.endpoint.clone());
        new.token.clone_from(&self.token);
        new.authorities.clone_from(&self.authorities);
        new.certificate.clone_from(&self.certificate);
        new.of_system.clone_from(&self.of_system);
        new.timeout = self.timeout;
        change(&mut new);
        new
    }

    /// Sends a request and reads the whole response. A status other than success is an error.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, ClientError> {
        let after = ask.timeout.unwrap_or(self.timeout);
        let request = self.request(ask)?;
        let whole = async {
            let (response, sender) = self.send(request).await?;
            let (head, body) = response.into_parts();
            let body = self.read(body).await?;
            self.keep(sender);
            Ok((head, body))
        };
        let out_of_time = |_| ClientError::Timeout { endpoint: self.endpoint.clone(), after };
        let (head, body) = timeout(after, whole).await.map_err(out_of_time)??;
        if head.status.is_success() {
            Ok(Answer { headers: head.headers, body })
        } else {
            Err(self.refusal(head.status, &body))
        }
    }

    /// Sends a request on a connection of its own. Returns the unread body of a successful response. The time
    /// limit covers only the head.
    pub(crate) async fn open(&self, ask: Ask) -> Result<Incoming, ClientError> {
        let after = ask.timeout.unwrap_or(self.timeout);
        let request = self.request(ask)?;
        let head = async {
            let mut sender = self.connect().await?;
            let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
            let (head, body) = response.into_parts();
            if head.status.is_success() {
                return Ok(body);
            }
            let body = self.read(body).await?;
            Err(self.refusal(head.status, &body))
        };
        let out_of_time = |_| ClientError::Timeout { endpoint: self.endpoint.clone(), after };
        timeout(after, head).await.map_err(out_of_time)?
    }

    fn request(&self, ask: Ask) -> Result<Request<Body>, ClientError> {
        let mut builder =
            Request::builder().method(ask.method).uri(ask.target).header(HOST, self.endpoint.host_header());
        if let Some(token) = &self.token {
            builder = builder.header(AUTHORIZATION, token.header());
        }
        for (name, value) in ask.headers {
            builder = builder.header(name, value);
        }
        let bytes = match ask.body {
            Some((content_type, bytes)) => {
                builder = builder.header(CONTENT_TYPE, content_type);
                bytes
            }
            None => Bytes::new(),
        };
        builder.body(Full::new(bytes)).map_err(|error| self.unexpected(format!("no request: {error}")))
    }

    /// Sends on a kept connection, or on a new one if those are closed. A request that may change something is
    /// resent only if none of it was sent before; a read may always be resent.
    async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(hyper::Response<Incoming>, Sender), ClientError> {
        let reads = request.method() == Method::GET;
        while let Some(mut sender) = self.take() {
            if sender.ready().await.is_err() {
                continue;
            }
            let spare = reads.then(|| request.clone());
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message().or(spare) {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(&error.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        Ok((response, sender))
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let unreachable = |source| ClientError::Unreachable { endpoint: self.endpoint.clone(), source };
        let connecting = async {
            match &self.endpoint {
                Endpoint::Http { host, port } => {
                    let stream = tcp(host, *port).await.map_err(unreachable)?;
                    self.handshake(stream).await
                }
                Endpoint::Https { host, port } => {
                    let stream = tcp(host, *port).await.map_err(unreachable)?;
                    self.handshake(self.secure(host, stream).await?).await
                }
                #[cfg(unix)]
                Endpoint::Unix(path) => {
                    let stream = tokio::net::UnixStream::connect(path).await.map_err(unreachable)?;
                    self.handshake(stream).await
                }
                #[cfg(not(unix))]
                Endpoint::Unix(_) => Err(unreachable(io::ErrorKind::Unsupported.into())),
            }
        };
        let in_time = timeout(CONNECT_TIMEOUT, connecting).await;
        in_time.unwrap_or_else(|_| Err(unreachable(io::ErrorKind::TimedOut.into())))
    }

    /// Establishes TLS with an agent whose certificate is valid for `host` and chains to one of the
    /// authorities.
    async fn secure(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, ClientError> {
        let failed = |reason: String| ClientError::Tls { endpoint: self.endpoint.clone(), reason };
        let config = self.tls.get_or_try_init(|| self.tls_config()).await.map_err(failed)?;
        let name = ServerName::try_from(bare(host).to_owned());
        let name = name.map_err(|_| failed(format!("{host} is not a name that a certificate can have")))?;
        let connector = TlsConnector::from(config.clone());
        connector.connect(name, stream).await.map_err(|error| match tls_error(&error) {
            Some(rustls::Error::InvalidMessage(_)) => failed(format!(
                "what answers there does not speak TLS, as an agent at http:// does not ({error})"
            )),
            _ => failed(error.to_string()),
        })
    }

    async fn tls_config(&self) -> Result<Arc<ClientConfig>, String> {
        let authorities = match &self.authorities {
            Some(given) => given,
            None => self.of_system.get_or_try_init(of_system).await.map_err(|error| error.to_string())?,
        };
        authorities.config(self.certificate.as_ref()).map_err(|error| error.to_string())
    }

    async fn handshake<S>(&self, stream: S) -> Result<Sender, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| self.broken(&error))?;
        // Ends with the sender. Errors are reported to the waiting request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, ClientError> {
        match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(self.unexpected(format!("the answer has more than {MAX_ANSWER_BYTES} bytes")))
            }
            Err(error) => Err(self.broken(&*error)),
        }
    }

    fn take(&self) -> Option<Sender> {
        self.idle.lock().pop()
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE_CONNECTIONS && !sender.is_closed() {
            idle.push(sender);
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<ApiError>(body) {
            Ok(error) => ClientError::Refused {
                status: status.as_u16(),
                code: error.code.chars().take(MAX_MESSAGE_CHARS).collect(),
                message: error.message.chars().take(MAX_MESSAGE_CHARS).collect(),
            },
            Err(_) => self.unexpected(format!("HTTP status {status} without an explanation")),
        }
    }

    pub(crate) fn unexpected(&self, reason: String) -> ClientError {
        ClientError::NotAnAgent { endpoint: self.endpoint.clone(), reason }
    }

    /// Maps a TLS alert received after the handshake: an agent checks the client's certificate only after the
    /// client has finished.
    fn refused_by_alert(&self, alert: AlertDescription) -> ClientError {
        use AlertDescription as Alert;
        let (endpoint, reason) = (self.endpoint.clone(), format!("{alert:?}"));
        let is_of_certificate = matches!(
            alert,
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
        );
        if is_of_certificate && self.certificate.is_some() {
            return ClientError::CertificateRefused { endpoint, reason };
        }
        ClientError::Tls { endpoint, reason: format!("the agent ended it: {reason}") }
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        let mut reason = error.to_string();
        if let Some(cause) = error.source() {
            reason = format!("{reason}: {cause}");
        }
        if let Some(rustls::Error::AlertReceived(alert)) = tls_error(error) {
            return self.refused_by_alert(*alert);
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_parse()
        {
            let hint = match self.endpoint {
                Endpoint::Http { .. } => "; if it speaks TLS there, write https://",
                _ => "",
            };
            return self.unexpected(format!("{reason}{hint}"));
        }
        ClientError::Broken { endpoint: self.endpoint.clone(), reason }
    }
}

/// Finds the rustls error among the causes of an error.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| {
        // An I/O error does not report the error that it wraps as its source.
        let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        held.and_then(|held| held.downcast_ref()).or_else(|| cause.downcast_ref())
    })
}
