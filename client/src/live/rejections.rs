//! Statements of agents that do not verify: a count, the most recent ones, and the agents to blame.

use super::MAX_REJECTIONS;
use super::state::Rejection;
use std::collections::{BTreeSet, VecDeque};

#[derive(Debug, Default)]
pub(crate) struct Rejections {
    count: u64,
    last: VecDeque<Rejection>,
    /// Endpoints to blame since the last call of [`Rejections::take_blamed`].
    blamed: BTreeSet<String>,
}

impl Rejections {
    /// Records a rejection. `blames`: no honest agent would send the rejected statement.
    pub(super) fn note(&mut self, rejection: Rejection, blames: bool) {
        self.count += 1;
        if blames {
            self.blamed.insert(rejection.endpoint.clone());
        }
        if self.last.len() >= MAX_REJECTIONS {
            self.last.pop_front();
        }
        self.last.push_back(rejection);
    }

    /// Number of rejections since the client was created.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Number of rejections since the client was created, and the most recent ones, at most `MAX_REJECTIONS`,
    /// oldest first.
    pub(crate) fn list(&self) -> (u64, Vec<Rejection>) {
        (self.count, self.last.iter().cloned().collect())
    }

    /// Returns the endpoints to blame since the last call, and forgets them.
    pub(crate) fn take_blamed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.blamed)
    }
}
