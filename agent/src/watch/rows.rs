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

/// What is stored of an entry.
enum Record {
    Bytes(Bytes),
    /// It cannot be read, which stops no other.
    Unreadable,
    /// It is not stored any more.
    Gone,
}

fn record(reader: &dyn Reader, key: &Key, id: &EntryId) -> Result<Record, StorageError> {
    match reader.entry(key, id) {
        Err(StorageError::Damaged(_) | StorageError::Io(_)) => Ok(Record::Unreadable),
        read => Ok(read?.map_or(Record::Gone, Record::Bytes)),
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
            let fact = match record(reader, key, &shown.id)? {
                Record::Bytes(record) => Fact::from_record(view.authority().cluster(), &record).ok(),
                Record::Unreadable => None,
                Record::Gone => return Ok(Read::Outdated),
            };
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
                match record(reader, key, &entry.id)? {
                    Record::Bytes(record) => {
                        bytes += record.len();
                        row.records_b64.push(BASE64_STANDARD.encode(&record));
                    }
                    Record::Unreadable => row.state = KeyEvent::UNREADABLE.to_owned(),
                    Record::Gone => return Ok(Read::Outdated),
                }
            }
            row.entries = entries.iter().map(|entry| entry.id.to_string()).collect();
        }
    }
    Ok(Read::Event(row.into()))
}
