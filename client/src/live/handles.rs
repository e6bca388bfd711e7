//! What a program holds: subscriptions.

use super::MAX_LINGERING_KEYS;
use super::registry::{KeySlot, MatchSlot, Shared};
use super::state::{Cause, Dirty, Entry, State, Value};
use kvgossip_grants::{EntryId, Filter, Key};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// The client is gone: nothing changes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has been dropped: its subscriptions do not change any more")]
pub struct Closed;

/// Waits for something, or for the end of the client.
async fn unless_closed<T>(shared: &Shared, waited_for: impl Future<Output = T>) -> Result<T, Closed> {
    tokio::select! {
        biased;
        done = waited_for => Ok(done),
        () = shared.until_closed() => Err(Closed),
    }
}

/// A key, kept current. It outlives every connection; dropped, it is unsubscribed.
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

    /// The key.
    pub fn key(&self) -> &Key {
        &self.slot.key
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.states.borrow().clone()
    }

    /// The state now, which counts as seen: [`Subscription::changed`] waits for another.
    pub fn mark_seen(&mut self) -> State {
        self.states.borrow_and_update().clone()
    }

    /// Waits for a state other than the one that was seen last, and gives it. However slow the caller, the latest state
    /// is never missed; states in between may be.
    ///
    /// # Errors
    /// When the client was dropped.
    pub async fn changed(&mut self) -> Result<State, Closed> {
        unless_closed(&self.shared, self.states.changed()).await?.map_err(|_| Closed)?;
        Ok(self.states.borrow_and_update().clone())
    }

    /// Waits until the *value* is another than the last that this function gave; the first time for the first value that
    /// is known.
    ///
    /// # Errors
    /// When the client was dropped.
    pub async fn next_value(&mut self) -> Result<State, Closed> {
        let last = self.value.clone();
        let state = self.wait_for(|state| state.value != last).await?;
        self.value = state.value.clone();
        Ok(state)
    }

    /// The same for the *dirtiness*, beginning with `Loading`.
    ///
    /// # Errors
    /// When the client was dropped.
    pub async fn next_dirtiness(&mut self) -> Result<Option<Dirty>, Closed> {
        let last = self.dirty;
        self.dirty = self.wait_for(|state| state.dirty != last).await?.dirty;
        Ok(self.dirty)
    }

    /// Waits until an agent says that the value is the latest. The state counts as seen: [`Subscription::changed`] waits for
    /// another.
    ///
    /// # Errors
    /// When the client was dropped.
    pub async fn ready(&mut self) -> Result<State, Closed> {
        let clean = self.states.wait_for(|state| state.dirty.is_none());
        Ok(unless_closed(&self.shared, clean).await?.map_err(|_| Closed)?.clone())
    }

    /// Waits for a state that holds something; the present one counts.
    ///
    /// # Errors
    /// When the client was dropped.
    pub async fn wait_for(&mut self, holds: impl FnMut(&State) -> bool) -> Result<State, Closed> {
        let mut states = self.states.clone();
        let state = unless_closed(&self.shared, states.wait_for(holds)).await?;
        Ok(state.map_err(|_| Closed)?.clone())
    }

    /// A receiver of all states, for `tokio` combinators.
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

/// Whether a filter's keys are all known, and whether they may not be the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchStatus {
    /// Whether some agent has told all of them.
    pub loaded: bool,
    /// Why they may not be the latest; `None`: an agent says that they are, right now.
    pub dirty: Option<Dirty>,
    /// How many keys were told of which it is not known whether they are set, or to what: they are not among the entries.
    pub unknown: usize,
}

impl MatchStatus {
    pub(crate) const NEW: Self = Self { loaded: false, dirty: Some(Dirty::Loading), unknown: 0 };
}

/// A change among the keys of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key that was unset for this subscriber is set.
    Added {
        /// What is shown now.
        entry: Entry,
        /// What led to it.
        cause: Cause,
    },
    /// Another entry.
    Updated {
        /// What is shown now.
        entry: Entry,
        /// What led to it.
        cause: Cause,
    },
    /// The key is unset, or purged; or it is not known what it is now: see [`MatchStatus::unknown`].
    Removed {
        /// The key.
        key: Key,
        /// What led to it.
        cause: Cause,
    },
}

impl Change {
    /// The key.
    pub fn key(&self) -> &Key {
        match self {
            Self::Added { entry, .. } | Self::Updated { entry, .. } => &entry.key,
            Self::Removed { key, .. } => key,
        }
    }
}

/// What one subscriber has still to be told: keys alone, each once.
#[derive(Debug, Default)]
pub(crate) struct MatchHandle {
    pending: Mutex<BTreeMap<Key, Option<Cause>>>,
    arrived: Notify,
}

impl MatchHandle {
    pub(crate) fn note(&self, key: &Key, cause: Option<Cause>) {
        self.pending.lock().insert(key.clone(), cause);
        self.arrived.notify_one();
    }
}

/// The keys that a filter includes, kept current. It outlives every connection; dropped, it is unsubscribed.
#[derive(Debug)]
pub struct Matching {
    shared: Arc<Shared>,
    slot: Arc<MatchSlot>,
    handle: Arc<MatchHandle>,
    status: watch::Receiver<MatchStatus>,
    /// What this subscriber was told.
    seen: BTreeMap<Key, EntryId>,
    /// Whether it is held to look once, and what it takes is not worth keeping.
    single_look: bool,
}

impl Matching {
    pub(crate) fn new(shared: Arc<Shared>, filter: &Filter) -> Self {
        let slot = shared.hold_filter(filter);
        let handle = Arc::new(MatchHandle::default());
        let entries = slot.entries.lock();
        slot.handles.lock().push(Arc::downgrade(&handle));
        // Under the same lock: what comes later is noted, what is there is told first.
        entries.keys().for_each(|key| handle.note(key, None));
        drop(entries);
        let status = slot.status.subscribe();
        Self { shared, slot, handle, status, seen: BTreeMap::new(), single_look: false }
    }

    /// The same for somebody who looks once: many keys are forgotten at once then.
    pub(crate) fn for_a_look(shared: Arc<Shared>, filter: &Filter) -> Self {
        let mut matching = Self::new(shared, filter);
        matching.single_look = true;
        matching
    }

    /// The filter.
    pub fn filter(&self) -> &Filter {
        &self.slot.filter
    }

    /// All keys that are set, with their entries, as of now.
    pub fn entries(&self) -> BTreeMap<Key, Entry> {
        self.slot.entries.lock().clone()
    }

    /// Whether that is all, and the latest.
    pub fn status(&self) -> MatchStatus {
        *self.status.borrow()
    }

    /// Waits for the next change. It begins with an `Added` for each key that is set; several changes of a key that come
    /// before they are asked for are one, to the latest.
    ///
    /// May be dropped and called again at any time: no change is lost.
    ///
    /// # Errors
    /// When the client was dropped and everything has been told.
    pub async fn next(&mut self) -> Result<Change, Closed> {
        loop {
            if let Some(change) = self.pop() {
                return Ok(change);
            }
            let handle = self.handle.clone();
            unless_closed(&self.shared, handle.arrived.notified()).await?;
        }
    }

    /// The next change that is there already.
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

    /// Waits for another status than the last that was seen.
    ///
    /// # Errors
    /// When the client was dropped.
    pub async fn next_status(&mut self) -> Result<MatchStatus, Closed> {
        unless_closed(&self.shared, self.status.changed()).await?.map_err(|_| Closed)?;
        Ok(*self.status.borrow_and_update())
    }

    /// Waits until an agent says that everything is the latest. One key that is `Unverified` is enough to wait for: see
    /// [`Matching::loaded`].
    ///
    /// # Errors
    /// When the client was dropped.
    pub async fn ready(&mut self) -> Result<MatchStatus, Closed> {
        self.wait_for(|status| status.dirty.is_none()).await
    }

    /// Waits until some agent has told everything, whether or not it is the latest and all of it verified.
    ///
    /// # Errors
    /// When the client was dropped.
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
