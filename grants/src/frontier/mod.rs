//! The frontier of a key and the entry of it that is shown. Replicas and clients use this one implementation of the
//! rules.
//!
//! The *frontier* of a key is the set of its valid entries that no other valid entry dominates. Its size cannot be
//! capped: whoever may pass authority on can write one entry under each of thousands of own grants. So adding an entry
//! costs at most the logarithm of the size, and removing many entries costs at most slightly more than their number.

mod iter;
mod large;
mod meta;
mod path;
#[cfg(test)]
mod tests;
mod tree;

pub use iter::{ById, NewestFirst};
pub use meta::{EntryMeta, Rank};

use crate::authority::LiveGrant;
use crate::id::EntryId;
use crate::time::Timestamp;
use large::Large;
use std::fmt;
use std::sync::Arc;

/// Largest frontier that is kept as one list with linear search. Nearly all keys have one entry.
pub const MAX_FRONTIER_LIST: usize = 16;

/// An entry of a frontier with additional data of the frontier's owner.
#[derive(Clone, Debug)]
pub struct StandingEntry<P> {
    /// Properties of the entry that the rules of the frontier use.
    pub meta: EntryMeta,
    /// Data that the frontier's owner attaches to the entry; the frontier does not use it.
    pub payload: P,
}

/// The valid entries of one key that no other dominates. A clone costs constant time and is a snapshot.
///
/// The owner validates entries: an offered entry must have the frontier's key, cite a live grant and not lie below a
/// floor. The owner reports later ends of grants and new floors by [`Frontier::end_below`] and [`Frontier::end_older`].
#[derive(Clone)]
pub struct Frontier<P>(Repr<P>);

/// Representation of a frontier by its number of entries; a single entry, the usual case, needs no allocation.
#[derive(Clone)]
enum Repr<P> {
    Empty,
    One(StandingEntry<P>),
    /// 2 to [`MAX_FRONTIER_LIST`] entries in one list, newest first.
    List(Arc<Vec<StandingEntry<P>>>),
    /// More than [`MAX_FRONTIER_LIST`] entries, in trees.
    Large(Large<P>),
}

/// Limits the size of a frontier in memory, since a replica of a million keys holds a million frontiers.
const _: () = assert!(size_of::<Frontier<()>>() <= 56);

/// Result of offering an entry to a frontier by [`Frontier::offer`].
#[derive(Clone, Debug)]
pub enum Offer<P> {
    /// The offered entry was in the frontier already.
    Known,
    /// An entry of the frontier dominates the offered one.
    Dominated,
    /// The offered entry was added.
    Stands {
        /// Entries that the new entry dominates; they are no longer in the frontier.
        ended: Vec<StandingEntry<P>>,
    },
}

impl<P> Default for Frontier<P> {
    fn default() -> Self {
        Self(Repr::Empty)
    }
}

impl<P: fmt::Debug> fmt::Debug for Frontier<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.newest_first()).finish()
    }
}

impl<P> Frontier<P> {
    /// Creates an empty frontier.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the entries of a small frontier as `Ok`, newest first, and a large frontier as `Err`.
    fn list(&self) -> Result<&[StandingEntry<P>], &Large<P>> {
        match &self.0 {
            Repr::Empty => Ok(&[]),
            Repr::One(entry) => Ok(std::slice::from_ref(entry)),
            Repr::List(list) => Ok(list),
            Repr::Large(large) => Err(large),
        }
    }

    /// Returns the number of entries, masked ones included.
    pub fn len(&self) -> usize {
        self.list().map_or_else(Large::len, <[_]>::len)
    }

    /// Whether the frontier has no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the entry with this id; `None` if it is not in the frontier.
    pub fn get(&self, id: &EntryId) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => list.iter().find(|entry| entry.meta.id == *id),
            Err(large) => large.get(id),
        }
    }

    /// Whether the entry with this id is in the frontier.
    pub fn contains(&self, id: &EntryId) -> bool {
        self.get(id).is_some()
    }

    /// Returns the entry that cites exactly this grant; for `None`, root's entry. There is at most one, since a newer
    /// entry of the same grant dominates an older one.
    pub fn of_grant(&self, grant: Option<&Arc<LiveGrant>>) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => {
                let id = grant.map(|grant| grant.id());
                list.iter().find(|entry| entry.meta.grant_id() == id)
            }
            Err(large) => large.of_grant(grant),
        }
    }

    /// Returns the newest entry, masked or not; `None` if the frontier is empty.
    pub fn newest(&self) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => list.first(),
            Err(large) => large.newest(),
        }
    }

    /// Returns the oldest entry, masked or not; `None` if the frontier is empty.
    pub fn oldest(&self) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => list.last(),
            Err(large) => large.oldest(),
        }
    }

    /// Whether an entry cites `grant` or a grant below it.
    pub fn has_below(&self, grant: &Arc<LiveGrant>) -> bool {
        match self.list() {
            Ok(list) => list.iter().any(|entry| entry.meta.stands_below(grant)),
            Err(large) => large.has_below(grant),
        }
    }

    /// Returns the entry that a reader sees at `now`: the newest that is not masked. It may be a delete. `None` if all
    /// entries are masked or there are none.
    pub fn shown(&self, now: Timestamp) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => list.iter().find(|entry| !entry.meta.is_masked(now)),
            Err(large) => large.shown(now),
        }
    }

    /// Iterates over the entries, newest first.
    pub fn newest_first(&self) -> NewestFirst<'_, P> {
        NewestFirst::new(self.list().map_err(Large::newest_first))
    }

    /// Iterates over the entries older than `rank`, newest first: the next page after one that ended at `rank`. The
    /// entry at `rank` need not exist any more.
    pub fn newest_first_after(&self, rank: Rank) -> NewestFirst<'_, P> {
        NewestFirst::new(match self.list() {
            Ok(list) => Ok(&list[list.partition_point(|entry| entry.meta.rank() >= rank)..]),
            Err(large) => Err(large.newest_first_after(rank)),
        })
    }

    /// Iterates over the entries in ascending order of ids.
    pub fn by_id(&self) -> ById<'_, P> {
        ById::new(self.list().map_err(Large::by_id))
    }

    /// Whether an entry of the frontier dominates `meta`, which need not be in the frontier.
    pub fn dominates(&self, meta: &EntryMeta) -> bool {
        match self.list() {
            Ok(list) => list.iter().any(|entry| entry.meta.dominates(meta)),
            Err(large) => large.dominates(meta),
        }
    }

    /// Iterates over the ids of the entries in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = EntryId> + use<'_, P> {
        self.by_id().map(|entry| entry.meta.id)
    }
}

impl<P: Clone> Frontier<P> {
    /// Adds an entry unless it is known or dominated, and removes the entries that it dominates.
    pub fn offer(&mut self, meta: EntryMeta, payload: P) -> Offer<P> {
        if self.contains(&meta.id) {
            return Offer::Known;
        }
        if self.dominates(&meta) {
            return Offer::Dominated;
        }
        let ended = self.end(|large| large.end_dominated(&meta), |entry| meta.dominates(entry));
        self.insert(StandingEntry { meta, payload });
        Offer::Stands { ended }
    }

    /// Removes and returns the entries that cite `grant` or a grant below it; called when the grant has ended.
    pub fn end_below(&mut self, grant: &Arc<LiveGrant>) -> Vec<StandingEntry<P>> {
        self.end(|large| large.end_below(grant), |entry| entry.stands_below(grant))
    }

    /// Removes and returns the entries written before `before`; called for a new floor.
    pub fn end_older(&mut self, before: Timestamp) -> Vec<StandingEntry<P>> {
        self.end(|large| large.end_older(before), |entry| entry.timestamp < before)
    }

    /// Removes and returns the entries that are early at local time `now`; called when an operator has early entries
    /// forgotten.
    pub fn end_early(&mut self, now: Timestamp) -> Vec<StandingEntry<P>> {
        self.end(|large| large.end_early(now), |entry| entry.early_until(now).is_some())
    }

    /// Removes and returns the entry at `rank` and all older ones; called by an owner that has no room for them.
    pub fn end_down_from(&mut self, rank: Rank) -> Vec<StandingEntry<P>> {
        self.end(|large| large.end_down_from(rank), |entry| entry.rank() <= rank)
    }

    /// Removes the entries that a function selects and returns them in no particular order.
    fn end(
        &mut self,
        from_large: impl FnOnce(&mut Large<P>) -> Vec<Arc<StandingEntry<P>>>,
        is_gone: impl Fn(&EntryMeta) -> bool,
    ) -> Vec<StandingEntry<P>> {
        if let Repr::Large(large) = &mut self.0 {
            let gone = from_large(large);
            if large.len() <= MAX_FRONTIER_LIST {
                let left = large.newest_first().map(|entry| StandingEntry::clone(entry)).collect();
                self.set_list(left);
            }
            return gone.into_iter().map(Arc::unwrap_or_clone).collect();
        }
        if !self.newest_first().any(|entry| is_gone(&entry.meta)) {
            return Vec::new();
        }
        let (gone, left) = self.take_list().into_iter().partition(|entry| is_gone(&entry.meta));
        self.set_list(left);
        gone
    }

    fn insert(&mut self, entry: StandingEntry<P>) {
        if let Repr::Large(large) = &mut self.0 {
            return large.insert(entry);
        }
        let mut list = self.take_list();
        list.insert(list.partition_point(|other| other.meta.is_newer_than(&entry.meta)), entry);
        self.set_list(list);
    }

    /// Takes all entries, newest first, out of a frontier of at most [`MAX_FRONTIER_LIST`] entries; returns none of a
    /// larger one.
    fn take_list(&mut self) -> Vec<StandingEntry<P>> {
        match std::mem::replace(&mut self.0, Repr::Empty) {
            Repr::One(entry) => vec![entry],
            Repr::List(list) => Arc::unwrap_or_clone(list),
            Repr::Empty | Repr::Large(_) => Vec::new(),
        }
    }

    /// Stores entries, given newest first, in the representation for their number.
    fn set_list(&mut self, mut list: Vec<StandingEntry<P>>) {
        debug_assert!(is_frontier(&list), "the newest first, and none dominates another");
        self.0 = match list.len() {
            0 | 1 => list.pop().map_or(Repr::Empty, Repr::One),
            2..=MAX_FRONTIER_LIST => Repr::List(Arc::new(list)),
            _ => Repr::Large(Large::new(list)),
        };
    }
}

/// Whether a list of entries is a valid frontier: newest first, and none dominates another.
fn is_frontier<P>(list: &[StandingEntry<P>]) -> bool {
    let metas = || list.iter().map(|entry| &entry.meta);
    let stands = |(at, newer): (usize, &EntryMeta)| {
        metas().skip(at + 1).all(|older| newer.is_newer_than(older) && !newer.dominates(older))
    };
    metas().enumerate().all(stands)
}
