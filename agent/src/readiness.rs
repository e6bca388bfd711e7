//! Readiness: whether what this replica lacks may be reported as absent.
//!
//! A replica that knows of others and was never compared with one (a *newcomer*) may lack anything. [`Readiness`] is
//! a state machine without I/O that decides when this ends. [`Standing`] shares it and persists it in a file.

mod standing;

pub(crate) use standing::{ReadinessConfig, Standing};

use kvgossip_engine::session::{Newcomer, ShortReplicaId};
use kvgossip_grants::{ReplicaId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The explanation of [`FIRST_SYNC`](kvgossip_api::FIRST_SYNC), with the remedy.
pub(crate) const FIRST_SYNC_TEXT: &str = "this replica has never compared itself with a peer, so what it lacks says \
                                          nothing: see `kvgossip status` for why, or ask another agent; only if this is \
                                          the first replica of its cluster, start it with --ready-alone";
/// The explanation that follows the description of an obstacle to the first comparison.
pub(crate) const FIRST_SYNC_HINDERED: &str = "until that is mended this replica is compared with no peer there, and as it \
                                              never was, what it lacks says nothing: ask another agent";

/// The error of a replica that knows of others and was never compared with one: it cannot report anything as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{FIRST_SYNC_TEXT}")]
pub struct FirstSync;

/// Default time that a replica compared in an earlier run waits for a new comparison before it serves.
pub const DEFAULT_READY_AFTER: Duration = Duration::from_secs(10);
/// Maximum number of newcomers remembered with which this replica was compared. In a cluster that starts with more
/// newcomers, one replica must not be a newcomer for this one to become ready.
const MAX_NEWCOMERS: usize = 64;
/// Interval after which a later time of the last equality is written to disk, in microseconds.
const SAVE_EVERY_US: u64 = 60_000_000;

/// A clock that jumps back by more than this counts as set back, in microseconds.
const SET_BACK_US: u64 = 2_000_000;

/// What is remembered of comparisons beyond the end of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Whether a first comparison with a peer has ended.
    pub(crate) compared: bool,
    /// Whether the replica started as the first of its cluster: without configured others and without remembered
    /// state.
    pub(crate) began_first: bool,
    /// When this replica and a peer were last known to hold the same facts; `None`: never.
    pub(crate) last_equal: Option<Timestamp>,
}

/// The inputs of [`Readiness`] at start-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) remembered: Option<Remembered>,
    /// Whether the configuration names or implies that other replicas exist.
    pub(crate) told_of_others: bool,
    /// Whether an earlier run met gossip members; these need not be replicas of this cluster.
    pub(crate) met_members: bool,
    /// Whether the configuration says that this replica needs no comparison to be ready.
    pub(crate) alone_is_fine: bool,
    pub(crate) ready_after: Duration,
    pub(crate) now_us: u64,
}

/// The reason why this replica may lack facts that others hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// This replica was never compared with a peer.
    First,
    /// This replica was compared with a peer in an earlier run, but not since the start.
    Stale {
        /// Whether the waiting time for a new comparison is over, so that the replica is ready without one.
        is_over: bool,
    },
}

/// How much of a peer's facts a full session brought to this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brought {
    /// Everything that the peer held and this replica accepts.
    All,
    /// Everything that the peer held, except entries that are early here, in the waiting room or dropped for lack of
    /// room.
    AllDue,
    /// A part of what the peer held, or nothing.
    Part,
}

/// Returns the first half of a replica id, by which newcomers name a replica.
pub(crate) fn short(id: &ReplicaId) -> ShortReplicaId {
    let [short @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *id.as_bytes();
    short
}

/// The state machine of readiness. Times are microseconds of a monotonic clock, except that of the last equality,
/// which is wall-clock time.
#[derive(Debug)]
pub(crate) struct Readiness {
    has_others: bool,
    alone_is_fine: bool,
    /// Whether this replica started as the first of its cluster: without configured others and without remembered
    /// state.
    began_first: bool,
    /// Whether this replica is still the first of its cluster: no others are configured in this run either.
    is_first: bool,
    /// Whether a first comparison with a peer has ended, in this run or an earlier one.
    compared: bool,
    /// Whether a comparison with a peer has ended in this run.
    compared_now: bool,
    /// When the waiting time for a comparison in this run ends, in microseconds of the monotonic clock.
    stale_until_us: u64,
    /// Newcomers with which this replica had a complete session, with the replicas that each of them knows of.
    newcomers: BTreeMap<ShortReplicaId, Newcomer>,
    last_equal: Option<LastEqual>,
    saved: Option<Remembered>,
}

/// When this replica and a peer were last known to hold the same facts, by this replica's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastEqual {
    /// The time when both last held the same facts, or an upper bound of it.
    pub(crate) at: Timestamp,
    /// Whether `at` is only an upper bound, because the clock was set back since that time.
    pub(crate) is_unsure: bool,
}

impl Readiness {
    pub(crate) fn new(start: Start) -> Self {
        let Start { remembered, told_of_others, met_members, alone_is_fine, ready_after, now_us } = start;
        let has_others = told_of_others || met_members;
        // A replica once configured with others, but compared with none, remains a newcomer when started without
        // them.
        let began_first = remembered.map_or(!has_others, |remembered| remembered.began_first);
        let compared = remembered.is_some_and(|remembered| remembered.compared);
        let wait_us = u64::try_from(ready_after.as_micros()).unwrap_or(u64::MAX);
        Self {
            has_others,
            alone_is_fine,
            began_first,
            // Members that joined later do not end this: replicas among them are compared with, and others do not
            // matter.
            is_first: began_first && !told_of_others,
            compared,
            compared_now: false,
            stale_until_us: now_us.saturating_add(wait_us),
            newcomers: BTreeMap::new(),
            last_equal: remembered
                .and_then(|remembered| remembered.last_equal)
                .map(|at| LastEqual { at, is_unsure: false }),
            saved: remembered,
        }
    }

    /// Returns why this replica may lack facts that others hold; `None`: it was compared, or needs no comparison.
    pub(crate) fn gap(&self, now_us: u64) -> Option<Gap> {
        if self.compared_now || self.alone_is_fine {
            return None;
        }
        if !self.compared {
            return (!self.is_first).then_some(Gap::First);
        }
        self.has_others.then_some(Gap::Stale { is_over: now_us >= self.stale_until_us })
    }

    /// Records the end of a full session with a peer. A session with a newcomer says nothing about the cluster on its
    /// own. It counts only together with sessions with all other replicas that this one knows of (`others`; `None`:
    /// not all ids are known) and, transitively, all that those newcomers know of.
    pub(crate) fn session_ended(
        &mut self,
        peer: ReplicaId,
        newcomer: Option<Newcomer>,
        brought: Brought,
        others: impl FnOnce() -> Option<BTreeSet<ShortReplicaId>>,
    ) {
        // Early entries are missing from the state: a first comparison that leaves any out does not count.
        let counts = match brought {
            Brought::All => true,
            Brought::AllDue => self.compared || self.is_first,
            Brought::Part => false,
        };
        if !counts || self.compared_now {
            return;
        }
        if let Some(newcomer) = newcomer
            && !(self.compared || self.is_first)
        {
            let peer = short(&peer);
            if self.newcomers.len() < MAX_NEWCOMERS || self.newcomers.contains_key(&peer) {
                self.newcomers.insert(peer, newcomer);
            }
            if !others().is_some_and(|others| self.all_are_new(others)) {
                return;
            }
        }
        (self.compared, self.compared_now) = (true, true);
    }

    /// Whether these replicas and, transitively, all that they know of are newcomers that this replica was compared
    /// with.
    fn all_are_new(&self, others: BTreeSet<ShortReplicaId>) -> bool {
        let (mut to_visit, mut seen) = (Vec::from_iter(others), BTreeSet::new());
        while let Some(other) = to_visit.pop() {
            if seen.insert(other) {
                match self.newcomers.get(&other) {
                    Some(Newcomer { others: Some(theirs) }) => to_visit.extend(theirs),
                    _ => return false,
                }
            }
        }
        true
    }

    /// Records that this replica and a peer held the same facts at the time `at`; the clock shows `now`.
    pub(crate) fn note_equal(&mut self, at: Timestamp, now: Timestamp) {
        let at = at.min(now);
        if self.last_equal(now).is_none_or(|last| at >= last.at) {
            self.last_equal = Some(LastEqual { at, is_unsure: false });
        }
    }

    /// Returns when this replica and a peer were last known to hold the same facts. A time ahead of the clock is
    /// replaced by `now`: the clock was set back, and the true time is unknown.
    pub(crate) fn last_equal(&mut self, now: Timestamp) -> Option<LastEqual> {
        let last = self.last_equal.as_mut()?;
        if last.at > now {
            // Small corrections backwards are normal for a synchronised clock.
            let is_unsure = last.is_unsure || last.at > now.saturating_add(SET_BACK_US);
            *last = LastEqual { at: now, is_unsure };
        }
        Some(*last)
    }

    /// Whether a replica is a newcomer that this one was compared with.
    pub(crate) fn knows_newcomer(&self, peer: &ReplicaId) -> bool {
        self.newcomers.contains_key(&short(peer))
    }

    /// Returns the replicas known to the newcomers that this one was compared with, except those newcomers themselves.
    pub(crate) fn told_of(&self) -> BTreeSet<ShortReplicaId> {
        let told = self.newcomers.values().filter_map(|newcomer| newcomer.others.as_ref());
        told.flatten().copied().filter(|id| !self.newcomers.contains_key(id)).collect()
    }

    /// Returns the state to write to disk; `None`: nothing has changed enough. At the end of the process (`at_end`),
    /// any change counts.
    pub(crate) fn take_unsaved(&mut self, at_end: bool) -> Option<Remembered> {
        let now = Remembered {
            compared: self.compared,
            began_first: self.began_first,
            last_equal: self.last_equal.map(|last| last.at),
        };
        let is_due = match self.saved {
            // A replica that needs no comparison by configuration has no state to write, unless it is the first.
            None => self.began_first || self.has_others && !self.alone_is_fine || self.last_equal.is_some(),
            Some(saved) => {
                let time = |remembered: Remembered| remembered.last_equal.map_or(0, Timestamp::as_micros);
                // The time may also move backwards, after the clock was set back.
                let moved_us = time(now).abs_diff(time(saved));
                now.compared != saved.compared || moved_us >= SAVE_EVERY_US || at_end && moved_us > 0
            }
        };
        if is_due {
            self.saved = Some(now);
        }
        is_due.then_some(now)
    }
}

#[cfg(test)]
mod tests;
