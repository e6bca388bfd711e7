//! Routes about the replica itself: status, readiness, metrics, digests, comparison with a peer.

use super::error::{Refusal, body};
use super::query::{Given, Parameters, Query};
use super::{Privileged, Shared};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kvgossip_api::{
    DiffRequest, DiffResponse, DigestResponse, RefusalsResponse, StatusResponse, SyncReport, SyncRequest,
};
use kvgossip_grants::PathPrefix;

/// Lists the recent refusals.
pub(super) async fn refusals(State(shared): State<Shared>, _: Query<()>) -> Json<RefusalsResponse> {
    Json(RefusalsResponse { refusals: shared.agent.intake().refusals().list() })
}

/// Returns the agent's status.
pub(super) async fn status(
    State(shared): State<Shared>,
    _: Query<()>,
) -> Result<Json<StatusResponse>, Refusal> {
    shared.agent.sample_gossip().await;
    let asked = tokio::task::spawn_blocking(move || shared.agent.status());
    asked.await.map(Json).map_err(|_| Refusal::shutdown())
}

/// Answers whether the agent is ready, for load balancers and supervisors.
pub(super) async fn ready(State(shared): State<Shared>, _: Query<()>) -> (StatusCode, String) {
    let reasons = shared.agent.unready();
    if reasons.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
    }
}

/// The content type of the OpenMetrics text format, which Prometheus reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns all metrics.
pub(super) async fn metrics(State(shared): State<Shared>, _: Query<()>) -> Result<Response, Refusal> {
    let agent = shared.agent.clone();
    agent.sample_gossip().await;
    let text = shared.gate.walk(move || {
        agent.metrics_text().map_err(|_| Refusal::new("internal", "the metrics cannot be written"))
    });
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text.await?).into_response())
}

/// The path prefix whose entries `GET /v1/digest` covers; without the parameter `prefix`, all entries.
pub(super) struct Under(PathPrefix);

impl Parameters for Under {
    fn take(given: &mut Given) -> Result<Self, Refusal> {
        let prefix = given.once("prefix")?.as_deref().map(PathPrefix::parse).transpose()?;
        Ok(Self(prefix.unwrap_or_else(PathPrefix::root)))
    }
}

/// Returns the digests of the entries under a path prefix.
pub(super) async fn digest(
    State(shared): State<Shared>,
    Query(Under(prefix)): Query<Under>,
) -> Result<Json<DigestResponse>, Refusal> {
    let view = shared.agent.store().view();
    let digests = move || DigestResponse {
        prefix: prefix.to_string(),
        entries: view.digest(&prefix).to_string(),
        keys: view.count(&prefix) as u64,
        authority: view.authority_root().to_string(),
        root: prefix.is_root().then(|| view.root().to_string()),
    };
    // After a large batch this hashes many subtrees.
    shared.gate.walk(move || Ok(digests())).await.map(Json)
}

/// Runs a session with a peer that the request names.
pub(super) async fn sync(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Result<Json<SyncRequest>, JsonRejection>,
) -> Result<Json<SyncReport>, Refusal> {
    let request = body(json)?;
    let prefix = request.prefix.as_deref().map(PathPrefix::parse).transpose()?;
    let report = shared.agent.sync_with(&request.peer, prefix.unwrap_or_else(PathPrefix::root)).await;
    report.map(Json).map_err(Refusal::passed_on)
}

/// Compares this replica with a peer that the request names; transfers no facts.
pub(super) async fn diff(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Result<Json<DiffRequest>, JsonRejection>,
) -> Result<Json<DiffResponse>, Refusal> {
    let request = body(json)?;
    let prefix = request.prefix.as_deref().map(PathPrefix::parse).transpose()?;
    let prefix = prefix.unwrap_or_else(PathPrefix::root);
    let found = shared.agent.peers().diff_with(&request.peer, prefix).await;
    found.map(Json).map_err(Refusal::passed_on)
}

/// OpenAPI description of the API.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Returns the OpenAPI 3.1 description of the API.
pub(super) async fn openapi(_: Query<()>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
