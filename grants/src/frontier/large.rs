//! Frontier of a key with many entries: three persistent trees in different orders over shared entries.
//!
//! Adding one entry costs the logarithm of the number of entries. At most one entry cites each grant, since a newer one
//! of the same grant dominates the older. So the entries that may dominate a new one are found by at most 17 look-ups
//! (root and its chain of grants), and those that it may dominate are one contiguous run in the order of chains, in
//! which a summary finds the oldest ones.

use super::path::{compare, compare_to_run};
use super::tree::{Content, Tree, Walk};
use super::{EntryMeta, Rank, StandingEntry};
use crate::authority::LiveGrant;
use crate::id::EntryId;
use crate::time::Timestamp;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::sync::Arc;

/// Trees are rebuilt if at least one in this many entries is removed at once: rebuilding costs linear time, whereas
/// removing entries one by one costs a logarithm each.
const REBUILD_FROM_PART: usize = 8;

type Shared<P> = Arc<StandingEntry<P>>;

pub(super) struct Large<P> {
    by_rank: Tree<ByRank<P>>,
    by_chain: Tree<ByChain<P>>,
    by_id: Tree<ById<P>>,
}

impl<P> Clone for Large<P> {
    fn clone(&self) -> Self {
        Self { by_rank: self.by_rank.clone(), by_chain: self.by_chain.clone(), by_id: self.by_id.clone() }
    }
}

/// Order of a tree of entries by rank: timestamp, then id. Summary: the latest time at which an entry of the subtree
/// can be shown.
pub(super) struct ByRank<P>(PhantomData<P>);

impl<P> Content for ByRank<P> {
    type Item = Shared<P>;
    type Summary = Timestamp;

    fn summary(item: &Shared<P>) -> Timestamp {
        item.meta.visible_until()
    }

    fn join(one: &Timestamp, other: &Timestamp) -> Timestamp {
        *one.max(other)
    }
}

/// Order of a tree of entries by the chain of the cited grant. Summary: the rank of the oldest entry of the subtree.
struct ByChain<P>(PhantomData<P>);

impl<P> Content for ByChain<P> {
    type Item = Shared<P>;
    type Summary = Rank;

    fn summary(item: &Shared<P>) -> Rank {
        item.meta.rank()
    }

    fn join(one: &Rank, other: &Rank) -> Rank {
        *one.min(other)
    }
}

pub(super) struct ById<P>(PhantomData<P>);

impl<P> Content for ById<P> {
    type Item = Shared<P>;
    type Summary = ();

    fn summary(_: &Shared<P>) {}

    fn join((): &(), (): &()) {}
}

impl<P> Large<P> {
    /// Builds the trees from entries of which none dominates another.
    pub(super) fn new(entries: Vec<StandingEntry<P>>) -> Self {
        let mut entries: Vec<Shared<P>> = entries.into_iter().map(Arc::new).collect();
        entries.sort_unstable_by_key(|entry| entry.meta.id);
        let by_id = Tree::from_sorted(entries.clone());
        entries.sort_unstable_by_key(|entry| entry.meta.rank());
        let by_rank = Tree::from_sorted(entries.clone());
        entries.sort_unstable_by(|a, b| compare(a.meta.grant.as_ref(), b.meta.grant.as_ref()));
        Self { by_rank, by_chain: Tree::from_sorted(entries), by_id }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: &EntryId) -> Option<&StandingEntry<P>> {
        self.by_id.get(|other| other.meta.id.cmp(id)).map(Arc::as_ref)
    }

    pub(super) fn newest(&self) -> Option<&StandingEntry<P>> {
        self.by_rank.last().map(Arc::as_ref)
    }

    pub(super) fn oldest(&self) -> Option<&StandingEntry<P>> {
        self.by_rank.first().map(Arc::as_ref)
    }

    pub(super) fn shown(&self, now: Timestamp) -> Option<&StandingEntry<P>> {
        self.by_rank.last_where(|visible_until| *visible_until >= now).map(Arc::as_ref)
    }

    /// Returns the entry that cites `grant`; for `None`, root's entry.
    pub(super) fn of_grant(&self, grant: Option<&Arc<LiveGrant>>) -> Option<&StandingEntry<P>> {
        self.by_chain.get(|other| compare(other.meta.grant.as_ref(), grant)).map(Arc::as_ref)
    }

    /// Whether an entry cites `grant` or one below it.
    pub(super) fn has_below(&self, grant: &Arc<LiveGrant>) -> bool {
        self.by_chain.get(|other| compare_to_run(other.meta.grant.as_ref(), Some(grant))).is_some()
    }

    /// Whether an entry of the frontier dominates `meta`.
    pub(super) fn dominates(&self, meta: &EntryMeta) -> bool {
        let chain = std::iter::successors(meta.grant.as_ref(), |grant| grant.parent());
        let mut holders = std::iter::once(None).chain(chain.map(Some));
        holders.any(|holder| self.of_grant(holder).is_some_and(|entry| entry.meta.is_newer_than(meta)))
    }

    /// Removes from all three trees and returns the entries that `meta` dominates.
    pub(super) fn end_dominated(&mut self, meta: &EntryMeta) -> Vec<Shared<P>> {
        let (grant, rank) = (meta.grant.as_ref(), meta.rank());
        let place = |other: &Shared<P>| compare_to_run(other.meta.grant.as_ref(), grant);
        let gone = self.by_chain.select(place, |oldest| *oldest < rank);
        self.end(gone, |other| meta.dominates(other))
    }

    /// Removes and returns the entries that cite `grant` or a grant below it.
    pub(super) fn end_below(&mut self, grant: &Arc<LiveGrant>) -> Vec<Shared<P>> {
        let place = |other: &Shared<P>| compare_to_run(other.meta.grant.as_ref(), Some(grant));
        let gone = self.by_chain.select(place, |_| true);
        self.end(gone, |other| other.stands_below(grant))
    }

    /// Removes and returns the entries older than `before`.
    pub(super) fn end_older(&mut self, before: Timestamp) -> Vec<Shared<P>> {
        let is_old = |other: &EntryMeta| other.timestamp < before;
        let place = |other: &Shared<P>| if is_old(&other.meta) { Ordering::Equal } else { Ordering::Greater };
        let gone = self.by_rank.select(place, |_| true);
        self.end(gone, is_old)
    }

    /// Removes and returns the entries that are early at local time `now`.
    pub(super) fn end_early(&mut self, now: Timestamp) -> Vec<Shared<P>> {
        let is_early = |other: &EntryMeta| other.early_until(now).is_some();
        let place = |other: &Shared<P>| if is_early(&other.meta) { Ordering::Equal } else { Ordering::Less };
        let gone = self.by_rank.select(place, |_| true);
        self.end(gone, is_early)
    }

    /// Removes and returns the entry at `rank`, if there is one, and all older ones.
    pub(super) fn end_down_from(&mut self, rank: Rank) -> Vec<Shared<P>> {
        let is_old = |other: &EntryMeta| other.rank() <= rank;
        let place = |other: &Shared<P>| if is_old(&other.meta) { Ordering::Equal } else { Ordering::Greater };
        let gone = self.by_rank.select(place, |_| true);
        self.end(gone, is_old)
    }

    /// Removes the entries `gone`: exactly those for which `is_gone` returns true.
    fn end(&mut self, gone: Vec<Shared<P>>, is_gone: impl Fn(&EntryMeta) -> bool) -> Vec<Shared<P>> {
        if gone.len() * REBUILD_FROM_PART >= self.len() {
            self.by_rank = kept(&self.by_rank, &is_gone);
            self.by_chain = kept(&self.by_chain, &is_gone);
            self.by_id = kept(&self.by_id, &is_gone);
            return gone;
        }
        for entry in &gone {
            let meta = &entry.meta;
            self.by_rank.remove(|other| other.meta.rank().cmp(&meta.rank()));
            self.by_chain.remove(|other| compare(other.meta.grant.as_ref(), meta.grant.as_ref()));
            self.by_id.remove(|other| other.meta.id.cmp(&meta.id));
        }
        gone
    }

    /// Adds an entry that neither dominates nor is dominated by an entry of the frontier.
    pub(super) fn insert(&mut self, entry: StandingEntry<P>) {
        let entry = Arc::new(entry);
        let meta = &entry.meta;
        self.by_rank.insert(entry.clone(), |other| other.meta.rank().cmp(&meta.rank()));
        self.by_chain.insert(entry.clone(), |other| compare(other.meta.grant.as_ref(), meta.grant.as_ref()));
        self.by_id.insert(entry.clone(), |other| other.meta.id.cmp(&meta.id));
    }

    pub(super) fn newest_first(&self) -> Walk<'_, ByRank<P>> {
        self.by_rank.iter_back()
    }

    pub(super) fn newest_first_after(&self, rank: Rank) -> Walk<'_, ByRank<P>> {
        self.by_rank.iter_back_from(|other| other.meta.rank().cmp(&rank))
    }

    pub(super) fn by_id(&self) -> Walk<'_, ById<P>> {
        self.by_id.iter()
    }
}

#[cfg(test)]
impl<P> Large<P> {
    /// Returns the number of tree nodes that `other` does not share.
    pub(super) fn own_nodes(&self, other: &Self) -> usize {
        let own = |mine: std::collections::BTreeSet<_>, others| mine.difference(&others).count();
        own(self.by_rank.nodes(), other.by_rank.nodes())
            + own(self.by_chain.nodes(), other.by_chain.nodes())
            + own(self.by_id.nodes(), other.by_id.nodes())
    }
}

fn kept<P, C: Content<Item = Shared<P>>>(tree: &Tree<C>, is_gone: impl Fn(&EntryMeta) -> bool) -> Tree<C> {
    Tree::from_sorted(tree.iter().filter(|entry| !is_gone(&entry.meta)).cloned().collect())
}
