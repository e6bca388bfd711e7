//! How agents tell: streams by the rules of the agent's own, with small mailboxes.

use super::world::{KEYS, World, key};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{AuthorityEvent, CauseRow, GapEvent, KeyEvent, SyncedEvent, WatchRequest, event};
use kvgossip_engine::Storage;
use kvgossip_grants::{EntryId, Fact, FactId, Filter, Held, Key, held_authority};
use std::collections::{BTreeSet, VecDeque};

/// More than this many keys in a mailbox make a gap.
const MAILBOX: usize = 4;

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
}

impl Stream {
    pub(super) fn is_drained(&self) -> bool {
        self.synced && self.pending_facts.is_empty() && self.pending_keys.is_empty() && !self.gap
    }

    fn wants(&self, key: &Key) -> bool {
        self.keys.contains(key) || self.filters.iter().any(|filter| filter.includes(key))
    }
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
        };
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
        for (_, fact, keys) in news.into_iter().filter(|(agent, ..)| *agent == stream.agent) {
            stream.pending_facts.extend(fact);
            stream.pending_keys.extend(keys.into_iter().filter(|key| {
                stream.keys.contains(key) || stream.filters.iter().any(|filter| filter.includes(key))
            }));
            stream.gap |= stream.pending_keys.len() > MAILBOX;
        }
    }

    /// What the agent sends next.
    pub(super) fn next_event(&mut self, stream: &mut Stream) -> Option<(&'static str, String)> {
        if stream.gap {
            return Some((event::GAP, json(&GapEvent { reason: "overflow".into() })));
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
        let synced = SyncedEvent { now_us: 0, resumed: false, different: Some(stream.different.clone()) };
        Some((event::SYNCED, json(&synced)))
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
