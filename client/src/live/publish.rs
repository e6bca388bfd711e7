//! Passing what changed on to those who hold subscriptions.

use super::core::{Changes, Core};
use super::handles::MatchStatus;
use super::registry::{Kept, KeySlot, MatchSlot, Shared};
use super::state::{Dirty, State};

/// Passes on what changed since the last time.
pub(super) fn publish(core: &mut Core, shared: &Shared) {
    let changes = core.take_changes();
    if changes.keys.is_empty() && !changes.dirt {
        return;
    }
    let registry = shared.registry();
    let tell = |slot: &KeySlot| {
        let state = core.state(slot.id, &slot.key);
        slot.state.send_if_modified(|old| std::mem::replace(old, state.clone()) != state);
    };
    if changes.dirt {
        registry.keys.values().for_each(|kept| tell(&kept.slot));
    } else {
        changes.keys.iter().filter_map(|key| registry.keys.get(key)).for_each(|kept| tell(&kept.slot));
    }
    for Kept { slot, .. } in &registry.filters {
        publish_matching(core, slot, &changes);
    }
    drop(registry);
    core.forget_bare(changes.keys.iter());
}

fn publish_matching(core: &Core, slot: &MatchSlot, changes: &Changes) {
    let handles = slot.live_handles();
    let mut entries = slot.entries();
    // A filter that came later than its keys finds them here.
    let all: Vec<_> = if changes.dirt { core.keys_of(slot.id) } else { Vec::new() };
    for key in changes.keys.iter().chain(&all).filter(|key| slot.filter.includes(key)) {
        let changed = match core.entry(key) {
            Some(entry) => entries.insert(key.clone(), entry.clone()).is_none_or(|old| old != entry),
            None => entries.remove(key).is_some(),
        };
        if changed {
            handles.iter().for_each(|handle| handle.note(key, core.cause(key)));
        }
    }
    drop(entries);
    let status = MatchStatus { loaded: core.is_loaded(slot.id), dirty: core.dirt_of(slot.id) };
    slot.status.send_if_modified(|old| std::mem::replace(old, status) != status);
}

/// Says that no agent is there, before anything is known of the cluster.
pub(super) fn publish_disconnected(shared: &Shared) {
    let dirty = Some(Dirty::Disconnected);
    let registry = shared.registry();
    for Kept { slot, .. } in registry.keys.values() {
        let state = State { dirty, ..State::NEW };
        slot.state.send_if_modified(|old| std::mem::replace(old, state.clone()) != state);
    }
    for Kept { slot, .. } in &registry.filters {
        let status = MatchStatus { dirty, ..MatchStatus::NEW };
        slot.status.send_if_modified(|old| std::mem::replace(old, status) != status);
    }
}
