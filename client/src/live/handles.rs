//! Subscriptions, as held by a program.

use super::MAX_LINGERING_KEYS;
use super::matches::{MatchHandle, MatchStatus};
use super::registry::{KeySlot, MatchSlot, Shared};
use super::state::{Cause, Dirty, Entry, State, Value};
use crate::closed::Closed;
use kvgossip_grants::{EntryId, Filter, Key};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Waits for a future, or for the end of the client.
async fn unless_closed<T>(shared: &Shared, waited_for: impl Future<Output = T>) -> Result<T, Closed> {
    tokio::select! {
        biased;
        done = waited_for => Ok(done),
        () = shared.until_closed() => Err(Closed),
    }
}

/// Subscription to a key, kept current across connections. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    slot: Arc<KeySlot>,
    states: watch::Receiver<State>,
    value: Value,
    dirty: Option<Dirty>,
}

impl Subscription {
    pub(crate) fn new(shared: Arc<Shared>, key: &Key) -> Self {
        let slot = shared.hold_key(key);
        let states = slot.state.subscribe();
        Self { shared, slot, states, value: Value::Unknown, dirty: Some(Dirty::Loading) }
    }

    /// Key of the subscription.
    pub fn key(&self) -> &Key {
        &self.slot.key
    }

    /// Returns the current state.
    pub fn state(&self) -> State {
        self.states.borrow().clone()
    }

    /// Returns the current state and marks it as seen: [`Subscription::changed`] waits for a later one.
    pub fn mark_seen(&mut self) -> State {
        self.states.borrow_and_update().clone()
    }

    /// Waits for a state other than the last one seen, and returns it. A slow caller may miss states in
    /// between, but never the latest.
    ///
    /// # Errors
    /// Fails if the client was dropped.
    pub async fn changed(&mut self) -> Result<State, Closed> {
        unless_closed(&self.shared, self.states.changed()).await?.map_err(|_| Closed)?;
        Ok(self.states.borrow_and_update().clone())
    }

    /// Waits until the *value* differs from the last one this function returned; the first call waits for the
    /// first known value.
    ///
    /// # Errors
    /// Fails if the client was dropped.
    pub async fn next_value(&mut self) -> Result<State, Closed> {
        let last = self.value.clone();
        let state = self.wait_for(|state| state.value != last).await?;
        self.value = state.value.clone();
        Ok(state)
    }

    /// Waits until the *dirtiness* differs from the last one this function returned; initially that is
    /// `Loading`.
    ///
    /// # Errors
    /// Fails if the client was dropped.
    pub async fn next_dirtiness(&mut self) -> Result<Option<Dirty>, Closed> {
        let last = self.dirty;
        self.dirty = self.wait_for(|state| state.dirty != last).await?.dirty;
        Ok(self.dirty)
    }

    /// Waits until an agent confirms that the value is the latest. This marks the state as seen:
    /// [`Subscription::changed`] waits for a later one.
    ///
    /// # Errors
    /// Fails if the client was dropped.
    pub async fn ready(&mut self) -> Result<State, Closed> {
        let clean = self.states.wait_for(|state| state.dirty.is_none());
        Ok(unless_closed(&self.shared, clean).await?.map_err(|_| Closed)?.clone())
    }

    /// Waits for a state that satisfies a condition; the current one counts.
    ///
    /// # Errors
    /// Fails if the client was dropped.
    pub async fn wait_for(&mut self, holds: impl FnMut(&State) -> bool) -> Result<State, Closed> {
        let mut states = self.states.clone();
        let state = unless_closed(&self.shared, states.wait_for(holds)).await?;
        Ok(state.map_err(|_| Closed)?.clone())
    }

    /// Returns a receiver of all states of the key, for `tokio` combinators.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.states.clone()
    }
}

impl Clone for Subscription {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), &self.slot.key)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.release_key(&self.slot);
    }
}

/// Change of one key of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key that was unset for this subscriber is set.
    Added {
        /// Entry that the key shows now.
        entry: Entry,
        /// Event that made this entry the shown one.
        cause: Cause,
    },
    /// The key shows another entry.
    Updated {
        /// Entry that the key shows now.
        entry: Entry,
        /// Event that made this entry the shown one.
        cause: Cause,
    },
    /// The key is unset, or its value has become unknown; see [`MatchStatus::unknown`].
    Removed {
        /// Key that is no longer among the filter's entries.
        key: Key,
        /// Event that unset the key or made its value unknown.
        cause: Cause,
    },
}

impl Change {
    /// Key whose shown entry changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Added { entry, .. } | Self::Updated { entry, .. } => &entry.key,
            Self::Removed { key, .. } => key,
        }
    }
}

/// Subscription to the keys that a filter includes, kept current across connections. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Matching {
    shared: Arc<Shared>,
    slot: Arc<MatchSlot>,
    handle: Arc<MatchHandle>,
    status: watch::Receiver<MatchStatus>,
    /// Ids of the entries already delivered to this subscriber, by key.
    seen: BTreeMap<Key, EntryId>,
    /// Whether this subscription serves a single read, so that a large result is not kept.
    single_look: bool,
}

impl Matching {
    pub(crate) fn new(shared: Arc<Shared>, filter: &Filter) -> Self {
        let slot = shared.hold_filter(filter);
        let handle = Arc::new(MatchHandle::default());
        let entries = slot.entries.lock();
        slot.handles.lock().push(Arc::downgrade(&handle));
        // Under one lock: existing entries are noted here, later changes by the publisher.
        entries.keys().for_each(|key| handle.note(key, None));
        drop(entries);
        let status = slot.status.subscribe();
        Self { shared, slot, handle, status, seen: BTreeMap::new(), single_look: false }
    }

    /// Creates a subscription for a single read. If it has many keys, they are dropped at once afterwards.
    pub(crate) fn for_a_look(shared: Arc<Shared>, filter: &Filter) -> Self {
        let mut matching = Self::new(shared, filter);
        matching.single_look = true;
        matching
    }

    /// Filter of the subscription.
    pub fn filter(&self) -> &Filter {
        &self.slot.filter
    }

    /// Returns all keys that are set at present, with their entries.
    pub fn entries(&self) -> BTreeMap<Key, Entry> {
        self.slot.entries.lock().clone()
    }

    /// Returns the status: whether the entries are complete and the latest.
    pub fn status(&self) -> MatchStatus {
        *self.status.borrow()
    }

    /// Waits for the next change. The first changes are an `Added` for each key that is set. Several changes of
    /// one key before they are fetched become one, to the latest state.
    ///
    /// Cancel-safe: no change is lost.
    ///
    /// # Errors
    /// Fails if the client was dropped and all changes have been delivered.
    pub async fn next(&mut self) -> Result<Change, Closed> {
        loop {
            if let Some(change) = self.pop() {
                return Ok(change);
            }
            let handle = self.handle.clone();
            unless_closed(&self.shared, handle.arrived.notified()).await?;
        }
    }

    /// Returns the next change if one is available.
    pub fn pop(&mut self) -> Option<Change> {
        loop {
            let (key, cause) = self.handle.pending.lock().pop_first()?;
            let now = self.slot.entries.lock().get(&key).cloned();
            match (self.seen.get(&key).copied(), now) {
                (Some(before), Some(entry)) if before == entry.id => {}
                (before, Some(entry)) => {
                    self.seen.insert(key, entry.id);
                    let cause = cause.unwrap_or(Cause::Written(entry.id));
                    return Some(match before {
                        Some(_) => Change::Updated { entry, cause },
                        None => Change::Added { entry, cause },
                    });
                }
                (Some(_), None) => {
                    self.seen.remove(&key);
                    return Some(Change::Removed { key, cause: cause.unwrap_or(Cause::Loaded) });
                }
                (None, None) => {}
            }
        }
    }

    /// Waits for a status other than the last one seen.
    ///
    /// # Errors
    /// Fails if the client was dropped.
    pub async fn next_status(&mut self) -> Result<MatchStatus, Closed> {
        unless_closed(&self.shared, self.status.changed()).await?.map_err(|_| Closed)?;
        Ok(*self.status.borrow_and_update())
    }

    /// Waits until an agent confirms that everything is the latest. A single `Unverified` key keeps it waiting;
    /// see [`Matching::loaded`].
    ///
    /// # Errors
    /// Fails if the client was dropped.
    pub async fn ready(&mut self) -> Result<MatchStatus, Closed> {
        self.wait_for(|status| status.dirty.is_none()).await
    }

    /// Waits until some agent has sent everything, whether or not it is the latest and verified.
    ///
    /// # Errors
    /// Fails if the client was dropped.
    pub async fn loaded(&mut self) -> Result<MatchStatus, Closed> {
        self.wait_for(|status| status.loaded).await
    }

    async fn wait_for(&self, wanted: impl FnMut(&MatchStatus) -> bool) -> Result<MatchStatus, Closed> {
        let mut status = self.status.clone();
        let status = unless_closed(&self.shared, status.wait_for(wanted)).await?;
        Ok(*status.map_err(|_| Closed)?)
    }
}

impl Clone for Matching {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), &self.slot.filter)
    }
}

impl Drop for Matching {
    fn drop(&mut self) {
        let brief = self.single_look && self.slot.entries.lock().len() > MAX_LINGERING_KEYS;
        self.shared.release_filter(&self.slot, brief);
    }
}
