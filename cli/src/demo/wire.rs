//! The wire of one replica, which the demonstration can cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Passes on what a replica sends and is sent, by gossip and in sessions, unless it is cut. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    cut: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl Wire {
    /// Cuts the wire, or mends it.
    pub(super) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// Whether something passes; counted if it does not.
    pub(super) fn passes(&self) -> bool {
        let cut = self.cut.load(Ordering::Relaxed);
        self.dropped.fetch_add(u64::from(cut), Ordering::Relaxed);
        !cut
    }

    /// How many datagrams and connections were lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
