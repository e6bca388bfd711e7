//! What every request passes: whom it is addressed to, whether there is room for it, and the time it may take.

use super::error::Refusal;
use super::limits::HttpLimits;
use super::own_name::is_own_name;
use super::{Door, Shared};
use crate::metrics::Http;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use kvgossip_api::MAX_BODY_BYTES;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// Bodies are accounted in units of so many bytes.
const BODY_UNIT: usize = 1024;
/// A walk waits so long for its turn.
const WALK_PATIENCE: Duration = Duration::from_secs(5);
/// Routes that wait for other replicas.
const LONG_ROUTES: [&str; 2] = ["/v1/sync", "/v1/diff"];

/// The places of one door.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) limits: HttpLimits,
    requests: Semaphore,
    bodies: Semaphore,
    walks: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(limits: HttpLimits) -> Self {
        Self {
            requests: Semaphore::new(limits.requests),
            bodies: Semaphore::new(limits.body_bytes / BODY_UNIT),
            walks: Arc::new(Semaphore::new(limits.walks)),
            limits,
        }
    }

    /// Runs what looks at many keys or reads the disk where it delays nobody else.
    pub(super) async fn walk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = timeout(WALK_PATIENCE, self.walks.clone().acquire_owned()).await;
        let turn: OwnedSemaphorePermit = match turn {
            Ok(Ok(turn)) => turn,
            _ => return Err(Refusal::busy("many lists are being read")),
        };
        let walked = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        walked.await.map_err(|_| Refusal::shutdown())?
    }
}

/// Lets a request through, or says why not; counts it.
pub(super) async fn pass(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = method_name(request.method());
    let response = admit(&shared, request, next).await;
    let (door, status) = (shared.door.name(), response.status().as_u16());
    shared.agent.intake().metrics().request(&Http { door, route, method, status }, began.elapsed());
    response
}

/// Methods that the API has; anybody can make up others.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

async fn admit(shared: &Shared, request: Request, next: Next) -> Response {
    if let Err(refusal) = check_host(shared, request.headers()) {
        return refusal.into_response();
    }
    let gate = &shared.gate;
    let Ok(_place) = gate.requests.try_acquire() else {
        return Refusal::busy("many requests are under way").into_response();
    };
    let (head, body) = request.into_parts();
    let (body, _held) = match read_body(gate, &head.headers, body).await {
        Ok(read) => read,
        Err(refusal) => return closing(refusal.into_response()),
    };
    let is_long = LONG_ROUTES.contains(&head.uri.path());
    let limit = if is_long { gate.limits.long_request_timeout } else { gate.limits.request_timeout };
    let answered = timeout(limit, next.run(Request::from_parts(head, Body::from(body)))).await;
    answered.unwrap_or_else(|_| {
        let message = format!(
            "the request was given up after {} s; what it was to change may still happen",
            limit.as_secs_f64()
        );
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, "http.timeout", &message).into_response()
    })
}

/// Refuses requests for other hosts: a web page that has its own name resolve to this address has the browser
/// send that name.
fn check_host(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if shared.door == Door::Socket
        || is_own_name(host, |name| shared.agent.tls().is_some_and(|tls| tls.serves(name)))
    {
        return Ok(());
    }
    let message =
        format!("the Host header {host:?} is neither an address, nor localhost, nor in the certificate");
    Err(Refusal::new(StatusCode::FORBIDDEN, "http.host", &message))
}

/// Reads a body as a whole, and the place in memory that it holds.
async fn read_body<'a>(
    gate: &'a Gate,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Option<tokio::sync::SemaphorePermit<'a>>), Refusal> {
    use axum::body::HttpBody;
    if body.is_end_stream() {
        return Ok((Bytes::new(), None));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let weight: usize = announced.unwrap_or(MAX_BODY_BYTES);
    if weight > MAX_BODY_BYTES {
        return Err(too_large());
    }
    let units = u32::try_from(weight.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX);
    let Ok(held) = gate.bodies.try_acquire_many(units) else {
        return Err(Refusal::busy("many large requests are under way"));
    };
    Ok((collect(body, weight, &gate.limits).await?, Some(held)))
}

async fn collect(mut body: Body, most: usize, limits: &HttpLimits) -> Result<Bytes, Refusal> {
    let deadline = Instant::now() + limits.body_timeout;
    let mut whole: Vec<u8> = Vec::new();
    loop {
        let until = deadline.min(Instant::now() + limits.body_stall);
        let frame = timeout_at(until, body.frame()).await.map_err(|_| slow(limits))?;
        let Some(frame) = frame else { return Ok(whole.into()) };
        let frame =
            frame.map_err(|error| Refusal::bad_request("http.body", format!("the body broke: {error}")))?;
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > most {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
}

fn too_large() -> Refusal {
    let message = format!("a request's body has at most {MAX_BODY_BYTES} bytes: send it in parts");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "http.body", &message)
}

fn slow(limits: &HttpLimits) -> Refusal {
    let message = format!(
        "the body did not come in time: it may pause {} s and take {} s",
        limits.body_stall.as_secs_f64(),
        limits.body_timeout.as_secs_f64()
    );
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "http.slow", &message)
}

/// What is left of the body is not read: the connection cannot go on.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, axum::http::HeaderValue::from_static("close"));
    response
}
