//! `/v1/watch`: changes of keys as server-sent events.

use super::error::{Refusal, body};
use super::query::{Given, Parameters, Query, malformed};
use super::{Complete, Shared};
use crate::clients::{Client, Pool, Reservation};
use crate::watch::{Feed, Interest, InterestError, SMALL_INTEREST_BYTES, WatchError};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream;
use kvgossip_api::{WatchForm, WatchRequest};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Maximum wait for room for the keys and filters of a large watch.
const INTEREST_PATIENCE: Duration = Duration::from_secs(1);

/// Header that a browser's `EventSource` sends when it reconnects.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

impl Parameters for WatchRequest {
    fn take(given: &mut Given) -> Result<Self, Refusal> {
        let form = match given.once("form")?.as_deref() {
            None | Some("values") => WatchForm::Values,
            Some("records") => WatchForm::Records,
            Some(other) => return Err(malformed(format!("form={other} is not values or records"))),
        };
        let globs = given.all("match");
        Ok(Self {
            keys: given.all("key"),
            filters: if globs.is_empty() { Vec::new() } else { vec![globs] },
            form,
            authority: given.once_as("authority", "true or false")?.unwrap_or_default(),
            heartbeat_ms: given.once_as("heartbeat_ms", "a number")?,
            ..Self::default()
        })
    }
}

/// `GET /v1/watch?key=|match=`: watches one filter and single keys.
pub(super) async fn get(
    _: Complete,
    State(shared): State<Shared>,
    Query(request): Query<WatchRequest>,
    Extension(client): Extension<Arc<Client>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    watch(&shared, &client, || Ok(request.clone()), &headers).await
}

/// `POST /v1/watch`: many interests on one stream, with what the watcher already has.
pub(super) async fn post(
    _: Complete,
    State(shared): State<Shared>,
    _: Query<()>,
    Extension(client): Extension<Arc<Client>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    if !is_json(&headers) {
        return Err(Refusal::new(
            "http.body",
            "the body is to be JSON, and said to be so: content-type: application/json",
        )
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    watch(&shared, &client, || read(&body), &headers).await
}

/// Whether the request declares its body as JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn read(text: &[u8]) -> Result<WatchRequest, Refusal> {
    body(Json::from_bytes(text))
}

/// Starts a watch. A parsed interest takes several times the memory of its text, so while waiting for room only the
/// text is kept, and parsed again afterwards.
async fn watch(
    shared: &Shared,
    client: &Arc<Client>,
    read: impl Fn() -> Result<WatchRequest, Refusal>,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let bytes = {
        let request = read()?;
        check_cluster(shared, &request)?;
        Interest::parse(&request)?.held_bytes()
    };
    let mut held = client.nothing(Pool::Interests);
    if bytes > SMALL_INTEREST_BYTES && !held.more(bytes, Some(Instant::now() + INTEREST_PATIENCE)).await {
        return Err(too_many(format!(
            "{bytes} bytes of keys and filters find no room beside those of others"
        )));
    }
    let request = read()?;
    let header = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let interest = Interest::parse(&request)?;
    let feed = shared.agent.hub().watch(interest, header.or(request.cursor.as_deref()))?;
    let feed = feed.charged_to(client.clone());
    let chunks = stream::unfold((feed, held), async |(mut feed, held): (Feed, Reservation)| {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(chunk), (feed, held)))
    });
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((fields, Body::from_stream(chunks)).into_response())
}

fn check_cluster(shared: &Shared, request: &WatchRequest) -> Result<(), Refusal> {
    let ours = shared.agent.store().view().authority().cluster().to_string();
    if let Some(theirs) = request.cluster.as_ref().filter(|theirs| **theirs != ours) {
        let message =
            format!("this agent is of cluster {ours}, not of {theirs}: check the endpoint and the root key");
        return Err(Refusal::new("cluster.mismatch", message));
    }
    Ok(())
}

impl From<InterestError> for Refusal {
    fn from(error: InterestError) -> Self {
        Self::new(error.code(), error)
    }
}

impl From<WatchError> for Refusal {
    fn from(error: WatchError) -> Self {
        too_many(error)
    }
}

fn too_many(why: impl ToString) -> Refusal {
    Refusal::new("watch.limit", why)
}
