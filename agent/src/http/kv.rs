//! `/v1/kv{key}` and `/v1/keys`.

use super::error::Refusal;
use super::pages::Page;
use super::{Privileged, Shared};
use crate::clock;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kvgossip_api::{KeyRow, KeysPage, header};
use kvgossip_engine::View;
use kvgossip_grants::{EntryId, Key};

/// The key as it stands in the request, never decoded.
fn key_of(uri: &Uri) -> Result<Key, Refusal> {
    Ok(Key::parse(uri.path().strip_prefix("/v1/kv").unwrap_or_default())?)
}

fn not_found(key: &Key) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "key.unset", &format!("{key} has no value"))
}

/// The raw value, with the entry in headers.
pub(super) async fn get(State(shared): State<Shared>, uri: Uri) -> Result<Response, Refusal> {
    let key = key_of(&uri)?;
    let fact = shared.agent.read(&key).await?.ok_or_else(|| not_found(&key))?;
    let value = fact.value().cloned().unwrap_or_default();
    Ok((entry_headers(&fact), value).into_response())
}

fn entry_headers(fact: &kvgossip_grants::EntryFact) -> HeaderMap {
    let entry = fact.entry();
    let grant = entry.grant.map_or_else(|| "root".into(), |grant| grant.to_string());
    let fields = [
        (header::ENTRY, fact.id().to_string()),
        (header::TIMESTAMP, entry.timestamp.as_micros().to_string()),
        (header::GRANT, grant),
    ];
    let named =
        fields.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?)));
    let mut headers: HeaderMap =
        named.map(|(name, value)| (axum::http::HeaderName::from_static(name), value)).collect();
    headers.insert(axum::http::header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers
}

/// Sets a key, signed as the agent.
pub(super) async fn put(
    _: Privileged,
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body.map_err(|error| Refusal::new(error.status(), "http.body", &error.body_text()))?;
    write(&shared, &uri, &headers, Some(body)).await
}

/// Unsets a key, signed as the agent.
pub(super) async fn delete(
    _: Privileged,
    State(shared): State<Shared>,
    uri: Uri,
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
    let fact = shared.agent.write(key, value, expected_entry(headers)?).await?;
    Ok((StatusCode::NO_CONTENT, entry_headers(&fact)).into_response())
}

/// What the request expects the key to hold, if anything.
fn expected_entry(headers: &HeaderMap) -> Result<Option<Option<EntryId>>, Refusal> {
    let Some(value) = headers.get(header::IF_ENTRY) else { return Ok(None) };
    match value.to_str().unwrap_or_default() {
        "none" => Ok(Some(None)),
        id => {
            let message = format!("{}: an entry's id, or none", header::IF_ENTRY);
            id.parse().map(|id| Some(Some(id))).map_err(|_| Refusal::bad_request("http.header", message))
        }
    }
}

/// Query parameters, in order; `+` is itself, as keys and globs may hold it.
pub(super) fn query_pairs(query: &RawQuery) -> Result<Vec<(String, String)>, Refusal> {
    let query = query.0.as_deref().unwrap_or_default();
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name.to_owned(), decode(value)?))
        })
        .collect()
}

/// Undoes the percent-encoding of a query value, once.
fn decode(text: &str) -> Result<String, Refusal> {
    let bad = || Refusal::bad_request("http.query", format!("{text:?} is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(bad)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// Set keys, by key.
pub(super) async fn list(State(shared): State<Shared>, query: RawQuery) -> Result<Json<KeysPage>, Refusal> {
    let page = Page::parse(&query, &["match", "after", "limit"])?;
    let (view, examined) = (shared.agent.store().view(), shared.gate.limits.examined_keys);
    shared.gate.walk(move || keys_page(&view, &page, examined)).await.map(Json)
}

fn keys_page(view: &View, page: &Page, examined: usize) -> Result<KeysPage, Refusal> {
    let now = clock::now();
    let mut found = page.keys(view, examined)?;
    let mut keys: Vec<KeyRow> = Vec::new();
    for (key, frontier) in found.by_ref() {
        let Some(entry) = frontier.shown(now).filter(|entry| !entry.is_delete) else { continue };
        if keys.len() == page.limit {
            let next = keys.last().map(|row| row.key.clone());
            return Ok(KeysPage { keys, next });
        }
        keys.push(KeyRow {
            key: key.to_string(),
            entry: entry.id.to_string(),
            timestamp_us: entry.timestamp.as_micros(),
            grant: entry.grant_id().map(|grant| grant.to_string()),
        });
    }
    Ok(KeysPage { keys, next: found.resume() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_once_and_keep_their_order() {
        let query = RawQuery(Some("match=/a/**&match=!/a/%252F&limit=3&after=/a+b".into()));
        let pairs = query_pairs(&query).expect("well-formed");
        let expected = [("match", "/a/**"), ("match", "!/a/%2F"), ("limit", "3"), ("after", "/a+b")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(query_pairs(&RawQuery(Some("match=%4".into()))).is_err());
        assert!(query_pairs(&RawQuery(Some("match=%ff".into()))).is_err());
    }
}
