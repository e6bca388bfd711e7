//! Whom to sync with, and when: a state machine without clock or randomness of its own.
//!
//! Times are microseconds of any clock that never goes back. Randomness is a seed.

use crate::chance::Chance;
use kvgossip_grants::Digest;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Changes that come within this time are passed on together.
pub const GATHER_US: u64 = 20_000;
/// A change is passed on until so many peers are known to have it, the next one by id among them: so it goes fast, and
/// round the ring of all replicas, whatever chance does.
pub const FANOUT: usize = 3;
/// About this often, a random peer is compared with, whatever is known of it.
pub const COMPARE_US: u64 = 30_000_000;
/// The side that was dialled leaves the first session to the one that dialled, for this long.
pub const YIELD_US: u64 = 300_000;
/// A member that was connected is compared with after about this time, unless gossip has told its root before.
pub const MEMBER_GRACE_US: u64 = 1_500_000;
/// Members that were connected are compared with one after the other; a session that goes on for longer than this
/// does not hold up the others.
pub const HOLD_US: u64 = 30_000_000;
/// The first retry after a failure comes within twice this time.
pub const FIRST_RETRY_US: u64 = 100_000;
/// A session that goes on for longer is not counted as passing a change on.
pub const PASSING_ON_US: u64 = 1_000_000;
/// Retries come no more rarely than this, jitter apart.
pub const MAX_RETRY_US: u64 = 30_000_000;

/// A peer: its replica id.
pub type PeerId = [u8; 32];
/// A connection: a number that no other one of this process has.
pub type ConnectionId = u64;

/// What comes first on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A session at once: this side dialled a peer that it was told to stay connected with.
    Session,
    /// The other side's session; if none comes, one of ours.
    TheirSession,
    /// Nothing: gossip finds out who differs. To be sure, a session follows soon, when no other is under way.
    Gossip,
}

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

/// Why a session is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// What changed here is passed on.
    Change,
    /// The peer was connected just now.
    Connection,
    /// The last session broke, or left something open.
    Retry,
    /// The turn of a random peer to be compared with.
    Comparison,
}

/// A session that is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// With whom.
    pub peer: PeerId,
    /// On which connection.
    pub connection: ConnectionId,
    /// Why.
    pub cause: Cause,
}

/// What is due with a peer that may be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    /// A comparison that can wait until no session is under way.
    Comparison,
    Session(Cause),
}

#[derive(Clone, Debug)]
struct Peer {
    connection: ConnectionId,
    /// The root that both sides were last known to hold.
    equal: Option<Digest>,
    /// When the session that is under way began.
    in_session: Option<u64>,
    /// Not before this time.
    earliest_us: u64,
    wish: Wish,
    failures: u32,
    /// Sessions in a row after which both sides still differed.
    unfinished: u32,
}

/// Decides whom to sync with next.
///
/// Feed it with `peer_up`, `peer_down`, `root_changed`, `heard_root`, `session_started` and `session_ended`; ask
/// [`Scheduler::poll`] for peers until there is none, and again at [`Scheduler::poll_timeout`].
///
/// What is told of a connection that another one has replaced changes nothing.
#[derive(Clone, Debug)]
pub struct Scheduler {
    own: PeerId,
    peers: BTreeMap<PeerId, Peer>,
    root: Digest,
    /// When what changed last is passed on; `None` if nothing is to be.
    spread_at_us: Option<u64>,
    compare_at_us: u64,
    chance: Chance,
}

impl Scheduler {
    /// The replica `own`, which holds `root` now and knows no peer.
    pub fn new(own: PeerId, root: Digest, seed: u64, now_us: u64) -> Self {
        let mut this = Self {
            own,
            peers: BTreeMap::new(),
            root,
            spread_at_us: None,
            compare_at_us: 0,
            chance: Chance::new(seed),
        };
        this.compare_at_us = now_us + this.chance.jitter(COMPARE_US);
        this
    }

    /// A connection stands; it takes the place of any other with the same peer.
    pub fn peer_up(&mut self, peer: PeerId, connection: ConnectionId, first: First, now_us: u64) {
        let (wish, wait) = match first {
            First::Session => (Wish::Session(Cause::Connection), 0),
            First::TheirSession => (Wish::Session(Cause::Connection), YIELD_US),
            First::Gossip => (Wish::Comparison, self.chance.jitter(MEMBER_GRACE_US)),
        };
        let state = Peer {
            connection,
            equal: None,
            in_session: None,
            earliest_us: now_us + wait,
            wish,
            failures: 0,
            unfinished: 0,
        };
        self.peers.insert(peer, state);
    }

    /// The connection is gone.
    pub fn peer_down(&mut self, peer: &PeerId, connection: ConnectionId) {
        if self.peers.get(peer).is_some_and(|peer| peer.connection == connection) {
            self.peers.remove(peer);
        }
    }

    /// The replica's state changed.
    pub fn root_changed(&mut self, root: Digest, now_us: u64) {
        if self.root != root {
            self.root = root;
            // The first change decides: a steady stream of them is passed on all the while.
            self.spread_at_us.get_or_insert(now_us + GATHER_US);
        }
    }

    /// Somebody says that the peer holds `root`. It is a hint: it can save a comparison, and cause none.
    pub fn heard_root(&mut self, peer: &PeerId, root: Digest) {
        let own = self.root;
        if let Some(peer) = self.peers.get_mut(peer).filter(|_| root == own) {
            peer.equal = Some(root);
            if peer.wish == Wish::Comparison {
                peer.wish = Wish::Nothing;
            }
        }
    }

    /// A session with the peer began, whoever began it.
    pub fn session_started(&mut self, peer: &PeerId, connection: ConnectionId, now_us: u64) {
        if let Some(peer) = self.on(peer, connection) {
            peer.in_session = Some(now_us);
            peer.wish = Wish::Nothing;
        }
    }

    /// The session with the peer ended.
    pub fn session_ended(&mut self, peer: &PeerId, connection: ConnectionId, end: SessionEnd, now_us: u64) {
        let jitter = self.chance.jitter(FIRST_RETRY_US);
        let Some(state) = self.on(peer, connection) else { return };
        state.in_session = None;
        let doublings = match end {
            SessionEnd::Equal(root) => {
                state.equal = Some(root);
                state.wish = Wish::Nothing;
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
        state.wish = Wish::Session(Cause::Retry);
        let first = FIRST_RETRY_US / 2 + jitter / 2;
        let wait = (first << doublings.saturating_sub(1)).min(MAX_RETRY_US + jitter);
        state.earliest_us = now_us + wait;
    }

    fn on(&mut self, peer: &PeerId, connection: ConnectionId) -> Option<&mut Peer> {
        self.peers.get_mut(peer).filter(|peer| peer.connection == connection)
    }

    /// Whether the peer is known to hold what gives this root.
    pub fn is_equal(&self, peer: &PeerId, root: &Digest) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.equal == Some(*root))
    }

    /// The next session to begin, if one is due.
    pub fn poll(&mut self, now_us: u64) -> Option<Due> {
        if now_us >= self.compare_at_us {
            self.compare_at_us = now_us + self.chance.jitter(COMPARE_US);
            let at = self.chance.place(self.peers.len());
            if let Some(peer) = self.peers.values_mut().nth(at) {
                peer.wish = Wish::Session(Cause::Comparison);
            }
        }
        let wished = self.wished(now_us);
        let (peer, cause) = wished.or_else(|| Some((self.spread(now_us)?, Cause::Change)))?;
        Some(Due { peer, connection: self.peers[&peer].connection, cause })
    }

    fn wished(&self, now_us: u64) -> Option<(PeerId, Cause)> {
        let quiet = now_us >= self.quiet_at_us(now_us);
        let cause = |peer: &Peer| match peer.wish {
            Wish::Nothing => None,
            Wish::Comparison => quiet.then_some(Cause::Connection),
            Wish::Session(cause) => Some(cause),
        };
        let mut free = self.peers.iter().filter(|(_, peer)| peer.is_free(now_us));
        free.find_map(|(id, peer)| Some((*id, cause(peer)?)))
    }

    /// When the last of the sessions that are under way holds up nobody any more, if none ends before.
    fn quiet_at_us(&self, now_us: u64) -> u64 {
        let began = self.peers.values().filter_map(|peer| peer.in_session);
        began.map(|began_us| began_us + HOLD_US).max().unwrap_or(now_us)
    }

    /// Passes what changed on to some peer that is not known to have it.
    fn spread(&mut self, now_us: u64) -> Option<PeerId> {
        if self.spread_at_us.is_none_or(|at| now_us < at) {
            return None;
        }
        let root = self.root;
        let known = self.peers.values().filter(|peer| peer.equal == Some(root)).count();
        let lacking: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| peer.equal != Some(root)).map(|(id, _)| *id).collect();
        let next = self.next_lacking();
        if lacking.is_empty() || (known >= FANOUT && next.is_none()) {
            self.spread_at_us = None;
            return None;
        }
        if let Some((id, _)) = next.filter(|(_, peer)| peer.is_free(now_us)) {
            return Some(*id);
        }
        if known + self.passing_on(now_us) >= FANOUT {
            return None;
        }
        let free: Vec<PeerId> = lacking.into_iter().filter(|id| self.peers[id].is_free(now_us)).collect();
        free.get(self.chance.place(free.len())).copied()
    }

    /// The next peer by id, round the ring, if it is not known to have what changed.
    fn next_lacking(&self) -> Option<(&PeerId, &Peer)> {
        let after = (Bound::Excluded(self.own), Bound::Unbounded);
        let next = self.peers.range(after).next().or_else(|| self.peers.first_key_value());
        next.filter(|(_, peer)| peer.equal != Some(self.root))
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
            let next = self.next_lacking().filter(|(_, peer)| peer.in_session.is_none());
            let next = next.map(|(_, peer)| peer.earliest_us.max(at));
            free.map(move |peer| peer.earliest_us.max(wait)).chain(next)
        });
        let quiet_at_us = self.quiet_at_us(now_us);
        let wished = self.peers.values().filter(|peer| peer.in_session.is_none());
        let wished = wished.filter_map(|peer| match peer.wish {
            Wish::Nothing => None,
            Wish::Comparison => Some(peer.earliest_us.max(quiet_at_us)),
            Wish::Session(_) => Some(peer.earliest_us),
        });
        spread.chain(wished).min().unwrap_or(u64::MAX).min(self.compare_at_us)
    }
}

impl Peer {
    fn is_free(&self, now_us: u64) -> bool {
        self.in_session.is_none() && now_us >= self.earliest_us
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
