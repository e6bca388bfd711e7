//! Registry of subscriptions, shared by the handles and the driver.

use super::interests::InterestId;
use super::matches::{MatchHandle, MatchStatus};
use super::state::{Entry, Rejection, State, Trouble};
use kvgossip_grants::{Filter, Key};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Watched key, with the state that its subscribers see.
#[derive(Debug)]
pub(crate) struct KeySlot {
    pub(crate) id: InterestId,
    pub(crate) key: Key,
    pub(crate) state: watch::Sender<State>,
}

/// Watched filter, with the entries and the status that its subscribers see.
#[derive(Debug)]
pub(crate) struct MatchSlot {
    pub(crate) id: InterestId,
    pub(crate) filter: Filter,
    pub(crate) entries: Mutex<BTreeMap<Key, Entry>>,
    pub(crate) status: watch::Sender<MatchStatus>,
    pub(crate) handles: Mutex<Vec<Weak<MatchHandle>>>,
}

/// Interest, with its number of holders and the time since when it has none.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    pub(crate) slot: Arc<T>,
    holders: usize,
    idle_since: Option<Instant>,
    /// Whether to drop the interest as soon as it has no holder, without the grace delay.
    brief: bool,
}

impl<T> Kept<T> {
    fn new(slot: Arc<T>) -> Self {
        Self { slot, holders: 1, idle_since: None, brief: false }
    }

    fn hold(&mut self) -> Arc<T> {
        (self.idle_since, self.brief) = (None, false);
        self.holders += 1;
        self.slot.clone()
    }

    /// Removes one holder. Returns whether it was the last.
    fn release(&mut self, brief: bool) -> bool {
        self.holders = self.holders.saturating_sub(1);
        if self.holders == 0 {
            (self.idle_since, self.brief) = (Some(Instant::now()), brief);
        }
        self.holders == 0
    }

    /// Returns whether the interest has had no holder for the grace delay.
    pub(crate) fn is_over(&self, now: Instant, grace: Duration) -> bool {
        self.idle_since.is_some_and(|since| self.brief || now.duration_since(since) >= grace)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) keys: HashMap<Key, Kept<KeySlot>>,
    pub(crate) filters: Vec<Kept<MatchSlot>>,
    last_id: InterestId,
}

impl Registry {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.filters.is_empty()
    }
}

/// State shared by handles and driver.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) registry: Mutex<Registry>,
    pub(crate) wake: Notify,
    pub(crate) rejections: watch::Sender<(u64, Vec<Rejection>)>,
    /// Endpoint of the connected agent, for diagnosis; `None` while none is connected.
    pub(crate) connected: watch::Sender<Option<String>>,
    /// Last problem with an agent; `None` once an agent is in step again.
    pub(crate) trouble: watch::Sender<Option<Trouble>>,
    /// Whether the client has been dropped.
    pub(crate) closed: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            registry: Mutex::default(),
            wake: Notify::new(),
            rejections: watch::Sender::new((0, Vec::new())),
            connected: watch::Sender::new(None),
            trouble: watch::Sender::new(None),
            closed: watch::Sender::new(false),
        }
    }

    /// Waits until the client has been dropped.
    pub(crate) async fn until_closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Adds a holder to the slot of a key; creates the slot if needed.
    pub(crate) fn hold_key(&self, key: &Key) -> Arc<KeySlot> {
        let mut registry = self.registry.lock();
        if let Some(kept) = registry.keys.get_mut(key) {
            return kept.hold();
        }
        registry.last_id += 1;
        let slot = KeySlot { id: registry.last_id, key: key.clone(), state: watch::Sender::new(State::NEW) };
        let slot = Arc::new(slot);
        registry.keys.insert(key.clone(), Kept::new(slot.clone()));
        drop(registry);
        self.wake.notify_one();
        slot
    }

    /// Adds a holder to the slot of a filter; creates the slot if needed.
    pub(crate) fn hold_filter(&self, filter: &Filter) -> Arc<MatchSlot> {
        let mut registry = self.registry.lock();
        if let Some(kept) = registry.filters.iter_mut().find(|kept| kept.slot.filter == *filter) {
            return kept.hold();
        }
        registry.last_id += 1;
        let slot = Arc::new(MatchSlot {
            id: registry.last_id,
            filter: filter.clone(),
            entries: Mutex::default(),
            status: watch::Sender::new(MatchStatus::NEW),
            handles: Mutex::default(),
        });
        registry.filters.push(Kept::new(slot.clone()));
        drop(registry);
        self.wake.notify_one();
        slot
    }

    /// Removes a holder of a key. The driver drops the interest after the grace delay.
    pub(crate) fn release_key(&self, slot: &KeySlot) {
        let mut registry = self.registry.lock();
        let kept = registry.keys.get_mut(&slot.key).filter(|kept| kept.slot.id == slot.id);
        let last = kept.is_some_and(|kept| kept.release(false));
        drop(registry);
        if last {
            self.wake.notify_one();
        }
    }

    /// Removes a holder of a filter. With `brief` the interest may be dropped at once.
    pub(crate) fn release_filter(&self, slot: &MatchSlot, brief: bool) {
        let mut registry = self.registry.lock();
        let kept = registry.filters.iter_mut().find(|kept| kept.slot.id == slot.id);
        let last = kept.is_some_and(|kept| kept.release(brief));
        drop(registry);
        if last {
            self.wake.notify_one();
        }
    }
}

impl MatchSlot {
    /// Handles of filter subscriptions that have not been dropped.
    pub(crate) fn live_handles(&self) -> Vec<Arc<MatchHandle>> {
        let mut handles = self.handles.lock();
        handles.retain(|handle| handle.strong_count() > 0);
        handles.iter().filter_map(Weak::upgrade).collect()
    }
}
