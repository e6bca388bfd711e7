//! Events for one receiver, which may be slow.

use tokio::sync::mpsc;

use crate::{core::Event, rpc::Coalesced};

/// Filter of a receiver: returns whether it wants an item.
pub(super) type Wants<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

/// Item type with a value that reports a number of dropped items.
pub(super) trait Lagging {
    fn lagged(dropped: u64) -> Self;
}

impl Lagging for Event {
    fn lagged(dropped: u64) -> Self {
        Self::Lagged { dropped }
    }
}

impl Lagging for Coalesced {
    fn lagged(dropped: u64) -> Self {
        Self::Lagged { dropped }
    }
}

/// Bounded queue to one receiver. Items that do not fit are dropped, and their number is reported to the
/// receiver once there is room.
pub(super) struct Feed<T> {
    sender: mpsc::Sender<T>,
    wants: Option<Wants<T>>,
    /// Number of items dropped since the last report to the receiver.
    lagged: u64,
}

impl<T: Lagging> Feed<T> {
    /// Creates a feed of the items that `wants` accepts; of all items with `None`.
    pub(super) fn new(sender: mpsc::Sender<T>, wants: Option<Wants<T>>) -> Self {
        Self { sender, wants, lagged: 0 }
    }

    pub(super) fn wants(&self, item: &T) -> bool {
        self.wants.as_ref().is_none_or(|wants| wants(item))
    }

    /// Returns whether the receiver is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Adds an item. Returns the number of items dropped: 1 if this one does not fit, otherwise 0.
    pub(super) fn offer(&mut self, item: T) -> u64 {
        if self.lagged > 0 {
            if self.sender.try_send(T::lagged(self.lagged)).is_err() {
                self.lagged += 1;
                return 1;
            }
            self.lagged = 0;
        }
        match self.sender.try_send(item) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagged += 1;
                1
            }
            // A dropped receiver needs nothing.
            _ => 0,
        }
    }
}

/// Feeds of all receivers of one item type.
pub(super) struct Feeds<T>(Vec<Feed<T>>);

impl<T> Default for Feeds<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Lagging + Clone> Feeds<T> {
    /// Number of receivers that still exist; feeds whose receiver is gone are removed.
    pub(super) fn listening(&mut self) -> usize {
        self.0.retain(|feed| !feed.is_closed());
        self.0.len()
    }

    pub(super) fn add(&mut self, capacity: usize, wants: Wants<T>) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        self.0.push(Feed::new(sender, Some(wants)));
        receiver
    }

    /// Adds an item to every feed that wants it. Returns the number of feeds that dropped it.
    pub(super) fn offer(&mut self, item: &T) -> u64 {
        self.0.retain(|feed| !feed.is_closed());
        let wanting = self.0.iter_mut().filter(|feed| feed.wants(item));
        wanting.map(|feed| feed.offer(item.clone())).sum()
    }
}
