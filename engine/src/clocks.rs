//! How far the clocks of peers are from this replica's, and whether it is this one that is wrong.
//!
//! Each hello of a session carries its sender's time. A state machine without a clock: whoever has one hands in what it
//! says. Offsets are kept against a clock that never jumps, so that setting the system's clock shows at once, and not only
//! when each peer was met again.

use kvgossip_grants::{MAX_AHEAD_MICROS, ReplicaId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// From this offset on, in microseconds, people are told of it.
pub const TOLD_FROM_US: u64 = 30 * 1_000_000;
/// Beyond this offset, in microseconds, nothing is to be signed: so far ahead, an entry is early for the others.
pub const REFUSED_BEYOND_US: u64 = MAX_AHEAD_MICROS;
/// So many peers together may contradict this replica's clock: with a median of three, one that lies has no say.
pub const MIN_WITNESSES: usize = 3;
/// What was measured counts for so long, in microseconds: a quarter of an hour.
pub const MAX_AGE_US: u64 = 15 * 60 * 1_000_000;
/// What was measured of a peer that is gone counts for so long where people are told, in microseconds: a minute.
pub const GONE_AFTER_US: u64 = 60 * 1_000_000;
/// The most peers whose clocks are remembered; the one that was measured longest ago falls first.
pub const MAX_PEERS: usize = 4096;
/// Hellos that took longer than this to be answered, in microseconds, say too little.
pub const MAX_ROUND_TRIP_US: u64 = 10 * 1_000_000;
/// The log is told of the same peer, or of this replica's own clock, at most once in this time, in microseconds.
pub const TOLD_EVERY_US: u64 = 10 * 60 * 1_000_000;

/// What this replica's two clocks say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The one that stamps entries. It may be set.
    pub wall: Timestamp,
    /// The one that never jumps, in microseconds.
    pub steady_us: u64,
}

/// What a peer's clock said in its hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The peer's time, as it sent the hello.
    pub theirs: Timestamp,
    /// This replica's clocks, as the hello came.
    pub came: Now,
    /// How long the way there and back takes, in microseconds; the hello took half of it, give or take as much.
    pub round_trip_us: u64,
}

/// How far a peer's clock is ahead of this replica's, in microseconds; less than 0: it is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The estimate.
    pub us: i64,
    /// By how much it may be wrong.
    pub error_us: u64,
}

impl Offset {
    /// The part of it that is certain.
    fn certain(self) -> i64 {
        let certain = self.us.unsigned_abs().saturating_sub(self.error_us);
        i64::try_from(certain).unwrap_or(i64::MAX) * self.us.signum()
    }
}

/// What this replica's clock is, by those of its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many peers' clocks are known.
    pub peers: usize,
    /// How far their clocks are ahead of this replica's: the one in the middle, and of two there the one that says less.
    /// `None`: no peer's is known.
    pub median_us: Option<i64>,
    /// The peer whose clock is furthest off, and how far it is ahead.
    pub furthest: Option<(ReplicaId, i64)>,
}

impl Standing {
    /// Whether most peers say that this replica's clock is wrong by more than may be signed with.
    pub fn is_contradicted(&self) -> bool {
        self.peers >= MIN_WITNESSES
            && self.median_us.is_some_and(|off| off.unsigned_abs() > REFUSED_BEYOND_US)
    }

    /// The peer whose clock is furthest off, if that is far enough to be told.
    pub fn differing(&self) -> Option<(ReplicaId, i64)> {
        self.furthest.filter(|(_, off)| off.unsigned_abs() > TOLD_FROM_US)
    }

    /// How far the peers' clocks are ahead, if enough of them agree that it is this replica's that is wrong, and by enough to
    /// be told.
    pub fn own_fault_us(&self) -> Option<i64> {
        self.median_us.filter(|off| self.peers >= MIN_WITNESSES && off.unsigned_abs() > TOLD_FROM_US)
    }
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    /// How far the peer's clock is ahead of the steady one here.
    ahead_us: i64,
    error_us: u64,
    at_us: u64,
    /// When the peer was connected last, as far as that was asked.
    seen_us: u64,
    told_us: Option<u64>,
}

/// The clocks of the peers that this replica meets.
#[derive(Debug, Default)]
pub struct Clocks {
    peers: BTreeMap<ReplicaId, Measured>,
    told_us: Option<u64>,
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

impl Clocks {
    /// Takes what a peer's hello said. Whether the log is to be told of what stands now.
    pub fn note(&mut self, peer: ReplicaId, reading: Reading) -> bool {
        let Reading { theirs, came, round_trip_us } = reading;
        if round_trip_us > MAX_ROUND_TRIP_US {
            return false;
        }
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            let oldest = self.peers.iter().min_by_key(|(_, measured)| measured.at_us).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.peers.remove(&oldest));
        }
        let half_us = round_trip_us / 2;
        let ahead_us = signed(theirs.as_micros()) + signed(half_us) - signed(came.steady_us);
        let told_us = self.peers.get(&peer).and_then(|known| known.told_us);
        let measured =
            Measured { ahead_us, error_us: half_us, at_us: came.steady_us, seen_us: came.steady_us, told_us };
        self.peers.insert(peer, measured);
        self.is_worth_telling(&peer, came)
    }

    fn is_worth_telling(&mut self, peer: &ReplicaId, now: Now) -> bool {
        let own = self.standing(now).own_fault_us().is_some();
        let Some(measured) = self.peers.get_mut(peer) else { return false };
        let differs = offset(measured, now).certain().unsigned_abs() > TOLD_FROM_US;
        let told_us = if own { &mut self.told_us } else { &mut measured.told_us };
        let is_due = told_us.is_none_or(|told| now.steady_us.saturating_sub(told) >= TOLD_EVERY_US);
        let tells = (own || differs) && is_due;
        if tells {
            *told_us = Some(now.steady_us);
        }
        tells
    }

    /// How far a peer's clock is off; `None` if that is not known, or not any more.
    pub fn offset(&self, peer: &ReplicaId, now: Now) -> Option<Offset> {
        self.peers.get(peer).filter(|measured| is_fresh(measured, now)).map(|measured| offset(measured, now))
    }

    /// What this replica's clock is, by all that is known.
    pub fn standing(&self, now: Now) -> Standing {
        self.standing_of(now, |_| true)
    }

    /// The same by the peers that are connected, or were until [`GONE_AFTER_US`] ago: what people are told is to end when the
    /// one that is wrong has gone.
    pub fn standing_of_present(&mut self, connected: &BTreeSet<ReplicaId>, now: Now) -> Standing {
        for (peer, measured) in &mut self.peers {
            if connected.contains(peer) {
                measured.seen_us = now.steady_us;
            }
        }
        self.standing_of(now, |measured| now.steady_us.saturating_sub(measured.seen_us) <= GONE_AFTER_US)
    }

    fn standing_of(&self, now: Now, counts: impl Fn(&Measured) -> bool) -> Standing {
        let fresh = self.peers.iter().filter(|(_, measured)| is_fresh(measured, now) && counts(measured));
        let known: Vec<(ReplicaId, i64)> =
            fresh.map(|(peer, measured)| (*peer, offset(measured, now).certain())).collect();
        let mut offsets: Vec<i64> = known.iter().map(|(_, off)| *off).collect();
        offsets.sort_unstable();
        let furthest = known.into_iter().max_by_key(|(_, off)| off.unsigned_abs());
        Standing { peers: offsets.len(), median_us: middle(&offsets), furthest }
    }
}

fn is_fresh(measured: &Measured, now: Now) -> bool {
    now.steady_us.saturating_sub(measured.at_us) <= MAX_AGE_US
}

fn offset(measured: &Measured, now: Now) -> Offset {
    let ours = signed(now.wall.as_micros()) - signed(now.steady_us);
    Offset { us: measured.ahead_us - ours, error_us: measured.error_us }
}

/// The middle of sorted numbers; of two the nearer to 0, and 0 where they lie on both sides of it.
fn middle(sorted: &[i64]) -> Option<i64> {
    let last = sorted.len().checked_sub(1)?;
    let (low, high) = (*sorted.get(last / 2)?, *sorted.get(last.div_ceil(2))?);
    Some(if low > 0 { low } else { high.min(0) })
}

#[cfg(test)]
#[path = "clocks_tests.rs"]
mod tests;
