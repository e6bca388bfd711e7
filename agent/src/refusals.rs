//! The last facts that were not taken in, for an operator to look at.

use kvgossip_api::RefusalRow;
use kvgossip_grants::{Code, Fact, FactId, Key, Timestamp, Verdict};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many refusals are remembered.
pub const MAX_REFUSALS: usize = 1024;

/// What a refusal says of a fact. Kept while the fact itself is on its way.
pub(crate) struct FactName {
    id: FactId,
    kind: &'static str,
    key: Option<Key>,
}

impl FactName {
    pub(crate) fn of(fact: &Fact) -> Self {
        let key = match fact {
            Fact::Entry(entry) => Some(entry.entry().key.clone()),
            _ => None,
        };
        Self { id: fact.id(), kind: fact.kind(), key }
    }
}

/// A bounded ring of refusals.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<VecDeque<RefusalRow>>);

impl Refusals {
    /// Remembers a fact that was not taken in.
    pub(crate) fn note(&self, from: &str, fact: &FactName, verdict: Verdict, now: Timestamp) {
        let Some(code) = verdict.code().filter(|_| !verdict.is_taken_in()) else { return };
        self.push(RefusalRow {
            at_us: now.as_micros(),
            from: from.into(),
            id: Some(fact.id.to_string()),
            kind: fact.kind.into(),
            key: fact.key.as_ref().map(Key::to_string),
            verdict: verdict.as_str().into(),
            code: code.as_str().into(),
        });
    }

    /// Remembers bytes that are no fact.
    pub fn note_bytes(&self, from: &str, code: Code, now: Timestamp) {
        self.push(RefusalRow {
            at_us: now.as_micros(),
            from: from.into(),
            id: None,
            kind: "unknown".into(),
            key: None,
            verdict: "refused".into(),
            code: code.as_str().into(),
        });
    }

    fn push(&self, row: RefusalRow) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == MAX_REFUSALS {
            ring.pop_front();
        }
        ring.push_back(row);
    }

    /// Newest first.
    pub fn list(&self) -> Vec<RefusalRow> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().cloned().collect()
    }
}
