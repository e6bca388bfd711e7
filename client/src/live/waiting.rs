//! Entries that cannot be judged yet, because their grant is unknown or their time has not come.

use super::core::Core;
use super::held::{KeyState, Waiting, Why};
use super::offered::Offered;
use super::streams::StreamId;
use super::telling::{Fate, Source};
use super::{MAX_WAITING_BYTES, WAITING_REPORT_US};
use kvgossip_grants::{Code, EntryId, Key};
use std::sync::Arc;

impl Core {
    /// Keeps an entry until its grant arrives or its time comes.
    pub(super) fn keep_waiting(&mut self, source: &Source, key: &Key, offered: Offered) {
        let waiting =
            Waiting { offered, endpoint: source.endpoint.clone(), since: self.now, reported: false };
        self.put_waiting(source.stream, key, waiting);
    }

    fn put_waiting(&mut self, stream: Option<StreamId>, key: &Key, waiting: Waiting) {
        let weight = waiting.offered.weight();
        let held = self.keys.entry(key.clone()).or_default();
        if held.awaiting(&waiting.offered.id()).is_some() {
            return;
        }
        if self.waiting_bytes + weight <= MAX_WAITING_BYTES && held.wait(waiting) {
            self.waiting_bytes += weight;
        } else if let Some(telling) = stream.and_then(|stream| self.streams.get_mut(&stream)) {
            telling.dropped_some = true;
        }
    }

    /// Judges the waiting entries of a key again.
    pub(super) fn retry(&mut self, key: &Key) {
        let waiting = self.keys.get_mut(key).map(KeyState::take_waiting).unwrap_or_default();
        if waiting.is_empty() {
            return;
        }
        for waiting in waiting {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.offered.weight());
            let (id, source) =
                (waiting.offered.id(), Source { endpoint: waiting.endpoint.clone(), stream: None });
            let fate = self.take(&source, key, waiting.offered.clone());
            let Some(held) = self.keys.get_mut(key) else { continue };
            // An entry that must wait on keeps its original time.
            if let Some(again) = held.awaiting(&id) {
                (again.since, again.reported) = (waiting.since, waiting.reported);
            }
            if let Some(told) = held.told.as_mut().filter(|_| !matches!(fate, Fate::Unverified)) {
                told.outdated |= matches!(fate, Fate::Over) && told.doubts(&id);
                told.account(&id);
            }
        }
        self.settle(key, Why::Told);
    }

    /// Reports entries that have waited too long and that the agent still lists. (An honest agent may, for
    /// moments, send an entry whose grant has just ended.)
    pub(super) fn report_waiting(&mut self, key: &Key) {
        let now = self.now;
        let Some(held) = self.keys.get_mut(key) else { return };
        let Some(told) = held.told.take() else { return };
        let late = |waiting: &&mut Waiting| {
            let due = waiting.since.saturating_add(WAITING_REPORT_US);
            !waiting.reported && due <= now && told.doubts(&waiting.offered.id())
        };
        let reported: Vec<(EntryId, Arc<str>)> = held
            .waiting_mut()
            .iter_mut()
            .filter(late)
            .map(|waiting| {
                waiting.reported = true;
                (waiting.offered.id(), waiting.endpoint.clone())
            })
            .collect();
        held.told = Some(told);
        for (id, endpoint) in reported {
            let found = self.keys.get_mut(key).and_then(|held| Some(held.awaiting(&id)?.offered.clone()));
            let judged = found.map(|found| {
                self.authority.verify_entry(found.signed(), self.now, self.verifier.as_ref()).err()
            });
            let code = judged.flatten().and_then(|verdict| verdict.code());
            let source = Source { endpoint, stream: None };
            self.reject(&source, Some(key), Some(id.into()), code.unwrap_or(Code::GrantUnknown));
        }
    }
}
