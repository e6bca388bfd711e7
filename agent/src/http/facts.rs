//! `/v1/facts`: signed facts out and in.

use super::Shared;
use super::error::{Refusal, body};
use super::pages::{Page, Place, place_text, places_after};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kvgossip_api::{FactRow, FactsPage, MAX_POST_FACTS, PostFacts, VerdictRow, VerdictsResponse};
use kvgossip_engine::{StorageError, View};
use kvgossip_grants::{ClusterId, Code, Fact, Key};

/// A page of facts stops growing at this many bytes of records.
const PAGE_BYTES: usize = 4 << 20;
/// Records in base64 up to this many bytes are parsed where they arrive: that takes less time than waking a thread for
/// it, which megabytes of base64 and hashes of values need.
const PARSED_IN_PLACE_BYTES: usize = 16 << 10;

/// Signed facts, for whoever wants to verify or keep them.
pub(super) async fn page(State(shared): State<Shared>, query: RawQuery) -> Result<Json<FactsPage>, Refusal> {
    let page = Page::parse(&query, &["kind", "match", "after", "limit"])?;
    let (view, gate) = (shared.agent.store().view(), shared.gate.clone());
    let walked = match page.kind.as_deref() {
        Some("authority") => {
            let order = shared.authority_order.clone();
            gate.walk(move || authority_page(&view, &order.of(&view), &page)).await
        }
        None | Some("entries") => {
            let (reader, examined) = (shared.agent.store().reader(), gate.limits.examined_keys);
            gate.walk(move || entries_page(&view, reader.as_ref(), &page, examined)).await
        }
        Some(kind) => {
            return Err(Refusal::bad_request(
                "http.query",
                format!("kind={kind} is not authority or entries"),
            ));
        }
    };
    walked.map(Json)
}

fn row(fact: &Fact) -> FactRow {
    let key = match fact {
        Fact::Entry(entry) => Some(entry.entry().key.to_string()),
        _ => None,
    };
    let record_b64 = BASE64.encode(fact.to_record());
    FactRow { id: fact.id().to_string(), kind: fact.kind().into(), key, record_b64 }
}

fn authority_page(view: &View, places: &[Place], page: &Page) -> Result<FactsPage, Refusal> {
    let rest = places_after(places, page.after.as_deref())?;
    let (mut facts, mut bytes) = (Vec::new(), 0);
    for (number, place) in rest.iter().enumerate() {
        let Some(fact) = view.authority().fact(&place.1) else { continue };
        let row = row(&fact);
        bytes += row.record_b64.len();
        facts.push(row);
        if number + 1 < rest.len() && (facts.len() == page.limit || bytes >= PAGE_BYTES) {
            return Ok(FactsPage { facts, next: Some(place_text(place)) });
        }
    }
    Ok(FactsPage { facts, next: None })
}

fn entries_page(
    view: &View,
    reader: &dyn kvgossip_engine::Reader,
    page: &Page,
    examined: usize,
) -> Result<FactsPage, Refusal> {
    let cluster = view.authority().cluster();
    let (mut facts, mut bytes) = (Vec::new(), 0);
    let mut last: Option<Key> = None;
    let mut found = page.keys(view, examined)?;
    for (key, frontier) in found.by_ref() {
        // A key's entries stay on one page, so that `after` can name the key.
        if facts.len() >= page.limit || bytes >= PAGE_BYTES {
            return Ok(FactsPage { facts, next: last.map(|key| key.to_string()) });
        }
        for entry in frontier.entries() {
            let Some(record) = reader.entry(&key, &entry.id)? else { continue };
            bytes += record.len();
            let damaged = |_| StorageError::Damaged(format!("an entry of {key} does not read"));
            facts.push(row(&Fact::from_record(cluster, &record).map_err(damaged)?));
        }
        last = Some(key);
    }
    Ok(FactsPage { facts, next: found.resume() })
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
    let is_small = records.iter().map(String::len).sum::<usize>() <= PARSED_IN_PLACE_BYTES;
    let parse =
        move || records.iter().map(|record| parse(cluster, record)).collect::<Vec<Result<Fact, Code>>>();
    let parsed = if is_small {
        parse()
    } else {
        tokio::task::spawn_blocking(parse).await.map_err(|_| Refusal::shutdown())?
    };
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

fn parse(cluster: ClusterId, record: &str) -> Result<Fact, Code> {
    let record = BASE64.decode(record).map_err(|_| Code::Malformed)?;
    Fact::from_record(cluster, &record)
}
