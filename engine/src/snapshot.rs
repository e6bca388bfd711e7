//! One committed state: its view in memory and its reads of the store.

use crate::storage::Reader;
use crate::view::View;
use std::fmt;
use std::sync::Arc;

/// One committed state of a replica, for readers. Clones share it.
///
/// Both parts are of the same commit: every entry of the view's frontiers has a record that can be read, and if it
/// cannot, the store is damaged. Like a [`Reader`], it is held only as long as one answer takes.
#[derive(Clone)]
pub struct Snapshot {
    /// In-memory state of the commit: authority, frontiers and digests.
    pub view: Arc<View>,
    /// Reader of the store's rows as of the same commit.
    pub reader: Arc<dyn Reader>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("batch", &self.view.batch()).finish_non_exhaustive()
    }
}
