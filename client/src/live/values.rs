//! Missing values: of entries that this client shows and the agent does not, for example because their clocks
//! differ.

use super::VALUE_PATIENCE_US;
use super::core::{Core, Valueless};
use super::held::Why;
use super::offered::Offered;
use super::state::{Cause, Rejection};
use super::telling::Source;
use kvgossip_grants::{Code, EntryFact, EntryId, Key};
use std::sync::Arc;

impl Core {
    /// Updates whether the key shows an entry whose value is missing, in `valueless`.
    pub(super) fn note_valueless(&mut self, key: &Key) {
        let Some(id) = self.keys.get(key).and_then(|held| held.lacks_value(self.now)) else {
            self.valueless.remove(key);
            return;
        };
        let lacking = Valueless { id, since: self.now, reported: false };
        match self.valueless.get_mut(key) {
            Some(known) if known.id == id => {}
            Some(known) => *known = lacking,
            None => {
                self.valueless.insert(key.clone(), lacking);
            }
        }
    }

    /// Returns a key and shown entry whose value should be requested now; records the request.
    pub(crate) fn next_valueless(&mut self) -> Option<(Key, EntryId)> {
        let (keys, now) = (&mut self.keys, self.now);
        self.valueless.keys().find_map(|key| Some((key.clone(), keys.get_mut(key)?.ask_value(now)?)))
    }

    /// Returns whether a newer entry has taken the place of the shown one while its value is still missing; the
    /// older value stays visible until then.
    pub(crate) fn keeps_older(&self, key: &Key) -> bool {
        self.valueless.contains_key(key) && matches!(self.cause(key), Some(Cause::Written(_)))
    }

    /// Returns whether the missing value of the shown entry is still expected, so that the end of the previous
    /// entry is not published alone.
    pub(crate) fn expects_value(&self, key: &Key) -> bool {
        self.valueless.get(key).is_some_and(|lacking| !lacking.reported)
    }

    /// Reports keys whose value no agent has provided for a long time.
    pub(super) fn report_valueless(&mut self) {
        let now = self.now;
        for (key, lacking) in &mut self.valueless {
            // The clock may have been set back.
            lacking.since = lacking.since.min(now);
            if lacking.reported || now < lacking.since.saturating_add(VALUE_PATIENCE_US) {
                continue;
            }
            lacking.reported = true;
            self.changes.keys.insert(key.clone());
            let (key, id, code) =
                (Some(key.clone()), Some(lacking.id.into()), Rejection::NO_VALUE.to_owned());
            // Not having a value is no fault of any agent.
            self.rejections.note(Rejection { endpoint: String::new(), key, id, code, at: now }, false);
        }
    }

    /// Takes in the entry `id` of `key` with its value.
    pub(crate) fn hear_value(&mut self, endpoint: &str, key: &Key, id: EntryId, fact: EntryFact) {
        let Some(held) = self.keys.get_mut(key) else { return };
        if fact.id() != id {
            let source = Source { endpoint: Arc::from(endpoint), stream: None };
            return self.reject(&source, Some(key), Some(fact.id().into()), Code::Malformed);
        }
        // The id is the hash of the verified body, and parsing the fact has compared the value with it.
        if held.contains(&id) {
            held.keep_value(Offered::Whole(fact));
            self.settle(key, Why::Told);
        }
    }
}
