//! The keys of a filter, as subscribers are told of them.

use super::state::{Cause, Dirty};
use kvgossip_grants::Key;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::Notify;

/// Completeness and dirtiness of a filter's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchStatus {
    /// Whether some agent has ever sent all keys of the filter.
    pub loaded: bool,
    /// Why the entries of the filter may not be the latest; `None` while an agent confirms that they are.
    pub dirty: Option<Dirty>,
    /// Number of keys of the filter that agents sent and whose value is not known; they are not among the
    /// entries.
    pub unknown: usize,
}

impl MatchStatus {
    pub(crate) const NEW: Self = Self { loaded: false, dirty: Some(Dirty::Loading), unknown: 0 };
}

/// Changes still to be delivered to one subscriber: keys only, each at most once.
#[derive(Debug, Default)]
pub(crate) struct MatchHandle {
    pub(super) pending: Mutex<BTreeMap<Key, Option<Cause>>>,
    pub(super) arrived: Notify,
}

impl MatchHandle {
    pub(crate) fn note(&self, key: &Key, cause: Option<Cause>) {
        self.pending.lock().insert(key.clone(), cause);
        self.arrived.notify_one();
    }
}
