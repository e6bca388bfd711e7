//! Timers of a member.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use super::{
    glue::Id,
    types::{QueryId, StreamId},
};

/// Action of a timer when its time has come. Timers are never cancelled; the handler checks whether the action
/// still applies.
#[derive(Debug)]
pub(super) enum Due {
    Foca(foca::Timer<Id>),
    Suspicion(u32),
    Relay(u32),
    Stream(StreamId),
    Query(QueryId),
    Reconnect,
    SecondLook,
    Reap,
    Leave,
    Rejoin,
}

#[derive(Debug)]
struct Timer {
    at: Duration,
    seq: u64,
    due: Due,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    /// Reversed, because the heap returns the greatest timer; timers of equal time are in order of insertion.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Timer>,
    seq: u64,
}

impl Timers {
    pub(super) fn add(&mut self, at: Duration, due: Due) {
        self.seq += 1;
        self.heap.push(Timer { at, seq: self.seq, due });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(super) fn pop(&mut self, now: Duration) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.due)
    }
}
