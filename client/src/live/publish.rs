//! Publishes changes to subscribers.

use super::core::{Changes, Core};
use super::matches::MatchStatus;
use super::registry::{Kept, KeySlot, MatchSlot, Shared};
use super::state::{Dirty, State};
use kvgossip_grants::Key;

/// Publishes the changes since the last call. All states are updated before any subscriber is woken, so that a
/// subscriber woken for one change sees all of them.
pub(super) fn publish(core: &mut Core, shared: &Shared) {
    let changes = core.take_changes();
    if changes.keys.is_empty() && !changes.dirt {
        return;
    }
    let registry = shared.registry.lock();
    let changed: Vec<(&MatchSlot, Vec<Key>)> = registry
        .filters
        .iter()
        .map(|kept| (&*kept.slot, change_entries(core, &kept.slot, &changes)))
        .collect();
    let slots: Vec<&KeySlot> = match changes.dirt {
        true => registry.keys.values().map(|kept| &*kept.slot).collect(),
        false => changes.keys.iter().filter_map(|key| Some(&*registry.keys.get(key)?.slot)).collect(),
    };
    let woken: Vec<&KeySlot> = slots.into_iter().filter(|slot| change_state(core, slot)).collect();

    for (slot, keys) in changed {
        let handles = slot.live_handles();
        keys.iter().for_each(|key| handles.iter().for_each(|handle| handle.note(key, core.cause(key))));
        let (loaded, dirty) = (core.is_loaded(slot.id), core.dirt_of(slot.id));
        let status = MatchStatus { loaded, dirty, unknown: core.unknown_of(slot.id) };
        slot.status.send_if_modified(|old| std::mem::replace(old, status) != status);
    }
    woken.into_iter().for_each(|slot| slot.state.send_modify(|_| ()));
    drop(registry);
    core.forget_bare(changes.keys.iter());
}

/// Updates the state that the subscribers of a key see, without waking them. Returns whether it changed.
fn change_state(core: &Core, slot: &KeySlot) -> bool {
    let new = core.state(slot.id, &slot.key);
    let mut changed = false;
    slot.state.send_if_modified(|old| {
        // While the new value is being requested, the previous state is kept and marked dirty.
        let new = if core.keeps_older(&slot.key) { State { dirty: new.dirty, ..old.clone() } } else { new };
        changed = *old != new;
        *old = new;
        false
    });
    changed
}

/// Updates the entries that a filter shows, without waking subscribers. Returns the keys to report.
fn change_entries(core: &Core, slot: &MatchSlot, changes: &Changes) -> Vec<Key> {
    let mut entries = slot.entries.lock();
    // A filter that was added after its keys finds them here.
    let all: Vec<_> = if changes.dirt { core.keys_of(slot.id) } else { Vec::new() };
    let mut to_tell = Vec::new();
    for key in changes.keys.iter().chain(&all).filter(|key| slot.filter.includes(key)) {
        let tell = match core.entry(key) {
            Some(entry) => entries.insert(key.clone(), entry.clone()).is_none_or(|old| old != entry),
            None if core.keeps_older(key) => false,
            None => {
                let ended = entries.remove(key).is_some();
                // The end may have happened earlier, unreported. A subscriber that never saw the key gets no
                // report of its end.
                !core.expects_value(key) && (ended || changes.keys.contains(key))
            }
        };
        if tell {
            to_tell.push(key.clone());
        }
    }
    to_tell
}

/// Publishes that no agent is connected, before anything is known of the cluster.
pub(super) fn publish_disconnected(shared: &Shared) {
    let dirty = Some(Dirty::Disconnected);
    let registry = shared.registry.lock();
    for Kept { slot, .. } in registry.keys.values() {
        let state = State { dirty, ..State::NEW };
        slot.state.send_if_modified(|old| std::mem::replace(old, state.clone()) != state);
    }
    for Kept { slot, .. } in &registry.filters {
        let status = MatchStatus { dirty, ..MatchStatus::NEW };
        slot.status.send_if_modified(|old| std::mem::replace(old, status) != status);
    }
}
