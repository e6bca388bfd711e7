//! An entry as an agent tells it: with its value, or without.

use bytes::Bytes;
use kvgossip_grants::{Entry, EntryFact, EntryId, Rank, Signed};

/// What an entry weighs beside its value, in bytes: at least what it takes.
const ENTRY_WEIGHT: usize = 2048;

/// An entry that an agent told, or that waits. Its signature may not have been verified.
#[derive(Clone, Debug)]
pub(crate) enum Offered {
    /// The entry with its value.
    Whole(EntryFact),
    /// What was signed, without the value. A delete has none, and is whole this way, too.
    Front(Signed<Entry>),
}

impl Offered {
    pub(crate) fn signed(&self) -> &Signed<Entry> {
        match self {
            Self::Whole(fact) => fact.signed(),
            Self::Front(signed) => signed,
        }
    }

    pub(crate) fn entry(&self) -> &Entry {
        self.signed().body()
    }

    pub(crate) fn id(&self) -> EntryId {
        self.signed().id()
    }

    pub(crate) fn rank(&self) -> Rank {
        (self.entry().timestamp, self.id())
    }

    /// What it takes while it waits, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let value = match self {
            Self::Whole(fact) => fact.value().map_or(0, Bytes::len),
            Self::Front(_) => 0,
        };
        ENTRY_WEIGHT + value
    }

    /// The entry with its value, if it sets the key and the value was told.
    pub(crate) fn into_fact(self) -> Option<EntryFact> {
        match self {
            Self::Whole(fact) => Some(fact).filter(|fact| fact.value().is_some()),
            Self::Front(_) => None,
        }
    }
}
