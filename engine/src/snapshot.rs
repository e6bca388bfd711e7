//! One committed state: what is in memory of it, and what is in the store.

use crate::storage::Reader;
use crate::view::View;
use std::fmt;
use std::sync::Arc;

/// One committed state of a replica, for readers. Clones share it.
///
/// Both halves are of the same commit: the record of every entry of the view's frontiers can be read, and an entry that cannot is
/// damage, not a commit that came in between. Like the [`Reader`], it is held for as long as one answer takes.
#[derive(Clone)]
pub struct Snapshot {
    /// Authority, frontiers and digests.
    pub view: Arc<View>,
    /// Reads of the store.
    pub reader: Arc<dyn Reader>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("batch", &self.view.batch()).finish_non_exhaustive()
    }
}
