//! Offsets between the clocks of peers and this replica's clock, and whether this replica's clock is wrong.
//!
//! Each hello of a session carries its sender's time. This module is a state machine without a clock: the caller passes
//! clock readings in. Offsets are kept relative to a clock that never jumps, so that setting the system clock takes
//! effect at once and not only after every peer was met again.

use kvgossip_grants::{MAX_AHEAD_MICROS, ReplicaId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Offset between a peer's clock and this replica's, in microseconds, above which it is reported to people.
pub const TOLD_FROM_US: u64 = 30 * 1_000_000;
/// Median offset of the peers' clocks, in microseconds, above which the replica should sign nothing: its entries would
/// be early for its peers.
pub const REFUSED_BEYOND_US: u64 = MAX_AHEAD_MICROS;
/// Minimum number of peers whose clocks can contradict this replica's: with a median of three, a single liar has no
/// influence.
pub const MIN_WITNESSES: usize = 3;
/// Maximum age of a measurement, in microseconds: a quarter of an hour.
pub const MAX_AGE_US: u64 = 15 * 60 * 1_000_000;
/// Time for which a peer still counts in reports to people after it disconnected, in microseconds: a minute.
pub const GONE_AFTER_US: u64 = 60 * 1_000_000;
/// Maximum number of peers whose clocks are remembered. The oldest measurement is dropped first.
pub const MAX_PEERS: usize = 4096;
/// Maximum round-trip time of a hello from which a peer's clock is read, in microseconds. Slower ones are too
/// inaccurate and are ignored.
pub const MAX_ROUND_TRIP_US: u64 = 10 * 1_000_000;
/// Minimum interval between log messages about the same peer or about this replica's own clock, in microseconds.
pub const TOLD_EVERY_US: u64 = 10 * 60 * 1_000_000;

/// Readings of this replica's two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Reading of the wall clock, which stamps entries and may be set.
    pub wall: Timestamp,
    /// Reading of the steady clock, which never jumps, in microseconds.
    pub steady_us: u64,
}

/// A reading of a peer's clock from its hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Peer's time when it sent the hello.
    pub theirs: Timestamp,
    /// This replica's clocks when the hello arrived.
    pub came: Now,
    /// Round-trip time in microseconds. The hello is assumed to have taken half of it, so the error is at most the
    /// other half.
    pub round_trip_us: u64,
}

/// Lead of a peer's clock over this replica's, in microseconds; negative if it is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Estimated lead in microseconds; negative if the peer's clock is behind.
    pub us: i64,
    /// Maximum error of the estimate in microseconds.
    pub error_us: u64,
}

impl Offset {
    /// Returns the estimate in microseconds, moved towards 0 by its error: the part of the lead that is certain.
    fn certain(self) -> i64 {
        let certain = self.us.unsigned_abs().saturating_sub(self.error_us);
        i64::try_from(certain).unwrap_or(i64::MAX) * self.us.signum()
    }
}

/// Summary of the peers' clocks relative to this replica's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Number of peers with a measurement that is at most [`MAX_AGE_US`] old.
    pub peers: usize,
    /// Median lead of the peers' clocks, in microseconds. For an even number of peers, the middle value nearer to 0, or
    /// 0 if the two middle values have different signs. `None` without peers.
    pub median_us: Option<i64>,
    /// Peer whose clock differs most from this replica's, and its lead in microseconds.
    pub furthest: Option<(ReplicaId, i64)>,
}

impl Standing {
    /// Whether the median of at least [`MIN_WITNESSES`] peers contradicts this replica's clock by more than
    /// [`REFUSED_BEYOND_US`].
    pub fn is_contradicted(&self) -> bool {
        self.peers >= MIN_WITNESSES
            && self.median_us.is_some_and(|off| off.unsigned_abs() > REFUSED_BEYOND_US)
    }

    /// Returns the peer with the largest offset and its lead in microseconds, if the offset exceeds [`TOLD_FROM_US`].
    pub fn differing(&self) -> Option<(ReplicaId, i64)> {
        self.furthest.filter(|(_, off)| off.unsigned_abs() > TOLD_FROM_US)
    }

    /// Returns the median lead of the peers' clocks in microseconds, if at least [`MIN_WITNESSES`] peers show that this
    /// replica's clock is wrong by more than [`TOLD_FROM_US`].
    pub fn own_fault_us(&self) -> Option<i64> {
        self.median_us.filter(|off| self.peers >= MIN_WITNESSES && off.unsigned_abs() > TOLD_FROM_US)
    }
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Lead of the peer's wall clock over this replica's steady clock, in microseconds.
    ahead_us: i64,
    error_us: u64,
    at_us: u64,
    /// Last time, by the steady clock, at which a query reported the peer as connected.
    seen_us: u64,
    told_us: Option<u64>,
}

/// Measurements of the clocks of at most [`MAX_PEERS`] peers.
#[derive(Debug, Default)]
pub struct Clocks {
    peers: BTreeMap<ReplicaId, Measured>,
    told_us: Option<u64>,
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

impl Clocks {
    /// Records the time of a peer's hello. Returns whether to log that the peer's clock, or this replica's own, is
    /// wrong.
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

    /// Returns the offset of a peer's clock; `None` without a measurement that is at most [`MAX_AGE_US`] old.
    pub fn offset(&self, peer: &ReplicaId, now: Now) -> Option<Offset> {
        self.peers.get(peer).filter(|measured| is_fresh(measured, now)).map(|measured| offset(measured, now))
    }

    /// Returns the summary over all peers with a measurement that is at most [`MAX_AGE_US`] old.
    pub fn standing(&self, now: Now) -> Standing {
        self.standing_of(now, |_| true)
    }

    /// Returns the summary over the peers that are connected or were until [`GONE_AFTER_US`] ago, so that a warning
    /// ends once the peer with the wrong clock has gone.
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

/// Returns the median of sorted numbers. For an even number, the middle value nearer to 0, or 0 if the two middle
/// values have different signs.
fn middle(sorted: &[i64]) -> Option<i64> {
    let last = sorted.len().checked_sub(1)?;
    let (low, high) = (*sorted.get(last / 2)?, *sorted.get(last.div_ceil(2))?);
    Some(if low > 0 { low } else { high.min(0) })
}

#[cfg(test)]
#[path = "clocks_tests.rs"]
mod tests;
