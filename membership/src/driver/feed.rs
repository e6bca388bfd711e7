//! Events on their way to one receiver, who may be slow.

use tokio::sync::mpsc;

use crate::core::Event;

/// Which events a receiver wants.
pub(super) type Wants = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// A bounded queue. What does not fit is thrown away, and the receiver is told how many as soon as there is room.
pub(super) struct Feed {
    sender: mpsc::Sender<Event>,
    wants: Option<Wants>,
    /// Events thrown away since the receiver was last told.
    lagged: u64,
}

impl Feed {
    /// Gives everything, or what the receiver wants.
    pub(super) fn new(sender: mpsc::Sender<Event>, wants: Option<Wants>) -> Self {
        Self { sender, wants, lagged: 0 }
    }

    pub(super) fn wants(&self, event: &Event) -> bool {
        self.wants.as_ref().is_none_or(|wants| wants(event))
    }

    /// Whether nobody receives any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Puts an event into the queue; gives how many were thrown away.
    pub(super) fn offer(&mut self, event: Event) -> u64 {
        if self.lagged > 0 {
            if self.sender.try_send(Event::Lagged { dropped: self.lagged }).is_err() {
                self.lagged += 1;
                return 1;
            }
            self.lagged = 0;
        }
        match self.sender.try_send(event) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagged += 1;
                1
            }
            // A receiver that was dropped wants no events.
            _ => 0,
        }
    }
}
