//! Events as bytes: server-sent events whose data are JSON.

use super::cause::Why;
use super::{MAX_EVENT_BYTES, MAX_EVENT_RECORDS};
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use kvgossip_api::{AuthorityEvent, KeyEvent, WatchForm, event};
use kvgossip_engine::{EntryMeta, Frontier, Reader, StorageError, View};
use kvgossip_grants::{EntryId, Fact, FactId, Key, Timestamp};
use serde::Serialize;

/// Appends an event. JSON has no raw line ends, so one `data` line holds it.
pub(super) fn append(out: &mut String, name: &str, id: Option<String>, data: &impl Serialize) {
    // Plain structures of texts and numbers always serialize.
    let Ok(json) = serde_json::to_string(data) else { return };
    if let Some(id) = id {
        out.push_str("id: ");
        out.push_str(&id);
        out.push('\n');
    }
    for part in ["event: ", name, "\ndata: ", &json, "\n\n"] {
        out.push_str(part);
    }
}

/// Appends authority facts, those that stand above others first. Facts that have gone meanwhile are left out.
pub(super) fn append_facts(
    out: &mut String,
    id: Option<String>,
    view: &View,
    ids: impl Iterator<Item = FactId>,
) {
    let mut facts: Vec<(Option<u8>, FactId)> =
        ids.map(|id| (view.authority().depth(&id), id)).filter(|(depth, _)| depth.is_some()).collect();
    facts.sort_unstable();
    let facts = facts.iter().filter_map(|(_, id)| view.authority().fact(id));
    let records_b64: Vec<String> = facts.map(|fact| BASE64_STANDARD.encode(fact.to_record())).collect();
    if !records_b64.is_empty() {
        append(out, event::AUTHORITY, id, &AuthorityEvent { records_b64 });
    }
}

/// What is read of a key.
pub(super) enum Read {
    /// To be told.
    Event(Box<KeyEvent>),
    /// The store is ahead of the view: the key changes again presently.
    Outdated,
}

/// The record of an entry; `None` in the place of one that cannot be read, which stops no other. No answer at all if it
/// is not stored any more.
fn record(reader: &dyn Reader, key: &Key, id: &EntryId) -> Result<Option<Option<Bytes>>, StorageError> {
    match reader.entry(key, id) {
        Err(StorageError::Damaged(_) | StorageError::Io(_)) => Ok(Some(None)),
        read => Ok(read?.map(Some)),
    }
}

/// Reads what stands of a key.
pub(super) fn read(
    view: &View,
    reader: &dyn Reader,
    (key, why): (&Key, Why),
    form: WatchForm,
    now: Timestamp,
) -> Result<Read, StorageError> {
    let frontier = view.frontier(key);
    let newest_is_delete = frontier.and_then(Frontier::newest).is_some_and(|entry| entry.is_delete);
    let shown = frontier.and_then(|frontier| frontier.shown(now)).filter(|entry| !entry.is_delete);
    let mut row = KeyEvent {
        key: key.to_string(),
        state: if shown.is_some() { KeyEvent::PRESENT } else { KeyEvent::ABSENT }.to_owned(),
        entry: shown.map(|entry| entry.id.to_string()),
        timestamp_us: shown.map(|entry| entry.timestamp.as_micros()),
        grant: shown.and_then(EntryMeta::grant_id).map(|grant| grant.to_string()),
        value: None,
        value_b64: None,
        cause: why.row(newest_is_delete),
        entries: Vec::new(),
        records_b64: Vec::new(),
    };
    match form {
        WatchForm::Values => {
            let Some(shown) = shown else { return Ok(Read::Event(row.into())) };
            let Some(record) = record(reader, key, &shown.id)? else { return Ok(Read::Outdated) };
            let fact = record.and_then(|record| Fact::from_record(view.authority().cluster(), &record).ok());
            if let Some(Fact::Entry(fact)) = fact {
                let value = fact.value().map(AsRef::as_ref).unwrap_or_default();
                row.value = str::from_utf8(value).ok().map(ToOwned::to_owned);
                row.value_b64 = Some(BASE64_STANDARD.encode(value));
            } else {
                row.state = KeyEvent::UNREADABLE.to_owned();
            }
        }
        WatchForm::Records => {
            let mut entries: Vec<&EntryMeta> = frontier.map_or(&[][..], Frontier::entries).iter().collect();
            entries.sort_unstable_by_key(|entry| std::cmp::Reverse((entry.timestamp, entry.id)));
            let mut bytes = 0;
            for entry in &entries {
                if row.records_b64.len() >= MAX_EVENT_RECORDS || bytes >= MAX_EVENT_BYTES {
                    break;
                }
                let Some(record) = record(reader, key, &entry.id)? else { return Ok(Read::Outdated) };
                let Some(record) = record else {
                    row.state = KeyEvent::UNREADABLE.to_owned();
                    continue;
                };
                bytes += record.len();
                row.records_b64.push(BASE64_STANDARD.encode(&record));
            }
            row.entries = entries.iter().map(|entry| entry.id.to_string()).collect();
        }
    }
    Ok(Read::Event(row.into()))
}
