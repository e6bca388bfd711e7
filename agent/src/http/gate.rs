//! The checks and limits that every request passes: host and headers, room for its body, and time.

use super::Shared;
use super::error::Refusal;
use super::own_name::is_own_name;
use super::pages::MAX_PAGE_BYTES;
use super::rights;
use crate::clients::{Charged, Client, Door, HttpLimits, Pool, Reservation};
use crate::metrics::Http;
use crate::unfinished::unfinished;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use kvgossip_api::MAX_BODY_BYTES;
use kvgossip_grants::MAX_VALUE_BYTES;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// Minimum room reserved for a request body, in bytes, unless its announced size is smaller.
const LEAST_BODY: usize = 4096;
/// Maximum wait for room for a request body.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
/// Maximum wait for room for a large answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Answers up to this many bytes are covered by the fixed memory of a connection.
pub(crate) const SMALL_ANSWER: usize = 16 << 10;
/// Maximum wait for a walk over many keys to start.
const WALK_PATIENCE: Duration = Duration::from_secs(5);
/// Routes that wait for other replicas and so have a longer time limit.
const LONG_ROUTES: [&str; 2] = ["/v1/sync", "/v1/diff"];
/// Routes exempt from the limit on concurrent requests.
const HEALTH_ROUTES: [&str; 2] = ["/healthz", "/readyz"];
/// The route whose answers are endless streams of events.
const WATCH_ROUTE: &str = "/v1/watch";

/// The limits of one door, and the permits for its requests and walks.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) limits: HttpLimits,
    requests: Semaphore,
    walks: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(limits: HttpLimits) -> Self {
        Self {
            requests: Semaphore::new(limits.requests),
            walks: Arc::new(Semaphore::new(limits.walks)),
            limits,
        }
    }

    /// Runs a walk, which visits many keys or reads the disk, on a blocking thread. Waits for one of the door's permits
    /// for walks, at most [`WALK_PATIENCE`].
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
        walked.await.map_err(|error| unfinished(&error, "the answer to a request"))?
    }
}

/// Middleware that checks a request against rights and limits, serves it and counts it.
pub(super) async fn pass(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = method_name(request.method());
    let response = admit(&shared, request, next).await;
    let (door, status) = (shared.door.name(), response.status().as_u16());
    shared.agent.intake().metrics().request(&Http { door, route, method, status }, began.elapsed());
    response
}

/// Returns the method's name for the metrics; unknown methods, which clients can invent, share one name.
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
    let Some(client) = request.extensions().get::<Arc<Client>>().cloned() else {
        return Refusal::new("internal", "a request of no connection").into_response();
    };
    client.is_worked_for();
    let response = match judged(shared, &client, request, next).await {
        Ok(response) => response,
        Err(refusal) => closing(refusal.into_response()),
    };
    let response = if client.is_in_reserve() { closing(response) } else { response };
    match response.body().size_hint().exact() {
        Some(_) => client.waits(Duration::ZERO),
        None => client.streams(),
    }
    response
}

/// Rejects headers that change the meaning of a request and that this API does not implement.
fn check_headers(request: &Request) -> Result<(), Refusal> {
    check_codings(request.headers())?;
    check_conditions(request)
}

/// Rejects encoded bodies (`Content-Encoding`): the encoded bytes would be stored or parsed as the body.
fn check_codings(headers: &HeaderMap) -> Result<(), Refusal> {
    let has_other = |name: header::HeaderName, plain: &str| {
        let values = headers.get_all(name).into_iter();
        let mut codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        codings.any(|coding| {
            let coding = coding.trim_ascii();
            !coding.is_empty() && !coding.eq_ignore_ascii_case(plain.as_bytes())
        })
    };
    if has_other(header::CONTENT_ENCODING, "identity") {
        let message = "Content-Encoding: a body is taken as it is, without a coding";
        return Err(Refusal::new("http.header", message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if has_other(header::TRANSFER_ENCODING, "chunked") {
        let message = "Transfer-Encoding: no other coding than chunked is known here";
        return Err(Refusal::new("http.header", message).with_status(StatusCode::NOT_IMPLEMENTED));
    }
    Ok(())
}

/// Rejects preconditions on routes that do not implement them: ignoring one would let through what it is meant to
/// prevent. On reads, `If-None-Match` and `If-Modified-Since` are ignored, so the whole answer is sent.
fn check_conditions(request: &Request) -> Result<(), Refusal> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let has_conditions = request.uri().path().starts_with("/v1/kv/");
    let has = |name: &header::HeaderName| request.headers().contains_key(name);
    let refused = [
        (header::IF_MATCH, !has_conditions),
        (header::IF_NONE_MATCH, !has_conditions && changes),
        (header::IF_UNMODIFIED_SINCE, true),
        (header::CONTENT_RANGE, has_conditions),
    ];
    match refused.into_iter().find(|(name, is_refused)| *is_refused && has(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let conditions =
                if has_conditions { ": If-Match and If-None-Match take entity tags" } else { "" };
            Err(Refusal::new("http.header", format!("{name} means nothing here{conditions}")))
        }
    }
}

async fn judged(
    shared: &Shared,
    client: &Arc<Client>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if let Err(refusal) = check_host(shared, &request) {
        return Ok(refusal.into_response());
    }
    rights::check(shared, &request)?;
    check_headers(&request)?;
    let gate = &shared.gate;
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let is_long = LONG_ROUTES.contains(&path);
    let limit = if is_long { gate.limits.long_request_timeout } else { gate.limits.request_timeout };
    if HEALTH_ROUTES.contains(&path) {
        let is_bare = body.is_end_stream();
        let response = in_time(limit, next, Request::from_parts(head, Body::empty())).await;
        return Ok(if is_bare { response } else { closing(response) });
    }
    if client.is_in_reserve() && (is_long || path == WATCH_ROUTE) {
        shared.agent.intake().metrics().turned_away(shared.door.name());
        return Err(Refusal::busy("all connections are taken (--max-connections allows more)"));
    }
    let (body, held) = read_body(gate, client, &head.headers, body).await?;
    check_body(&head, &body)?;
    client.is_worked_for();
    let room = match most_answer(&head) {
        0 => None,
        most => Some(answer_room(client, most).await?),
    };
    let Ok(place) = gate.requests.try_acquire() else {
        return Err(Refusal::busy("many requests are under way"));
    };
    let response = in_time(limit, next, Request::from_parts(head, Body::from(body))).await;
    drop((place, held));
    charged(client, response, room).await
}

async fn in_time(limit: Duration, next: Next, request: Request) -> Response {
    timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let message = format!(
            "the request was given up after {} s; what it was to change may still happen",
            limit.as_secs_f64()
        );
        Refusal::new("http.timeout", message).into_response()
    })
}

/// Returns the maximum size of the answer, in bytes, for routes whose answers often exceed [`SMALL_ANSWER`]; 0 for
/// others, whose answers are charged when their size is known.
fn most_answer(head: &Parts) -> usize {
    let route = head.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    match (&head.method, route) {
        (&Method::GET | &Method::HEAD, "/v1/kv/{*key}") => MAX_VALUE_BYTES,
        (&Method::GET | &Method::HEAD, "/v1/keys" | "/v1/facts" | "/v1/grants" | "/v1/members") => {
            MAX_PAGE_BYTES
        }
        _ => 0,
    }
}

async fn answer_room(client: &Arc<Client>, bytes: usize) -> Result<Reservation, Refusal> {
    if let Some(held) = client.answer_now(bytes) {
        return Ok(held);
    }
    let held = client.answer(bytes, Some(Instant::now() + ANSWER_PATIENCE)).await;
    held.ok_or_else(|| Refusal::busy("many large answers wait to be read"))
}

/// Charges a large answer to its client until it is sent. Streams charge themselves.
async fn charged(
    client: &Arc<Client>,
    response: Response,
    room: Option<Reservation>,
) -> Result<Response, Refusal> {
    let (head, body) = response.into_parts();
    let bytes = match body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()) {
        Some(bytes) if bytes > SMALL_ANSWER => bytes,
        _ => return Ok(Response::from_parts(head, body)),
    };
    let room = match room {
        Some(mut room) if bytes <= room.amount() => {
            room.keep(bytes);
            room
        }
        room => {
            drop(room);
            answer_room(client, bytes).await?
        }
    };
    let whole = body
        .collect()
        .await
        .map_err(|error| Refusal::new("internal", format!("the answer broke: {error}")))?;
    let bytes = Bytes::from_owner(Charged { bytes: whole.to_bytes(), _room: room });
    Ok(Response::from_parts(head, Body::from(bytes)))
}

/// Rejects requests for other hosts (DNS rebinding: a web page makes its own name resolve to this address, and the
/// browser sends that name). The host of an absolute request target is checked like the header. Headers that name the
/// host or carry credentials may occur once, so that no intermediary reads another value.
fn check_host(shared: &Shared, request: &Request) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(header::HOST).into_iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
    if hosts.next().is_some() {
        return Err(
            Refusal::new("http.host", "a request has one Host header").with_status(StatusCode::BAD_REQUEST)
        );
    }
    if request.headers().get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        return Err(Refusal::new("http.wrong_token", "a request has one Authorization header")
            .with_status(StatusCode::BAD_REQUEST));
    }
    if shared.door == Door::Socket {
        return Ok(());
    }
    let target = request.uri().authority().map(Authority::as_str);
    let is_foreign = |host: &&str| !is_own_name(host, |name| shared.agent.serves_name(name));
    let Some(foreign) = [Some(host), target].into_iter().flatten().find(is_foreign) else { return Ok(()) };
    let message = format!(
        "the host {foreign:?} is neither an address, nor localhost, nor in the certificate, nor named with --http-host"
    );
    Err(Refusal::new("http.host", message))
}

/// Reads the whole body, charging the room that it takes.
async fn read_body(
    gate: &Gate,
    client: &Arc<Client>,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<(Bytes, Reservation), Refusal> {
    let (limits, mut held) = (&gate.limits, client.nothing(Pool::Bodies));
    if body.is_end_stream() {
        return Ok((Bytes::new(), held));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let most: usize = announced.unwrap_or(MAX_BODY_BYTES);
    if most > MAX_BODY_BYTES {
        return Err(too_large());
    }
    let began = Instant::now();
    let mut whole: Vec<u8> = Vec::new();
    loop {
        // The connection of a client that sends fast is asked to close last.
        client.waits(limits.credit(whole.len()).saturating_sub(began.elapsed()));
        let until = began + limits.body_allowance(whole.len());
        let frame = timeout_at(until, body.frame()).await.map_err(|_| slow(limits))?;
        let Some(frame) = frame else { return Ok((whole.into(), held)) };
        let frame = frame.map_err(|error| Refusal::new("http.body", format!("the body broke: {error}")))?;
        // Trailers are ignored.
        let Ok(data) = frame.into_data() else { continue };
        let len = whole.len() + data.len();
        if len > most {
            return Err(too_large());
        }
        if len > whole.capacity() {
            let capacity = len.max(most.min(whole.capacity() * 2)).max(most.min(LEAST_BODY));
            let more = capacity - whole.capacity();
            if !held.more(more, Some(Instant::now() + BODY_PATIENCE)).await {
                return Err(Refusal::busy("many large requests are under way"));
            }
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&data);
    }
}

/// Routes whose `POST` takes no body.
const POSTS_OF_NOTHING: [&str; 2] = ["/v1/leave", "/v1/gossip-keys/list"];

/// Rejects a non-empty body on a route that takes none, and a JSON array where an object is expected: serde would
/// accept the array in field order.
fn check_body(head: &Parts, body: &[u8]) -> Result<(), Refusal> {
    let route = head.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let takes_body = match head.method {
        Method::POST => !POSTS_OF_NOTHING.contains(&route),
        Method::PUT => return Ok(()),
        _ => false,
    };
    let text = body.trim_ascii();
    let says_nothing = || {
        text.is_empty()
            || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text)
                .is_ok_and(|fields| fields.is_empty())
    };
    match takes_body {
        true if text.first() == Some(&b'[') => {
            Err(Refusal::new("http.body", "the body is to be a JSON object, not a list"))
        }
        false if !says_nothing() => {
            Err(Refusal::new("http.body", "this route takes no body, and no fields but those of its query"))
        }
        _ => Ok(()),
    }
}

fn too_large() -> Refusal {
    let message = format!("a request's body has at most {MAX_BODY_BYTES} bytes: send it in parts");
    Refusal::new("http.body", message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

fn slow(limits: &HttpLimits) -> Refusal {
    let message = format!(
        "the body did not come in time: it has {} s, a second more for every {} bytes, and {} s at most",
        limits.body_grace.as_secs_f64(),
        limits.body_bytes_per_s,
        limits.body_timeout.as_secs_f64()
    );
    Refusal::new("http.slow", message)
}

/// Closes the connection after the response, because the rest of the body is not read.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, axum::http::HeaderValue::from_static("close"));
    response
}
