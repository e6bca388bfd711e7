//! Candidate addresses of one replica, in dial order: a state machine without I/O.

use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Maximum number of addresses held for one replica. More may be announced: failed addresses are replaced, so
/// that every announced address is dialled eventually.
pub const MAX_CANDIDATES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    address: SocketAddr,
    /// Number of consecutive failed dials of this address.
    failures: u32,
}

/// Candidate addresses of one replica.
///
/// Anyone may announce an address; which replica listens there is known only after a handshake. The address
/// where the replica last proved its key is kept, announced or not, until it proves its key at another one. The
/// other addresses are dropped as soon as they are no longer announced, and the one with the most failures is
/// dropped first when a new one needs room.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    proven: Option<SocketAddr>,
    others: Vec<Candidate>,
    /// Announced address that was added last. The next one in address order gets the next free place.
    taken: Option<SocketAddr>,
}

impl Candidates {
    /// Updates the set to the addresses that are announced for the replica now. Returns those that were not
    /// held before.
    pub fn announce(&mut self, announced: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let announced: BTreeSet<SocketAddr> = announced.into_iter().collect();
        self.others.retain(|candidate| announced.contains(&candidate.address));
        let (before, after): (Vec<_>, Vec<_>) =
            announced.into_iter().partition(|address| self.taken.is_some_and(|taken| *address <= taken));
        let mut new = Vec::new();
        for address in after.into_iter().chain(before) {
            if self.holds(address) || !self.make_room() {
                continue;
            }
            self.taken = Some(address);
            self.others.push(Candidate { address, failures: 0 });
            new.push(address);
        }
        debug_assert!(self.len() <= MAX_CANDIDATES);
        new
    }

    /// Makes room for one more address, by dropping the one that failed most often. Returns `false` if the set
    /// is full and none has failed.
    fn make_room(&mut self) -> bool {
        if self.len() < MAX_CANDIDATES {
            return true;
        }
        let worst = (0..self.others.len()).max_by_key(|place| self.others[*place].failures);
        let worst = worst.filter(|place| self.others[*place].failures > 0);
        worst.map(|place| self.others.remove(place)).is_some()
    }

    /// Records that the replica proved its key at `address`.
    pub fn proved(&mut self, address: SocketAddr) {
        self.others.retain(|candidate| candidate.address != address);
        self.proven = Some(address);
    }

    /// Records that a dial of `address` failed, or that another replica answered at it.
    pub fn failed(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.others.iter_mut().find(|candidate| candidate.address == address) {
            candidate.failures = candidate.failures.saturating_add(1);
        }
    }

    /// Returns whether this address is held.
    pub fn holds(&self, address: SocketAddr) -> bool {
        self.proven == Some(address) || self.others.iter().any(|other| other.address == address)
    }

    /// Returns all held addresses in dial order: the proven one first, then by number of failures, the fewest
    /// first.
    pub fn in_order(&self) -> Vec<SocketAddr> {
        let mut others = self.others.clone();
        others.sort_by_key(|candidate| candidate.failures);
        self.proven.into_iter().chain(others.into_iter().map(|candidate| candidate.address)).collect()
    }

    /// Returns whether the replica has proved its key at one of the held addresses.
    pub fn is_proven(&self) -> bool {
        self.proven.is_some()
    }

    /// Number of addresses held.
    pub fn len(&self) -> usize {
        self.others.len() + usize::from(self.proven.is_some())
    }

    /// Returns whether no address is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn addresses(ports: impl IntoIterator<Item = u16>) -> Vec<SocketAddr> {
        ports.into_iter().map(address).collect()
    }

    #[test]
    fn the_address_that_proved_the_key_is_kept_and_comes_first() {
        let mut candidates = Candidates::default();
        assert!(candidates.is_empty());
        assert_eq!(candidates.announce(addresses(1..=9)), addresses(1..=9));
        candidates.proved(address(7));
        assert_eq!(candidates.in_order()[0], address(7));
        assert_eq!(candidates.announce(addresses(101..=200)).len(), MAX_CANDIDATES - 1);
        assert_eq!(candidates.in_order()[0], address(7), "although nobody announces it");
        candidates.failed(address(7));
        assert_eq!(candidates.in_order()[0], address(7), "it may be away for a while");
        candidates.proved(address(101));
        assert_eq!(candidates.in_order()[0], address(101));
        assert!(
            !candidates.in_order().contains(&address(7)),
            "another one is proven, and it is not announced"
        );
    }

    #[test]
    fn every_announced_address_has_its_turn_however_many_there_are() {
        let mut candidates = Candidates::default();
        let all = addresses(1..=500);
        candidates.proved(address(9999));
        let mut tried = BTreeSet::new();
        for _ in 0..500 / (MAX_CANDIDATES - 1) + 1 {
            candidates.announce(all.clone());
            let round = candidates.in_order();
            assert_eq!(round.len(), MAX_CANDIDATES);
            assert_eq!(round[0], address(9999));
            round[1..].iter().for_each(|address| candidates.failed(*address));
            tried.extend(round);
        }
        assert_eq!(tried.len(), 501);
    }

    #[test]
    fn what_is_not_announced_any_more_falls_and_who_failed_least_is_tried_first() {
        let mut candidates = Candidates::default();
        candidates.announce(addresses([1, 2, 3]));
        candidates.failed(address(1));
        candidates.failed(address(1));
        candidates.failed(address(3));
        assert_eq!(candidates.in_order(), addresses([2, 3, 1]));
        assert_eq!(candidates.announce(addresses([1, 3, 4])), addresses([4]));
        assert_eq!(candidates.in_order(), addresses([4, 3, 1]));
        assert!(candidates.announce([]).is_empty() && candidates.is_empty());
    }
}
