//! Detects replica ids that two running processes use: a state machine without I/O.
//!
//! A replica that restarts connects with a new [`Instance`], which displaces its old connection; the old
//! instance is never seen again. If a displaced instance connects again, it was running all the time, so two
//! processes share one key, for example two agents on copies of one data directory. From then on the existing
//! connection is kept, so that the two do not displace each other endlessly, and both are informed.

use crate::instance::Instance;
use kvgossip_grants::ReplicaId;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Maximum number of replica ids whose displaced instances are remembered. The least recently displaced id is
/// dropped first.
const MAX_IDS: usize = 1024;
/// Maximum number of displaced instances remembered for one id. The oldest is dropped first.
const MAX_INSTANCES: usize = 8;
/// Time for which a cloned replica id is reported after the last evidence of a second process.
pub const CLONE_SHOWN: Duration = Duration::from_secs(600);

/// Decision about a new connection of a replica id that already has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// The new connection replaces the older one.
    Takes,
    /// A second process was just detected: both connections are closed, so that both processes are informed.
    NeitherStays,
    /// A second process is already known: the older connection is kept.
    OlderStays,
}

#[derive(Debug, Default)]
struct History {
    displaced: VecDeque<Instance>,
    last_at: Duration,
    /// Time of the last evidence of a second process with the key; `None` if there was none.
    cloned_at: Option<Duration>,
}

impl History {
    fn note(&mut self, instance: Instance) {
        if !self.displaced.contains(&instance) {
            self.displaced.push_back(instance);
            if self.displaced.len() > MAX_INSTANCES {
                self.displaced.pop_front();
            }
        }
    }

    fn is_shown(&self, now: Duration) -> bool {
        self.cloned_at.is_some_and(|at| now < at + CLONE_SHOWN)
    }
}

/// Displaced instances by replica id. Times are durations on any monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Clones(BTreeMap<ReplicaId, History>);

impl Clones {
    /// Decides about a new connection of replica `id` from the instance `newer`, while `older` is connected.
    pub(crate) fn meet(&mut self, id: ReplicaId, older: Instance, newer: Instance, now: Duration) -> Ruling {
        if self.0.len() >= MAX_IDS && !self.0.contains_key(&id) {
            let oldest = self.0.iter().min_by_key(|(_, history)| history.last_at).map(|(id, _)| *id);
            oldest.map(|id| self.0.remove(&id));
        }
        let history = self.0.entry(id).or_default();
        history.last_at = now;
        let returned = history.displaced.contains(&newer);
        let ruling = match (returned, history.is_shown(now)) {
            (false, _) => Ruling::Takes,
            (true, false) => Ruling::NeitherStays,
            (true, true) => Ruling::OlderStays,
        };
        history.note(older);
        if returned {
            history.note(newer);
            history.cloned_at = Some(now);
        }
        ruling
    }

    /// Returns whether two processes were found to use this id within the last [`CLONE_SHOWN`].
    #[cfg(test)]
    fn is_cloned(&self, id: &ReplicaId, now: Duration) -> bool {
        self.0.get(id).is_some_and(|history| history.is_shown(now))
    }

    /// Returns the ids that two processes were found to use within the last [`CLONE_SHOWN`].
    pub(crate) fn list(&self, now: Duration) -> Vec<ReplicaId> {
        self.0.iter().filter(|(_, history)| history.is_shown(now)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ReplicaId = ReplicaId([1; 32]);
    const A: Instance = Instance::new(1);
    const B: Instance = Instance::new(2);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_replica_that_restarts_however_often_is_no_clone() {
        let mut clones = Clones::default();
        for n in 0..100 {
            let (older, newer) = (Instance::new(n), Instance::new(n + 1));
            assert_eq!(clones.meet(ID, older, newer, s(n)), Ruling::Takes);
        }
        assert!(clones.list(s(100)).is_empty());
        assert_eq!(clones.0[&ID].displaced.len(), MAX_INSTANCES);
    }

    #[test]
    fn an_instance_that_comes_back_shows_a_clone_and_they_displace_each_other_no_longer() {
        let mut clones = Clones::default();
        assert_eq!(clones.meet(ID, A, B, s(1)), Ruling::Takes);
        assert!(!clones.is_cloned(&ID, s(1)));
        assert_eq!(clones.meet(ID, B, A, s(2)), Ruling::NeitherStays, "both hear of it");
        assert_eq!(clones.list(s(2)), [ID]);
        assert_eq!(clones.meet(ID, A, B, s(3)), Ruling::OlderStays, "whichever it is");
        assert_eq!(clones.meet(ID, B, A, s(4)), Ruling::OlderStays);
        let shown = s(4) + CLONE_SHOWN;
        assert!(clones.is_cloned(&ID, shown - s(1)) && !clones.is_cloned(&ID, shown), "one of them is gone");
        assert_eq!(clones.meet(ID, B, Instance::new(3), shown), Ruling::Takes, "a restart");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_falls_first() {
        let mut clones = Clones::default();
        let id = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            ReplicaId(bytes)
        };
        for n in 0..MAX_IDS + 10 {
            clones.meet(id(n), A, B, Duration::from_secs(n as u64));
        }
        assert_eq!(clones.0.len(), MAX_IDS);
        assert!(!clones.0.contains_key(&id(9)) && clones.0.contains_key(&id(10)));
    }
}
