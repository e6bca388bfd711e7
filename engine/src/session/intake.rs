//! Received facts on their way to a verdict.

use super::SessionError;
use kvgossip_grants::{Code, Fact, Verdict};
use std::collections::{BTreeMap, VecDeque};

/// After this many facts that can never be accepted, the peer is dropped.
pub const MAX_CHARGES: u32 = 8;
/// Authority facts of a flight that wait for their chain are kept up to this many bytes; beyond that they are left to
/// the next round.
pub const MAX_WAITING_BYTES: u64 = 32 << 20;

/// Names an offered fact until its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Facts that were received and have no final verdict yet.
#[derive(Debug, Default)]
pub(super) struct Intake {
    next: u64,
    waiting: VecDeque<(Ticket, Fact)>,
    /// Offered, with the bytes it weighs; authority facts are kept for another try.
    offered: BTreeMap<Ticket, (u64, Option<Box<Fact>>)>,
    /// Bytes of what waits or is offered.
    outstanding_bytes: u64,
    /// Authority facts without a live chain: offered again when others of the flight were merged.
    unjustified: Vec<Fact>,
    unjustified_bytes: u64,
    merged_in_pass: bool,
    changed: bool,
    charges: u32,
    pub(super) merged: u64,
    pub(super) moot: u64,
    pub(super) not_yet: u64,
    pub(super) unjustified_total: u64,
    pub(super) refused: u64,
    pub(super) waste: u64,
}

impl Intake {
    pub(super) fn push(&mut self, fact: Fact) {
        self.next += 1;
        self.outstanding_bytes += fact.payload_len() as u64;
        self.waiting.push_back((Ticket(self.next), fact));
    }

    pub(super) fn peek(&self) -> Option<&Fact> {
        self.waiting.front().map(|(_, fact)| fact)
    }

    pub(super) fn poll(&mut self) -> Option<(Ticket, Fact)> {
        let (ticket, fact) = self.waiting.pop_front()?;
        let again = fact.is_authority().then(|| Box::new(fact.clone()));
        self.offered.insert(ticket, (fact.payload_len() as u64, again));
        Some((ticket, fact))
    }

    pub(super) fn outstanding(&self) -> usize {
        self.offered.len() + self.waiting.len()
    }

    pub(super) fn outstanding_bytes(&self) -> u64 {
        self.outstanding_bytes
    }

    pub(super) fn handle_verdict(&mut self, ticket: Ticket, verdict: Verdict) -> Result<(), SessionError> {
        let Some((weight, again)) = self.offered.remove(&ticket) else { return Ok(()) };
        self.outstanding_bytes -= weight;
        // An authority fact that is offered again is not wasted yet.
        let is_offered_again = matches!((verdict, &again), (Verdict::Unjustified(_), Some(_)));
        if verdict != Verdict::Merged && !is_offered_again {
            self.waste += weight;
        }
        match (verdict, again) {
            (Verdict::Merged, _) => {
                self.merged += 1;
                self.merged_in_pass = true;
                self.changed = true;
            }
            (Verdict::Moot(_), _) => self.moot += 1,
            (Verdict::NotYet { .. }, _) => self.not_yet += 1,
            (Verdict::Unjustified(_), Some(fact)) if self.unjustified_bytes < MAX_WAITING_BYTES => {
                self.unjustified_bytes += weight;
                self.unjustified.push(*fact);
            }
            (Verdict::Unjustified(_), _) => self.unjustified_total += 1,
            (Verdict::Refused(code), _) => return self.charge(code),
            // Not the peer's fault: what it sends is read for the cluster of this side.
            (Verdict::Misused(_), _) => self.refused += 1,
        }
        Ok(())
    }

    /// Counts a fact that can never be accepted.
    pub(super) fn charge(&mut self, code: Code) -> Result<(), SessionError> {
        self.refused += 1;
        self.charges += 1;
        if self.charges >= MAX_CHARGES { Err(SessionError::Misbehaved(code)) } else { Ok(()) }
    }

    /// Whether anything was merged since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether every received fact has its verdict. Offers authority facts again as long as that helps.
    pub(super) fn settle(&mut self) -> bool {
        if self.outstanding() > 0 {
            return false;
        }
        debug_assert_eq!(self.outstanding_bytes, 0, "nothing waits");
        let unjustified = std::mem::take(&mut self.unjustified);
        self.unjustified_bytes = 0;
        if std::mem::take(&mut self.merged_in_pass) && !unjustified.is_empty() {
            unjustified.into_iter().for_each(|fact| self.push(fact));
            return false;
        }
        self.unjustified_total += unjustified.len() as u64;
        self.waste += unjustified.iter().map(|fact| fact.payload_len() as u64).sum::<u64>();
        true
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
