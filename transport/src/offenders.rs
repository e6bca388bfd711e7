//! Misbehaving replicas and the times for which they are shut out: a state machine without a clock of its own.
//!
//! Times are durations since any fixed moment; they never decrease.

use crate::code::Code;
use kvgossip_grants::ReplicaId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Default time for which a replica is shut out after its first offence; each further offence doubles the time.
pub const FIRST_SHUT_OUT: Duration = Duration::from_secs(10);
/// Maximum time for which a replica is shut out after one offence.
pub const MAX_SHUT_OUT: Duration = Duration::from_secs(3600);
/// Time of good behaviour after a shut-out that forgives one offence of a replica.
pub const FORGIVE_AFTER: Duration = Duration::from_secs(600);
/// Maximum number of misbehaving replicas remembered. The one with the fewest offences is dropped first; among
/// equals, the one whose shut-out ends first.
pub const MAX_OFFENDERS: usize = 1024;

/// State of a replica that is shut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutOut {
    /// Id of the replica that is shut out.
    pub peer: ReplicaId,
    /// Code of the offence that began the shut-out.
    pub code: Code,
    /// Number of the replica's offences that are not yet forgiven, including the last.
    pub offences: u32,
    /// Remaining time of the shut-out.
    pub left: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Offender {
    code: Code,
    offences: u32,
    until: Duration,
}

/// Table of misbehaving replicas. See the [module](self).
#[derive(Debug)]
pub(crate) struct Offenders {
    first: Duration,
    offenders: BTreeMap<ReplicaId, Offender>,
    /// Number of shut-outs so far, by the code of the offence.
    counts: BTreeMap<Code, u64>,
}

impl Offenders {
    /// Creates an empty table; `first` is the shut-out time after a first offence, in place of
    /// [`FIRST_SHUT_OUT`].
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, offenders: BTreeMap::new(), counts: BTreeMap::new() }
    }

    /// Records an offence of a replica, and returns its shut-out. Further offences during a shut-out count as
    /// part of the one that began it.
    pub(crate) fn offend(&mut self, peer: ReplicaId, code: Code, now: Duration) -> ShutOut {
        if let Some(shut_out) = self.shut_out(&peer, now) {
            return shut_out;
        }
        let before = self.offenders.get(&peer).map_or(0, |offender| offender.unforgiven(now));
        if before == 0 && self.offenders.len() >= MAX_OFFENDERS {
            self.make_room(now);
        }
        let offences = before.saturating_add(1);
        let doublings = before.min(32);
        let left =
            self.first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(MAX_SHUT_OUT);
        self.offenders.insert(peer, Offender { code, offences, until: now.saturating_add(left) });
        *self.counts.entry(code).or_default() += 1;
        ShutOut { peer, code, offences, left }
    }

    fn make_room(&mut self, now: Duration) {
        self.offenders.retain(|_, offender| offender.unforgiven(now) > 0);
        if self.offenders.len() >= MAX_OFFENDERS {
            let least = self.offenders.iter().min_by_key(|(_, offender)| (offender.offences, offender.until));
            if let Some(peer) = least.map(|(peer, _)| *peer) {
                self.offenders.remove(&peer);
            }
        }
    }

    /// Returns the shut-out of a replica, or `None` if it is not shut out now.
    pub(crate) fn shut_out(&self, peer: &ReplicaId, now: Duration) -> Option<ShutOut> {
        let Offender { code, offences, until } = *self.offenders.get(peer)?;
        let left = until.checked_sub(now).filter(|left| !left.is_zero())?;
        Some(ShutOut { peer: *peer, code, offences, left })
    }

    /// Lists all shut-outs in order of the replica ids, at most [`MAX_OFFENDERS`].
    pub(crate) fn list(&self, now: Duration) -> Vec<ShutOut> {
        self.offenders.keys().filter_map(|peer| self.shut_out(peer, now)).collect()
    }

    /// Number of shut-outs so far, by the code of the offence.
    pub(crate) fn counts(&self) -> &BTreeMap<Code, u64> {
        &self.counts
    }
}

impl Offender {
    /// Number of the replica's offences minus those forgiven for good behaviour, one per [`FORGIVE_AFTER`].
    fn unforgiven(&self, now: Duration) -> u32 {
        let good = now.saturating_sub(self.until).as_secs() / FORGIVE_AFTER.as_secs();
        self.offences.saturating_sub(u32::try_from(good).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ReplicaId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        ReplicaId(bytes)
    }

    const PEER: ReplicaId = ReplicaId([1; 32]);

    /// Records an offence, then advances the time to the end of the shut-out.
    fn offend_again(offenders: &mut Offenders, now: &mut Duration) -> Duration {
        let left = offenders.offend(PEER, Code::Misbehaved, *now).left;
        *now += left;
        left
    }

    #[test]
    fn the_time_doubles_up_to_an_hour_and_ends() {
        let (mut offenders, mut now) = (Offenders::new(FIRST_SHUT_OUT), Duration::ZERO);
        let times: Vec<u64> = (0..12).map(|_| offend_again(&mut offenders, &mut now).as_secs()).collect();
        assert_eq!(times, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
        assert_eq!(offenders.shut_out(&PEER, now), None, "it is let in again");
        assert!(offenders.shut_out(&PEER, now - Duration::from_millis(1)).is_some());
        assert_eq!(offenders.counts()[&Code::Misbehaved], 12);
    }

    #[test]
    fn what_was_under_way_is_part_of_the_same_offence() {
        let mut offenders = Offenders::new(FIRST_SHUT_OUT);
        offenders.offend(PEER, Code::Misbehaved, Duration::ZERO);
        let again = offenders.offend(PEER, Code::Protocol, Duration::from_secs(3));
        assert_eq!((again.code, again.offences, again.left.as_secs()), (Code::Misbehaved, 1, 7));
    }

    #[test]
    fn good_behaviour_is_forgiven_an_offence_at_a_time() {
        let (mut offenders, mut now) = (Offenders::new(FIRST_SHUT_OUT), Duration::ZERO);
        for _ in 0..5 {
            offend_again(&mut offenders, &mut now);
        }
        now += FORGIVE_AFTER * 2;
        assert_eq!(offend_again(&mut offenders, &mut now).as_secs(), 80, "two of five are forgiven");
        now += FORGIVE_AFTER * 9;
        assert_eq!(offend_again(&mut offenders, &mut now), FIRST_SHUT_OUT);
    }

    #[test]
    fn the_table_is_bounded_and_the_worst_stay() {
        let (mut offenders, mut now) = (Offenders::new(FIRST_SHUT_OUT), Duration::ZERO);
        for _ in 0..3 {
            offend_again(&mut offenders, &mut now);
        }
        offenders.offend(PEER, Code::Protocol, now);
        for number in 0..3 * MAX_OFFENDERS as u32 {
            offenders.offend(id(number), Code::Protocol, now);
        }
        assert_eq!(offenders.list(now).len(), MAX_OFFENDERS);
        assert!(offenders.shut_out(&PEER, now).is_some_and(|it| it.offences == 4));
    }
}
