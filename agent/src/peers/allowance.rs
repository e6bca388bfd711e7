//! What a peer may send that changes nothing: a bucket for each, filled by time and by what is merged.
//!
//! Honest peers send such facts, too: what two send at the same time is merged once, a restored replica sends old
//! facts. So a bucket holds a bulk sync's worth, each fact that is merged earns room for some that are not, and nobody is
//! blamed: who has used up the bucket waits for the verdicts of its next facts, and its stream stands still meanwhile.
//!
//! A machine without a clock: times are durations since any fixed moment.

use kvgossip_grants::{Code, ReplicaId, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a full bucket holds: as many small facts that change nothing.
const CAPACITY: i64 = 1 << 18;
/// What comes back each second.
const PER_S: i64 = 10_000;
/// What a merged fact earns, for each unit that it would have cost.
const MERGED_EARNS: i64 = 4;
/// What a fact costs beside its bytes: a look at what is held.
const LOOK: i64 = 1;
/// The same where its signature is verified first.
const VERIFY: i64 = 16;
/// The same where it can never be accepted. A session ends after 8 of them; this counts those of all sessions.
const REFUSE: i64 = 2_048;
/// Bytes that cost as much as a look: hashing them takes about as long.
const BYTES_PER_UNIT: usize = 4 << 10;
/// The most peers with a bucket of their own. The fullest is forgotten first, as a new one is full.
const MAX_BUCKETS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: i64,
    at: Duration,
}

/// The buckets of all peers.
#[derive(Debug)]
pub(super) struct Allowances {
    capacity: i64,
    per_s: i64,
    buckets: BTreeMap<ReplicaId, Bucket>,
}

impl Default for Allowances {
    fn default() -> Self {
        Self::new(CAPACITY, PER_S)
    }
}

/// What a fact of `bytes` costs its peer; less than nothing if it earns.
pub(super) fn cost(verdict: Verdict, bytes: usize) -> i64 {
    let by_size = i64::try_from(bytes / BYTES_PER_UNIT).unwrap_or(i64::MAX / VERIFY);
    match verdict {
        Verdict::Merged => -MERGED_EARNS * (LOOK + by_size),
        Verdict::Moot(Code::Known | Code::Dominated | Code::Floored) | Verdict::Unjustified(_) => {
            LOOK + by_size
        }
        Verdict::Moot(_) | Verdict::NotYet { .. } => VERIFY + by_size,
        Verdict::Refused(_) => REFUSE + by_size,
        // Of the program that asks.
        Verdict::Misused(_) => 0,
    }
}

impl Allowances {
    pub(super) fn new(capacity: i64, per_s: i64) -> Self {
        Self { capacity, per_s: per_s.max(1), buckets: BTreeMap::new() }
    }

    /// Takes what the peer's facts cost; gives how long it has to wait.
    pub(super) fn charge(&mut self, peer: ReplicaId, cost: i64, now: Duration) -> Duration {
        if !self.buckets.contains_key(&peer) {
            if cost <= 0 {
                return Duration::ZERO;
            }
            self.make_room(now);
        }
        let full = Bucket { level: self.capacity, at: now };
        let before = self.buckets.get(&peer).copied().unwrap_or(full);
        let level = self.filled(before, now).saturating_sub(cost).min(self.capacity);
        self.buckets.insert(peer, Bucket { level, at: now });
        let missing = u64::try_from(level.saturating_neg()).unwrap_or(0);
        Duration::from_secs_f64(missing as f64 / self.per_s as f64)
    }

    fn filled(&self, bucket: Bucket, now: Duration) -> i64 {
        let millis = i64::try_from(now.saturating_sub(bucket.at).as_millis()).unwrap_or(i64::MAX);
        let earned = self.per_s.saturating_mul(millis) / 1000;
        bucket.level.saturating_add(earned).min(self.capacity)
    }

    fn make_room(&mut self, now: Duration) {
        if self.buckets.len() < MAX_BUCKETS {
            return;
        }
        let fullest = self.buckets.iter().max_by_key(|(_, bucket)| self.filled(**bucket, now));
        if let Some(peer) = fullest.map(|(peer, _)| *peer) {
            self.buckets.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ReplicaId = ReplicaId([1; 32]);
    const OTHER: ReplicaId = ReplicaId([2; 32]);
    const KNOWN: Verdict = Verdict::Moot(Code::Known);

    /// Charges batches of 512 facts one after the other; gives the time that they take.
    fn send(allowances: &mut Allowances, peer: ReplicaId, verdict: Verdict, facts: usize) -> Duration {
        let mut now = Duration::ZERO;
        for _ in 0..facts / 512 {
            now += allowances.charge(peer, 512 * cost(verdict, 600), now);
        }
        now
    }

    #[test]
    fn a_flood_is_slowed_to_the_rate_and_slows_nobody_else() {
        for verdict in [KNOWN, Verdict::Unjustified(Code::GrantUnknown)] {
            let mut allowances = Allowances::default();
            let took = send(&mut allowances, PEER, verdict, 1_000_000);
            let expected = (1_000_000 - CAPACITY) as f64 / PER_S as f64;
            assert!((took.as_secs_f64() - expected).abs() < 1.0, "{took:?}");
            assert_eq!(allowances.charge(OTHER, 512, Duration::ZERO), Duration::ZERO);
        }
    }

    #[test]
    fn what_costs_a_signature_is_slowed_sooner() {
        let mut allowances = Allowances::default();
        let took = send(&mut allowances, PEER, Verdict::Moot(Code::FloorSuperseded), 100_000);
        assert!(took > Duration::from_secs(100), "{took:?}");
        let mut allowances = Allowances::default();
        let took = send(&mut allowances, PEER, Verdict::Refused(Code::BadSignature), 2_048);
        assert!(took > Duration::from_secs(300), "{took:?}");
    }

    /// Three peers send an empty replica the same million facts, and each has a third of them merged.
    #[test]
    fn a_bulk_sync_whose_facts_cross_never_waits() {
        let mut allowances = Allowances::default();
        for batch in 0..6_000_u64 {
            let verdict = if batch % 3 == 0 { Verdict::Merged } else { KNOWN };
            let waits = allowances.charge(PEER, 512 * cost(verdict, 900), Duration::ZERO);
            assert_eq!(waits, Duration::ZERO, "batch {batch}");
        }
    }

    #[test]
    fn the_bucket_fills_again_and_the_table_is_bounded() {
        let mut allowances = Allowances::new(100, 100);
        let second = Duration::from_secs(1);
        assert_eq!(allowances.charge(PEER, 200, Duration::ZERO), second);
        assert_eq!(allowances.charge(PEER, 0, second * 2), Duration::ZERO);
        assert_eq!(allowances.charge(PEER, 200, second * 9), second, "it is full again, and no more");
        for number in 0..2 * MAX_BUCKETS as u32 {
            let mut id = [3; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            allowances.charge(ReplicaId(id), 1, second * 9);
        }
        assert!(allowances.buckets.len() <= MAX_BUCKETS);
        assert!(allowances.charge(PEER, 0, second * 9) > Duration::ZERO, "who is in debt stays so");
    }
}
