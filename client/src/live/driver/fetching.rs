//! Asking an agent for values that it did not tell.

use super::Driver;
use crate::error::ClientError;
use crate::live::state::Trouble;
use kvgossip_grants::{EntryFact, EntryId, Key};
use std::pin::Pin;

/// A value that is being asked for.
pub(super) struct Fetching {
    place: usize,
    key: Key,
    id: EntryId,
    pub(super) answer: Pin<Box<dyn Future<Output = Result<Option<EntryFact>, ClientError>> + Send>>,
}

impl Driver {
    /// Asks for a value that was not told, one at a time: the connected agent first, and after each one that did not give
    /// it the next. Who withholds a value does not keep it from a client that knows others.
    pub(super) fn begin_fetching(&mut self) {
        if self.fetching.is_some() || self.current.is_none() {
            return;
        }
        let place = (self.places.at() + self.fetches_missed) % self.places.count().max(1);
        let (Some(core), Some(agent)) = (&mut self.core, self.places.agent(place).cloned()) else { return };
        let (cluster, Some((key, id))) = (core.cluster(), core.next_valueless()) else { return };
        let asked = key.clone();
        let answer = Box::pin(async move { agent.entry(cluster, &asked, &id).await });
        self.fetching = Some(Fetching { place, key, id, answer });
    }

    pub(super) fn fetched(&mut self, result: Result<Option<EntryFact>, ClientError>) {
        let (Some(Fetching { place, key, id, .. }), Some(core)) = (self.fetching.take(), &mut self.core)
        else {
            return;
        };
        let name = self.places.agent(place).map(|agent| agent.endpoint().to_string()).unwrap_or_default();
        match result {
            Ok(Some(fact)) => {
                core.hear_value(&name, &key, id, fact);
                self.fetches_missed = 0;
            }
            // It ended there meanwhile, and that will be told; if not, it is asked for again.
            Ok(None) => self.fetches_missed += 1,
            // What is read goes on.
            Err(error) => {
                self.fetches_missed += 1;
                self.shared.trouble.send_replace(Some(Trouble::of(name, &error)));
            }
        }
        self.report();
    }
}
