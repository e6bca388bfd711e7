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
    in_session: bool,
    /// Not before this time.
    earliest_us: u64,
    /// Whether a session is due even if the roots are known to be equal.
    forced: bool,
    failures: u32,
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
        let state =
            Peer { equal: None, in_session: false, earliest_us: now_us + wait, forced: true, failures: 0 };
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
    pub fn session_started(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.in_session = true;
            peer.forced = false;
        }
    }

    /// The session with the peer ended.
    pub fn session_ended(&mut self, peer: &PeerId, end: SessionEnd, now_us: u64) {
        let jitter = self.jitter(FIRST_RETRY_US);
        let Some(state) = self.peers.get_mut(peer) else { return };
        state.in_session = false;
        let doublings = match end {
            SessionEnd::Equal(root) => {
                state.equal = Some(root);
                state.failures = 0;
                state.earliest_us = now_us;
                return;
            }
            SessionEnd::Unfinished => {
                state.failures = 0;
                0
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
        let under_way = self.peers.values().filter(|peer| peer.in_session).count();
        let lacking: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| peer.equal != Some(root)).map(|(id, _)| *id).collect();
        if lacking.is_empty() || known >= FANOUT {
            self.spread_at_us = None;
            return None;
        }
        if known + under_way >= FANOUT {
            return None;
        }
        let free: Vec<PeerId> = lacking.into_iter().filter(|id| self.peers[id].is_free(now_us)).collect();
        let random = self.next_random();
        free.get(random as usize % free.len().max(1)).copied()
    }

    /// When to ask [`Scheduler::poll`] again if nothing else happens before.
    pub fn poll_timeout(&self) -> u64 {
        let spread = self.spread_at_us.into_iter().flat_map(|at| {
            // Peers in a session are looked at again when it ends.
            self.peers.values().filter(|peer| !peer.in_session).map(move |peer| peer.earliest_us.max(at))
        });
        let forced =
            self.peers.values().filter(|peer| peer.forced && !peer.in_session).map(|peer| peer.earliest_us);
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
        !self.in_session && now_us >= self.earliest_us
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
            scheduler.session_started(&peer);
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
        assert_eq!(scheduler.poll_timeout(), 10 + GATHER_US);
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
            let next = scheduler.poll_timeout();
            waits.push(next - now);
            now = next;
            // The comparison now and then may come first.
            while drain(&mut scheduler, now).is_empty() {
                now = scheduler.poll_timeout();
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
        assert_eq!(scheduler.poll_timeout(), YIELD_US);
        assert_eq!(scheduler.poll(YIELD_US), Some(peer(1)));
    }

    #[test]
    fn now_and_then_an_equal_peer_is_compared_with() {
        let mut scheduler = connected(3);
        let next = scheduler.poll_timeout();
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
}
