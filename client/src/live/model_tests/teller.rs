//! How agents tell: streams by the rules of the agent's own, with small mailboxes.

use super::world::{Agent, KEYS, Step, World, key};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{AuthorityEvent, CauseRow, GapEvent, KeyEvent, SyncedEvent, WatchRequest, event};
use kvgossip_engine::Storage;
use kvgossip_grants::{EntryId, Fact, FactId, Filter, Held, Key, held_authority};
use std::collections::{BTreeSet, VecDeque};

/// More than this many keys in a mailbox make a gap.
const MAILBOX: usize = 4;
/// So many steps are remembered for cursors.
const LOG: usize = 16;

/// An event: the last id that the stream gave, its name, its data.
pub(super) type Event = (Option<String>, &'static str, String);

/// One stream as the agent sees it.
pub(super) struct Stream {
    pub(super) agent: usize,
    pub(super) id: u64,
    keys: BTreeSet<Key>,
    filters: Vec<Filter>,
    /// What is told at the beginning.
    standing: VecDeque<Key>,
    facts: VecDeque<FactId>,
    different: Vec<u32>,
    synced: bool,
    pending_facts: BTreeSet<FactId>,
    pending_keys: BTreeSet<Key>,
    gap: bool,
    /// The cursor that it was opened with leads nowhere, which is yet to be told.
    bad_cursor: bool,
    pub(super) resumed: bool,
    last_id: Option<String>,
}

impl Stream {
    pub(super) fn is_drained(&self) -> bool {
        self.synced && self.pending_facts.is_empty() && self.pending_keys.is_empty() && !self.gap
    }

    fn wants(&self, key: &Key) -> bool {
        self.keys.contains(key) || self.filters.iter().any(|filter| filter.includes(key))
    }

    fn note(&mut self, (fact, keys): Step) {
        self.pending_facts.extend(fact);
        let wanted: Vec<Key> = keys.into_iter().filter(|key| self.wants(key)).collect();
        self.pending_keys.extend(wanted);
        self.gap |= self.pending_keys.len() > MAILBOX;
    }
}

/// What happened after a cursor, if that is of this run and not too old.
fn since(agent: &Agent, cursor: &str) -> Option<Vec<Step>> {
    let (epoch, seq) = cursor.split_once('-')?;
    let seq: usize = seq.parse().ok()?;
    let known = epoch == agent.epoch.to_string() && seq + LOG >= agent.history.len();
    known.then(|| agent.history[seq..].to_vec())
}

impl World {
    /// Opens a stream by the rules of the agent's own.
    pub(super) fn open(&mut self, agent: usize, id: u64, request: &WatchRequest) -> Stream {
        // A new stream finds all of it in the state.
        self.news.retain(|(other, ..)| *other != agent);
        let view = self.agents[agent].replica.view();
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
            synced: false,
            pending_facts: BTreeSet::new(),
            pending_keys: BTreeSet::new(),
            gap: false,
            bad_cursor: request.cursor.is_some(),
            resumed: false,
            last_id: None,
        };
        let steps = request.cursor.as_ref().and_then(|cursor| since(&self.agents[agent], cursor));
        if let Some(steps) = steps {
            (stream.resumed, stream.bad_cursor) = (true, false);
            steps.into_iter().for_each(|step| stream.note(step));
            return stream;
        }
        let mut held = Held::new(have.buckets.len());
        let wanted: Vec<Key> = (0..KEYS).map(key).filter(|key| stream.wants(key)).collect();
        wanted.iter().for_each(|key| held.add(key, self.agents[agent].ids(key)));
        let differs: Vec<bool> = held
            .finish()
            .iter()
            .zip(&have.buckets)
            .map(|(mine, theirs)| mine.to_string() != *theirs)
            .collect();
        stream.different = (0..).zip(&differs).filter(|(_, differs)| **differs).map(|(at, _)| at).collect();
        let told = |key: &Key| {
            differs[Held::bucket(key, differs.len())]
                && (stream.keys.contains(key) || view.frontier(key).is_some())
        };
        stream.standing = wanted.into_iter().filter(told).collect();
        if held_authority(view.authority().fact_ids()).to_string() != have.authority {
            let mut ids: Vec<_> =
                view.authority().fact_ids().map(|id| (view.authority().depth(&id), id)).collect();
            ids.sort_unstable();
            stream.facts = ids.into_iter().map(|(_, id)| id).collect();
        }
        stream
    }

    /// Puts what happened into the mailbox of the stream.
    pub(super) fn feed_stream(&mut self, stream: Option<&mut Stream>) {
        let news = std::mem::take(&mut self.news);
        let Some(stream) = stream else { return };
        for (agent, step) in news {
            if agent == stream.agent {
                stream.note(step);
            }
        }
    }

    /// What the agent sends next.
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
        if let Some(key) = stream.pending_keys.pop_first().or_else(|| stream.standing.pop_front()) {
            return Some(self.tell_key(stream.agent, &key));
        }
        if stream.synced {
            return None;
        }
        stream.synced = true;
        let different = (!stream.resumed).then(|| stream.different.clone());
        Some((event::SYNCED, json(&SyncedEvent { now_us: 0, resumed: stream.resumed, different })))
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

    fn tell_key(&mut self, agent: usize, key: &Key) -> (&'static str, String) {
        let (agent, now) = (&self.agents[agent], self.now);
        let reader = agent.storage.reader();
        let ids = agent.ids(key);
        let read = |id| {
            let record = reader.entry(key, id).expect("memory works").expect("it stands");
            Fact::from_record(agent.replica.view().authority().cluster(), &record).expect("a fact")
        };
        let facts: Vec<Fact> = ids.iter().map(read).collect();
        let shown = agent.replica.view().shown(key, now).map(|entry| entry.id);
        let row = row(key, shown, &ids, facts.iter().map(record).collect());
        facts.into_iter().for_each(|fact| self.tell_oracle(fact));
        (event::KEY, json(&row))
    }
}

pub(super) fn record(fact: &Fact) -> String {
    BASE64_STANDARD.encode(fact.to_record())
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}

pub(super) fn row(key: &Key, shown: Option<EntryId>, ids: &[EntryId], records_b64: Vec<String>) -> KeyEvent {
    KeyEvent {
        key: key.to_string(),
        state: if shown.is_some() { "present" } else { "absent" }.into(),
        entry: shown.map(|id| id.to_string()),
        timestamp_us: None,
        grant: None,
        value: None,
        value_b64: None,
        cause: CauseRow { kind: "current".into(), id: None },
        entries: ids.iter().map(ToString::to_string).collect(),
        records_b64,
    }
}
