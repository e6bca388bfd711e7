//! What one watcher is told next: a state machine that reads the store, one chunk at a time.

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

/// How many authority facts stand in one event at the beginning,
const FACTS_AT_ONCE: usize = 256;
/// and how many where there is no room for large events.
const FACTS_AT_ONCE_IF_FULL: usize = 8;

/// What a stream is at.
enum Phase {
    /// Nothing has been compared or told.
    Begin,
    /// The authority facts of the beginning, then keys, then `synced`.
    Telling,
    Live,
}

/// What is told of, a chunk at a time.
pub(super) struct Round {
    watcher: Arc<Watcher>,
    phase: Phase,
    gap: Option<&'static str>,
    resumed: bool,
    /// The authority facts in order, and how many of them are told.
    facts: (Arc<Vec<AuthorityPlace>>, usize),
    position: Position,
    /// Keys without a value that are told besides, as early entries of them wait; the last one is next.
    early: Vec<Key>,
    /// Which buckets differ, where the watcher has sent digests.
    different: Option<Vec<bool>>,
    /// Whether the watcher has the same authority facts, where it has sent their digest.
    same_authority: Option<bool>,
    /// What follows of keys with very many entries.
    tails: Tails,
    /// Whether there is room for large events.
    is_roomy: bool,
    /// Whether an event was kept back because there is no room for large ones.
    needs_room: bool,
}

/// What came of a round.
pub(super) enum ChunkResult {
    /// To be sent.
    Text(Vec<u8>),
    /// What is next is large.
    NeedsRoom,
    /// Nothing was found yet: there is more to look at.
    Again,
    /// Sent and done.
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

    /// Whether there is nothing to do until something arrives.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Live)
            && self.gap.is_none()
            && self.tails.is_empty()
            && self.watcher.mailbox.is_empty()
    }

    /// Makes the next chunk. `is_roomy`: whether there is room for large events.
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

    /// Compares digests and lists the authority facts to tell.
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

    /// After more changes than the mailbox holds: all again, or the end if the watcher can compare.
    fn overflow(&mut self, mut out: Events) -> ChunkResult {
        out.append(event::GAP, &GapEvent { reason: GapEvent::OVERFLOW.to_owned() });
        if self.watcher.interest.have.is_some() {
            return ChunkResult::End(out.into_text());
        }
        (self.phase, self.resumed) = (Phase::Begin, false);
        self.tails.clear();
        ChunkResult::Text(out.into_text())
    }

    /// Tells changed keys; gives what could not be told this time.
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

    /// Tells a changed key; whether that could be done.
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

    /// Where a chunk ends.
    fn chunk_bytes(&self) -> usize {
        if self.is_roomy { CHUNK_BYTES } else { SMALL_CHUNK_BYTES }
    }

    /// Whether there is room for an event; remembers if there is none.
    fn fits(&mut self, row: &KeyEvent) -> bool {
        let fits = self.is_roomy || weight(row) <= SMALL_CHUNK_BYTES;
        self.needs_room |= !fits;
        fits
    }

    /// Tells a key: the entry that is shown and, to watchers that verify, the newest entries. The older ones are kept as a
    /// tail and follow; without space for another tail, all keys from `from` on (`None`: all keys) are read again
    /// later. Gives whether the key could be told.
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
            // Nobody who looks at values asked to be told that some other key is unset.
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

    /// Whether the watcher has to be told a key at the beginning: it does not hold the same of it.
    fn differs(&self, key: &Key) -> bool {
        let Some(buckets) = &self.different else { return true };
        buckets.get(HeldDigests::bucket(key, buckets.len())).copied().unwrap_or(true)
    }

    /// Tells what stands, up to a chunk; whether that is all.
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
            // Where something is shown, that is told; and what differs was told above.
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

    /// Tells a page of what follows of a key, or goes on looking for keys of which something does.
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
        // There is room where it was.
        self.tails.push(Tail { key, telling, after }, None);
        Ok(())
    }

    /// Goes on through keys of which something may follow, until one is found.
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
