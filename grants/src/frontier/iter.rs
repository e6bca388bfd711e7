//! Iterators over the entries of a frontier.

use super::StandingEntry;
use super::large;
use super::tree::Walk;
use crate::id::EntryId;
use std::slice;
use std::sync::Arc;

/// Iterator over the entries of a frontier, newest first.
pub struct NewestFirst<'a, P>(Walks<'a, P>);

enum Walks<'a, P> {
    List(slice::Iter<'a, StandingEntry<P>>),
    Large(Walk<'a, large::ByRank<P>>),
}

impl<'a, P> NewestFirst<'a, P> {
    pub(super) fn new(entries: Result<&'a [StandingEntry<P>], Walk<'a, large::ByRank<P>>>) -> Self {
        Self(entries.map_or_else(Walks::Large, |list| Walks::List(list.iter())))
    }
}

impl<'a, P> Iterator for NewestFirst<'a, P> {
    type Item = &'a StandingEntry<P>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walks::List(list) => list.next(),
            Walks::Large(walk) => walk.next().map(Arc::as_ref),
        }
    }
}

/// Iterator over the entries of a frontier in ascending order of ids.
pub struct ById<'a, P>(IdWalks<'a, P>);

enum IdWalks<'a, P> {
    /// The entries of a small frontier, newest first, and the id that the iterator returned last; `None` before the
    /// first.
    List(&'a [StandingEntry<P>], Option<EntryId>),
    Large(Walk<'a, large::ById<P>>),
}

impl<'a, P> ById<'a, P> {
    pub(super) fn new(entries: Result<&'a [StandingEntry<P>], Walk<'a, large::ById<P>>>) -> Self {
        Self(entries.map_or_else(IdWalks::Large, |list| IdWalks::List(list, None)))
    }
}

impl<'a, P> Iterator for ById<'a, P> {
    type Item = &'a StandingEntry<P>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            // A list is short: scanning it for each item is cheaper than sorting a copy.
            IdWalks::List(list, last) => {
                let behind = list.iter().filter(|entry| last.is_none_or(|last| entry.meta.id > last));
                let next = behind.min_by_key(|entry| entry.meta.id)?;
                *last = Some(next.meta.id);
                Some(next)
            }
            IdWalks::Large(walk) => walk.next().map(Arc::as_ref),
        }
    }
}
