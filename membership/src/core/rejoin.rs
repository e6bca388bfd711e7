//! Rejoining: a member that is alone tries everybody that it remembers, in rounds, for as long as it is alone.
//!
//! It remembers the members of an earlier life that it has not met in this one, and those that have failed. A round tries all
//! of them, at most [`MAX_AT_ONCE`] at a time, in an order of its own; the next one begins after a wait that doubles up to
//! [`LONGEST_WAIT`].

use std::{net::SocketAddr, time::Duration};

use rand::{RngExt, seq::SliceRandom};

use super::{Core, Event, Status, StreamId, timers::Due};
use crate::wire::Text;

/// Most members that are tried at a time.
const MAX_AT_ONCE: usize = 32;
/// While a round is under way, it is looked so often for exchanges that have ended.
const PACE: Duration = Duration::from_millis(100);
/// So long after its start a member first tries others: whoever wants to hear of it listens by then.
const BEGIN: Duration = Duration::from_millis(100);
/// A member that is not alone looks so often whether it is.
const LOOK: Duration = Duration::from_secs(2);
/// Between the first round and the second.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Between any two rounds.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Rejoin {
    /// Members of an earlier life that this one has not met.
    remembered: Vec<(Text, SocketAddr)>,
    /// Members that an earlier life has left, and this one is not told to try.
    left_behind: Vec<(Text, SocketAddr)>,
    /// Whether an earlier life was among others, and did not end by leaving them for good.
    came_back: bool,
    round: Option<Round>,
    /// Rounds in a row in which nobody answered.
    failed_rounds: u32,
}

#[derive(Debug)]
struct Round {
    to_try: Vec<SocketAddr>,
    tried: usize,
    under_way: Vec<StreamId>,
}

impl Core {
    /// Remembers the members of an earlier life, unless it ended by leaving.
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

    /// Whether this member is alone and was among others before.
    pub(super) fn comes_back(&self) -> bool {
        self.table.active == 0 && (self.rejoin.came_back || self.table.len() > 0)
    }

    /// Whether an earlier life was among others, and did not end by leaving them for good.
    pub fn came_back(&self) -> bool {
        self.rejoin.came_back
    }

    /// The members that an earlier life has left, while this one has met nobody: a later one may be told to try them.
    pub(super) fn left_behind(&self) -> Option<&[(Text, SocketAddr)]> {
        let left = &self.rejoin.left_behind;
        (!left.is_empty() && self.stats.changes.joined == 0).then_some(left)
    }

    /// Whether an earlier life has left its members, and this one neither tries them nor has met anybody.
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

    /// Those that are met in this life are in the table, which knows better. After the time after which failed members are
    /// forgotten, those that nobody has named are forgotten, too; but never by a member that is alone.
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

    /// Tries as many as may be tried at a time; gives the wait until the next look.
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
                // All exchanges are taken: it is tried again.
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

    /// All that a later life should try: those that are there, those that have failed, and those that an earlier life knew
    /// and this one has not met.
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
