//! Whom to sync with, and when: a state machine without clock or randomness of its own.
//!
//! Times are microseconds of any clock that never goes back. Randomness is a seed.

use crate::rng::Rng;
use kvgossip_grants::{Digest, ReplicaId};
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
/// A member that was connected is compared with after about this time; gossip finds out before who differs.
pub const MEMBER_GRACE_US: u64 = 1_500_000;
/// Members that were connected are compared with one after the other; a session that goes on for longer than this
/// does not hold up the others.
pub const HOLD_US: u64 = 30_000_000;
/// The first retry after a failure comes within twice this time.
pub const FIRST_RETRY_US: u64 = 100_000;
/// A session that goes on for longer is not counted as passing a change on.
pub const PASSING_ON_US: u64 = 1_000_000;
/// Waits double so many times at most.
const MAX_DOUBLINGS: u32 = 10;
/// Retries come no more rarely than this, jitter apart.
pub const MAX_RETRY_US: u64 = 30_000_000;

/// A connection: a number that no other one of this process has.
pub type ConnectionId = u64;

/// What comes first on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A session at once: this side dialled a peer that it was told to stay connected with.
    Session,
    /// The other side's session; if none comes, one of ours.
    TheirSession,
    /// Nothing: gossip finds out who differs. A session follows soon, when no other is under way: what gossip says proves
    /// nothing.
    Gossip,
}

/// How a session ended, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Both sides hold what gives this root.
    Equal(Digest),
    /// They differ, and something was moved, or written meanwhile: go on soon.
    Unfinished,
    /// They differ in facts that nothing helps now: early ones, refused ones, or such as cannot be read. The root is over
    /// what this side had when all the rest was exchanged. Only another try for these facts is put off: what changes is
    /// passed on as ever.
    Stuck(Digest),
    /// They differ, and one of the two takes no facts.
    OneSided,
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
    pub peer: ReplicaId,
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
    /// The root of which the peer has all that it takes, though the two sides differ.
    told: Option<Digest>,
    /// When facts that nothing helped are tried again.
    retry_at_us: Option<u64>,
    /// When the last session of those that are under way began.
    in_session: Option<u64>,
    /// How many are under way. Both sides may have begun one, of which one will be `busy`; and the next may begin before
    /// the end of the last was seen.
    sessions: u32,
    /// Not before this time.
    earliest_us: u64,
    wish: Wish,
    failures: u32,
    /// Sessions in a row after which both sides still differed.
    unfinished: u32,
}

/// Decides whom to sync with next.
///
/// Feed it with `peer_up`, `peer_down`, `root_changed`, `session_started` and `session_ended`; ask
/// [`Scheduler::poll`] for peers until there is none, and again at [`Scheduler::poll_timeout`].
///
/// What is told of a connection that another one has replaced changes nothing. Only a session's end makes a peer equal:
/// what others say of its root is not asked for here.
#[derive(Clone, Debug)]
pub struct Scheduler {
    own: ReplicaId,
    peers: BTreeMap<ReplicaId, Peer>,
    root: Digest,
    /// When what changed last is passed on; `None` if nothing is to be.
    spread_at_us: Option<u64>,
    compare_at_us: u64,
    rng: Rng,
}

impl Scheduler {
    /// The replica `own`, which holds `root` now and knows no peer.
    pub fn new(own: ReplicaId, root: Digest, seed: u64, now_us: u64) -> Self {
        let mut this = Self {
            own,
            peers: BTreeMap::new(),
            root,
            spread_at_us: None,
            compare_at_us: 0,
            rng: Rng::new(seed),
        };
        this.compare_at_us = now_us + this.rng.jitter(COMPARE_US);
        this
    }

    /// A connection stands; it takes the place of any other with the same peer.
    pub fn peer_up(&mut self, peer: ReplicaId, connection: ConnectionId, first: First, now_us: u64) {
        let (wish, wait) = match first {
            First::Session => (Wish::Session(Cause::Connection), 0),
            First::TheirSession => (Wish::Session(Cause::Connection), YIELD_US),
            First::Gossip => (Wish::Comparison, self.rng.jitter(MEMBER_GRACE_US)),
        };
        let state = Peer {
            connection,
            equal: None,
            told: None,
            retry_at_us: None,
            in_session: None,
            sessions: 0,
            earliest_us: now_us + wait,
            wish,
            failures: 0,
            unfinished: 0,
        };
        self.peers.insert(peer, state);
    }

    /// The connection is gone.
    pub fn peer_down(&mut self, peer: &ReplicaId, connection: ConnectionId) {
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

    /// A session with the peer began, whoever began it. Its end must be told, once.
    pub fn session_started(&mut self, peer: &ReplicaId, connection: ConnectionId, now_us: u64) {
        if let Some(peer) = self.on(peer, connection) {
            peer.in_session = Some(now_us);
            peer.sessions += 1;
            peer.wish = Wish::Nothing;
            peer.retry_at_us = None;
        }
    }

    /// The session with the peer ended.
    pub fn session_ended(
        &mut self,
        peer: &ReplicaId,
        connection: ConnectionId,
        end: SessionEnd,
        now_us: u64,
    ) {
        let jitter = self.rng.jitter(FIRST_RETRY_US);
        let Some(state) = self.on(peer, connection) else { return };
        state.sessions = state.sessions.saturating_sub(1);
        if state.sessions == 0 {
            state.in_session = None;
        } else if end == SessionEnd::Busy {
            // The one that goes on says what comes next.
            return;
        }
        state.equal = None;
        state.told = None;
        // There is one if it was asked for while the session was under way.
        let sooner = state.retry_at_us.take();
        let doublings = match end {
            SessionEnd::Equal(root) => {
                state.equal = Some(root);
                state.wish = Wish::Nothing;
                state.failures = 0;
                state.unfinished = 0;
                state.earliest_us = now_us;
                return;
            }
            SessionEnd::Stuck(root) => {
                state.told = Some(root);
                state.wish = Wish::Nothing;
                state.unfinished = 0;
                state.failures = (state.failures + 1).min(MAX_DOUBLINGS);
                state.earliest_us = now_us;
                let at = now_us + wait(jitter, state.failures);
                state.retry_at_us = Some(sooner.map_or(at, |sooner| sooner.min(at)));
                return;
            }
            // Going on at once helps where much is written; a peer that never comes to an end is not waited on.
            SessionEnd::Unfinished => {
                state.failures = 0;
                state.unfinished = (state.unfinished + 1).min(MAX_DOUBLINGS + 3);
                state.unfinished.saturating_sub(3)
            }
            // A busy peer is asked again soon; it costs a frame.
            SessionEnd::Busy => {
                state.failures = (state.failures + 1).min(3);
                state.failures
            }
            SessionEnd::OneSided | SessionEnd::Failed => {
                state.failures = (state.failures + 1).min(MAX_DOUBLINGS);
                state.failures
            }
        };
        state.wish = Wish::Session(Cause::Retry);
        state.earliest_us = now_us + wait(jitter, doublings);
    }

    /// Facts that were early are due now, or what could not be read reads again: with whom there was nothing to be done
    /// about them, or is not when the session under way ends, it is tried at once.
    pub fn retry_stuck(&mut self, now_us: u64) {
        let stuck = |peer: &&mut Peer| peer.in_session.is_some() || peer.retry_at_us.is_some();
        self.peers.values_mut().filter(stuck).for_each(|peer| peer.retry_at_us = Some(now_us));
    }

    /// This replica may lack what others hold: all are compared as soon as they are free, whatever is known of them.
    pub fn compare_all(&mut self) {
        for peer in self.peers.values_mut().filter(|peer| peer.in_session.is_none()) {
            if !matches!(peer.wish, Wish::Session(_)) {
                peer.wish = Wish::Session(Cause::Comparison);
            }
        }
    }

    fn on(&mut self, peer: &ReplicaId, connection: ConnectionId) -> Option<&mut Peer> {
        self.peers.get_mut(peer).filter(|peer| peer.connection == connection)
    }

    /// Whether the peer is known to hold what gives this root.
    pub fn is_equal(&self, peer: &ReplicaId, root: &Digest) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.equal == Some(*root))
    }

    /// The next session to begin, if one is due.
    pub fn poll(&mut self, now_us: u64) -> Option<Due> {
        if now_us >= self.compare_at_us {
            self.compare_at_us = now_us + self.rng.jitter(COMPARE_US);
            let at = self.rng.index(self.peers.len());
            if let Some(peer) = self.peers.values_mut().nth(at) {
                peer.wish = Wish::Session(Cause::Comparison);
            }
        }
        for peer in self.peers.values_mut() {
            if peer.in_session.is_none() && peer.retry_at_us.is_some_and(|at| now_us >= at) {
                peer.retry_at_us = None;
                peer.wish = Wish::Session(Cause::Retry);
            }
        }
        let wished = self.wished(now_us);
        let (peer, cause) = wished.or_else(|| Some((self.spread(now_us)?, Cause::Change)))?;
        Some(Due { peer, connection: self.peers[&peer].connection, cause })
    }

    fn wished(&self, now_us: u64) -> Option<(ReplicaId, Cause)> {
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
    fn spread(&mut self, now_us: u64) -> Option<ReplicaId> {
        if self.spread_at_us.is_none_or(|at| now_us < at) {
            return None;
        }
        let root = self.root;
        let known = self.peers.values().filter(|peer| peer.has(root)).count();
        let lacking: Vec<ReplicaId> =
            self.peers.iter().filter(|(_, peer)| !peer.has(root)).map(|(id, _)| *id).collect();
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
        let free: Vec<ReplicaId> = lacking.into_iter().filter(|id| self.peers[id].is_free(now_us)).collect();
        free.get(self.rng.index(free.len())).copied()
    }

    /// The next peer by id, round the ring, if it is not known to have what changed.
    fn next_lacking(&self) -> Option<(&ReplicaId, &Peer)> {
        let after = (Bound::Excluded(self.own), Bound::Unbounded);
        let next = self.peers.range(after).next().or_else(|| self.peers.first_key_value());
        next.filter(|(_, peer)| !peer.has(self.root))
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
        let lacking = self.peers.values().filter(|peer| !peer.has(self.root));
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
        let idle = self.peers.values().filter(|peer| peer.in_session.is_none());
        let retries = idle.filter_map(|peer| Some(peer.retry_at_us?.max(peer.earliest_us)));
        spread.chain(wished).chain(retries).min().unwrap_or(u64::MAX).min(self.compare_at_us)
    }
}

/// How long to wait for the next try: about twice as long after each that helped nothing.
fn wait(jitter: u64, doublings: u32) -> u64 {
    let first = FIRST_RETRY_US / 2 + jitter / 2;
    (first << doublings.saturating_sub(1)).min(MAX_RETRY_US + jitter)
}

impl Peer {
    /// Whether the peer has of what gives this root all that it takes.
    fn has(&self, root: Digest) -> bool {
        self.equal == Some(root) || self.told == Some(root)
    }

    fn is_free(&self, now_us: u64) -> bool {
        self.in_session.is_none() && now_us >= self.earliest_us
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
