//! Whom to sync with, and when: a state machine without clock or randomness of its own.
//!
//! Times are microseconds of any clock that never goes back. Randomness is a seed.

use kvgossip_grants::Digest;
use std::collections::BTreeMap;

/// Changes that come within this time are passed on together.
pub const GATHER_US: u64 = 20_000;
/// A change is passed on to this many peers that are not known to have it.
pub const FANOUT: usize = 3;
/// About this often, a random peer is compared with, whatever is known of it.
pub const COMPARE_US: u64 = 30_000_000;
/// The side that was dialled leaves the first session to the one that dialled, for this long.
pub const YIELD_US: u64 = 300_000;
/// The first retry after a failure comes within twice this time.
pub const FIRST_RETRY_US: u64 = 100_000;
/// A session that goes on for longer is not counted as passing a change on.
pub const PASSING_ON_US: u64 = 1_000_000;
/// Retries come no more rarely than this, jitter apart.
pub const MAX_RETRY_US: u64 = 30_000_000;

/// A peer: its replica id.
pub type PeerId = [u8; 32];

/// How a session ended, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Both sides hold what gives this root.
    Equal(Digest),
    /// They differ, and something was moved, or written meanwhile: go on soon.
    Unfinished,
    /// They differ, and nothing helps now: entries from the future, or refusals.
    Stuck,
    /// The peer has no time now.
    Busy,
    /// It broke.
    Failed,
}

#[derive(Clone, Debug)]
struct Peer {
    /// The root that both sides were last known to hold.
    equal: Option<Digest>,
    /// When the session that is under way began.
    in_session: Option<u64>,
    /// Not before this time.
    earliest_us: u64,
    /// Whether a session is due even if the roots are known to be equal.
    forced: bool,
    failures: u32,
    /// Sessions in a row after which both sides still differed.
    unfinished: u32,
}

/// Decides whom to sync with next.
///
/// Feed it with `peer_up`, `peer_down`, `root_changed`, `session_started` and `session_ended`; ask
/// [`Scheduler::poll`] for peers until there is none, and again at [`Scheduler::poll_timeout`].
#[derive(Clone, Debug)]
pub struct Scheduler {
    peers: BTreeMap<PeerId, Peer>,
    root: Digest,
    /// When what changed last is passed on; `None` if nothing is to be.
    spread_at_us: Option<u64>,
    compare_at_us: u64,
    random: u64,
}

impl Scheduler {
    /// A replica that holds `root` now and knows no peer.
    pub fn new(root: Digest, seed: u64, now_us: u64) -> Self {
        let mut this =
            Self { peers: BTreeMap::new(), root, spread_at_us: None, compare_at_us: 0, random: seed | 1 };
        this.compare_at_us = now_us + this.jitter(COMPARE_US);
        this
    }

    /// A connection stands. The side that was dialled waits a little for the other one's session.
    pub fn peer_up(&mut self, peer: PeerId, we_dialled: bool, now_us: u64) {
        let wait = if we_dialled { 0 } else { YIELD_US };
        let state = Peer {
            equal: None,
            in_session: None,
            earliest_us: now_us + wait,
            forced: true,
            failures: 0,
            unfinished: 0,
        };
        self.peers.insert(peer, state);
    }

    /// The connection is gone.
    pub fn peer_down(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// The replica's state changed.
    pub fn root_changed(&mut self, root: Digest, now_us: u64) {
        if self.root != root {
            self.root = root;
            // The first change decides: a steady stream of them is passed on all the while.
            self.spread_at_us.get_or_insert(now_us + GATHER_US);
        }
    }

    /// A session with the peer began, whoever began it.
    pub fn session_started(&mut self, peer: &PeerId, now_us: u64) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.in_session = Some(now_us);
            peer.forced = false;
        }
    }

    /// The session with the peer ended.
    pub fn session_ended(&mut self, peer: &PeerId, end: SessionEnd, now_us: u64) {
        let jitter = self.jitter(FIRST_RETRY_US);
        let Some(state) = self.peers.get_mut(peer) else { return };
        state.in_session = None;
        let doublings = match end {
            SessionEnd::Equal(root) => {
                state.equal = Some(root);
                state.forced = false;
                state.failures = 0;
                state.unfinished = 0;
                state.earliest_us = now_us;
                return;
            }
            // Going on at once helps where much is written; a peer that never comes to an end is not waited on.
            SessionEnd::Unfinished => {
                state.failures = 0;
                state.unfinished = (state.unfinished + 1).min(13);
                state.unfinished.saturating_sub(3)
            }
            // A busy peer is asked again soon; it costs a frame.
            SessionEnd::Busy => {
                state.failures = (state.failures + 1).min(3);
                state.failures
            }
            SessionEnd::Stuck | SessionEnd::Failed => {
                state.failures = (state.failures + 1).min(10);
                state.failures
            }
        };
        state.equal = None;
        state.forced = true;
        let first = FIRST_RETRY_US / 2 + jitter / 2;
        let wait = (first << doublings.saturating_sub(1)).min(MAX_RETRY_US + jitter);
        state.earliest_us = now_us + wait;
    }

    /// Whether the peer is known to hold what gives this root.
    pub fn is_equal(&self, peer: &PeerId, root: &Digest) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.equal == Some(*root))
    }

    /// The next peer to begin a session with, if one is due.
    pub fn poll(&mut self, now_us: u64) -> Option<PeerId> {
        if now_us >= self.compare_at_us {
            self.compare_at_us = now_us + self.jitter(COMPARE_US);
            let random = self.next_random();
            let at = random as usize % self.peers.len().max(1);
            if let Some(peer) = self.peers.values_mut().nth(at) {
                peer.forced = true;
            }
        }
        let forced = self.peers.iter().filter(|(_, peer)| peer.forced);
        if let Some(peer) = forced.filter(|(_, peer)| peer.is_free(now_us)).map(|(id, _)| *id).next() {
            return Some(peer);
        }
        if self.spread_at_us.is_none_or(|at| now_us < at) {
            return None;
        }
        self.spread(now_us)
    }

    /// Passes what changed on to some peer that is not known to have it.
    fn spread(&mut self, now_us: u64) -> Option<PeerId> {
        let root = self.root;
        let known = self.peers.values().filter(|peer| peer.equal == Some(root)).count();
        let lacking: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| peer.equal != Some(root)).map(|(id, _)| *id).collect();
        if lacking.is_empty() || known >= FANOUT {
            self.spread_at_us = None;
            return None;
        }
        if known + self.passing_on(now_us) >= FANOUT {
            return None;
        }
        let free: Vec<PeerId> = lacking.into_iter().filter(|id| self.peers[id].is_free(now_us)).collect();
        let random = self.next_random();
        free.get(random as usize % free.len().max(1)).copied()
    }

    /// How many sessions may be passing the change on. One that began before the change, or goes on for long, is about
    /// something else.
    fn passing_on(&self, now_us: u64) -> usize {
        let changed = self.spread_at_us.map_or(now_us, |at| at.saturating_sub(GATHER_US));
        let since = changed.max(now_us.saturating_sub(PASSING_ON_US));
        let recent = |peer: &&Peer| peer.in_session.is_some_and(|began_us| began_us >= since);
        self.peers.values().filter(recent).count()
    }

    /// When to ask [`Scheduler::poll`] again if nothing else happens before; ask it until it names nobody first.
    pub fn poll_timeout(&self, now_us: u64) -> u64 {
        let lacking = self.peers.values().filter(|peer| peer.equal != Some(self.root));
        let known = self.peers.len() - lacking.clone().count();
        let quota_is_left = known + self.passing_on(now_us) < FANOUT;
        let spread = self.spread_at_us.into_iter().flat_map(|at| {
            // With the quota used up, it is looked at again when a session ends or has gone on for long.
            let wait = if quota_is_left { at } else { at.max(now_us + PASSING_ON_US) };
            let free = lacking.clone().filter(|peer| peer.in_session.is_none());
            free.map(move |peer| peer.earliest_us.max(wait))
        });
        let waiting = self.peers.values().filter(|peer| peer.forced && peer.in_session.is_none());
        let forced = waiting.map(|peer| peer.earliest_us);
        spread.chain(forced).min().unwrap_or(u64::MAX).min(self.compare_at_us)
    }

    /// From half of `around` to one and a half times it.
    fn jitter(&mut self, around: u64) -> u64 {
        around / 2 + self.next_random() % around.max(1)
    }

    /// xorshift64*: only spreads load; nothing depends on its quality.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }
}

impl Peer {
    fn is_free(&self, now_us: u64) -> bool {
        self.in_session.is_none() && now_us >= self.earliest_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Digest = Digest([1; 32]);
    const OTHER: Digest = Digest([2; 32]);

    fn peer(number: u8) -> PeerId {
        [number; 32]
    }

    /// Every peer that is asked for at a time, each session begun at once.
    fn drain(scheduler: &mut Scheduler, now_us: u64) -> Vec<PeerId> {
        let mut all = Vec::new();
        while let Some(peer) = scheduler.poll(now_us) {
            scheduler.session_started(&peer, now_us);
            all.push(peer);
            assert!(all.len() <= 100, "the scheduler does not come to rest");
        }
        all
    }

    fn connected(count: u8) -> Scheduler {
        let mut scheduler = Scheduler::new(ROOT, 7, 0);
        for number in 0..count {
            scheduler.peer_up(peer(number), true, 0);
        }
        assert_eq!(drain(&mut scheduler, 0).len(), usize::from(count));
        for number in 0..count {
            scheduler.session_ended(&peer(number), SessionEnd::Equal(ROOT), 1);
        }
        assert!(drain(&mut scheduler, 1).is_empty());
        scheduler
    }

    #[test]
    fn a_change_goes_to_three_peers_after_a_pause() {
        let mut scheduler = connected(10);
        scheduler.root_changed(OTHER, 10);
        assert_eq!(scheduler.poll(10), None);
        assert_eq!(scheduler.poll_timeout(10), 10 + GATHER_US);
        let chosen = drain(&mut scheduler, 10 + GATHER_US);
        assert_eq!(chosen.len(), FANOUT);
        for id in &chosen {
            scheduler.session_ended(id, SessionEnd::Equal(OTHER), 40_000);
        }
        assert!(drain(&mut scheduler, 50_000).is_empty(), "three know it, and pass it on");
    }

    #[test]
    fn a_failed_session_is_tried_again_within_a_second_and_then_more_rarely() {
        let mut scheduler = connected(1);
        let mut now = 10;
        let mut waits = Vec::new();
        for _ in 0..14 {
            scheduler.session_ended(&peer(0), SessionEnd::Failed, now);
            let next = scheduler.poll_timeout(now);
            waits.push(next - now);
            now = next;
            // The comparison now and then may come first.
            while drain(&mut scheduler, now).is_empty() {
                now = scheduler.poll_timeout(now);
            }
        }
        assert!(waits[0] <= 1_000_000, "{waits:?}");
        assert!(waits[13] >= 5_000_000 && waits[13] <= 2 * MAX_RETRY_US, "{waits:?}");
    }

    #[test]
    fn whoever_was_dialled_waits_and_then_begins() {
        let mut scheduler = Scheduler::new(ROOT, 7, 0);
        scheduler.peer_up(peer(1), false, 0);
        assert_eq!(scheduler.poll(0), None);
        assert_eq!(scheduler.poll_timeout(0), YIELD_US);
        assert_eq!(scheduler.poll(YIELD_US), Some(peer(1)));
    }

    #[test]
    fn now_and_then_an_equal_peer_is_compared_with() {
        let mut scheduler = connected(3);
        let next = scheduler.poll_timeout(1);
        assert!((COMPARE_US / 2..=2 * COMPARE_US).contains(&next));
        assert_eq!(drain(&mut scheduler, next).len(), 1);
    }

    #[test]
    fn changes_during_a_session_are_passed_on_after_it() {
        let mut scheduler = connected(1);
        scheduler.root_changed(OTHER, 10);
        assert_eq!(drain(&mut scheduler, 10 + GATHER_US), [peer(0)]);
        scheduler.root_changed(Digest([3; 32]), 30_000);
        scheduler.session_ended(&peer(0), SessionEnd::Equal(OTHER), 40_000);
        assert_eq!(drain(&mut scheduler, 60_000), [peer(0)]);
    }

    #[test]
    fn while_nobody_can_be_asked_there_is_a_time_to_wait_until() {
        // One peer is equal, one is in a long session, one backs off.
        let mut scheduler = connected(3);
        scheduler.session_started(&peer(1), 5);
        scheduler.session_ended(&peer(2), SessionEnd::Failed, 5);
        scheduler.root_changed(OTHER, 10);
        scheduler.session_started(&peer(0), 10);
        scheduler.session_ended(&peer(0), SessionEnd::Equal(OTHER), 11);
        for now in (10..5_000_000).step_by(1_000) {
            let asked = drain(&mut scheduler, now);
            for id in asked {
                scheduler.session_ended(&id, SessionEnd::Failed, now);
            }
            assert!(scheduler.poll_timeout(now) > now, "it would spin at {now}");
        }
    }

    #[test]
    fn three_long_sessions_do_not_keep_a_change_from_the_others() {
        let mut scheduler = connected(5);
        for number in 0..3 {
            scheduler.session_started(&peer(number), 5);
        }
        scheduler.root_changed(OTHER, 10);
        let chosen = drain(&mut scheduler, 10 + GATHER_US);
        assert_eq!(chosen.len(), 2, "both that are free hear of it");
    }

    #[test]
    fn a_peer_that_never_comes_to_an_end_is_asked_more_and_more_rarely() {
        let mut scheduler = connected(1);
        let mut now = 10;
        let mut waits = Vec::new();
        for _ in 0..16 {
            scheduler.session_ended(&peer(0), SessionEnd::Unfinished, now);
            let due = scheduler.peers[&peer(0)].earliest_us;
            waits.push(due - now);
            now = due;
        }
        assert!(waits[0] < 200_000 && waits[15] > 5_000_000, "{waits:?}");
    }
}
