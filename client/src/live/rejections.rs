//! What agents said that does not verify: counted, the last of it kept, and whom to blame.

use super::MAX_REJECTIONS;
use super::state::Rejection;
use std::collections::{BTreeSet, VecDeque};

#[derive(Debug, Default)]
pub(crate) struct Rejections {
    count: u64,
    last: VecDeque<Rejection>,
    /// Endpoints that said something since the last time it was asked.
    blamed: BTreeSet<String>,
}

impl Rejections {
    /// Notes one; `blames`: no honest agent says that.
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

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many there were, and the last of them, oldest first.
    pub(crate) fn list(&self) -> (u64, Vec<Rejection>) {
        (self.count, self.last.iter().cloned().collect())
    }

    /// Whom to blame since the last time.
    pub(crate) fn take_blamed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.blamed)
    }
}
