//! Streams of the model's agents, by the real agent's rules, with small mailboxes.

use super::world::{Agent, KEYS, Step, World, key};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{
    AuthorityEvent, CauseRow, GapEvent, KeyEvent, PartRow, PlaceRow, SyncedEvent, WatchRequest, event,
};
use kvgossip_engine::Cause;
use kvgossip_grants::{
    EntryFact, EntryId, EntryMeta, Fact, FactId, Filter, HeldDigests, Key, Rank, held_authority,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Maximum number of keys in a mailbox; more cause a gap.
const MAILBOX: usize = 4;
/// Number of steps remembered for cursors.
const LOG: usize = 64;
/// Maximum number of entries sent in one event; a longer key is sent in pages.
const PAGE: usize = 2;

/// Changes of a key.
#[derive(Debug, Default)]
struct Note {
    written: Vec<EntryId>,
    retell: bool,
}

/// Event: the last id that the stream sent, the event's name, and its data.
pub(super) type Event = (Option<String>, &'static str, String);

/// Stream from the agent's side.
pub(super) struct Stream {
    pub(super) agent: usize,
    pub(super) id: u64,
    keys: BTreeSet<Key>,
    filters: Vec<Filter>,
    /// Keys to send at the beginning.
    standing: VecDeque<Key>,
    facts: VecDeque<FactId>,
    different: Vec<u32>,
    same_authority: bool,
    synced: bool,
    pending_facts: BTreeSet<FactId>,
    pending_keys: BTreeMap<Key, Note>,
    /// Keys with older entries still to send: the telling's number, and the rank reached.
    tails: VecDeque<(Key, u64, Rank)>,
    tellings: u64,
    /// Lead of the agent's clock over the client's, in microseconds.
    ahead_us: u64,
    /// Keys of which all live entries have been sent.
    pub(super) whole: BTreeSet<Key>,
    gap: bool,
    /// Whether the stream was opened with an unusable cursor, which must still be reported.
    bad_cursor: bool,
    pub(super) resumed: bool,
    last_id: Option<String>,
}

impl Stream {
    pub(super) fn is_drained(&self) -> bool {
        self.synced
            && self.pending_facts.is_empty()
            && self.pending_keys.is_empty()
            && self.tails.is_empty()
            && !self.gap
    }

    /// Returns whether the client may rely on what was sent.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    fn wants(&self, key: &Key) -> bool {
        self.keys.contains(key) || self.filters.iter().any(|filter| filter.includes(key))
    }

    fn note(&mut self, (fact, keys): Step) {
        self.pending_facts.extend(fact);
        for (key, cause) in keys {
            if !self.wants(&key) {
                continue;
            }
            let note = self.pending_keys.entry(key).or_default();
            match cause {
                Cause::Written(id) => note.written.push(id),
                _ => note.retell = true,
            }
        }
        self.gap |= self.pending_keys.len() > MAILBOX;
    }
}

/// Returns what happened after a cursor, if it is of this run and not too old.
fn since(agent: &Agent, cursor: &str) -> Option<Vec<Step>> {
    let (epoch, seq) = cursor.split_once('-')?;
    let seq: usize = seq.parse().ok()?;
    let known = epoch == agent.epoch.to_string() && seq + LOG >= agent.history.len();
    known.then(|| agent.history[seq..].to_vec())
}

impl World {
    /// Opens a stream by the real agent's rules.
    pub(super) fn open(&mut self, agent: usize, id: u64, request: &WatchRequest) -> Stream {
        // A new stream finds all of it in the state.
        self.news.retain(|(other, ..)| *other != agent);
        let have = request.have.as_ref().expect("a client compares");
        let keys = request.keys.iter().map(|key| key.parse().expect("a key")).collect();
        let filters = request.filters.iter().map(|globs| Filter::parse(globs).expect("globs")).collect();
        let mut stream = Stream {
            agent,
            id,
            keys,
            filters,
            standing: VecDeque::new(),
            facts: VecDeque::new(),
            different: Vec::new(),
            same_authority: true,
            synced: false,
            pending_facts: BTreeSet::new(),
            pending_keys: BTreeMap::new(),
            tails: VecDeque::new(),
            tellings: 0,
            ahead_us: if self.dice(2) == 0 { self.dice(60) as u64 } else { 0 },
            whole: BTreeSet::new(),
            gap: false,
            bad_cursor: request.cursor.is_some(),
            resumed: false,
            last_id: None,
        };
        let view = self.agents[agent].replica.view();
        let steps = request.cursor.as_ref().and_then(|cursor| since(&self.agents[agent], cursor));
        if let Some(steps) = steps {
            (stream.resumed, stream.bad_cursor) = (true, false);
            steps.into_iter().for_each(|step| stream.note(step));
            return stream;
        }
        let mut held = HeldDigests::new(have.buckets.len());
        let wanted: Vec<Key> = (0..KEYS).map(key).filter(|key| stream.wants(key)).collect();
        wanted.iter().for_each(|key| held.add(key, self.agents[agent].ids(key)));
        let differs: Vec<bool> = held
            .finish()
            .iter()
            .zip(&have.buckets)
            .map(|(mine, theirs)| mine.to_string() != *theirs)
            .collect();
        let same = wanted.iter().filter(|key| !differs[HeldDigests::bucket(key, differs.len())]);
        stream.whole = same.cloned().collect();
        stream.different = (0..).zip(&differs).filter(|(_, differs)| **differs).map(|(at, _)| at).collect();
        let told = |key: &Key| {
            differs[HeldDigests::bucket(key, differs.len())]
                && (stream.keys.contains(key) || view.frontier(key).is_some())
        };
        stream.standing = wanted.into_iter().filter(told).collect();
        if held_authority(view.authority().fact_ids()).to_string() != have.authority {
            let mut ids: Vec<_> =
                view.authority().fact_ids().map(|id| (view.authority().depth(&id), id)).collect();
            ids.sort_unstable();
            stream.same_authority = false;
            stream.facts = ids.into_iter().map(|(_, id)| id).collect();
        }
        stream
    }

    /// Puts the news into the stream's mailbox.
    pub(super) fn feed_stream(&mut self, stream: Option<&mut Stream>) {
        let news = std::mem::take(&mut self.news);
        let Some(stream) = stream else { return };
        for (agent, step) in news {
            if agent == stream.agent {
                stream.note(step);
            }
        }
    }

    /// Returns the agent's next event.
    pub(super) fn next_event(&mut self, stream: &mut Stream) -> Option<Event> {
        let (name, data) = self.next_of(stream)?;
        if stream.is_drained() {
            let agent = &self.agents[stream.agent];
            stream.last_id = Some(format!("{}-{}", agent.epoch, agent.history.len()));
        }
        Some((stream.last_id.clone(), name, data))
    }

    fn next_of(&mut self, stream: &mut Stream) -> Option<(&'static str, String)> {
        if std::mem::take(&mut stream.bad_cursor) {
            return Some((event::GAP, json(&GapEvent { reason: GapEvent::CURSOR.into() })));
        }
        if stream.gap {
            return Some((event::GAP, json(&GapEvent { reason: GapEvent::OVERFLOW.into() })));
        }
        if let Some(id) = stream.facts.pop_front() {
            return Some(self.tell_facts(stream.agent, &[id]));
        }
        if !stream.pending_facts.is_empty() {
            let ids: Vec<_> = std::mem::take(&mut stream.pending_facts).into_iter().collect();
            return Some(self.tell_facts(stream.agent, &ids));
        }
        // Remaining pages are interleaved with everything else.
        if stream.synced && (stream.pending_keys.is_empty() || self.dice(2) == 0) && !stream.tails.is_empty()
        {
            return Some(self.tell_tail(stream));
        }
        if let Some((key, note)) = stream.pending_keys.pop_first() {
            return Some(self.tell_change(stream, &key, &note));
        }
        if let Some(key) = stream.standing.pop_front() {
            return Some(self.tell_first(stream, &key));
        }
        if stream.synced {
            return None;
        }
        stream.synced = true;
        // A key that differs and has no live entry was not sent.
        let standing = (0..KEYS).map(key).filter(|key| self.agents[stream.agent].ids(key).is_empty());
        if !stream.resumed {
            stream.whole.extend(standing);
        }
        let different = (!stream.resumed).then(|| stream.different.clone());
        let same_authority = (!stream.resumed).then_some(stream.same_authority);
        Some((
            event::SYNCED,
            json(&SyncedEvent {
                now_us: 0,
                replica: None,
                resumed: stream.resumed,
                different,
                same_authority,
            }),
        ))
    }

    fn tell_facts(&mut self, agent: usize, ids: &[FactId]) -> (&'static str, String) {
        let authority = self.agents[agent].replica.view().authority();
        let mut ids: Vec<_> = ids.iter().map(|id| (authority.depth(id), *id)).collect();
        ids.sort_unstable();
        let facts: Vec<Fact> = ids.iter().filter_map(|(_, id)| authority.fact(id)).collect();
        let records_b64 = facts.iter().map(record).collect();
        facts.into_iter().for_each(|fact| self.tell_oracle(fact));
        (event::AUTHORITY, json(&AuthorityEvent { records_b64 }))
    }

    fn shown(&self, stream: &Stream, key: &Key) -> Option<EntryMeta> {
        let frontier = self.agents[stream.agent].replica.view().frontier(key)?;
        frontier.shown(self.now.saturating_add(stream.ahead_us)).map(|entry| entry.meta.clone())
    }

    /// Builds an event about a key with these entries: the shown one with its value, the others without.
    fn event(&mut self, stream: &Stream, key: &Key, metas: &[EntryId]) -> KeyEvent {
        let (agent, shown) = (stream.agent, self.shown(stream, key));
        let mut row = row(key, shown.as_ref().filter(|shown| !shown.is_delete).map(|shown| shown.id));
        for id in metas {
            let Some(fact) = self.agents[agent].entry(key, id) else { continue };
            row.entries.push(id.to_string());
            if shown.as_ref().is_some_and(|shown| shown.id == *id) {
                row.records_b64.push(record(&Fact::Entry(fact.clone())));
            } else {
                row.fronts_b64.push(front(&fact));
            }
            self.tell_oracle(Fact::Entry(fact));
        }
        row
    }

    fn tell_change(&mut self, stream: &mut Stream, key: &Key, note: &Note) -> (&'static str, String) {
        let len = self.agents[stream.agent].ids(key).len();
        if note.retell || len <= PAGE {
            return self.tell_first(stream, key);
        }
        let mut row = self.event(stream, key, &note.written);
        row.part = Some(PartRow { kind: PartRow::NEWS.into(), telling: 0, down_to: None });
        (event::KEY, json(&row))
    }

    fn page(&self, agent: usize, key: &Key, after: Option<Rank>) -> (Vec<EntryMeta>, bool) {
        let Some(frontier) = self.agents[agent].replica.view().frontier(key) else {
            return (Vec::new(), true);
        };
        let entries = match after {
            Some(rank) => frontier.newest_first_after(rank),
            None => frontier.newest_first(),
        };
        let mut metas: Vec<EntryMeta> = entries.map(|entry| entry.meta.clone()).take(PAGE + 1).collect();
        let is_last = metas.len() <= PAGE;
        metas.truncate(PAGE);
        (metas, is_last)
    }

    fn tell_first(&mut self, stream: &mut Stream, key: &Key) -> (&'static str, String) {
        let (metas, is_last) = self.page(stream.agent, key, None);
        let mut ids: Vec<EntryId> = metas.iter().map(|meta| meta.id).collect();
        ids.extend(self.shown(stream, key).map(|shown| shown.id).filter(|shown| !ids.contains(shown)));
        let mut row = self.event(stream, key, &ids);
        stream.tails.retain(|(other, ..)| other != key);
        stream.tellings += 1;
        if is_last {
            stream.whole.insert(key.clone());
        } else if let Some(last) = metas.last() {
            row.part = Some(part(PartRow::FIRST, stream.tellings, Some(last.rank())));
            stream.tails.push_back((key.clone(), stream.tellings, last.rank()));
        }
        (event::KEY, json(&row))
    }

    fn tell_tail(&mut self, stream: &mut Stream) -> (&'static str, String) {
        let (key, telling, after) = stream.tails.pop_front().expect("some");
        let (metas, is_last) = self.page(stream.agent, &key, Some(after));
        let ids: Vec<EntryId> = metas.iter().map(|meta| meta.id).collect();
        let mut row = self.event(stream, &key, &ids);
        let down_to = metas.last().map(EntryMeta::rank).filter(|_| !is_last);
        row.part = Some(part(if is_last { PartRow::LAST } else { PartRow::NEXT }, telling, down_to));
        match down_to {
            Some(down_to) => stream.tails.push_back((key, telling, down_to)),
            None => {
                stream.whole.insert(key);
            }
        }
        (event::KEY, json(&row))
    }
}

fn part(kind: &str, telling: u64, down_to: Option<Rank>) -> PartRow {
    let place = |(time, id): Rank| PlaceRow { timestamp_us: time.as_micros(), entry: id.to_string() };
    PartRow { kind: kind.into(), telling, down_to: down_to.map(place) }
}

pub(super) fn front(fact: &EntryFact) -> String {
    BASE64_STANDARD.encode(fact.signed().to_front())
}

pub(super) fn record(fact: &Fact) -> String {
    BASE64_STANDARD.encode(fact.to_record())
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}

pub(super) fn row(key: &Key, shown: Option<EntryId>) -> KeyEvent {
    KeyEvent {
        key: key.to_string(),
        state: if shown.is_some() { "present" } else { "absent" }.into(),
        entry: shown.map(|id| id.to_string()),
        timestamp_us: None,
        grant: None,
        value: None,
        value_b64: None,
        cause: CauseRow { kind: "current".into(), id: None },
        part: None,
        entries: Vec::new(),
        records_b64: Vec::new(),
        fronts_b64: Vec::new(),
    }
}
