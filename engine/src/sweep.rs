//! Removes the rows of ended facts from the store, a few at a time.
//!
//! A revocation may end any number of entries at once. The state changes in the batch of the revocation, but removing
//! all their rows in that batch would delay other writers. So the rows above a limit are removed afterwards, and until
//! then a flag in the store marks that it holds more than the state: see [`Summary::sweep_pending`].
//!
//! Ended facts never become live again, so nothing is lost if the process ends before the sweep: at the next opening,
//! rows that are not part of the state are found and removed.
//!
//! [`Summary::sweep_pending`]: crate::Summary::sweep_pending

use crate::storage::Write;
use crate::view::View;
use kvgossip_grants::{EntryId, FactId, GrantId, Key};
use std::collections::VecDeque;

/// Maximum number of rows that one batch of a sweep removes from the store.
pub const MAX_SWEEP_ROWS: usize = 2_000;
/// Number of ended entries and authority facts that a batch of facts removes itself, in addition to one for each of its
/// facts.
pub const MAX_REMOVED_AT_ONCE: usize = 256;
/// Maximum number of ended entries and authority facts that are remembered for a sweep. Further ones are found at the
/// next opening.
pub const MAX_UNSWEPT: usize = 1 << 20;

/// A fact that has ended and whose rows are still in the store.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// An entry: its key, its id and the grant that it cites.
    Entry(Key, EntryId, Option<GrantId>),
    Authority(FactId),
}

impl Ended {
    /// Returns the maximum number of rows that the store has for this fact.
    const fn rows(&self) -> usize {
        match self {
            // Its record, its index row and its citation.
            Self::Entry(..) => 3,
            Self::Authority(_) => 1,
        }
    }

    /// Writes the removals of rows that are not part of the state. A citation is kept if a newer entry needs it.
    pub(crate) fn remove(&self, view: &View, writes: &mut Vec<Write>) {
        match self {
            Self::Authority(id) if view.authority.contains(id) => {}
            Self::Authority(id) => writes.push(Write::RemoveAuthority(*id)),
            Self::Entry(key, id, grant) => {
                let frontier = view.frontier(key);
                if !frontier.is_some_and(|frontier| frontier.contains(id)) {
                    writes.push(Write::RemoveEntry(key.clone(), *id));
                }
                let Some(grant) = grant else { return };
                let is_cited = view.authority.grant(grant).is_some_and(|live| {
                    frontier.is_some_and(|frontier| frontier.of_grant(Some(live)).is_some())
                });
                if !is_cited {
                    writes.push(Write::RemoveCitation(*grant, key.clone()));
                }
            }
        }
    }
}

/// Queue of ended facts whose rows are still to be removed from the store.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    queue: VecDeque<Ended>,
    /// Whether the queue had no room for a fact, so that rows will remain until the next opening.
    overflowed: bool,
}

impl Sweep {
    pub(crate) fn push(&mut self, ended: Ended) {
        if self.queue.len() < MAX_UNSWEPT {
            self.queue.push_back(ended);
        } else {
            self.overflowed = true;
        }
    }

    /// Whether the store holds facts that are not part of the state.
    pub(crate) fn is_pending(&self) -> bool {
        self.overflowed || !self.queue.is_empty()
    }

    /// Whether [`Sweep::next`] has rows to remove.
    pub(crate) fn is_due(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns removals of at most [`MAX_SWEEP_ROWS`] rows of ended facts; none if the queue is empty.
    pub(crate) fn next(&mut self, view: &View) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut left = MAX_SWEEP_ROWS;
        while let Some(ended) = self.queue.front().filter(|ended| ended.rows() <= left) {
            left -= ended.rows();
            ended.remove(view, &mut writes);
            self.queue.pop_front();
        }
        writes
    }
}
