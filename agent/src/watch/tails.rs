//! Keys of which a watcher received the newest entries and older ones are still to be sent. Pages of them are sent in
//! turn, so that a key with very many entries delays no other.

use super::MAX_TAILS;
use super::snapshot::Position;
use kvgossip_grants::{Key, Rank};
use std::collections::VecDeque;

/// Older entries of one key that are still to be sent.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) key: Key,
    /// Number of the sequence of events that sends this key. It distinguishes sequences for the same key.
    pub(super) telling: u64,
    /// Rank of the oldest entry that was sent; the entries below it are still to be sent.
    pub(super) after: Rank,
}

/// The older entries of all keys that are still to be sent on a stream.
#[derive(Debug, Default)]
pub(super) struct Tails {
    /// Queued keys with older entries to send, at most [`MAX_TAILS`].
    queue: VecDeque<Tail>,
    /// Position from which keys have to be walked again, because there were more tails than fit; `None`: no walk is
    /// left.
    walk: Option<Position>,
    walks_all: bool,
    /// Last number that [`Tails::name`] gave to a sequence of events.
    last: u64,
}

impl Tails {
    /// Returns a new number for a sequence of events that sends a key.
    pub(super) fn name(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether no older entries are left to send.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.walk.is_none()
    }

    /// Drops the tail of a key, because the key is sent again from its newest entry.
    pub(super) fn give_up(&mut self, key: &Key) {
        self.queue.retain(|tail| tail.key != *key);
    }

    /// Queues a tail. If the queue is full, keys are walked again later: those from `from` on, which must not be before
    /// the position of an earlier call; `None`: all keys.
    pub(super) fn push(&mut self, tail: Tail, from: Option<Position>) {
        if self.queue.len() < MAX_TAILS {
            return self.queue.push_back(tail);
        }
        match from {
            Some(from) => {
                self.walk.get_or_insert(from);
            }
            None => (self.walk, self.walks_all) = (Some(Position::default()), true),
        }
    }

    /// Whether the walk also covers keys whose digests were equal at the start of the stream.
    pub(super) fn walks_all(&self) -> bool {
        self.walks_all
    }

    /// Takes out the tail that was queued first; `None`: no tail is queued.
    pub(super) fn pop(&mut self) -> Option<Tail> {
        self.queue.pop_front()
    }

    /// Takes the position from which keys have to be walked. Call it when the queue is empty.
    pub(super) fn take_walk(&mut self) -> Option<Position> {
        self.walk.take()
    }

    /// Sets the position from which the walk continues later.
    pub(super) fn walk_on(&mut self, position: Position) {
        self.walk = Some(position);
    }

    /// Drops all tails and the walk, because all keys are sent again.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.walk = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::{EntryId, Timestamp};

    fn tail(number: usize) -> Tail {
        let key = Key::parse(&format!("/{number}")).expect("a key");
        Tail { key, telling: number as u64, after: (Timestamp::ZERO, EntryId([0; 32])) }
    }

    #[test]
    fn they_take_turns_in_bounded_number_and_the_others_are_found_again() {
        let mut tails = Tails::default();
        for number in 0..MAX_TAILS {
            tails.push(tail(number), None);
        }
        assert!(tails.take_walk().is_none());
        let first = tails.pop().expect("some");
        assert_eq!(first.telling, 0);
        tails.push(Tail { telling: 99, ..first }, None);
        assert_eq!(tails.pop().expect("some").telling, 1, "the next in turn");
        tails.push(tail(1), Some(Position::default()));
        assert!(tails.walk.is_none(), "there is room");
        tails.push(tail(MAX_TAILS), Some(Position::default()));
        assert!(tails.queue.len() == MAX_TAILS && tails.walk.is_some() && !tails.walks_all());
        tails.push(tail(MAX_TAILS + 1), None);
        assert!(tails.queue.len() == MAX_TAILS && tails.walks_all());
        tails.give_up(&tail(0).key);
        assert!(tails.queue.iter().all(|tail| tail.telling != 99));
        assert!(tails.take_walk().is_some() && !tails.is_empty());
        tails.clear();
        assert!(tails.is_empty());
    }
}
