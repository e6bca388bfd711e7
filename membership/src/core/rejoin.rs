//! Rejoining: a member that is alone tries every member it remembers, in rounds, until it is no longer alone.
//!
//! It remembers the members of an earlier run that it has not met in this one, and those that have failed. A
//! round tries all of them in random order, at most [`MAX_AT_ONCE`] at a time. The wait before the next round
//! doubles up to [`LONGEST_WAIT`].

use std::{net::SocketAddr, time::Duration};

use rand::{RngExt, seq::SliceRandom};

use super::{Core, Event, Status, StreamId, timers::Due};
use crate::wire::Text;

/// Maximum number of members tried concurrently in a round.
const MAX_AT_ONCE: usize = 32;
/// Interval between checks for ended exchanges during a rejoin round.
const PACE: Duration = Duration::from_millis(100);
/// Delay after this member's start before the first round, so that the caller listens for events by then.
const BEGIN: Duration = Duration::from_millis(100);
/// Interval between checks of whether this member is alone.
const LOOK: Duration = Duration::from_secs(2);
/// Wait between the first two rejoin rounds.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Maximum wait between two rejoin rounds.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Rejoin {
    /// Names and addresses of members of an earlier run that this run has not met yet.
    remembered: Vec<(Text, SocketAddr)>,
    /// Names and addresses of members whose cluster an earlier run left, and that this run is not configured to
    /// try.
    left_behind: Vec<(Text, SocketAddr)>,
    /// Whether an earlier run was in a cluster with other members, and did not leave it for good.
    came_back: bool,
    round: Option<Round>,
    /// Number of consecutive rejoin rounds in which no member answered.
    failed_rounds: u32,
}

#[derive(Debug)]
struct Round {
    to_try: Vec<SocketAddr>,
    tried: usize,
    under_way: Vec<StreamId>,
}

impl Core {
    /// Loads the members of an earlier run from the snapshot. If that run left the cluster, they are tried only
    /// if configured.
    pub(super) fn begin_rejoining(&mut self, now: Duration) {
        if let Some(snapshot) = &self.config.restore {
            if snapshot.left && !self.config.rejoin_after_leave {
                self.rejoin.left_behind.clone_from(&snapshot.alive);
            } else {
                self.rejoin.remembered.clone_from(&snapshot.alive);
                self.rejoin.came_back = !snapshot.alive.is_empty() || snapshot.event_clock > 0;
            }
        }
        self.timers.add(now + BEGIN, Due::Rejoin);
    }

    /// Returns whether this member is alone now and was among others before, in this run or an earlier one.
    pub(super) fn comes_back(&self) -> bool {
        self.table.active == 0 && (self.rejoin.came_back || self.table.len() > 0)
    }

    /// Returns whether an earlier run was in a cluster with other members, and did not leave it for good.
    pub fn came_back(&self) -> bool {
        self.rejoin.came_back
    }

    /// Members whose cluster an earlier run left, for a later run that may be configured to try them; `None` if
    /// there are none or this run has met another member.
    pub(super) fn left_behind(&self) -> Option<&[(Text, SocketAddr)]> {
        let left = &self.rejoin.left_behind;
        (!left.is_empty() && self.stats.changes.joined == 0).then_some(left)
    }

    /// Returns whether an earlier run left its cluster, and this run neither tries the members of then nor has
    /// met any other.
    pub fn has_left_before(&self) -> bool {
        self.left_behind().is_some()
    }

    pub(super) fn rejoin_due(&mut self, now: Duration) {
        self.forget_remembered(now);
        let alone = self.cluster_size() < 2 && !self.is_leaving();
        let wait = match self.rejoin.round.take() {
            _ if !alone => {
                self.rejoin.failed_rounds = 0;
                LOOK
            }
            Some(round) => self.go_on_rejoining(now, round),
            None => match self.all_to_rejoin() {
                to_try if to_try.is_empty() => LOOK,
                to_try => self.go_on_rejoining(now, Round { to_try, tried: 0, under_way: Vec::new() }),
            },
        };
        self.timers.add(now + wait, Due::Rejoin);
    }

    /// Forgets remembered members that are in the table now. Once the reconnect timeout has passed since the
    /// start, forgets all remembered members, unless this member is alone.
    fn forget_remembered(&mut self, now: Duration) {
        let own = &self.own.info;
        let is_over = now >= self.config.timing.reconnect_timeout && self.table.active > 0;
        let table = &self.table;
        self.rejoin.remembered.retain(|(name, addr)| {
            !is_over && **name != *own.name && *addr != own.addr && table.by_name(name).is_none()
        });
    }

    fn all_to_rejoin(&mut self) -> Vec<SocketAddr> {
        let failed = self.table.iter().filter(|(_, peer)| peer.status == Status::Failed);
        let mut all: Vec<_> = failed.map(|(_, peer)| peer.info.addr).collect();
        all.extend(self.rejoin.remembered.iter().map(|(_, addr)| *addr));
        all.sort_unstable();
        all.dedup();
        all.shuffle(&mut self.rng);
        all
    }

    /// Tries the members of a round, at most [`MAX_AT_ONCE`] at a time. Returns the wait until the next check.
    fn go_on_rejoining(&mut self, now: Duration, mut round: Round) -> Duration {
        round.under_way.retain(|id| self.streams.is_open(*id));
        while round.under_way.len() < MAX_AT_ONCE
            && let Some(addr) = round.to_try.pop()
        {
            match self.join(now, addr, false) {
                Ok(id) => {
                    round.tried += 1;
                    round.under_way.push(id);
                }
                // All exchanges are in use; it is tried again later.
                Err(_) => {
                    round.to_try.push(addr);
                    break;
                }
            }
        }
        if !round.to_try.is_empty() || !round.under_way.is_empty() {
            self.rejoin.round = Some(round);
            return PACE;
        }
        let doublings = self.rejoin.failed_rounds.min(LONGEST_WAIT.as_secs().ilog2() + 1);
        let wait = (FIRST_WAIT * 2u32.pow(doublings)).min(LONGEST_WAIT);
        self.rejoin.failed_rounds = self.rejoin.failed_rounds.saturating_add(1);
        self.emit(Event::RejoinFailed { tried: round.tried, rounds: self.rejoin.failed_rounds });
        wait.mul_f64(self.rng.random_range(0.5..1.0))
    }

    /// Names and addresses that a later run should try: active members, failed ones, and those of an earlier
    /// run that this run has not met.
    pub(super) fn rejoinable(&self) -> Vec<(Text, SocketAddr)> {
        let there = self.table.iter().map(|(_, peer)| peer).filter(|peer| peer.health.is_active());
        let failed = self.table.iter().map(|(_, peer)| peer).filter(|peer| peer.status == Status::Failed);
        let known = there.chain(failed.filter(|peer| !peer.health.is_active()));
        let mut all: Vec<_> = known.map(|peer| (peer.info.name.clone(), peer.info.addr)).collect();
        let unmet = self.rejoin.remembered.iter().filter(|(name, _)| self.table.by_name(name).is_none());
        all.extend(unmet.cloned());
        all
    }
}
