//! The authority set of a replica's own store.

use super::Authority;
use crate::fact::MAX_DEPTH;
use crate::id::FactId;
use crate::public_key::PublicKey;
use crate::record::Fact;
use crate::verdict::{Code, Verdict};

/// Why facts are not the authority set of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// A fact has no place in the set.
    #[error("authority fact {fact} has no place beside the others: {code}")]
    Misplaced {
        /// The fact.
        fact: FactId,
        /// Why.
        code: Code,
    },
    /// A fact stands beside the one that ended it.
    #[error("authority fact {fact} stands beside {by}, which ended it")]
    Ended {
        /// The fact.
        fact: FactId,
        /// What ended it.
        by: FactId,
    },
}

impl Authority {
    /// Rebuilds the authority set from the facts that a replica stored, in any order.
    ///
    /// Signatures are not verified: the replica verified each one before it stored the fact, and 100,000 of them would
    /// delay its start by seconds. Everything else is judged as for a fact from a peer, and the facts must be a normal
    /// form: each has a place, and none ends another. That does not make facts from elsewhere safe. So there is no way
    /// to one `Verified` fact from here, only to the whole set, and the function exists only with the feature
    /// `own-store`, which `kvgossip-engine` alone enables.
    ///
    /// # Errors
    /// The first fact that has no place in the set of this cluster.
    pub fn from_own_store(root: PublicKey, facts: Vec<Fact>) -> Result<Self, StoredError> {
        let mut authority = Self::new(root);
        let mut waiting = facts;
        // A grant has a place once its parent is there: each round takes in one more level, then what revokes at the last.
        for _ in 0..=MAX_DEPTH {
            let mut early = Vec::new();
            for fact in waiting {
                match authority.take_stored(&fact) {
                    Ok(()) => {}
                    Err(StoredError::Misplaced { code: Code::GrantUnknown, .. }) => early.push(fact),
                    Err(error) => return Err(error),
                }
            }
            waiting = early;
        }
        match waiting.first() {
            Some(fact) => Err(StoredError::Misplaced { fact: fact.id(), code: Code::GrantUnknown }),
            None => Ok(authority),
        }
    }

    /// The same for a store whose sweep has not ended: what other stored facts ended is still there. It is left out of the
    /// set, and its ids are given beside it.
    pub fn from_own_unswept_store(root: PublicKey, facts: Vec<Fact>) -> (Self, Vec<FactId>) {
        let mut authority = Self::new(root);
        let stored: Vec<FactId> = facts.iter().map(Fact::id).collect();
        let (mut waiting, mut before) = (facts, usize::MAX);
        while waiting.len() < before {
            before = waiting.len();
            waiting.retain(|fact| authority.take(fact.clone()).verdict != Verdict::Merged);
        }
        let ended = stored.into_iter().filter(|id| !authority.contains(id)).collect();
        (authority, ended)
    }

    fn take_stored(&mut self, fact: &Fact) -> Result<(), StoredError> {
        let by = fact.id();
        let change = self.take(fact.clone());
        match (change.verdict, change.dropped.first()) {
            (Verdict::Merged, None) => Ok(()),
            (Verdict::Merged, Some(fact)) => Err(StoredError::Ended { fact: *fact, by }),
            (verdict, _) => {
                Err(StoredError::Misplaced { fact: by, code: verdict.code().unwrap_or(Code::Malformed) })
            }
        }
    }
}
