//! Entry as sent by an agent, with or without its value.

use bytes::Bytes;
use kvgossip_grants::{Entry, EntryFact, EntryId, Rank, Signed};

/// Weight of an entry without its value, in bytes; an upper estimate of its memory.
const ENTRY_WEIGHT: usize = 2048;

/// Entry as an agent sent it, or as it waits. Its signature may not have been verified.
#[derive(Clone, Debug)]
pub(crate) enum Offered {
    /// Entry with its value.
    Whole(EntryFact),
    /// Signed body without the value. A delete has no value, so it is complete in this form too.
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

    /// Memory that the entry takes while it waits, in bytes; an upper estimate.
    pub(crate) fn weight(&self) -> usize {
        let value = match self {
            Self::Whole(fact) => fact.value().map_or(0, Bytes::len),
            Self::Front(_) => 0,
        };
        ENTRY_WEIGHT + value
    }

    /// Returns the entry with its value, if it sets the key and the value was sent.
    pub(crate) fn into_fact(self) -> Option<EntryFact> {
        match self {
            Self::Whole(fact) => Some(fact).filter(|fact| fact.value().is_some()),
            Self::Front(_) => None,
        }
    }
}
