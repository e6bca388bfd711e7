//! Entries that cannot be judged yet: their grant is not known, or their time has not come.

use super::core::Core;
use super::held::{Held, Waiting, Why};
use super::streams::StreamId;
use super::telling::Source;
use super::{MAX_WAITING_BYTES, WAITING_REPORT_US};
use kvgossip_grants::{Code, EntryFact, Fact, FactId, Key};
use std::sync::Arc;

impl Core {
    /// Keeps an entry for when its grant comes, or its time.
    pub(super) fn keep_waiting(&mut self, source: &Source, key: &Key, fact: EntryFact) {
        let waiting = Waiting { fact, endpoint: source.endpoint.clone(), since: self.now, reported: false };
        self.put_waiting(source.stream, key, waiting);
    }

    fn put_waiting(&mut self, stream: Option<StreamId>, key: &Key, waiting: Waiting) {
        let weight = waiting.weight();
        let held = self.keys.entry(key.clone()).or_default();
        if held.awaiting(&waiting.fact.id()).is_some() {
            return;
        }
        if self.waiting_bytes + weight <= MAX_WAITING_BYTES && held.wait(waiting) {
            self.waiting_bytes += weight;
        } else if let Some(telling) = stream.and_then(|stream| self.streams.get_mut(&stream)) {
            telling.dropped_some = true;
        }
    }

    /// Offers again what waits for a grant or for its time.
    pub(super) fn retry(&mut self, key: &Key) {
        let waiting = self.keys.get_mut(key).map(Held::take_waiting).unwrap_or_default();
        if waiting.is_empty() {
            return;
        }
        for waiting in waiting {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.weight());
            let source = Source { endpoint: waiting.endpoint.clone(), stream: None };
            self.take(&source, key, waiting.fact.clone());
            // If it has to wait on, it does so since it came.
            if let Some(again) = self.keys.get_mut(key).and_then(|held| held.awaiting(&waiting.fact.id())) {
                (again.since, again.reported) = (waiting.since, waiting.reported);
            }
        }
        if let Some(held) = self.keys.get_mut(key) {
            let stands = |id| held.contains(id);
            held.unverified =
                held.told.as_ref().is_some_and(|told| held.unverified && !told.iter().all(stands));
            if held.told.is_some() && self.interests.covering(key).any(|interest| interest.synced) {
                held.told_in_step();
            }
        }
        self.settle(key, Why::Told);
    }

    /// Reports what has waited for long and is still said to stand. (For moments, an honest agent may tell an entry whose
    /// grant has just ended.)
    pub(super) fn report_waiting(&mut self, key: &Key) {
        let now = self.now;
        let Some(held) = self.keys.get_mut(key) else { return };
        let told = held.told.clone().unwrap_or_default();
        let late = |waiting: &&mut Waiting| {
            let due = waiting.since.saturating_add(WAITING_REPORT_US);
            !waiting.reported && due <= now && told.contains(&waiting.fact.id())
        };
        let reported: Vec<(FactId, Arc<str>)> = held
            .waiting_mut()
            .iter_mut()
            .filter(late)
            .map(|waiting| {
                waiting.reported = true;
                (waiting.fact.id(), waiting.endpoint.clone())
            })
            .collect();
        for (id, endpoint) in reported {
            let found = self.keys.get_mut(key).and_then(|held| Some(held.awaiting(&id)?.fact.clone()));
            let code = found.and_then(|fact| self.verify(Fact::Entry(fact)).err()).and_then(|v| v.code());
            let source = Source { endpoint, stream: None };
            self.reject(&source, Some(key), Some(id), code.unwrap_or(Code::GrantUnknown));
        }
    }
}
