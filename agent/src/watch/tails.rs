//! Keys of which the newest entries were told to a watcher, and older ones follow: a page at a time, in turn, so that a
//! key with very many entries delays no other.

use super::MAX_TAILS;
use super::snapshot::Position;
use kvgossip_grants::{Key, Rank};
use std::collections::VecDeque;

/// The rest of one key.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) key: Key,
    /// Tells apart what is told of a key at different times.
    pub(super) telling: u64,
    /// All entries down to here were told.
    pub(super) after: Rank,
}

/// What follows of all keys.
#[derive(Debug, Default)]
pub(super) struct Tails {
    /// At most [`MAX_TAILS`].
    queue: VecDeque<Tail>,
    /// There were more: the keys from here on have to be gone through again.
    walk: Option<Position>,
    walks_all: bool,
    /// The name that was given last.
    last: u64,
}

impl Tails {
    /// A name for what is told of a key from now on.
    pub(super) fn name(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether nothing follows.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.walk.is_none()
    }

    /// The key is told anew: what was to follow does not.
    pub(super) fn give_up(&mut self, key: &Key) {
        self.queue.retain(|tail| tail.key != *key);
    }

    /// Keeps what follows of a key. If there is no room, keys are gone through again: those from `from` on, which comes
    /// after the place of every earlier one, or all.
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

    /// Whether keys are gone through whatever the watcher held of them at the beginning.
    pub(super) fn walks_all(&self) -> bool {
        self.walks_all
    }

    /// The one whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Tail> {
        self.queue.pop_front()
    }

    /// Where keys have to be gone through, once nothing else follows.
    pub(super) fn take_walk(&mut self) -> Option<Position> {
        self.walk.take()
    }

    /// There is more to go through from here on.
    pub(super) fn walk_on(&mut self, position: Position) {
        self.walk = Some(position);
    }

    /// Everything is told anew.
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
