//! Values that an agent did not tell: of entries that this client shows and the agent does not, for example because their
//! clocks differ.

use super::VALUE_PATIENCE_US;
use super::core::Core;
use super::held::Why;
use super::offered::Offered;
use super::state::{Cause, Rejection};
use super::telling::Source;
use kvgossip_grants::{Code, EntryFact, EntryId, Key, Timestamp};
use std::sync::Arc;

/// A key that shows an entry whose value is not here.
pub(super) struct Valueless {
    id: EntryId,
    since: Timestamp,
    /// Whether it was said that no agent gives it.
    reported: bool,
}

impl Core {
    /// Notes whether a key shows an entry whose value is not here.
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

    /// A key that shows an entry whose value has yet to be asked for; it counts as asked for then.
    pub(crate) fn next_valueless(&mut self) -> Option<(Key, EntryId)> {
        let (keys, now) = (&mut self.keys, self.now);
        self.valueless.keys().find_map(|key| Some((key.clone(), keys.get_mut(key)?.ask_value(now)?)))
    }

    /// Whether a newer entry than the one shown before took its place, whose value has yet to be asked for: the older one is
    /// shown until then.
    pub(crate) fn keeps_older(&self, key: &Key) -> bool {
        self.valueless.contains_key(key) && matches!(self.cause(key), Some(Cause::Written(_)))
    }

    /// Whether the value of the entry that is shown has been asked for only just now, so that the end of the one before is not
    /// worth telling alone.
    pub(crate) fn expects_value(&self, key: &Key) -> bool {
        self.valueless.get(key).is_some_and(|lacking| !lacking.reported)
    }

    /// Says of which keys no agent gave the value for long.
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
            let (key, id, code) = (Some(key.clone()), Some(lacking.id.into()), Rejection::NO_VALUE.to_owned());
            // Nobody is to blame for what he does not have.
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
        // The id is the hash of the body, which was verified; reading the fact has compared the value with it.
        if held.contains(&id) {
            held.keep_value(Offered::Whole(fact));
            self.settle(key, Why::Told);
        }
    }
}
