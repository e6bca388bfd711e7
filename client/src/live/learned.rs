//! Facts that are known from other agents than the connected one.

use super::MAX_LEARNED;
use kvgossip_grants::{EntryFact, FactId, Key};
use std::collections::BTreeMap;

/// Fact that is known only from other agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Revocation or floor; the fact itself is kept with the authority.
    Ends,
    /// Entry of this key. For a delete the fact is included; other entries are kept with the state of their
    /// key.
    Entry(Key, Option<Box<EntryFact>>),
}

/// Facts that other agents sent and the connected one has not, at most [`MAX_LEARNED`]. Further ones are taken
/// in too, but not handed over.
#[derive(Debug, Default)]
pub(super) struct Learned(pub(super) BTreeMap<FactId, What>);

impl Learned {
    /// Records that an agent other than the connected one sent the fact with this id, if there is room.
    pub(super) fn note(&mut self, id: FactId, what: What) {
        if self.0.len() < MAX_LEARNED {
            self.0.insert(id, what);
        }
    }

    /// Records that the connected agent sent the fact with this id.
    pub(super) fn note_told(&mut self, id: &FactId) {
        self.0.remove(id);
    }

    /// Forgets all revocations and floors, because the connected agent holds them, too.
    pub(super) fn clear_authority(&mut self) {
        self.0.retain(|_, what| *what != What::Ends);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
