//! The routes `/v1/kv{key}` and `/v1/keys`.

use super::error::Refusal;
use super::pages::{PAGE_BYTES, Page, ROW_BYTES};
use super::query::Query;
use super::{Complete, Privileged, Shared};
use crate::clock;
use crate::committer::CommitError;
use crate::condition::{Precondition, Unmet, entity_tag};
use crate::error::WriteError;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kvgossip_api::{KeyRow, KeysPage, header};
use kvgossip_engine::View;
use kvgossip_grants::Key;

/// Returns the key from the request path, taken literally, without percent-decoding.
fn key_of(uri: &Uri) -> Result<Key, Refusal> {
    Ok(Key::parse(uri.path().strip_prefix("/v1/kv").unwrap_or_default())?)
}

fn not_found(shared: &Shared, key: &Key) -> Refusal {
    if shared.agent.intake().waiting().early_entries(key).is_empty() {
        return Refusal::new("key.unset", format!("{key} has no value"));
    }
    WriteError::from(CommitError::Unknown { key: key.clone() }).into()
}

/// Returns the raw value of a key, with the metadata of its entry in headers.
pub(super) async fn get(
    _: Complete,
    State(shared): State<Shared>,
    uri: Uri,
    _: Query<()>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (key, condition) = (key_of(&uri)?, condition(&headers)?);
    // A key without a value is 404, whatever the preconditions (RFC 9110, section 13.2.1).
    let fact = shared.agent.read(&key).await?.ok_or_else(|| not_found(&shared, &key))?;
    let mut headers = entry_headers(&fact);
    // The value may change at any time: caches must revalidate it with If-None-Match.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    match condition.check(Some(&fact.id())) {
        Ok(()) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            Ok((headers, fact.value().cloned().unwrap_or_default()).into_response())
        }
        Err(Unmet::NoneMatch) => Ok((StatusCode::NOT_MODIFIED, headers).into_response()),
        Err(Unmet::Match) => {
            let shown = Some(fact.id());
            Err(WriteError::from(CommitError::Conflict { key, shown, unmet: Unmet::Match }).into())
        }
    }
}

fn entry_headers(fact: &kvgossip_grants::EntryFact) -> HeaderMap {
    let entry = fact.entry();
    let grant = entry.grant.map_or_else(|| "root".into(), |grant| grant.to_string());
    let fields = [
        (ETAG, entity_tag(&fact.id())),
        (HeaderName::from_static(header::ENTRY), fact.id().to_string()),
        (HeaderName::from_static(header::TIMESTAMP), entry.timestamp.as_micros().to_string()),
        (HeaderName::from_static(header::GRANT), grant),
    ];
    let named =
        fields.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?)));
    named.collect()
}

/// Sets a key, signed with the agent's identity.
pub(super) async fn put(
    _: Privileged,
    State(shared): State<Shared>,
    uri: Uri,
    _: Query<()>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body =
        body.map_err(|error| Refusal::new("http.body", error.body_text()).with_status(error.status()))?;
    write(&shared, &uri, &headers, Some(body)).await
}

/// Unsets a key, signed with the agent's identity.
pub(super) async fn delete(
    _: Privileged,
    State(shared): State<Shared>,
    uri: Uri,
    _: Query<()>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    write(&shared, &uri, &headers, None).await
}

async fn write(
    shared: &Shared,
    uri: &Uri,
    headers: &HeaderMap,
    value: Option<Bytes>,
) -> Result<Response, Refusal> {
    let key = key_of(uri)?;
    let fact = shared.agent.write(key, value, condition(headers)?).await?;
    Ok((StatusCode::NO_CONTENT, entry_headers(&fact)).into_response())
}

/// Parses the request's `If-Match` and `If-None-Match` headers.
fn condition(headers: &HeaderMap) -> Result<Precondition, Refusal> {
    let values = |name: HeaderName| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let parsed = Precondition::parse(values(IF_MATCH), values(IF_NONE_MATCH));
    parsed.map_err(|error| Refusal::new("http.header", format!("If-Match, If-None-Match: {error}")))
}

/// Lists the keys that are set, in ascending order.
pub(super) async fn list(
    _: Complete,
    State(shared): State<Shared>,
    Query(page): Query<Page>,
) -> Result<Json<KeysPage>, Refusal> {
    let (view, examined) = (shared.agent.store().view(), shared.gate.limits.examined_keys);
    let waiting = shared.agent.intake().waiting().clone();
    let walk = move || {
        let mut found = keys_page(&view, &page, examined)?;
        found.unknown = unknown_keys(&view, &page, found.next.as_deref(), waiting.early_keys());
        Ok(found)
    };
    shared.gate.walk(walk).await.map(Json)
}

/// Maximum number of keys listed per page whose value is unknown, because an early entry waits.
const MAX_UNKNOWN_KEYS: usize = 1024;

/// Returns the keys with an early entry that show no value and fall into the page's range, at most
/// [`MAX_UNKNOWN_KEYS`]. `next`: the key at which the range ends; `None`: the page is the last one.
fn unknown_keys(view: &View, page: &Page, next: Option<&str>, early: Vec<Key>) -> Vec<String> {
    let now = clock::now();
    let belongs = |key: &Key| {
        let is_after = page.after.as_deref().is_none_or(|after| key.as_str() > after);
        is_after && next.is_none_or(|next| key.as_str() <= next) && page.filter.includes(key)
    };
    let is_unset = |key: &Key| view.shown(key, now).is_none();
    let unknown = early.into_iter().filter(|key| belongs(key) && is_unset(key));
    unknown.take(MAX_UNKNOWN_KEYS).map(|key| key.to_string()).collect()
}

fn keys_page(view: &View, page: &Page, examined: usize) -> Result<KeysPage, Refusal> {
    let now = clock::now();
    let mut found = page.keys(view, examined)?;
    let (mut keys, mut bytes): (Vec<KeyRow>, usize) = (Vec::new(), 0);
    for (key, frontier) in found.by_ref() {
        let Some(entry) = frontier.shown(now).map(|shown| &shown.meta).filter(|entry| !entry.is_delete)
        else {
            continue;
        };
        if keys.len() == page.limit || bytes >= PAGE_BYTES {
            let next = keys.last().map(|row| row.key.clone());
            return Ok(KeysPage { keys, next, unknown: Vec::new() });
        }
        bytes += key.as_bytes().len() + ROW_BYTES;
        keys.push(KeyRow {
            key: key.to_string(),
            entry: entry.id.to_string(),
            timestamp_us: entry.timestamp.as_micros(),
            grant: entry.grant_id().map(|grant| grant.to_string()),
        });
    }
    Ok(KeysPage { keys, next: found.resume(), unknown: Vec::new() })
}
