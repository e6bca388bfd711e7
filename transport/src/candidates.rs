//! The addresses at which one replica may listen, and the order in which they are dialled: a state machine without I/O.

use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Most addresses of one replica that are held at a time. More may be announced: those that have failed make room, so
/// that all have their turn.
pub const MAX_CANDIDATES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    address: SocketAddr,
    /// Dials that failed in a row.
    failures: u32,
}

/// The addresses of one replica.
///
/// Anybody may announce an address; who listens there is known only after a handshake. The address at which the replica
/// has proved its key is kept, even if nobody announces it any more, until it has proved it at another one. Of the others
/// those fall first that have failed, and those that nobody announces fall at once.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    proven: Option<SocketAddr>,
    others: Vec<Candidate>,
    /// The last announced address that was taken: the next one after it is the first to get a place that is free.
    taken: Option<SocketAddr>,
}

impl Candidates {
    /// Takes what is announced now, and gives the addresses that were not held before.
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

    /// Whether another address may be held; the one that failed most often falls.
    fn make_room(&mut self) -> bool {
        if self.len() < MAX_CANDIDATES {
            return true;
        }
        let worst = (0..self.others.len()).max_by_key(|place| self.others[*place].failures);
        let worst = worst.filter(|place| self.others[*place].failures > 0);
        worst.map(|place| self.others.remove(place)).is_some()
    }

    /// The replica has proved its key at this address.
    pub fn proved(&mut self, address: SocketAddr) {
        self.others.retain(|candidate| candidate.address != address);
        self.proven = Some(address);
    }

    /// A dial of this address failed, or somebody else answered there.
    pub fn failed(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.others.iter_mut().find(|candidate| candidate.address == address) {
            candidate.failures = candidate.failures.saturating_add(1);
        }
    }

    /// Whether this address is held.
    pub fn holds(&self, address: SocketAddr) -> bool {
        self.proven == Some(address) || self.others.iter().any(|other| other.address == address)
    }

    /// All addresses in the order in which they are dialled: the proven one, then those that failed least.
    pub fn in_order(&self) -> Vec<SocketAddr> {
        let mut others = self.others.clone();
        others.sort_by_key(|candidate| candidate.failures);
        self.proven.into_iter().chain(others.into_iter().map(|candidate| candidate.address)).collect()
    }

    /// Whether the replica has proved its key at one of them.
    pub fn is_proven(&self) -> bool {
        self.proven.is_some()
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.others.len() + usize::from(self.proven.is_some())
    }

    /// Whether none is known.
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
