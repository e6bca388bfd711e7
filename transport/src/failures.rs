//! Reason of the last failed dial of each address, for diagnosis.

use crate::code::Code;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Maximum number of addresses whose last failure is remembered.
const MAX_ADDRESSES: usize = 1024;

/// Last failure of the dials of each address: its code and text.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<BTreeMap<SocketAddr, (Code, String)>>);

impl Failures {
    /// Records the result of a dial: `None`, a success, removes the address.
    pub(crate) fn note(&self, address: SocketAddr, failure: Option<(Code, String)>) {
        let mut failures = self.0.lock();
        match failure {
            Some(failure) => {
                if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address) {
                    failures.pop_first();
                }
                failures.insert(address, failure);
            }
            None => drop(failures.remove(&address)),
        }
    }

    pub(crate) fn of(&self, address: &SocketAddr) -> Option<(Code, String)> {
        self.0.lock().get(address).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_forgets_and_memory_is_bounded() {
        let failures = Failures::default();
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        for port in 0..2000 {
            failures.note(address(port), Some((Code::Lost, "gone".into())));
        }
        assert_eq!(failures.0.lock().len(), MAX_ADDRESSES);
        assert_eq!(failures.of(&address(1999)), Some((Code::Lost, "gone".into())));
        failures.note(address(1999), None);
        assert_eq!(failures.of(&address(1999)), None);
    }
}
