//! `/v1/facts`, `/v1/grants`, `/v1/explain` and `/v1/plan`.

use super::Shared;
use super::error::Refusal;
use super::kv::Page;
use crate::clock;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kvgossip_api::{
    ApiError, ExplainRequest, ExplainResponse, FactRow, FactsPage, GrantRow, GrantsResponse, LinkRow,
    MAX_POST_FACTS, PlanRequest, PlanResponse, PostFacts, RejectedRow, RevocationRow, VerdictRow,
    VerdictsResponse,
};
use kvgossip_engine::View;
use kvgossip_grants::{
    Code, EntityId, Explanation, Fact, FactId, Key, KeyGlob, Link, ParentPlan, PlanError, Rejected,
};

/// A page of facts stops growing at this many bytes of records.
const PAGE_BYTES: usize = 4 << 20;

/// A JSON body, or a refusal in the API's own form.
fn body<T>(json: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    json.map(|Json(body)| body).map_err(|error| Refusal::new(error.status(), "http.body", &error.body_text()))
}

/// Signed facts, for whoever wants to verify or keep them.
pub(super) async fn page(State(shared): State<Shared>, query: RawQuery) -> Result<Json<FactsPage>, Refusal> {
    let page = Page::parse(&query)?;
    let view = shared.agent.store().view();
    match page.kind.as_deref() {
        Some("authority") => authority_page(&view, &page).map(Json),
        None | Some("entries") => {
            // Reading values may wait for the disk.
            let reader = shared.agent.store().reader();
            let read = tokio::task::spawn_blocking(move || entries_page(&view, reader.as_ref(), &page));
            read.await.map_err(|_| Refusal::shutdown())?.map(Json)
        }
        Some(kind) => {
            Err(Refusal::bad_request("http.query", format!("kind={kind} is not authority or entries")))
        }
    }
}

fn row(fact: &Fact) -> FactRow {
    let key = match fact {
        Fact::Entry(entry) => Some(entry.entry().key.to_string()),
        _ => None,
    };
    let record_b64 = BASE64.encode(fact.to_record());
    FactRow { id: fact.id().to_string(), kind: fact.kind().into(), key, record_b64 }
}

fn authority_page(view: &View, page: &Page) -> Result<FactsPage, Refusal> {
    let authority = view.authority();
    let mut ids: Vec<(Option<u8>, FactId)> =
        authority.fact_ids().map(|id| (authority.depth(&id), id)).collect();
    ids.sort_unstable();
    let start = match &page.after {
        Some(after) => {
            let id: FactId = after.parse().map_err(|error| Refusal::bad_request("http.query", error))?;
            let place = ids.iter().position(|(_, other)| *other == id);
            // A fact that has gone meanwhile leaves no place to go on from.
            let gone =
                || Refusal::new(StatusCode::CONFLICT, "http.page_gone", "the list has changed: begin again");
            place.ok_or_else(gone)? + 1
        }
        None => 0,
    };
    let rest = &ids[start..];
    let facts: Vec<FactRow> = rest
        .iter()
        .take(page.limit)
        .filter_map(|(_, id)| authority.fact(id))
        .map(|fact| row(&fact))
        .collect();
    let next = (rest.len() > page.limit).then(|| facts.last().map(|row| row.id.clone())).flatten();
    Ok(FactsPage { facts, next })
}

fn entries_page(
    view: &View,
    reader: &dyn kvgossip_engine::Reader,
    page: &Page,
) -> Result<FactsPage, Refusal> {
    let after = page.after.as_deref().map(Key::parse).transpose()?;
    let cluster = view.authority().cluster();
    let (mut facts, mut bytes) = (Vec::new(), 0);
    let mut last: Option<Key> = None;
    for (key, frontier) in view.keys("", after.as_ref()) {
        if !page.filter.includes(&key) {
            continue;
        }
        // A key's entries stay on one page, so that `after` can name the key.
        if facts.len() >= page.limit || bytes >= PAGE_BYTES {
            return Ok(FactsPage { facts, next: last.map(|key| key.to_string()) });
        }
        for entry in frontier.entries() {
            let Some(record) = reader.entry(&key, &entry.id)? else { continue };
            bytes += record.len();
            let Ok(fact) = Fact::from_record(cluster, &record) else { continue };
            facts.push(row(&fact));
        }
        last = Some(key);
    }
    Ok(FactsPage { facts, next: None })
}

/// Takes signed facts in, in any order; one verdict each.
pub(super) async fn offer(
    State(shared): State<Shared>,
    json: Result<Json<PostFacts>, JsonRejection>,
) -> Result<Json<VerdictsResponse>, Refusal> {
    let records = body(json)?.records_b64;
    if records.len() > MAX_POST_FACTS {
        let message = format!("a request carries at most {MAX_POST_FACTS} facts: send several");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "http.too_many_facts", &message));
    }
    let cluster = shared.agent.store().view().authority().cluster();
    let parsed: Vec<Result<Fact, Code>> = records
        .iter()
        .map(|record| {
            let record = BASE64.decode(record).map_err(|_| Code::Malformed)?;
            Fact::from_record(cluster, &record)
        })
        .collect();
    let verdicts = shared.agent.put_facts(&parsed).await?;
    let rows = parsed.iter().zip(verdicts).map(|(fact, verdict)| {
        let code = verdict.code();
        VerdictRow {
            id: fact.as_ref().ok().map(|fact| fact.id().to_string()),
            verdict: verdict.as_str().into(),
            code: code.map(|code| code.as_str().into()),
            message: code.map(|code| code.help().into()),
        }
    });
    Ok(Json(VerdictsResponse { verdicts: rows.collect() }))
}

/// Live grants and the revocations that stand.
pub(super) async fn grants(State(shared): State<Shared>) -> Json<GrantsResponse> {
    let view = shared.agent.store().view();
    let authority = view.authority();
    let mut live: Vec<_> = authority.grants().collect();
    live.sort_by_key(|grant| (grant.depth(), grant.id()));
    let grants = live.into_iter().map(|grant| {
        let body = grant.body();
        GrantRow {
            id: grant.id().to_string(),
            issuer: body.issuer.to_string(),
            grantee: body.grantee.entity().to_string(),
            pattern: body.pattern.to_string(),
            subgrant: body.subgrant,
            parent: body.parent.map(|parent| parent.to_string()),
            depth: grant.depth(),
            issued_at_us: body.issued_at.as_micros(),
            expires_at_us: body.expires_at.map(|time| time.as_micros()),
            record_b64: BASE64.encode(Fact::Grant(grant.fact().clone()).to_record()),
        }
    });
    let revocations = authority.revocations().map(|revocation| {
        let (body, grant) = (revocation.body(), &revocation.body().grant);
        RevocationRow {
            id: revocation.id().to_string(),
            grant: grant.id().to_string(),
            grantee: grant.body().grantee.entity().to_string(),
            pattern: grant.body().pattern.to_string(),
            by: body.by.as_str().into(),
            revoked_at_us: body.revoked_at.as_micros(),
        }
    });
    Json(GrantsResponse { grants: grants.collect(), revocations: revocations.collect() })
}

fn entity(text: &str) -> Result<EntityId, Refusal> {
    text.parse().map_err(|error| Refusal::bad_request("entity.malformed", error))
}

fn link_row(link: &Link) -> LinkRow {
    LinkRow {
        grant: link.grant.to_string(),
        issuer: link.issuer.to_string(),
        grantee: link.grantee.to_string(),
        pattern: link.pattern.to_string(),
        subgrant: link.subgrant,
        issued_at_us: link.issued_at.as_micros(),
        expires_at_us: link.expires_at.map(|time| time.as_micros()),
    }
}

fn rejected_row(rejected: &Rejected) -> RejectedRow {
    let mut message = rejected.code.help().to_owned();
    if let Some((id, by)) = &rejected.revocation {
        message = format!("{message} (revoked by {} in {})", by.as_str(), id.short());
    }
    let chain = rejected.chain.iter().map(link_row).collect();
    RejectedRow { chain, failing: rejected.failing, code: rejected.code.as_str().into(), message }
}

/// Whether an entity may write a key, and why.
pub(super) async fn explain(
    State(shared): State<Shared>,
    json: Result<Json<ExplainRequest>, JsonRejection>,
) -> Result<Json<ExplainResponse>, Refusal> {
    let request = body(json)?;
    let (entity, key) = (entity(&request.entity)?, Key::parse(&request.key)?);
    let (view, now) = (shared.agent.store().view(), clock::now());
    let explanation = view.authority().explain(&key, entity, now);
    let (accepted, is_root, chain, rejected) = match &explanation {
        Explanation::Root => (true, true, Vec::new(), Vec::new()),
        Explanation::Accepted(chain) => (true, false, chain.iter().map(link_row).collect(), Vec::new()),
        Explanation::Rejected(chains) => {
            (false, false, Vec::new(), chains.iter().map(rejected_row).collect())
        }
    };
    let cited = match &explanation {
        Explanation::Accepted(chain) => chain.last().map(|link| link.grant),
        _ => None,
    };
    Ok(Json(ExplainResponse {
        cluster: view.authority().cluster().to_string(),
        accepted,
        is_root,
        chain,
        rejected,
        stamp_us: view.stamp(&key, cited.as_ref(), now).as_micros(),
        current: view.shown(&key, now).map(|entry| entry.id.to_string()),
    }))
}

/// Under what an issuer could give a pattern away.
pub(super) async fn plan(
    State(shared): State<Shared>,
    json: Result<Json<PlanRequest>, JsonRejection>,
) -> Result<Json<PlanResponse>, Refusal> {
    let request = body(json)?;
    let (issuer, pattern) = (entity(&request.issuer)?, KeyGlob::parse(&request.pattern)?);
    let (view, now) = (shared.agent.store().view(), clock::now());
    let plan = {
        // Deciding inclusion may take milliseconds of computing.
        let view = view.clone();
        let planned = tokio::task::spawn_blocking(move || view.authority().plan_grant(issuer, &pattern, now));
        planned.await.map_err(|_| Refusal::shutdown())?
    };
    let mut response = PlanResponse {
        cluster: view.authority().cluster().to_string(),
        is_root: false,
        parents: Vec::new(),
        refusal: None,
        counterexample: None,
        now_us: now.as_micros(),
    };
    match plan {
        Ok(ParentPlan::Root) => response.is_root = true,
        Ok(ParentPlan::Parents(parents)) => {
            response.parents = parents.iter().map(ToString::to_string).collect();
        }
        Err(error) => {
            if let PlanError::OutOfReach { counterexample } = &error {
                response.counterexample = Some(counterexample.to_string());
            }
            response.refusal = Some(ApiError { code: error.code().into(), message: error.to_string() });
        }
    }
    Ok(Json(response))
}
