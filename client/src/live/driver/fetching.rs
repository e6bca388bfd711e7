//! Requests values that an agent did not send.

use super::Driver;
use crate::error::ClientError;
use crate::live::state::Trouble;
use kvgossip_grants::{EntryFact, EntryId, Key};
use std::pin::Pin;

/// Running request for the value of one entry.
pub(super) struct Fetching {
    place: usize,
    key: Key,
    id: EntryId,
    pub(super) answer: Pin<Box<dyn Future<Output = Result<Option<EntryFact>, ClientError>> + Send>>,
}

impl Driver {
    /// Requests a missing value, one at a time: from the connected agent first, then from the next after each
    /// one that did not give it. So an agent that withholds a value cannot keep it from a client that knows
    /// other agents.
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
            // The entry ended there meanwhile, which its stream will report; otherwise it is requested again.
            Ok(None) => self.fetches_missed += 1,
            // The open stream continues.
            Err(error) => {
                self.fetches_missed += 1;
                self.shared.trouble.send_replace(Some(Trouble::of(name, &error)));
            }
        }
        self.report();
    }
}
