//! Events as bytes: server-sent events with JSON data.

use super::cause::Why;
use super::{MAX_EVENT_BYTES, MAX_EVENT_RECORDS, SMALL_CHUNK_BYTES};
use crate::waiting::Waiting;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use kvgossip_api::{AuthorityEvent, KeyEvent, PartRow, PlaceRow, event};
use kvgossip_engine::{Reader, StorageError, View};
use kvgossip_grants::{Entry, EntryId, EntryMeta, Fact, FactId, Key, Rank, Signed, StandingEntry, Timestamp};
use serde::Serialize;

/// Server-sent events that form one chunk.
#[derive(Debug, Default)]
pub(super) struct Events {
    text: Vec<u8>,
    /// Offset of the last event, in bytes.
    last_at: usize,
}

impl Events {
    /// Appends an event. JSON contains no raw line breaks, so one `data` line holds it.
    pub(super) fn append(&mut self, name: &str, data: &impl Serialize) {
        let begin = self.text.len();
        for part in ["event: ", name, "\ndata: "] {
            self.text.extend_from_slice(part.as_bytes());
        }
        // Structures of texts and numbers always serialize.
        if serde_json::to_writer(&mut self.text, data).is_err() {
            return self.text.truncate(begin);
        }
        self.text.extend_from_slice(b"\n\n");
        self.last_at = begin;
    }

    /// Sets the id of the last event, if there is one.
    pub(super) fn name_last(&mut self, id: &str) {
        if !self.text.is_empty() {
            self.text.splice(self.last_at..self.last_at, format!("id: {id}\n").into_bytes());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns the text of the events, without spare capacity.
    pub(super) fn into_text(mut self) -> Vec<u8> {
        self.text.shrink_to_fit();
        self.text
    }

    /// Appends authority facts, parents before children. Facts that are no longer in the view are left out.
    pub(super) fn append_facts(&mut self, view: &View, ids: impl Iterator<Item = FactId>) {
        let mut facts: Vec<(Option<u8>, FactId)> =
            ids.map(|id| (view.authority().depth(&id), id)).filter(|(depth, _)| depth.is_some()).collect();
        facts.sort_unstable();
        let facts = facts.iter().filter_map(|(_, id)| view.authority().fact(id));
        let records_b64: Vec<String> = facts.map(|fact| BASE64_STANDARD.encode(fact.to_record())).collect();
        if !records_b64.is_empty() {
            self.append(event::AUTHORITY, &AuthorityEvent { records_b64 });
        }
    }
}

/// Result of reading a key for a watcher.
pub(super) enum Read {
    /// An event to send, which is complete.
    Event(Box<KeyEvent>),
    /// An event to send; the entries older than this rank come in further events.
    Page(Box<KeyEvent>, Rank),
    /// The event is large, and there is no room for large events now.
    NoRoom,
}

/// Returns the record of an entry; `None`: it is missing, damaged or unreadable, which does not end the stream.
fn record(reader: &dyn Reader, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
    match reader.entry(key, id) {
        Err(StorageError::Damaged(_) | StorageError::Io(_)) => Ok(None),
        read => read,
    }
}

/// Returns the size of an event in bytes, without its few fixed fields.
pub(super) fn weight(row: &KeyEvent) -> usize {
    let records = row.records_b64.iter().chain(&row.fronts_b64).chain(&row.value).chain(&row.value_b64);
    row.key.len() + records.map(String::len).sum::<usize>()
}

/// Reads one key, and makes the event about it for a watcher.
pub(super) struct KeyReader<'a> {
    pub(super) view: &'a View,
    pub(super) reader: &'a dyn Reader,
    pub(super) key: &'a Key,
    pub(super) why: Why,
    pub(super) now: Timestamp,
    /// Whether the client's ledger has room for large events.
    pub(super) is_roomy: bool,
    /// The waiting room, from which the early entries of the key are read.
    pub(super) waiting: &'a Waiting,
}

impl<'a> KeyReader<'a> {
    /// Returns the entry that the key shows, which may be a delete; `None`: it shows none.
    fn shown(&self) -> Option<&'a EntryMeta> {
        let frontier = self.view.frontier(self.key)?;
        frontier.shown(self.now).map(|entry| &entry.meta)
    }

    /// Returns an event that describes the entry that the key shows, without any records.
    fn event(&self) -> KeyEvent {
        let newest = self.view.frontier(self.key).and_then(|frontier| frontier.newest());
        let newest_is_delete = newest.is_some_and(|entry| entry.meta.is_delete);
        let shown = self.shown().filter(|entry| !entry.is_delete);
        // An early entry may be the current one, so a key without a value is not reported as absent.
        let early = if shown.is_none() { self.waiting.early_entries(self.key) } else { Vec::new() };
        let state = match (shown, early.is_empty()) {
            (Some(_), _) => KeyEvent::PRESENT,
            (None, false) => KeyEvent::EARLY,
            (None, true) => KeyEvent::ABSENT,
        };
        KeyEvent {
            key: self.key.to_string(),
            state: state.to_owned(),
            entry: shown.map(|entry| entry.id.to_string()),
            timestamp_us: shown.map(|entry| entry.timestamp.as_micros()),
            grant: shown.and_then(EntryMeta::grant_id).map(|grant| grant.to_string()),
            value: None,
            value_b64: None,
            cause: self.why.row(newest_is_delete),
            part: None,
            entries: early.iter().map(ToString::to_string).collect(),
            records_b64: Vec::new(),
            fronts_b64: Vec::new(),
        }
    }

    /// Reads the value that the key shows, for watchers that trust the agent.
    pub(super) fn value(&self) -> Result<Read, StorageError> {
        let mut row = self.event();
        let Some(shown) = self.shown().filter(|entry| !entry.is_delete) else {
            return Ok(Read::Event(row.into()));
        };
        let fact = match record(self.reader, self.key, &shown.id)? {
            Some(record) if !self.is_roomy && record.len() > SMALL_CHUNK_BYTES => {
                return Ok(Read::NoRoom);
            }
            Some(record) => Fact::from_record(self.view.authority().cluster(), &record).ok(),
            None => None,
        };
        if let Some(Fact::Entry(fact)) = fact {
            let value = fact.value().map(AsRef::as_ref).unwrap_or_default();
            row.value = str::from_utf8(value).ok().map(ToOwned::to_owned);
            row.value_b64 = Some(BASE64_STANDARD.encode(value));
        } else {
            row.state = KeyEvent::UNREADABLE.to_owned();
        }
        Ok(Read::Event(row.into()))
    }

    /// Reads the shown entry with its value and the newest entries without their values. `telling`: number of the
    /// sequence of events that continues from here, if not all fit.
    pub(super) fn first(&self, telling: u64) -> Result<Read, StorageError> {
        let mut row = self.event();
        let mut bytes = 0;
        if let Some(shown) = self.shown() {
            self.put_shown(&mut row, &shown.id, &mut bytes)?;
        }
        let entries = self.view.frontier(self.key).into_iter().flat_map(|frontier| frontier.newest_first());
        self.page(row, entries, bytes, |down_to| {
            down_to.map(|rank| part(PartRow::FIRST, telling, Some(rank)))
        })
    }

    /// Reads the entries whose rank is below `after`, without their values.
    pub(super) fn next(&self, telling: u64, after: Rank) -> Result<Read, StorageError> {
        let frontier = self.view.frontier(self.key);
        let entries = frontier.into_iter().flat_map(|frontier| frontier.newest_first_after(after));
        self.page(self.event(), entries, 0, |down_to| {
            let kind = if down_to.is_some() { PartRow::NEXT } else { PartRow::LAST };
            Some(part(kind, telling, down_to))
        })
    }

    /// Reads entries that were merged since the last event about the key, and the shown one if it is one of them or
    /// `shown_again` is set.
    pub(super) fn news(&self, written: &[EntryId], shown_again: bool) -> Result<Read, StorageError> {
        let (mut row, mut bytes) = (self.event(), 0);
        row.part = Some(part(PartRow::NEWS, 0, None));
        let shown = self.shown().map(|shown| shown.id);
        if let Some(shown) = shown.filter(|shown| shown_again || written.contains(shown)) {
            self.put_shown(&mut row, &shown, &mut bytes)?;
        }
        // An entry that has ended since is left out: the fact that ended it causes an event of its own.
        let frontier = self.view.frontier(self.key);
        let is_live = |id: &EntryId| frontier.is_some_and(|frontier| frontier.contains(id));
        for id in written.iter().filter(|id| Some(**id) != shown && is_live(id)) {
            self.put_front(&mut row, id, &mut bytes)?;
        }
        Ok(Read::Event(row.into()))
    }

    /// Appends entries until the event is full. `part` returns the part row for the lowest rank of this event; its
    /// argument is `None` if all entries were appended.
    fn page<'e>(
        &self,
        mut row: KeyEvent,
        mut entries: impl Iterator<Item = &'e StandingEntry<()>>,
        mut bytes: usize,
        part: impl FnOnce(Option<Rank>) -> Option<PartRow>,
    ) -> Result<Read, StorageError> {
        let (mut told, mut last) = (0, None);
        let mut more = false;
        for StandingEntry { meta, .. } in entries.by_ref() {
            if told > 0 && (told >= MAX_EVENT_RECORDS || bytes >= MAX_EVENT_BYTES) {
                more = true;
                break;
            }
            (told, last) = (told + 1, Some(meta.rank()));
            if !row.entries.iter().any(|id| *id == meta.id.to_string()) {
                self.put_front(&mut row, &meta.id, &mut bytes)?;
            }
        }
        let down_to = last.filter(|_| more);
        row.part = part(down_to);
        Ok(match down_to {
            Some(down_to) => Read::Page(row.into(), down_to),
            None => Read::Event(row.into()),
        })
    }

    /// Appends the shown entry with its value. Adds the number of bytes read to `bytes`.
    fn put_shown(&self, row: &mut KeyEvent, id: &EntryId, bytes: &mut usize) -> Result<(), StorageError> {
        match record(self.reader, self.key, id)? {
            Some(record) => {
                *bytes += record.len();
                row.records_b64.push(BASE64_STANDARD.encode(&record));
            }
            None => row.state = KeyEvent::UNREADABLE.to_owned(),
        }
        row.entries.push(id.to_string());
        Ok(())
    }

    /// Appends an entry without its value. Adds the number of bytes read to `bytes`.
    fn put_front(&self, row: &mut KeyEvent, id: &EntryId, bytes: &mut usize) -> Result<(), StorageError> {
        let record = record(self.reader, self.key, id)?;
        *bytes += record.as_ref().map_or(0, Bytes::len);
        let cluster = self.view.authority().cluster();
        match record.and_then(|record| Signed::<Entry>::of_record(cluster, &record).ok()) {
            Some(signed) => row.fronts_b64.push(BASE64_STANDARD.encode(signed.to_front())),
            None => row.state = KeyEvent::UNREADABLE.to_owned(),
        }
        row.entries.push(id.to_string());
        Ok(())
    }
}

fn part(kind: &str, telling: u64, down_to: Option<Rank>) -> PartRow {
    let place =
        |(timestamp, id): Rank| PlaceRow { timestamp_us: timestamp.as_micros(), entry: id.to_string() };
    PartRow { kind: kind.to_owned(), telling, down_to: down_to.map(place) }
}
