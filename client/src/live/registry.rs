//! Who holds which subscription: shared by the handles and the driver.

use super::handles::{MatchHandle, MatchStatus};
use super::interests::InterestId;
use super::state::{Entry, Rejection, State};
use kvgossip_grants::{Filter, Key};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// A key that somebody watches.
#[derive(Debug)]
pub(crate) struct KeySlot {
    pub(crate) id: InterestId,
    pub(crate) key: Key,
    pub(crate) state: watch::Sender<State>,
}

/// A filter that somebody watches.
#[derive(Debug)]
pub(crate) struct MatchSlot {
    pub(crate) id: InterestId,
    pub(crate) filter: Filter,
    pub(crate) entries: Mutex<BTreeMap<Key, Entry>>,
    pub(crate) status: watch::Sender<MatchStatus>,
    pub(crate) handles: Mutex<Vec<Weak<MatchHandle>>>,
}

/// An interest and since when nobody holds it.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    pub(crate) slot: Arc<T>,
    pub(crate) holders: usize,
    pub(crate) idle_since: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) keys: HashMap<Key, Kept<KeySlot>>,
    pub(crate) filters: Vec<Kept<MatchSlot>>,
    last_id: InterestId,
}

/// What handles and driver share.
#[derive(Debug)]
pub(crate) struct Shared {
    registry: Mutex<Registry>,
    pub(crate) wake: Notify,
    pub(crate) rejections: watch::Sender<(u64, Vec<Rejection>)>,
    /// Which endpoint is connected, for diagnosis.
    pub(crate) connected: watch::Sender<Option<String>>,
    /// Whether the client is gone.
    pub(crate) closed: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            registry: Mutex::default(),
            wake: Notify::new(),
            rejections: watch::Sender::new((0, Vec::new())),
            connected: watch::Sender::new(None),
            closed: watch::Sender::new(false),
        }
    }

    /// Waits until the client is gone.
    pub(crate) async fn until_closed(&self) {
        // The sender lives as long as this.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        // Changed by plain insertions, removals and counts alone.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of a key, made if there is none, with one more holder.
    pub(crate) fn hold_key(&self, key: &Key) -> Arc<KeySlot> {
        let mut registry = self.registry();
        if let Some(kept) = registry.keys.get_mut(key) {
            kept.holders += 1;
            kept.idle_since = None;
            return kept.slot.clone();
        }
        registry.last_id += 1;
        let slot = KeySlot { id: registry.last_id, key: key.clone(), state: watch::Sender::new(State::NEW) };
        let slot = Arc::new(slot);
        registry.keys.insert(key.clone(), Kept { slot: slot.clone(), holders: 1, idle_since: None });
        drop(registry);
        self.wake.notify_one();
        slot
    }

    /// The same for a filter.
    pub(crate) fn hold_filter(&self, filter: &Filter) -> Arc<MatchSlot> {
        let mut registry = self.registry();
        if let Some(kept) = registry.filters.iter_mut().find(|kept| kept.slot.filter == *filter) {
            kept.holders += 1;
            kept.idle_since = None;
            return kept.slot.clone();
        }
        registry.last_id += 1;
        let slot = Arc::new(MatchSlot {
            id: registry.last_id,
            filter: filter.clone(),
            entries: Mutex::default(),
            status: watch::Sender::new(MatchStatus::NEW),
            handles: Mutex::default(),
        });
        registry.filters.push(Kept { slot: slot.clone(), holders: 1, idle_since: None });
        drop(registry);
        self.wake.notify_one();
        slot
    }

    /// One holder less; the driver forgets the interest after its grace delay.
    pub(crate) fn release(&self, id: InterestId, key: Option<&Key>) {
        let mut registry = self.registry();
        let now = Instant::now();
        let (holders, idle_since) = match key {
            Some(key) => match registry.keys.get_mut(key).filter(|kept| kept.slot.id == id) {
                Some(kept) => (&mut kept.holders, &mut kept.idle_since),
                None => return,
            },
            None => match registry.filters.iter_mut().find(|kept| kept.slot.id == id) {
                Some(kept) => (&mut kept.holders, &mut kept.idle_since),
                None => return,
            },
        };
        *holders = holders.saturating_sub(1);
        if *holders == 0 {
            *idle_since = Some(now);
            drop(registry);
            self.wake.notify_one();
        }
    }
}

impl MatchSlot {
    pub(crate) fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles that are still held.
    pub(crate) fn live_handles(&self) -> Vec<Arc<MatchHandle>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|handle| handle.strong_count() > 0);
        handles.iter().filter_map(Weak::upgrade).collect()
    }
}
