//! The network link of one replica, which the demonstration can cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A filter of a replica's gossip and session traffic, which passes all or, when cut, nothing. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    cut: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl Wire {
    /// Cuts or restores the link.
    pub(super) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// Whether a datagram or connection may pass; counts it as lost if not.
    pub(super) fn passes(&self) -> bool {
        let cut = self.cut.load(Ordering::Relaxed);
        self.dropped.fetch_add(u64::from(cut), Ordering::Relaxed);
        !cut
    }

    /// Returns the number of datagrams and connections lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
