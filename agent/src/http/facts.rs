//! `/v1/facts`: reads and submits signed facts.

use super::error::{Refusal, body};
use super::pages::{EntryPlace, PAGE_BYTES, Page, place_text, places_after};
use super::query::{Given, Parameters, Query, malformed};
use super::{Complete, Shared};
use crate::authority_order::AuthorityPlace;
use crate::unfinished::unfinished;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kvgossip_api::{FactRow, FactsPage, MAX_POST_FACTS, PostFacts, VerdictRow, VerdictsResponse};
use kvgossip_engine::{Reader, Snapshot, StorageError, View};
use kvgossip_grants::{ClusterId, Code, EntryId, EntryMeta, Fact, Key};

/// Base64 records up to this many bytes in total are parsed on the calling thread: that is faster than a switch to
/// another thread, which pays off only for megabytes.
const PARSED_IN_PLACE_BYTES: usize = 16 << 10;

/// The facts that a request to `GET /v1/facts` asks for.
pub(super) enum Wanted {
    /// One entry of a key, by its id.
    One(Key, EntryId),
    /// A page of the grants, revocations and floors.
    Authority(Page),
    /// A page of the entries.
    Entries(Page),
}

impl Parameters for Wanted {
    fn take(given: &mut Given) -> Result<Self, Refusal> {
        match (given.once("key")?, given.once_as("entry", "an id")?) {
            (Some(key), Some(entry)) => return Ok(Self::One(Key::parse(&key)?, entry)),
            (None, None) => {}
            _ => return Err(malformed("one entry is asked for with key=KEY&entry=ID and nothing else")),
        }
        let (kind, page) = (given.once("kind")?, Page::take(given)?);
        match kind.as_deref() {
            Some("authority") => Ok(Self::Authority(page)),
            None | Some("entries") => Ok(Self::Entries(page)),
            Some(kind) => Err(malformed(format!("kind={kind} is not authority or entries"))),
        }
    }
}

/// `GET /v1/facts`: returns a page of signed facts.
pub(super) async fn page(
    _: Complete,
    State(shared): State<Shared>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<FactsPage>, Refusal> {
    let (store, gate) = (shared.agent.store(), shared.gate.clone());
    let Snapshot { view, reader } = store.snapshot().as_ref().clone();
    let walked = match wanted {
        Wanted::One(key, id) => gate.walk(move || entry_page(&view, reader.as_ref(), &key, &id)).await,
        Wanted::Authority(page) => {
            let order = shared.authority_order.clone();
            gate.walk(move || authority_page(&view, &order.of(&view), &page)).await
        }
        Wanted::Entries(page) => {
            let examined = gate.limits.examined_keys;
            gate.walk(move || entries_page(&view, reader.as_ref(), &page, examined)).await
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

fn authority_page(view: &View, places: &[AuthorityPlace], page: &Page) -> Result<FactsPage, Refusal> {
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

fn entry_page(view: &View, reader: &dyn Reader, key: &Key, id: &EntryId) -> Result<FactsPage, Refusal> {
    let stands = view.frontier(key).is_some_and(|frontier| frontier.contains(id));
    let mut list = Entries { view, reader, facts: Vec::new(), bytes: 0 };
    if stands {
        list.push(key, id)?;
    }
    Ok(FactsPage { facts: list.facts, next: None })
}

fn entries_page(
    view: &View,
    reader: &dyn Reader,
    page: &Page,
    examined: usize,
) -> Result<FactsPage, Refusal> {
    let after = page.after.as_deref().map(EntryPlace::parse).transpose()?;
    let mut list = Entries { view, reader, facts: Vec::new(), bytes: 0 };
    if let Some(EntryPlace { key, down_to: Some(rank) }) = &after
        && page.filter.includes(key)
        && let Some(frontier) = view.frontier(key)
    {
        let older = frontier.newest_first_after(*rank).map(|entry| &entry.meta);
        if let Some(next) = list.push_all(key, older, page.limit)? {
            return Ok(list.page(Some(next)));
        }
    }
    let mut last = after.as_ref().map(|place| place.key.clone());
    let mut found = page.keys_after(view, last.clone(), examined);
    for (key, frontier) in found.by_ref() {
        if list.is_full(page.limit) {
            return Ok(list.page(last.map(|key| EntryPlace { key, down_to: None })));
        }
        let entries = frontier.newest_first().map(|entry| &entry.meta);
        if let Some(next) = list.push_all(&key, entries, page.limit)? {
            return Ok(list.page(Some(next)));
        }
        last = Some(key);
    }
    Ok(FactsPage { facts: list.facts, next: found.resume() })
}

/// A page of entries under construction.
struct Entries<'a> {
    view: &'a View,
    reader: &'a dyn Reader,
    facts: Vec<FactRow>,
    bytes: usize,
}

impl Entries<'_> {
    fn is_full(&self, limit: usize) -> bool {
        self.facts.len() >= limit || self.bytes >= PAGE_BYTES
    }

    /// Adds entries of a key, in the order given; returns the place to continue from if the page is full before the
    /// last one.
    fn push_all<'e>(
        &mut self,
        key: &Key,
        entries: impl Iterator<Item = &'e EntryMeta>,
        limit: usize,
    ) -> Result<Option<EntryPlace>, Refusal> {
        let mut last = None;
        for meta in entries {
            if last.is_some() && self.is_full(limit) {
                return Ok(Some(EntryPlace { key: key.clone(), down_to: last }));
            }
            self.push(key, &meta.id)?;
            last = Some(meta.rank());
        }
        Ok(None)
    }

    /// Adds an entry, unless it was removed since the page was begun.
    fn push(&mut self, key: &Key, id: &EntryId) -> Result<(), Refusal> {
        let Some(record) = self.reader.entry(key, id)? else { return Ok(()) };
        self.bytes += record.len();
        let damaged = |_| StorageError::Damaged(format!("an entry of {key} does not read"));
        let fact = Fact::from_record(self.view.authority().cluster(), &record).map_err(damaged)?;
        self.facts.push(row(&fact));
        Ok(())
    }

    fn page(self, next: Option<EntryPlace>) -> FactsPage {
        FactsPage { facts: self.facts, next: next.map(|place| place.text()) }
    }
}

/// Whether the request declares that its writer has just signed the facts.
pub(super) struct Direct(bool);

impl Parameters for Direct {
    fn take(given: &mut Given) -> Result<Self, Refusal> {
        Ok(Self(given.once_as("direct", "true or false")?.unwrap_or_default()))
    }
}

/// `POST /v1/facts`: offers signed facts, in any order; returns one verdict per fact.
pub(super) async fn offer(
    State(shared): State<Shared>,
    Query(Direct(direct)): Query<Direct>,
    json: Result<Json<PostFacts>, JsonRejection>,
) -> Result<Json<VerdictsResponse>, Refusal> {
    let records = body(json)?.records_b64;
    if records.len() > MAX_POST_FACTS {
        let message = format!("a request carries at most {MAX_POST_FACTS} facts: send several");
        return Err(Refusal::new("http.too_many_facts", message));
    }
    let cluster = shared.agent.store().view().authority().cluster();
    let is_small = records.iter().map(String::len).sum::<usize>() <= PARSED_IN_PLACE_BYTES;
    let parse =
        move || records.iter().map(|record| parse(cluster, record)).collect::<Vec<Result<Fact, Code>>>();
    let parsed = if is_small {
        parse()
    } else {
        let parsed = tokio::task::spawn_blocking(parse).await;
        parsed.map_err(|error| unfinished(&error, "the reading of facts"))?
    };
    let agent = &shared.agent;
    let verdicts = if direct { agent.put_facts(&parsed).await? } else { agent.offer_facts(&parsed).await? };
    let rows = parsed.iter().zip(verdicts).map(|(fact, verdict)| {
        let code = verdict.code();
        VerdictRow {
            id: fact.as_ref().ok().map(|fact| fact.id().to_string()),
            verdict: verdict.as_str().into(),
            code: code.map(|code| code.as_str().into()),
            message: code.map(|code| code.help().into()),
        }
    });
    Ok(Json(VerdictsResponse { verdicts: rows.collect(), commit: Some(agent.hub().commit().to_string()) }))
}

fn parse(cluster: ClusterId, record: &str) -> Result<Fact, Code> {
    let record = BASE64.decode(record).map_err(|_| Code::Malformed)?;
    Fact::from_record(cluster, &record)
}
