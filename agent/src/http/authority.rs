//! The routes `/v1/grants`, `/v1/explain` and `/v1/plan`.

use super::error::{Refusal, body};
use super::pages::{PAGE_BYTES, Rows, place_text, places_after};
use super::query::Query;
use super::{Complete, Shared};
use crate::authority_order::AuthorityPlace;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kvgossip_api::{
    ExplainRequest, ExplainResponse, GrantRow, GrantsResponse, PlanRequest, PlanResponse, RevocationRow,
    Shown,
};
use kvgossip_engine::View;
use kvgossip_grants::{EntityId, Fact, Frontier, Grant, Key, KeyGlob, Revocation, Signed, Timestamp};

/// Size assumed of a row in a page of grants, in bytes, to limit the rows per page.
const GRANT_ROW_BYTES: usize = 1024;

/// `GET /v1/grants`: lists live grants and active revocations, a page at a time.
pub(super) async fn grants(
    _: Complete,
    State(shared): State<Shared>,
    Query(page): Query<Rows>,
) -> Result<Json<GrantsResponse>, Refusal> {
    let (view, order) = (shared.agent.store().view(), shared.authority_order.clone());
    shared.gate.walk(move || grants_page(&view, &order.of(&view), &page)).await.map(Json)
}

fn grants_page(view: &View, places: &[AuthorityPlace], page: &Rows) -> Result<GrantsResponse, Refusal> {
    let rest = places_after(places, page.after.as_deref())?;
    let mut answer = GrantsResponse { grants: Vec::new(), revocations: Vec::new(), next: None };
    for (number, place) in rest.iter().enumerate() {
        match view.authority().fact(&place.1) {
            Some(Fact::Grant(grant)) => answer.grants.push(grant_row(&grant, place.0)),
            Some(Fact::Revocation(revocation)) => answer.revocations.push(revocation_row(&revocation)),
            _ => {}
        }
        let rows = answer.grants.len() + answer.revocations.len();
        if (rows == page.limit || rows * GRANT_ROW_BYTES >= PAGE_BYTES) && number + 1 < rest.len() {
            answer.next = Some(place_text(place));
            break;
        }
    }
    Ok(answer)
}

fn grant_row(grant: &Signed<Grant>, depth: u8) -> GrantRow {
    let body = grant.body();
    GrantRow {
        id: grant.id().to_string(),
        issuer: body.issuer.to_string(),
        grantee: body.grantee.entity().to_string(),
        pattern: body.pattern.to_string(),
        subgrant: body.subgrant,
        parent: body.parent.map(|parent| parent.to_string()),
        depth,
        issued_at_us: body.issued_at.as_micros(),
        expires_at_us: body.expires_at.map(Timestamp::as_micros),
        record_b64: BASE64.encode(Fact::Grant(grant.clone()).to_record()),
    }
}

fn revocation_row(revocation: &Signed<Revocation>) -> RevocationRow {
    let (body, grant) = (revocation.body(), &revocation.body().grant);
    RevocationRow {
        id: revocation.id().to_string(),
        grant: grant.id().to_string(),
        grantee: grant.body().grantee.entity().to_string(),
        pattern: grant.body().pattern.to_string(),
        by: body.by.as_str().into(),
        revoked_at_us: body.revoked_at.as_micros(),
    }
}

fn entity(text: &str) -> Result<EntityId, Refusal> {
    text.parse().map_err(|error| Refusal::new("entity.malformed", error))
}

/// Answers whether an entity may write a key, and why.
pub(super) async fn explain(
    _: Complete,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Result<Json<ExplainRequest>, JsonRejection>,
) -> Result<Json<ExplainResponse>, Refusal> {
    let request = body(json)?;
    let (entity, key) = (entity(&request.entity)?, Key::parse(&request.key)?);
    let (view, now) = (shared.agent.store().view(), shared.agent.now());
    shared.gate.walk(move || Ok(explanation(&view, &key, entity, now))).await.map(Json)
}

fn explanation(view: &View, key: &Key, entity: EntityId, now: Timestamp) -> ExplainResponse {
    let newest = view.frontier(key).and_then(Frontier::newest).map(|entry| entry.meta.timestamp);
    let shown = Shown { current: view.shown(key, now).map(|entry| entry.id), newest };
    ExplainResponse::explain(view.authority(), entity, key, shown, now)
}

/// Answers under which grants an issuer could delegate a pattern.
pub(super) async fn plan(
    _: Complete,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Result<Json<PlanRequest>, JsonRejection>,
) -> Result<Json<PlanResponse>, Refusal> {
    let request = body(json)?;
    let (issuer, pattern) = (entity(&request.issuer)?, KeyGlob::parse(&request.pattern)?);
    let (view, now) = (shared.agent.store().view(), shared.agent.now());
    let plan = move || Ok(PlanResponse::plan(view.authority(), issuer, &pattern, now));
    Ok(Json(shared.gate.walk(plan).await?))
}
