//! Replicas that dialled in and were refused, for diagnosis: a state machine without a clock of its own.
//!
//! Times are durations since any fixed moment; they never decrease.

use crate::code::Code;
use kvgossip_grants::ReplicaId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Time for which a refused replica is listed. A peer that keeps trying is refused more often than that.
pub const REFUSED_FOR: Duration = Duration::from_secs(120);
/// Maximum number of refused replicas remembered; the oldest refusal is dropped first.
pub const MAX_REFUSED: usize = 64;
/// Maximum number of refused replicas remembered per IP address; the oldest refusal of the address is dropped
/// first.
pub const MAX_REFUSED_PER_ADDRESS: usize = 4;

/// Refusal of a replica that dialled in and proved its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPeer {
    /// Id of the refused replica.
    pub peer: ReplicaId,
    /// Address that the replica dialled from.
    pub address: SocketAddr,
    /// Code of the rule that the replica did not meet.
    pub code: Code,
    /// Details of the refusal, as in the local log.
    pub reason: String,
}

/// Recently refused replicas, with the time of each one's last refusal. See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Refused(BTreeMap<ReplicaId, (Duration, RefusedPeer)>);

impl Refused {
    /// Records the refusal of a replica, in place of an older one of that replica.
    pub(crate) fn note(&mut self, refused: RefusedPeer, now: Duration) {
        let ip = refused.address.ip();
        self.0.remove(&refused.peer);
        self.make_room(MAX_REFUSED_PER_ADDRESS, |other| other.ip() == ip);
        self.make_room(MAX_REFUSED, |_| true);
        self.0.insert(refused.peer, (now, refused));
    }

    /// Removes a replica from the list, because it was admitted.
    pub(crate) fn forget(&mut self, peer: &ReplicaId) {
        self.0.remove(peer);
    }

    /// Drops the oldest of the refusals selected by `counts` until fewer than `most` of them are left.
    fn make_room(&mut self, most: usize, counts: impl Fn(&SocketAddr) -> bool) {
        loop {
            let counted = self.0.iter().filter(|(_, (_, other))| counts(&other.address));
            let counted: Vec<(Duration, ReplicaId)> = counted.map(|(peer, (at, _))| (*at, *peer)).collect();
            match counted.iter().min() {
                Some((_, oldest)) if counted.len() >= most => drop(self.0.remove(oldest)),
                _ => return,
            }
        }
    }

    /// Lists the refusals of the last [`REFUSED_FOR`], the latest first.
    pub(crate) fn list(&self, now: Duration) -> Vec<RefusedPeer> {
        let mut found: Vec<_> =
            self.0.values().filter(|(at, _)| now.saturating_sub(*at) < REFUSED_FOR).cloned().collect();
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found.into_iter().map(|(_, refused)| refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn refused(number: u16, address: u16) -> RefusedPeer {
        let [high, low] = number.to_be_bytes();
        let mut bytes = [0; 32];
        (bytes[0], bytes[1]) = (high, low);
        let [third, last] = address.to_be_bytes();
        RefusedPeer {
            peer: ReplicaId(bytes),
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, third, last)), 1),
            code: Code::NotAdmitted,
            reason: "not listed".into(),
        }
    }

    fn numbers(book: &Refused, now: u64) -> Vec<u16> {
        let list = book.list(Duration::from_secs(now));
        list.iter().map(|it| u16::from_be_bytes([it.peer.as_bytes()[0], it.peer.as_bytes()[1]])).collect()
    }

    #[test]
    fn the_latest_come_first_and_all_are_forgotten_in_time_or_when_they_are_taken() {
        let mut book = Refused::default();
        for number in 0..3 {
            book.note(refused(number, number), Duration::from_secs(number.into()));
        }
        book.note(refused(0, 0), Duration::from_secs(5));
        assert_eq!(numbers(&book, 5), [0, 2, 1]);
        book.forget(&refused(2, 0).peer);
        assert_eq!(numbers(&book, 5), [0, 1]);
        assert_eq!(numbers(&book, 121), [0]);
        assert!(numbers(&book, 125).is_empty());
    }

    #[test]
    fn one_address_with_ever_new_keys_keeps_no_other_out_and_memory_is_bounded() {
        let mut book = Refused::default();
        book.note(refused(0, 0), Duration::ZERO);
        for number in 1..=1_000 {
            book.note(refused(number, 1), Duration::from_millis(number.into()));
        }
        assert_eq!(numbers(&book, 2), [1_000, 999, 998, 997, 0]);
        for number in 1..=1_000 {
            book.note(refused(number, number), Duration::from_secs(3));
        }
        assert_eq!(book.0.len(), MAX_REFUSED);
    }
}
