//! State machine of one watcher's stream: reads the store and makes one chunk at a time.

use super::cause::Why;
use super::hub::{Start, Taken, Watcher};
use super::mailbox::{Note, Pending};
use super::rows::{Events, KeyReader, Read, weight};
use super::snapshot::{Position, digests};
use super::tails::{Tail, Tails};
use super::{CHUNK_BYTES, CHUNK_KEYS, MAX_EVENT_RECORDS, SMALL_CHUNK_BYTES};
use crate::authority_order::AuthorityPlace;
use crate::clock;
use kvgossip_api::{GapEvent, KeyEvent, SyncedEvent, WatchForm, event};
use kvgossip_engine::{Snapshot, StorageError};
use kvgossip_grants::{HeldDigests, Key, held_authority};
use std::sync::Arc;

/// Maximum number of authority facts per event at the start of a stream.
const FACTS_AT_ONCE: usize = 256;
/// Maximum number of authority facts per event while there is no room for large events.
const FACTS_AT_ONCE_IF_FULL: usize = 8;

/// Phase of a watcher's stream.
enum Phase {
    /// Nothing has been compared with the watcher's digests or sent.
    Begin,
    /// The initial state is being sent: authority facts, then keys, then `synced`.
    Telling,
    Live,
}

/// Progress of one watcher's stream.
pub(super) struct Round {
    watcher: Arc<Watcher>,
    phase: Phase,
    gap: Option<&'static str>,
    resumed: bool,
    /// Authority facts of the initial state, in the order in which they can be merged, and the number of them that were
    /// sent.
    facts: (Arc<Vec<AuthorityPlace>>, usize),
    position: Position,
    /// Watched keys with early entries, the next one last; those without a value are sent as well.
    early: Vec<Key>,
    /// Whether each bucket of keys differs from the watcher's digest; `None`: the watcher sent no digests.
    different: Option<Vec<bool>>,
    /// Whether the watcher holds the same authority facts as this replica; `None`: it sent no digest, or does not
    /// receive them.
    same_authority: Option<bool>,
    /// Older entries, still to be sent, of keys with more entries than fit into one event.
    tails: Tails,
    /// Whether the client's ledger has room for large events.
    is_roomy: bool,
    /// Whether an event was held back because there is no room for large events.
    needs_room: bool,
}

/// Result of [`Round::work`].
pub(super) enum ChunkResult {
    /// A chunk of the stream, to send.
    Text(Vec<u8>),
    /// No chunk: the next event is large and needs room.
    NeedsRoom,
    /// No chunk yet: call again, because there is more to examine.
    Again,
    /// The last chunk; the stream ends after it.
    End(Vec<u8>),
}

impl Round {
    pub(super) fn new(watcher: Arc<Watcher>, start: Start) -> Self {
        let resumed = start == Start::Resumed;
        Self {
            phase: if resumed { Phase::Telling } else { Phase::Begin },
            gap: (start == Start::Gap).then_some(GapEvent::CURSOR),
            resumed,
            facts: (Arc::default(), 0),
            position: if resumed { Position::end(&watcher.interest) } else { Position::default() },
            early: Vec::new(),
            different: None,
            same_authority: None,
            tails: Tails::default(),
            is_roomy: true,
            needs_room: false,
            watcher,
        }
    }

    /// Whether there is nothing to send until something arrives in the mailbox.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Live)
            && self.gap.is_none()
            && self.tails.is_empty()
            && self.watcher.mailbox.is_empty()
    }

    /// Makes the next chunk of the stream. `is_roomy`: whether the client's ledger has room for large events.
    pub(super) fn work(&mut self, is_roomy: bool) -> Result<ChunkResult, StorageError> {
        let mut out = Events::default();
        (self.is_roomy, self.needs_room) = (is_roomy, false);
        if let Some(reason) = self.gap.take() {
            out.append(event::GAP, &GapEvent { reason: reason.to_owned() });
        }
        if matches!(self.phase, Phase::Begin) {
            self.begin();
        }
        let (facts, told) = &mut self.facts;
        if *told < facts.len() {
            let at_once = if self.is_roomy { FACTS_AT_ONCE } else { FACTS_AT_ONCE_IF_FULL };
            let next = facts.iter().skip(*told).take(at_once).map(|(_, id)| *id);
            out.append_facts(&self.watcher.view(), next);
            *told += at_once;
            return Ok(ChunkResult::Text(out.into_text()));
        }
        self.facts = (Arc::default(), 0);
        let Taken { cursor, now, pending } = self.watcher.take();
        if pending.overflowed {
            return Ok(self.overflow(out));
        }
        out.append_facts(&now.view, pending.facts.iter().copied());
        let rest = self.tell_changes(&mut out, &now, pending)?;
        let behind = !rest.is_empty();
        self.put_back(rest);
        if matches!(self.phase, Phase::Live) {
            self.tell_tails(&mut out, &now)?;
        } else if !behind && self.tell_standing(&mut out, &now)? {
            let different = self.different.as_ref().map(|buckets| {
                (0..).zip(buckets).filter(|(_, differs)| **differs).map(|(place, _)| place).collect()
            });
            let now_us = clock::now().as_micros();
            let synced = SyncedEvent {
                now_us,
                replica: Some(self.watcher.replica().to_owned()),
                resumed: self.resumed,
                different,
                same_authority: self.same_authority,
            };
            out.append(event::SYNCED, &synced);
            self.phase = Phase::Live;
        }
        let all_told = matches!(self.phase, Phase::Live) && self.tails.is_empty();
        if all_told && !behind && !self.needs_room {
            // The last event carries the cursor.
            out.name_last(&cursor.to_string());
        }
        Ok(match out.is_empty() {
            false => ChunkResult::Text(out.into_text()),
            true if self.needs_room => ChunkResult::NeedsRoom,
            true => ChunkResult::Again,
        })
    }

    /// Compares the watcher's digests with this replica's, and lists the authority facts to send.
    fn begin(&mut self) {
        let (watcher, view) = (self.watcher.clone(), self.watcher.take().now.view.clone());
        let (interest, authority) = (&watcher.interest, view.authority());
        let has_authority =
            interest.have.as_ref().map(|have| have.authority == held_authority(authority.fact_ids()));
        self.same_authority = has_authority.filter(|_| interest.authority);
        if interest.authority && has_authority != Some(true) {
            self.facts = (watcher.authority_order(&view), 0);
        }
        self.different = interest.have.as_ref().map(|have| {
            let mine = digests(interest, &view, have.buckets.len());
            mine.iter().zip(&have.buckets).map(|(mine, theirs)| mine != theirs).collect()
        });
        self.position = Position::default();
        self.early = watcher.waiting().early_keys();
        self.early.retain(|key| interest.includes(key));
        self.early.reverse();
        self.phase = Phase::Telling;
    }

    /// Handles an overflow of the mailbox: starts again, or ends the stream of a watcher that can compare digests.
    fn overflow(&mut self, mut out: Events) -> ChunkResult {
        out.append(event::GAP, &GapEvent { reason: GapEvent::OVERFLOW.to_owned() });
        if self.watcher.interest.have.is_some() {
            return ChunkResult::End(out.into_text());
        }
        (self.phase, self.resumed) = (Phase::Begin, false);
        self.tails.clear();
        ChunkResult::Text(out.into_text())
    }

    /// Appends events of changed keys. Returns the keys that were not sent: they did not fit into this chunk, or lack
    /// room.
    fn tell_changes(
        &mut self,
        out: &mut Events,
        now: &Snapshot,
        pending: Pending,
    ) -> Result<Vec<(Key, Note)>, StorageError> {
        let (mut rest, mut keys) = (Vec::new(), pending.keys.into_iter());
        while out.len() < self.chunk_bytes() {
            let Some((key, note)) = keys.next() else { break };
            if !self.tell_change(out, now, &key, &note)? {
                rest.push((key, note));
            }
        }
        rest.extend(keys);
        Ok(rest)
    }

    /// Appends the event of a changed key. Returns `false` if the event is too large for the room that there is.
    fn tell_change(
        &mut self,
        out: &mut Events,
        now: &Snapshot,
        key: &Key,
        note: &Note,
    ) -> Result<bool, StorageError> {
        let is_long = now.view.frontier(key).is_some_and(|frontier| frontier.len() > MAX_EVENT_RECORDS);
        if self.watcher.interest.form == WatchForm::Values || note.retell || !is_long {
            return self.tell_key(out, now, key, note.why, None);
        }
        let read = self.key_reader(now, key, note.why);
        match read.news(&note.written, matches!(note.why, Why::Expired(_)))? {
            Read::Event(row) | Read::Page(row, _) if self.fits(&row) => out.append(event::KEY, &row),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn key_reader<'a>(&'a self, now: &'a Snapshot, key: &'a Key, why: Why) -> KeyReader<'a> {
        KeyReader {
            view: &now.view,
            reader: now.reader.as_ref(),
            key,
            why,
            now: clock::now(),
            is_roomy: self.is_roomy,
            waiting: self.watcher.waiting(),
        }
    }

    /// Returns the size in bytes at which a chunk is complete: less while there is no room for large events.
    fn chunk_bytes(&self) -> usize {
        if self.is_roomy { CHUNK_BYTES } else { SMALL_CHUNK_BYTES }
    }

    /// Whether there is room for an event. Remembers a lack of room in `needs_room`.
    fn fits(&mut self, row: &KeyEvent) -> bool {
        let fits = self.is_roomy || weight(row) <= SMALL_CHUNK_BYTES;
        self.needs_room |= !fits;
        fits
    }

    /// Appends the event of a key: its shown entry and, for watchers that verify, its newest entries. The older ones
    /// are queued as a tail. If there is no space for another tail, all keys from `from` on (`None`: all keys) are read
    /// again later. Returns whether the key is done.
    fn tell_key(
        &mut self,
        out: &mut Events,
        now: &Snapshot,
        key: &Key,
        why: Why,
        from: Option<Position>,
    ) -> Result<bool, StorageError> {
        let watcher = self.watcher.clone();
        let telling = self.tails.name();
        let read = self.key_reader(now, key, why);
        let read = match watcher.interest.form {
            WatchForm::Values => read.value()?,
            WatchForm::Records => read.first(telling)?,
        };
        match read {
            Read::NoRoom => {
                self.needs_room = true;
                return Ok(false);
            }
            Read::Event(ref row) | Read::Page(ref row, _) if !self.fits(row) => return Ok(false),
            // Watchers of values are not notified of unset keys at the start, unless they named the key.
            Read::Event(row)
                if why == Why::Current
                    && watcher.interest.form == WatchForm::Values
                    && row.state == KeyEvent::ABSENT
                    && matches!(self.phase, Phase::Telling)
                    && !watcher.interest.names(key) => {}
            Read::Event(row) => {
                self.tails.give_up(key);
                out.append(event::KEY, &row);
            }
            Read::Page(row, after) => {
                self.tails.give_up(key);
                out.append(event::KEY, &row);
                self.tails.push(Tail { key: key.clone(), telling, after }, from);
            }
        }
        Ok(true)
    }

    fn put_back(&self, rest: Vec<(Key, Note)>) {
        if !rest.is_empty() {
            self.watcher.mailbox.change(|pending| {
                rest.into_iter().for_each(|(key, note)| pending.note_again(key, note));
            });
        }
    }

    /// Whether a key has to be sent at the start: the watcher's digest of its bucket differs, or it sent none.
    fn differs(&self, key: &Key) -> bool {
        let Some(buckets) = &self.different else { return true };
        buckets.get(HeldDigests::bucket(key, buckets.len())).copied().unwrap_or(true)
    }

    /// Appends keys of the initial state until the chunk is complete. Returns whether the initial state is complete.
    fn tell_standing(&mut self, out: &mut Events, now: &Snapshot) -> Result<bool, StorageError> {
        let watcher = self.watcher.clone();
        let mut looked = 0;
        while out.len() < self.chunk_bytes() && looked < CHUNK_KEYS {
            let before = self.position.clone();
            let Some(key) = self.position.next(&watcher.interest, &now.view, &mut looked) else { break };
            if self.differs(&key) && !self.tell_key(out, now, &key, Why::Current, Some(before))? {
                self.watcher.mailbox.change(|pending| pending.note_key(&key, Why::Current));
                return Ok(false);
            }
        }
        if !self.position.is_done(&watcher.interest) {
            return Ok(false);
        }
        while out.len() < self.chunk_bytes()
            && let Some(key) = self.early.pop()
        {
            // Keys with a value were sent above, and so were known keys that differ.
            let has_value = now.view.shown(&key, clock::now()).is_some();
            let is_known = watcher.interest.names(&key) || now.view.frontier(&key).is_some();
            let is_told = has_value || is_known && self.differs(&key);
            if !is_told && !self.tell_key(out, now, &key, Why::Current, None)? {
                self.watcher.mailbox.change(|pending| pending.note_key(&key, Why::Current));
                return Ok(false);
            }
        }
        Ok(self.early.is_empty())
    }

    /// Appends an event with the next older entries of one queued key. If no key is queued, looks for one that has
    /// older entries still to be sent.
    fn tell_tails(&mut self, out: &mut Events, now: &Snapshot) -> Result<(), StorageError> {
        let Some(tail) = self.tails.pop() else { return self.find_tails(out, now) };
        let Tail { key, telling, after } = tail;
        let read = self.key_reader(now, &key, Why::Current);
        let after = match read.next(telling, after)? {
            Read::Event(ref row) | Read::Page(ref row, _) if !self.fits(row) => after,
            Read::Event(row) => {
                out.append(event::KEY, &row);
                return Ok(());
            }
            Read::Page(row, after) => {
                out.append(event::KEY, &row);
                after
            }
            Read::NoRoom => after,
        };
        // There is room, since this tail was just taken out.
        self.tails.push(Tail { key, telling, after }, None);
        Ok(())
    }

    /// Walks the keys whose older entries may not have been sent, until one of them is queued.
    fn find_tails(&mut self, out: &mut Events, now: &Snapshot) -> Result<(), StorageError> {
        let Some(mut position) = self.tails.take_walk() else { return Ok(()) };
        let watcher = self.watcher.clone();
        let mut looked = 0;
        while self.tails.is_empty() && looked < CHUNK_KEYS && out.len() < self.chunk_bytes() {
            let before = position.clone();
            let Some(key) = position.next(&watcher.interest, &now.view, &mut looked) else { break };
            let has_several = now.view.frontier(&key).is_some_and(|frontier| frontier.len() > 1);
            let is_wanted = has_several && (self.tails.walks_all() || self.differs(&key));
            if is_wanted && !self.tell_key(out, now, &key, Why::Current, Some(before))? {
                self.watcher.mailbox.change(|pending| pending.note_key(&key, Why::Current));
            }
        }
        if !position.is_done(&watcher.interest) {
            self.tails.walk_on(position);
        }
        Ok(())
    }
}
