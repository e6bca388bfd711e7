//! Which entries of a key stand, and which of them is shown: the one place of these rules, for replicas and clients.
//!
//! The *frontier* of a key are its valid entries that no other valid one dominates. It cannot be capped: whoever may
//! pass authority on can make it long, with one entry under each of thousands of own grants. So an entry costs at most
//! the logarithm of its length, and ending many at once costs at most a little more than their number.

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

/// Up to this many entries lie in one list, which is searched from end to end; nearly all keys have one entry.
pub const MAX_FRONTIER_LIST: usize = 16;

/// An entry of a frontier, with whatever its owner keeps beside it.
#[derive(Clone, Debug)]
pub struct StandingEntry<P> {
    /// What decides about it.
    pub meta: EntryMeta,
    /// What its owner keeps.
    pub payload: P,
}

/// All valid entries of one key that no other dominates. Clones cost constant time and do not see later changes.
///
/// Its owner judges entries: what is offered must be of the frontier's key, cite a live grant and not lie below a floor;
/// what ends later must be said, by [`Frontier::end_below`] and [`Frontier::end_older`].
#[derive(Clone)]
pub struct Frontier<P>(Repr<P>);

/// As small as one entry, which most keys have.
#[derive(Clone)]
enum Repr<P> {
    Empty,
    One(StandingEntry<P>),
    /// 2 to [`MAX_FRONTIER_LIST`], newest first.
    List(Arc<Vec<StandingEntry<P>>>),
    /// More.
    Large(Large<P>),
}

/// A replica of a million keys holds as many frontiers.
const _: () = assert!(size_of::<Frontier<()>>() <= 56);

/// What came of an entry that was offered to a frontier.
#[derive(Clone, Debug)]
pub enum Offer<P> {
    /// It stood already.
    Known,
    /// One that stands dominates it.
    Dominated,
    /// It stands now.
    Stands {
        /// Entries that it dominates, which stood before.
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
    /// No entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entries, newest first, unless there are too many for a list.
    fn list(&self) -> Result<&[StandingEntry<P>], &Large<P>> {
        match &self.0 {
            Repr::Empty => Ok(&[]),
            Repr::One(entry) => Ok(std::slice::from_ref(entry)),
            Repr::List(list) => Ok(list),
            Repr::Large(large) => Err(large),
        }
    }

    /// How many entries stand.
    pub fn len(&self) -> usize {
        self.list().map_or_else(Large::len, <[_]>::len)
    }

    /// Whether none stands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry with this id, if it stands.
    pub fn get(&self, id: &EntryId) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => list.iter().find(|entry| entry.meta.id == *id),
            Err(large) => large.get(id),
        }
    }

    /// Whether the entry stands.
    pub fn contains(&self, id: &EntryId) -> bool {
        self.get(id).is_some()
    }

    /// The entry that cites this very grant (`None`: root's). There is at most one, as newer ones of the same grant
    /// dominate older ones.
    pub fn of_grant(&self, grant: Option<&Arc<LiveGrant>>) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => {
                let id = grant.map(|grant| grant.id());
                list.iter().find(|entry| entry.meta.grant_id() == id)
            }
            Err(large) => large.of_grant(grant),
        }
    }

    /// The newest entry, expired or not.
    pub fn newest(&self) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => list.first(),
            Err(large) => large.newest(),
        }
    }

    /// The oldest entry.
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

    /// What a reader sees at `now`: the newest entry that no expiry masks. It may be a delete.
    pub fn shown(&self, now: Timestamp) -> Option<&StandingEntry<P>> {
        match self.list() {
            Ok(list) => list.iter().find(|entry| !entry.meta.is_masked(now)),
            Err(large) => large.shown(now),
        }
    }

    /// The entries, newest first.
    pub fn newest_first(&self) -> NewestFirst<'_, P> {
        NewestFirst::new(self.list().map_err(Large::newest_first))
    }

    /// The entries that are older than `rank`, newest first: the page after one that ended there. What stood at `rank`
    /// need not stand any more.
    pub fn newest_first_after(&self, rank: Rank) -> NewestFirst<'_, P> {
        NewestFirst::new(match self.list() {
            Ok(list) => Ok(&list[list.partition_point(|entry| entry.meta.rank() >= rank)..]),
            Err(large) => Err(large.newest_first_after(rank)),
        })
    }

    /// The entries by id, ascending.
    pub fn by_id(&self) -> ById<'_, P> {
        ById::new(self.list().map_err(Large::by_id))
    }

    /// Whether an entry that stands dominates one that may not.
    pub fn dominates(&self, meta: &EntryMeta) -> bool {
        match self.list() {
            Ok(list) => list.iter().any(|entry| entry.meta.dominates(meta)),
            Err(large) => large.dominates(meta),
        }
    }

    /// The ids of the entries, ascending.
    pub fn ids(&self) -> impl Iterator<Item = EntryId> + use<'_, P> {
        self.by_id().map(|entry| entry.meta.id)
    }
}

impl<P: Clone> Frontier<P> {
    /// Takes in an entry if it stands beside those that are here, and takes out what it dominates.
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

    /// Takes out entries that cite `grant` or a grant below it: it ended, and these with it.
    pub fn end_below(&mut self, grant: &Arc<LiveGrant>) -> Vec<StandingEntry<P>> {
        self.end(|large| large.end_below(grant), |entry| entry.stands_below(grant))
    }

    /// Takes out entries written before a time: a floor came.
    pub fn end_older(&mut self, before: Timestamp) -> Vec<StandingEntry<P>> {
        self.end(|large| large.end_older(before), |entry| entry.timestamp < before)
    }

    /// Takes out entries that are early by a clock that says `now`: an operator has them forgotten.
    pub fn end_early(&mut self, now: Timestamp) -> Vec<StandingEntry<P>> {
        self.end(|large| large.end_early(now), |entry| entry.early_until(now).is_some())
    }

    /// Takes out the entry of this rank and all older ones: for an owner that has no room for them.
    pub fn end_down_from(&mut self, rank: Rank) -> Vec<StandingEntry<P>> {
        self.end(|large| large.end_down_from(rank), |entry| entry.rank() <= rank)
    }

    /// Takes entries out, in no particular order.
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

    /// The entries of one that is not large, of which none is left.
    fn take_list(&mut self) -> Vec<StandingEntry<P>> {
        match std::mem::replace(&mut self.0, Repr::Empty) {
            Repr::One(entry) => vec![entry],
            Repr::List(list) => Arc::unwrap_or_clone(list),
            Repr::Empty | Repr::Large(_) => Vec::new(),
        }
    }

    /// Entries, newest first, in the form that their number needs.
    fn set_list(&mut self, mut list: Vec<StandingEntry<P>>) {
        debug_assert!(is_frontier(&list), "the newest first, and none dominates another");
        self.0 = match list.len() {
            0 | 1 => list.pop().map_or(Repr::Empty, Repr::One),
            2..=MAX_FRONTIER_LIST => Repr::List(Arc::new(list)),
            _ => Repr::Large(Large::new(list)),
        };
    }
}

/// Whether entries stand beside each other, newest first.
fn is_frontier<P>(list: &[StandingEntry<P>]) -> bool {
    let metas = || list.iter().map(|entry| &entry.meta);
    let stands = |(at, newer): (usize, &EntryMeta)| {
        metas().skip(at + 1).all(|older| newer.is_newer_than(older) && !newer.dominates(older))
    };
    metas().enumerate().all(stands)
}
