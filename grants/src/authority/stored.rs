//! Rebuilds the authority set from a replica's own store.

use super::Authority;
use crate::fact::MAX_DEPTH;
use crate::id::FactId;
use crate::public_key::PublicKey;
use crate::record::Fact;
use crate::verdict::{Code, Verdict};

/// Reason why stored facts are not a valid authority set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// A stored fact cannot be merged into the set: it is refused, moot, or its chain is not live.
    #[error("authority fact {fact} has no place beside the others: {code}")]
    Misplaced {
        /// Id of the fact that cannot be merged.
        fact: FactId,
        /// Reason why it cannot be merged.
        code: Code,
    },
    /// A fact is stored together with a fact that ended it.
    #[error("authority fact {fact} stands beside {by}, which ended it")]
    Ended {
        /// Id of the stored fact that should have been removed.
        fact: FactId,
        /// Id of the stored fact that ended it.
        by: FactId,
    },
}

impl Authority {
    /// Rebuilds the authority set from the facts in a replica's own store, given in any order.
    ///
    /// Signatures are not verified: the replica verified each one before it stored the fact, and verifying 100,000 of
    /// them would delay its start by seconds. Everything else is checked as for facts from a peer, and the facts must
    /// be in normal form: each can be merged, and none ends another. This does not make facts from elsewhere safe.
    /// Therefore this function returns only the whole set, never a `Verified` fact, and exists only with the feature
    /// `own-store`, which only `kvgossip-engine` enables.
    ///
    /// # Errors
    /// The first fact that cannot be merged into the set of this cluster, or that another stored fact ended.
    pub fn from_own_store(root: PublicKey, facts: Vec<Fact>) -> Result<Self, StoredError> {
        let mut authority = Self::new(root);
        let mut waiting = facts;
        // A grant can be merged once its parent is there: each round merges one more level, and the last round the
        // revocations of the deepest grants.
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

    /// Rebuilds the set from a store whose sweep has not finished, which still contains facts that other stored facts
    /// ended. Returns the set without those facts, and their ids.
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
