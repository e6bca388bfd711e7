//! Events on their way to one receiver, who may be slow.

use tokio::sync::mpsc;

use crate::{core::Event, rpc::Coalesced};

/// What a receiver wants.
pub(super) type Wants<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

/// What can say that others of its kind were thrown away.
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

/// A bounded queue. What does not fit is thrown away, and the receiver is told how many as soon as there is room.
pub(super) struct Feed<T> {
    sender: mpsc::Sender<T>,
    wants: Option<Wants<T>>,
    /// What was thrown away since the receiver was last told.
    lagged: u64,
}

impl<T: Lagging> Feed<T> {
    /// Gives everything, or what the receiver wants.
    pub(super) fn new(sender: mpsc::Sender<T>, wants: Option<Wants<T>>) -> Self {
        Self { sender, wants, lagged: 0 }
    }

    pub(super) fn wants(&self, item: &T) -> bool {
        self.wants.as_ref().is_none_or(|wants| wants(item))
    }

    /// Whether nobody receives any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Puts something into the queue; gives how many were thrown away.
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
            // A receiver that was dropped wants nothing.
            _ => 0,
        }
    }
}

/// The receivers of one kind of thing.
pub(super) struct Feeds<T>(Vec<Feed<T>>);

impl<T> Default for Feeds<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Lagging + Clone> Feeds<T> {
    /// How many still listen.
    pub(super) fn listening(&mut self) -> usize {
        self.0.retain(|feed| !feed.is_closed());
        self.0.len()
    }

    pub(super) fn add(&mut self, capacity: usize, wants: Wants<T>) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        self.0.push(Feed::new(sender, Some(wants)));
        receiver
    }

    /// Gives something to all that want it; gives how many were thrown away.
    pub(super) fn offer(&mut self, item: &T) -> u64 {
        self.0.retain(|feed| !feed.is_closed());
        let wanting = self.0.iter_mut().filter(|feed| feed.wants(item));
        wanting.map(|feed| feed.offer(item.clone())).sum()
    }
}
