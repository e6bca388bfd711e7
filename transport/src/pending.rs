//! Limits the number of handshakes in progress, and decides which first packets may start one.
//!
//! A handshake costs an RSA signature and memory before anything is known about the peer. The number in
//! progress is therefore bounded: in total, for addresses that may be forged, and for each validated address.

use crate::limits::Limits;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Decision about a first packet.
#[derive(Debug)]
pub(crate) enum FirstPacket {
    /// Start the handshake; dropping the permit frees its place.
    Start(HandshakePermit),
    /// Send a Retry, so that the sender validates its address.
    Validate,
    /// Refuse the handshake: too many are in progress, in total or from the sender's address.
    Refuse,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    unvalidated: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// Counts of the incoming handshakes in progress, with their limits.
#[derive(Debug)]
pub(crate) struct Pending {
    max_total: usize,
    max_unvalidated: usize,
    max_per_address: usize,
    counts: Mutex<Counts>,
}

/// Permission for one handshake; it counts as in progress until this is dropped.
#[derive(Debug)]
pub(crate) struct HandshakePermit {
    pending: Arc<Pending>,
    /// IP address of the peer; `None` if it is not validated.
    validated: Option<IpAddr>,
}

impl Pending {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            max_total: limits.max_pending_handshakes,
            max_unvalidated: limits.max_unvalidated_handshakes,
            max_per_address: limits.max_handshakes_per_address,
            counts: Mutex::default(),
        })
    }

    /// Decides about a first packet from `address`; `validated` states whether the address is validated.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, validated: bool) -> FirstPacket {
        let mut counts = self.counts.lock();
        if !validated {
            // A Retry keeps no state, so it is the only response to possibly forged addresses beyond the limit.
            if counts.unvalidated >= self.max_unvalidated || counts.total >= self.max_total {
                return FirstPacket::Validate;
            }
            counts.unvalidated += 1;
        } else {
            let full = counts.total >= self.max_total;
            if full || counts.by_address.get(&address).is_some_and(|&n| n >= self.max_per_address) {
                return FirstPacket::Refuse;
            }
            *counts.by_address.entry(address).or_default() += 1;
        }
        counts.total += 1;
        FirstPacket::Start(HandshakePermit {
            pending: Arc::clone(self),
            validated: validated.then_some(address),
        })
    }

    /// Number of incoming handshakes in progress.
    pub(crate) fn len(&self) -> usize {
        self.counts.lock().total
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut counts = self.pending.counts.lock();
        counts.total -= 1;
        match self.validated {
            None => counts.unvalidated -= 1,
            Some(address) => {
                if let Some(n) = counts.by_address.get_mut(&address) {
                    *n -= 1;
                    if *n == 0 {
                        counts.by_address.remove(&address);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(total: usize, unvalidated: usize, per_address: usize) -> Arc<Pending> {
        Pending::new(&Limits {
            max_pending_handshakes: total,
            max_unvalidated_handshakes: unvalidated,
            max_handshakes_per_address: per_address,
            ..Limits::default()
        })
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn start(pending: &Arc<Pending>, last: u8, validated: bool) -> HandshakePermit {
        match pending.enter(address(last), validated) {
            FirstPacket::Start(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn forged_addresses_cannot_fill_the_places_of_real_ones() {
        let pending = pending(8, 2, 8);
        let forged: Vec<_> = (0..2).map(|n| start(&pending, n, false)).collect();
        assert!(matches!(pending.enter(address(9), false), FirstPacket::Validate));
        let real: Vec<_> = (0..6).map(|n| start(&pending, n, true)).collect();
        assert!(matches!(pending.enter(address(9), true), FirstPacket::Refuse));
        assert!(matches!(pending.enter(address(9), false), FirstPacket::Validate));
        drop((forged, real));
        assert_eq!(pending.len(), 0);
        assert!(pending.counts.lock().by_address.is_empty());
    }

    #[test]
    fn one_address_cannot_fill_the_places_of_others() {
        let pending = pending(8, 2, 3);
        let mut greedy: Vec<_> = (0..3).map(|_| start(&pending, 1, true)).collect();
        assert!(matches!(pending.enter(address(1), true), FirstPacket::Refuse));
        let _other = start(&pending, 2, true);
        greedy.pop();
        let _again = start(&pending, 1, true);
    }
}
