//! Whether this replica can know what its peers know.
//!
//! A replica that was told of others and has never compared itself with one is ignorant: what it lacks says nothing.
//! [`Readiness`] is a state machine without I/O that decides when this is over; [`Standing`] shares it and keeps what
//! has to outlive the process in a file.

mod standing;

pub(crate) use standing::Standing;

use kvgossip_engine::session::{Newcomer, ShortReplicaId};
use kvgossip_grants::{ReplicaId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What [`FIRST_SYNC`](kvgossip_api::FIRST_SYNC) means, and what to do.
pub(crate) const FIRST_SYNC_TEXT: &str = "this replica has never compared itself with a peer, so what it lacks says \
                                          nothing: see `kvgossip status` for why, or ask another agent; only if this is \
                                          the first replica of its cluster, start it with --ready-alone";
/// The same where something else stands in the way, which is said before it.
pub(crate) const FIRST_SYNC_HINDERED: &str = "until that is mended this replica is compared with no peer there, and as it \
                                              never was, what it lacks says nothing: ask another agent";

/// This replica was never compared with a peer, though there are others: what it lacks says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{FIRST_SYNC_TEXT}")]
pub struct FirstSync;

/// How long a replica that was compared in an earlier run waits for a comparison before it serves, unless told otherwise.
pub const DEFAULT_READY_AFTER: Duration = Duration::from_secs(10);
/// How many newcomers are remembered to have been compared; a cluster that begins with more needs a replica that is not
/// one.
const MAX_NEWCOMERS: usize = 64;
/// The time of the last equality is written to the disk when it is so much later than the one that was written last.
const SAVE_EVERY_US: u64 = 60_000_000;

/// A clock that goes back by more than this was set back, in microseconds.
const SET_BACK_US: u64 = 2_000_000;

/// What is remembered from one start to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Whether a first comparison has ended.
    pub(crate) compared: bool,
    /// Whether the replica began as the first of its cluster: it was told of nobody, and nothing was remembered.
    pub(crate) began_first: bool,
    /// When this replica was last known to hold the same as some peer.
    pub(crate) last_equal: Option<Timestamp>,
}

/// What is known at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) remembered: Option<Remembered>,
    /// Whether the replica was told of others, by whoever starts it.
    pub(crate) told_of_others: bool,
    /// Whether members were met in an earlier run, which may be no replicas of this cluster.
    pub(crate) met_members: bool,
    /// Whether somebody says that it needs no comparison.
    pub(crate) alone_is_fine: bool,
    pub(crate) ready_after: Duration,
    pub(crate) now_us: u64,
}

/// Why this replica may lack what others hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// It has never compared itself with anybody.
    First,
    /// It was not compared since the start.
    Stale {
        /// Whether it has waited long enough for a comparison.
        is_over: bool,
    },
}

/// What a session over everything has brought here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brought {
    /// All that the peer held and this replica takes.
    All,
    /// All of that but entries that wait for this replica's clock, in its waiting room or without a place there.
    AllDue,
    /// Some of it, or nothing.
    Part,
}

/// The id by which newcomers name a replica.
pub(crate) fn short(id: &ReplicaId) -> ShortReplicaId {
    let [short @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *id.as_bytes();
    short
}

/// Decides whether what this replica lacks says anything. Times are microseconds of a clock that never goes back, but for
/// that of the last equality, which is for people.
#[derive(Debug)]
pub(crate) struct Readiness {
    has_others: bool,
    alone_is_fine: bool,
    /// Whether it began as the first of its cluster.
    began_first: bool,
    /// Whether that is enough: it was told of nobody since.
    is_first: bool,
    /// Whether a first comparison has ended, now or in an earlier run.
    compared: bool,
    /// Whether one has ended since the start.
    compared_now: bool,
    /// When waiting for a comparison since the start is over.
    stale_until_us: u64,
    /// Newcomers whose comparison brought all that they hold, and whom they were told of.
    newcomers: BTreeMap<ShortReplicaId, Newcomer>,
    last_equal: Option<LastEqual>,
    saved: Option<Remembered>,
}

/// When this replica was last known to hold the same as some peer, as its clock has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastEqual {
    /// Then, or at some time before.
    pub(crate) at: Timestamp,
    /// Whether the clock was set back since, so that it may have been at any time before.
    pub(crate) is_unsure: bool,
}

impl Readiness {
    pub(crate) fn new(start: Start) -> Self {
        let Start { remembered, told_of_others, met_members, alone_is_fine, ready_after, now_us } = start;
        let has_others = told_of_others || met_members;
        // Who was told of others once, and left before it had met one, is as ignorant without them.
        let began_first = remembered.map_or(!has_others, |remembered| remembered.began_first);
        let compared = remembered.is_some_and(|remembered| remembered.compared);
        let wait_us = u64::try_from(ready_after.as_micros()).unwrap_or(u64::MAX);
        Self {
            has_others,
            alone_is_fine,
            began_first,
            // Members that joined it are no reason to doubt what it has: those among them that are replicas are compared with.
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

    /// Why this replica may lack what others hold; `None`: it was compared, or has nobody to be compared with.
    pub(crate) fn gap(&self, now_us: u64) -> Option<Gap> {
        if self.compared_now || self.alone_is_fine {
            return None;
        }
        if !self.compared {
            return (!self.is_first).then_some(Gap::First);
        }
        self.has_others.then_some(Gap::Stale { is_over: now_us >= self.stale_until_us })
    }

    /// A session with a peer has brought something. What a newcomer holds says nothing of the cluster: its comparison
    /// counts only together with those of all others that this replica was told of (`others`, if it knows them all), and
    /// that these newcomers were told of, and so on.
    pub(crate) fn session_ended(
        &mut self,
        peer: ReplicaId,
        newcomer: Option<Newcomer>,
        brought: Brought,
        others: impl FnOnce() -> Option<BTreeSet<ShortReplicaId>>,
    ) {
        // What waits for the clock is missing: a first comparison that leaves anything out says nothing of what is lacking.
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

    /// Whether these, those that they were told of, and so on, are all newcomers that this replica was compared with.
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

    /// This replica and some peer held the same at this time; the clock says `now`.
    pub(crate) fn note_equal(&mut self, at: Timestamp, now: Timestamp) {
        let at = at.min(now);
        if self.last_equal(now).is_none_or(|last| at >= last.at) {
            self.last_equal = Some(LastEqual { at, is_unsure: false });
        }
    }

    /// When this replica was last known to hold the same as some peer. A time that lies ahead of the clock counts as now, from
    /// here on: the clock was set back, and how long ago it was is not known.
    pub(crate) fn last_equal(&mut self, now: Timestamp) -> Option<LastEqual> {
        let last = self.last_equal.as_mut()?;
        if last.at > now {
            // Clocks are corrected by moments all the time.
            let is_unsure = last.is_unsure || last.at > now.saturating_add(SET_BACK_US);
            *last = LastEqual { at: now, is_unsure };
        }
        Some(*last)
    }

    /// Whether a replica is a newcomer that this one was compared with.
    pub(crate) fn knows_newcomer(&self, peer: &ReplicaId) -> bool {
        self.newcomers.contains_key(&short(peer))
    }

    /// Whom the newcomers were told of that this replica was compared with.
    pub(crate) fn told_of(&self) -> BTreeSet<ShortReplicaId> {
        let told = self.newcomers.values().filter_map(|newcomer| newcomer.others.as_ref());
        told.flatten().copied().filter(|id| !self.newcomers.contains_key(id)).collect()
    }

    /// What has to be written to the disk now. At the end of the process (`at_end`) that is any change.
    pub(crate) fn take_unsaved(&mut self, at_end: bool) -> Option<Remembered> {
        let now = Remembered {
            compared: self.compared,
            began_first: self.began_first,
            last_equal: self.last_equal.map(|last| last.at),
        };
        let is_due = match self.saved {
            // Who needs no comparison because somebody says so has nothing to remember, unless it is the first.
            None => self.began_first || self.has_others && !self.alone_is_fine || self.last_equal.is_some(),
            Some(saved) => {
                let time = |remembered: Remembered| remembered.last_equal.map_or(0, Timestamp::as_micros);
                // A clock that was set back leads back.
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
