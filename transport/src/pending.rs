//! Which first packets may start a handshake.
//!
//! A handshake costs an RSA signature and memory before anything is known about the peer, so the number
//! under way is bounded: in all, for addresses that may be forged, and for each address that is real.

use crate::limits::Limits;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What to do with a first packet.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Begin the handshake; the place is free again when this is dropped.
    Start(Place),
    /// Send a Retry: the peer is to come again from an address that can receive.
    Validate,
    /// Too many handshakes are under way.
    Refuse,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    unvalidated: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// The handshakes under way.
#[derive(Debug)]
pub(crate) struct Pending {
    max_total: usize,
    max_unvalidated: usize,
    max_per_address: usize,
    counts: Mutex<Counts>,
}

/// One handshake's place.
#[derive(Debug)]
pub(crate) struct Place {
    pending: Arc<Pending>,
    /// The address, if the peer has shown that it is its own.
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

    /// Decides about a first packet from `address`.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, validated: bool) -> Entry {
        let mut counts = self.counts.lock();
        if !validated {
            // A Retry keeps no state, so forged addresses get nothing else once there are many.
            if counts.unvalidated >= self.max_unvalidated || counts.total >= self.max_total {
                return Entry::Validate;
            }
            counts.unvalidated += 1;
        } else {
            let full = counts.total >= self.max_total;
            if full || counts.by_address.get(&address).is_some_and(|&n| n >= self.max_per_address) {
                return Entry::Refuse;
            }
            *counts.by_address.entry(address).or_default() += 1;
        }
        counts.total += 1;
        Entry::Start(Place { pending: Arc::clone(self), validated: validated.then_some(address) })
    }

    /// Handshakes under way.
    pub(crate) fn len(&self) -> usize {
        self.counts.lock().total
    }
}

impl Drop for Place {
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

    fn start(pending: &Arc<Pending>, last: u8, validated: bool) -> Place {
        match pending.enter(address(last), validated) {
            Entry::Start(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn forged_addresses_cannot_fill_the_places_of_real_ones() {
        let pending = pending(8, 2, 8);
        let forged: Vec<_> = (0..2).map(|n| start(&pending, n, false)).collect();
        assert!(matches!(pending.enter(address(9), false), Entry::Validate));
        let real: Vec<_> = (0..6).map(|n| start(&pending, n, true)).collect();
        assert!(matches!(pending.enter(address(9), true), Entry::Refuse));
        assert!(matches!(pending.enter(address(9), false), Entry::Validate));
        drop((forged, real));
        assert_eq!(pending.len(), 0);
        assert!(pending.counts.lock().by_address.is_empty());
    }

    #[test]
    fn one_address_cannot_fill_the_places_of_others() {
        let pending = pending(8, 2, 3);
        let mut greedy: Vec<_> = (0..3).map(|_| start(&pending, 1, true)).collect();
        assert!(matches!(pending.enter(address(1), true), Entry::Refuse));
        let _other = start(&pending, 2, true);
        greedy.pop();
        let _again = start(&pending, 1, true);
    }
}
