//! The most recent facts that were not accepted, for the operator.

use kvgossip_api::RefusalRow;
use kvgossip_grants::{Code, Fact, FactId, Key, Timestamp, Verdict};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

/// Maximum number of refusals remembered of all sources together.
pub const MAX_REFUSALS: usize = 1024;
/// Maximum number of refusals remembered per source; the source's oldest are dropped first.
pub(crate) const MAX_REFUSALS_PER_SOURCE: usize = 128;

/// Id, kind and key of a fact, for the list of refusals, taken before the fact is handed on.
pub(crate) struct FactName {
    pub(crate) id: FactId,
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

/// Refusals by source, each source's oldest first, numbered by arrival at the agent.
#[derive(Debug, Default)]
struct Rings {
    next: u64,
    rows: usize,
    by_source: BTreeMap<String, VecDeque<(u64, RefusalRow)>>,
}

impl Rings {
    fn push(&mut self, row: RefusalRow) {
        let ring = self.by_source.entry(row.from.clone()).or_default();
        ring.push_back((self.next, row));
        self.next += 1;
        self.rows += 1;
        if ring.len() > MAX_REFUSALS_PER_SOURCE {
            ring.pop_front();
            self.rows -= 1;
        }
        if self.rows > MAX_REFUSALS {
            self.drop_one();
        }
    }

    /// Drops the oldest refusal of the source with the most refusals.
    fn drop_one(&mut self) {
        let age =
            |ring: &VecDeque<(u64, RefusalRow)>| ring.front().map_or(0, |(number, _)| u64::MAX - number);
        let longest = self.by_source.iter_mut().max_by_key(|(_, ring)| (ring.len(), age(ring)));
        if let Some((source, ring)) = longest {
            self.rows -= usize::from(ring.pop_front().is_some());
            if ring.is_empty() {
                let source = source.clone();
                self.by_source.remove(&source);
            }
        }
    }
}

/// The last refusals of facts, at most [`MAX_REFUSALS`] and at most 128 per source, so that no source displaces all
/// others.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Rings>);

impl Refusals {
    /// Records a fact that was not accepted. `from`: its source.
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

    /// Records bytes that do not decode to a fact. `from`: their source.
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
        self.0.lock().push(row);
    }

    /// Returns all remembered refusals, newest first.
    pub fn list(&self) -> Vec<RefusalRow> {
        let rings = self.0.lock();
        let mut rows: Vec<_> = rings.by_source.values().flatten().collect();
        rows.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        rows.into_iter().map(|(_, row)| row.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(refusals: &Refusals, from: &str) {
        refusals.note_bytes(from, Code::Malformed, Timestamp::ZERO);
    }

    #[test]
    fn one_source_does_not_flood_the_others_out() {
        let refusals = Refusals::default();
        note(&refusals, "honest");
        (0..100_000).for_each(|_| note(&refusals, "hostile"));
        let rows = refusals.list();
        assert_eq!(rows.len(), 1 + MAX_REFUSALS_PER_SOURCE);
        assert_eq!(rows.iter().filter(|row| row.from == "honest").count(), 1);
        assert_eq!(rows.first().map(|row| row.from.as_str()), Some("hostile"), "newest first");
    }

    #[test]
    fn all_together_are_bounded_and_the_one_with_most_gives_way() {
        let refusals = Refusals::default();
        note(&refusals, "honest");
        for number in 0..50 {
            (0..MAX_REFUSALS_PER_SOURCE).for_each(|_| note(&refusals, &format!("hostile {number}")));
        }
        let rows = refusals.list();
        assert_eq!(rows.len(), MAX_REFUSALS);
        assert_eq!(rows.last().map(|row| row.from.as_str()), Some("honest"));
        (0..2 * MAX_REFUSALS).for_each(|number| note(&refusals, &format!("many {number}")));
        assert_eq!(refusals.list().len(), MAX_REFUSALS);
    }
}
