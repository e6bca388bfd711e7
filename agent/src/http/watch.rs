//! `/v1/watch`: keys as server-sent events.

use super::Shared;
use super::error::Refusal;
use super::kv::query_pairs;
use crate::watch::{Feed, Interest, InterestError, WatchError};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use kvgossip_api::{WatchForm, WatchRequest};
use std::convert::Infallible;

/// What a browser's `EventSource` sends when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `GET /v1/watch?key=|match=`: one filter, and keys.
pub(super) async fn get(
    State(shared): State<Shared>,
    query: RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut request = WatchRequest::default();
    let mut globs = Vec::new();
    let bad = |name: &str, value: &str, what: &str| {
        Refusal::bad_request("http.query", format!("{name}={value} is not {what}"))
    };
    for (name, value) in query_pairs(&query)? {
        match name.as_str() {
            "key" => request.keys.push(value),
            "match" => globs.push(value),
            "form" => {
                request.form = match value.as_str() {
                    "values" => WatchForm::Values,
                    "records" => WatchForm::Records,
                    _ => return Err(bad(&name, &value, "values or records")),
                }
            }
            "authority" => {
                request.authority = value.parse().map_err(|_| bad(&name, &value, "true or false"))?;
            }
            "heartbeat_ms" => {
                request.heartbeat_ms = Some(value.parse().map_err(|_| bad(&name, &value, "a number"))?);
            }
            _ => {
                return Err(Refusal::bad_request(
                    "http.query",
                    format!("{name} is no parameter of this route"),
                ));
            }
        }
    }
    if !globs.is_empty() {
        request.filters.push(globs);
    }
    watch(&shared, &request, &headers)
}

/// `POST /v1/watch`: many interests on one stream, and what the watcher has.
pub(super) async fn post(
    State(shared): State<Shared>,
    headers: HeaderMap,
    json: Result<Json<WatchRequest>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(request) =
        json.map_err(|error| Refusal::new(error.status(), "http.body", &error.body_text()))?;
    watch(&shared, &request, &headers)
}

fn watch(shared: &Shared, request: &WatchRequest, headers: &HeaderMap) -> Result<Response, Refusal> {
    let ours = shared.agent.store().view().authority().cluster().to_string();
    if let Some(theirs) = request.cluster.as_ref().filter(|theirs| **theirs != ours) {
        let message =
            format!("this agent is of cluster {ours}, not of {theirs}: check the endpoint and the root key");
        return Err(Refusal::bad_request("cluster.mismatch", message));
    }
    let interest = Interest::parse(request)?;
    let header = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let feed = shared.agent.hub().watch(interest, header.or(request.cursor.as_deref()))?;
    let chunks = stream::unfold(feed, async |mut feed: Feed| {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(chunk), feed))
    });
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((fields, Body::from_stream(chunks)).into_response())
}

impl From<InterestError> for Refusal {
    fn from(error: InterestError) -> Self {
        Self::bad_request(error.code(), error)
    }
}

impl From<WatchError> for Refusal {
    fn from(error: WatchError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "watch.limit", &error.to_string())
    }
}
