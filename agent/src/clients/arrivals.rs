//! Accepted connections that wait for a place; the source with the fewest connections is served first.
//!
//! The kernel's own queue is first-in first-out: a few addresses that reconnect at once after being closed would fill
//! it.

use super::ledger::Source;
use std::collections::{HashMap, VecDeque};

/// Maximum number of accepted connections per door that wait to be served. Beyond it, the oldest one of the source with
/// the most connections is closed.
pub(super) const MAX_ARRIVALS: usize = 128;

/// The accepted connections that wait to be served, by source, each source's oldest first.
pub(crate) struct Arrivals<S> {
    waiting: HashMap<Source, VecDeque<S>>,
    len: usize,
}

impl<S> Arrivals<S> {
    pub(crate) fn new() -> Self {
        Self { waiting: HashMap::new(), len: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a waiting connection. Returns the connection to close for it, if more than [`MAX_ARRIVALS`] wait; `held`
    /// gives the number of connections that a source has in service.
    #[must_use]
    pub(crate) fn push(&mut self, source: Source, arrival: S, held: impl Fn(Source) -> usize) -> Option<S> {
        self.waiting.entry(source).or_default().push_back(arrival);
        self.len += 1;
        if self.len <= MAX_ARRIVALS {
            return None;
        }
        let weights = self.waiting.iter().map(|(source, waiting)| (held(*source) + waiting.len(), *source));
        let (_, heaviest) = weights.max_by_key(|(weight, _)| *weight)?;
        self.take_oldest(heaviest)
    }

    /// Takes the connection to serve next: the oldest of the source with the fewest connections, waiting ones included.
    /// `held` gives the number of connections that a source has in service. `None`: no connection waits.
    pub(crate) fn next(&mut self, held: impl Fn(Source) -> usize) -> Option<(Source, S)> {
        let weights = self.waiting.iter().map(|(source, waiting)| (held(*source) + waiting.len(), *source));
        let (_, lightest) = weights.min_by_key(|(weight, _)| *weight)?;
        Some((lightest, self.take_oldest(lightest)?))
    }

    fn take_oldest(&mut self, source: Source) -> Option<S> {
        let waiting = self.waiting.get_mut(&source)?;
        let oldest = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&source);
        }
        self.len -= usize::from(oldest.is_some());
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn from(last: u8) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
    }

    #[test]
    fn who_has_the_fewest_connections_is_served_next_and_each_in_turn() {
        let held = |source| if source == from(1) { 60 } else { 2 };
        let mut arrivals = Arrivals::new();
        for (source, number) in [(1, 0), (1, 1), (2, 2), (2, 3)] {
            assert_eq!(arrivals.push(from(source), number, held), None);
        }
        let order: Vec<_> = std::iter::from_fn(|| arrivals.next(held)).map(|(_, number)| number).collect();
        assert_eq!(order, [2, 3, 0, 1]);
        assert!(arrivals.is_empty());
    }

    #[test]
    fn when_too_many_wait_the_oldest_of_the_heaviest_source_ends() {
        let mut arrivals = Arrivals::new();
        assert_eq!(arrivals.push(from(1), 1000, |_| 0), None);
        for number in 0..MAX_ARRIVALS - 1 {
            assert_eq!(arrivals.push(from(2), number, |_| 0), None);
        }
        assert_eq!(arrivals.push(from(1), 1001, |_| 0), Some(0));
        // Connections in service count as well.
        let held = |source| if source == from(1) { 2 * MAX_ARRIVALS } else { 0 };
        assert_eq!(arrivals.push(from(3), 2000, held), Some(1000));
        assert_eq!(
            arrivals.next(held),
            Some((from(3), 2000)),
            "whoever comes from elsewhere passes all of them"
        );
        assert_eq!(std::iter::from_fn(|| arrivals.next(held)).count(), MAX_ARRIVALS - 1);
    }
}
