//! Rows of what ended, which leave the store a few at a time.
//!
//! A revocation may end any number of entries at once. The state changes in the batch of the revocation; removing all
//! their rows in it as well would hold other writers up. So what goes over a limit is removed afterwards, and until
//! then a mark in the store says that it holds more than the state: see [`Summary::sweep_pending`].
//!
//! What ended is dead for good, so nothing is lost when a process ends meanwhile: at opening, rows that are not part of
//! the state are found and removed as if nothing had happened.
//!
//! [`Summary::sweep_pending`]: crate::Summary::sweep_pending

use crate::storage::Write;
use crate::view::View;
use kvgossip_grants::{EntryId, FactId, GrantId, Key};
use std::collections::VecDeque;

/// Rows that one batch of a sweep removes at most.
pub const MAX_SWEEP_ROWS: usize = 2_000;
/// Ended entries and authority facts that a batch of facts removes itself, beside one for each of its facts.
pub const MAX_REMOVED_AT_ONCE: usize = 256;
/// Ended entries and authority facts that are remembered for a sweep. What goes beyond is found at the next opening.
pub const MAX_UNSWEPT: usize = 1 << 20;

/// Something that ended and is stored.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// An entry of the key, and the grant that it cites.
    Entry(Key, EntryId, Option<GrantId>),
    Authority(FactId),
}

impl Ended {
    /// The most rows that it has.
    const fn rows(&self) -> usize {
        match self {
            // Its record, its row of the index, its citation.
            Self::Entry(..) => 3,
            Self::Authority(_) => 1,
        }
    }

    /// Removes the rows that the state does not contain. A citation may be needed again by a newer entry.
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

/// What is still to be removed.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    queue: VecDeque<Ended>,
    /// Something was too much to remember.
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

    /// Whether anything is stored that the state does not contain.
    pub(crate) fn is_pending(&self) -> bool {
        self.overflowed || !self.queue.is_empty()
    }

    /// Whether [`Sweep::next`] has something to do.
    pub(crate) fn is_due(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Removals of at most [`MAX_SWEEP_ROWS`] rows.
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
