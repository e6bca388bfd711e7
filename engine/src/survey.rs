//! Who of a cluster differs, and whom to sync with to end that: a state machine without clock or randomness of its
//! own.
//!
//! All members are asked for their roots at once; those that differ answer. The answers are grouped by root, and one
//! session with the nearest member of each group is enough: the cost follows the number of distinct roots, not the size
//! of the cluster. Afterwards everybody is asked again, until nobody differs.
//!
//! Times are microseconds of any clock that never goes back. Randomness is a seed.

use crate::rng::Rng;
use kvgossip_grants::{Digest, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// After a start or a join the question waits this long, so that the members are known.
pub const SETTLE_US: u64 = 150_000;
/// When members come back, the question waits up to about this long: one of those that hold the same asks for all.
pub const RETURN_US: u64 = 1_000_000;
/// When members come back, about so many of all ask.
pub const ASKERS: u64 = 8;
/// A new episode of members coming back begins at the earliest this long after the last one.
pub const EPISODE_US: u64 = 10_000_000;
/// After the first answer with some root, nearer members that hold the same are waited for.
pub const NEARER_US: u64 = 200_000;
/// About this long after differences were ended, everybody is asked again.
pub const AGAIN_US: u64 = 1_000_000;
/// After so many questions that all found differences, it is left to changes being passed on and to comparisons.
pub const MAX_ROUNDS: u32 = 6;
/// In larger clusters a sample is asked.
pub const ALL_ARE_ASKED: usize = 64;
/// How many members are asked then.
pub const SAMPLE: usize = 16;
/// Most distinct roots that are followed at a time.
pub const MAX_GROUPS: usize = 64;
/// Most members of a group that are remembered.
pub const MAX_GROUP_MEMBERS: usize = 64;
/// Sessions that are wanted at the same time.
pub const MAX_AT_ONCE: usize = 3;
/// A session that was wanted and never ends is given up after this time.
pub const GIVE_UP_US: u64 = 600_000_000;
/// About this often a random member that is not connected is compared with.
pub const COMPARE_US: u64 = 30_000_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for roots: these members, or all. Then report each [`Survey::answered`], and at the end
    /// [`Survey::answers_ended`]; or [`Survey::not_asked`].
    Ask(Option<Vec<ReplicaId>>),
    /// Connect with this member if need be, run a session, then report [`Survey::synced`].
    Sync(ReplicaId),
}

/// Members that hold the same, which is not what this replica holds.
#[derive(Clone, Debug)]
struct Group {
    /// Round trip in microseconds and id, nearest first.
    members: BTreeSet<(u64, ReplicaId)>,
    /// Not before this time.
    ripe_at_us: u64,
    /// Who was chosen, and when.
    chosen: Option<(ReplicaId, u64)>,
}

/// Finds out who differs.
///
/// Feed it with what happens in the cluster; ask [`Survey::poll`] for actions until there is none, and again at
/// [`Survey::poll_timeout`].
#[derive(Clone, Debug)]
pub struct Survey {
    members: BTreeSet<ReplicaId>,
    ask_at_us: Option<u64>,
    /// Another member that holds the same may ask instead.
    can_be_spared: bool,
    asking: bool,
    /// A question was due when nobody was known.
    unasked: bool,
    /// Answers that differed came since the last question.
    differed: bool,
    rounds: u32,
    groups: BTreeMap<Digest, Group>,
    episode_ends_us: u64,
    compare_at_us: u64,
    rng: Rng,
}

impl Survey {
    /// A replica that knows no other member.
    pub fn new(seed: u64, now_us: u64) -> Self {
        let mut this = Self {
            members: BTreeSet::new(),
            ask_at_us: None,
            can_be_spared: false,
            asking: false,
            unasked: false,
            differed: false,
            rounds: 0,
            groups: BTreeMap::new(),
            episode_ends_us: 0,
            compare_at_us: 0,
            rng: Rng::new(seed),
        };
        this.compare_at_us = now_us + this.rng.jitter(COMPARE_US);
        this
    }

    /// This replica has joined others, for the first time or once more.
    pub fn joined(&mut self, now_us: u64) {
        let at = now_us + SETTLE_US;
        self.ask_at_us = Some(self.ask_at_us.map_or(at, |before| before.min(at)));
        self.can_be_spared = false;
        self.rounds = 0;
    }

    /// A replica of this cluster is a live member now. Whoever is new asks by itself.
    pub fn member_up(&mut self, peer: ReplicaId, now_us: u64) {
        self.members.insert(peer);
        if std::mem::take(&mut self.unasked) {
            self.joined(now_us);
        }
    }

    /// A member that was seen as failed is back: perhaps a partition has healed.
    pub fn member_returned(&mut self, peer: ReplicaId, now_us: u64) {
        self.members.insert(peer);
        if self.ask_at_us.is_some() || now_us < self.episode_ends_us {
            return;
        }
        self.episode_ends_us = now_us + EPISODE_US;
        let all = self.members.len() as u64 + 1;
        if self.rng.number() % all < ASKERS {
            self.ask_at_us = Some(now_us + SETTLE_US + self.rng.jitter(RETURN_US) / 2);
            self.can_be_spared = true;
            self.rounds = 0;
        }
    }

    /// A member has failed or left.
    pub fn member_down(&mut self, peer: &ReplicaId, now_us: u64) {
        self.members.remove(peer);
        self.synced(peer, false, now_us);
    }

    /// Another member, which holds `root`, asks everybody.
    pub fn heard_question(&mut self, root: &Digest, own: &Digest) {
        if self.can_be_spared && root == own {
            self.ask_at_us = None;
        }
    }

    /// A member answers that it holds `root`; `rtt_us` is its distance, as far as known.
    pub fn answered(
        &mut self,
        peer: ReplicaId,
        root: Digest,
        rtt_us: Option<u64>,
        own: &Digest,
        now_us: u64,
    ) {
        if root == *own || !self.members.contains(&peer) {
            return;
        }
        self.differed = true;
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&root) {
            return;
        }
        let group = self.groups.entry(root).or_insert_with(|| Group {
            members: BTreeSet::new(),
            ripe_at_us: now_us + NEARER_US,
            chosen: None,
        });
        group.members.insert((rtt_us.unwrap_or(u64::MAX), peer));
        if group.members.len() > MAX_GROUP_MEMBERS {
            group.members.pop_last();
        }
    }

    /// The question's time is over.
    pub fn answers_ended(&mut self, now_us: u64) {
        self.asking = false;
        self.settle(now_us);
    }

    /// The question could not be sent: it is due again in about a second, and was none of the rounds.
    pub fn not_asked(&mut self, now_us: u64) {
        self.asking = false;
        self.rounds = self.rounds.saturating_sub(1);
        let at = now_us + self.rng.jitter(AGAIN_US);
        self.ask_at_us = Some(self.ask_at_us.map_or(at, |before| before.min(at)));
    }

    /// The session with a member that was wanted has ended: they have talked, or it was not to be reached, full or
    /// broken; then the next nearest of its group takes its place.
    pub fn synced(&mut self, peer: &ReplicaId, talked: bool, now_us: u64) {
        self.groups.retain(|_, group| {
            group.members.retain(|(_, member)| member != peer);
            if group.chosen.is_some_and(|(chosen, _)| chosen == *peer) {
                group.chosen = None;
                return !talked && !group.members.is_empty();
            }
            !group.members.is_empty()
        });
        self.settle(now_us);
    }

    /// When everything that was found is done, everybody is asked again.
    fn settle(&mut self, now_us: u64) {
        if self.asking || !self.groups.is_empty() || !std::mem::take(&mut self.differed) {
            return;
        }
        if self.rounds < MAX_ROUNDS && self.ask_at_us.is_none() {
            let wait = self.rng.jitter(AGAIN_US << self.rounds.saturating_sub(1));
            self.ask_at_us = Some(now_us + wait);
            self.can_be_spared = false;
        }
    }

    /// What is to be done now. `own` is this replica's root; `is_connected` tells with whom it is connected.
    pub fn poll(
        &mut self,
        own: &Digest,
        is_connected: impl Fn(&ReplicaId) -> bool,
        now_us: u64,
    ) -> Option<Action> {
        if self.ask_at_us.is_some_and(|at| now_us >= at) && !self.asking {
            self.ask_at_us = None;
            self.unasked = self.members.is_empty();
            if !self.unasked {
                self.asking = true;
                self.differed = false;
                self.rounds += 1;
                return Some(Action::Ask(self.sample()));
            }
        }
        self.sync(own, now_us).or_else(|| self.compare(is_connected, now_us))
    }

    fn sync(&mut self, own: &Digest, now_us: u64) -> Option<Action> {
        // What was waited for too long, and what has become equal on another way.
        let stale = |group: &Group| group.chosen.is_some_and(|(_, since)| now_us >= since + GIVE_UP_US);
        let before = self.groups.len();
        self.groups.retain(|root, group| !stale(group) && (root != own || group.chosen.is_some()));
        if self.groups.len() < before {
            self.settle(now_us);
        }
        let (root, peer) = self.ripe().find(|(at, ..)| now_us >= *at).map(|(_, root, peer)| (root, peer))?;
        self.groups.get_mut(&root)?.chosen = Some((peer, now_us));
        Some(Action::Sync(peer))
    }

    /// Groups whose turn it is: when they are ripe, their root, and the nearest member that is free.
    fn ripe(&self) -> impl Iterator<Item = (u64, Digest, ReplicaId)> + '_ {
        let busy: Vec<ReplicaId> =
            self.groups.values().filter_map(|group| group.chosen).map(|(peer, _)| peer).collect();
        let may = busy.len() < MAX_AT_ONCE;
        let waiting = self.groups.iter().filter(move |(_, group)| may && group.chosen.is_none());
        waiting.filter_map(move |(root, group)| {
            // A member whose root changed between two answers stands in two groups.
            let nearest = group.members.iter().map(|(_, peer)| *peer).find(|peer| !busy.contains(peer))?;
            Some((group.ripe_at_us, *root, nearest))
        })
    }

    fn compare(&mut self, is_connected: impl Fn(&ReplicaId) -> bool, now_us: u64) -> Option<Action> {
        if now_us < self.compare_at_us {
            return None;
        }
        self.compare_at_us = now_us + self.rng.jitter(COMPARE_US);
        let far: Vec<ReplicaId> = self.members.iter().filter(|peer| !is_connected(peer)).copied().collect();
        far.get(self.rng.index(far.len())).copied().map(Action::Sync)
    }

    /// Whom to ask, when not all.
    fn sample(&mut self) -> Option<Vec<ReplicaId>> {
        if self.members.len() < ALL_ARE_ASKED {
            return None;
        }
        let mut all: Vec<ReplicaId> = self.members.iter().copied().collect();
        for place in 0..SAMPLE.min(all.len()) {
            let other = place + self.rng.index(all.len() - place);
            all.swap(place, other);
        }
        all.truncate(SAMPLE);
        Some(all)
    }

    /// When to ask [`Survey::poll`] again if nothing else happens before; ask it until it names nothing first.
    pub fn poll_timeout(&self) -> u64 {
        let ask = self.ask_at_us.filter(|_| !self.asking);
        let chosen = self.groups.values().filter_map(|group| group.chosen);
        let given_up = chosen.map(|(_, since)| since + GIVE_UP_US);
        let ripe = self.ripe().map(|(at, ..)| at);
        ripe.chain(given_up).chain(ask).min().unwrap_or(u64::MAX).min(self.compare_at_us)
    }
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
