//! Random and mutated input for the bodies of the fuzz targets.

use proptest::{collection::vec, prelude::*};

use super::fixture_tests::fixtures;
use crate::fuzz::{fuzz_serf, fuzz_tcp, fuzz_udp};

/// A real message with some bytes changed, cut or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let samples: Vec<_> = fixtures().into_iter().map(|fixture| fixture.bytes).collect();
    let edits = vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 0..6);
    (prop::sample::select(samples), edits).prop_map(|(mut bytes, edits)| {
        for (at, value, edit) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = value,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, value),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(data in vec(any::<u8>(), 0..600)) {
        fuzz_udp(&data);
        fuzz_tcp(&data);
        fuzz_serf(&data);
    }

    #[test]
    fn mutated_messages(data in mutated(), selector in 0u8..8, chunk: u8) {
        fuzz_udp(&[&[selector][..], &data].concat());
        fuzz_udp(&[&[0], &data[..]].concat());
        fuzz_tcp(&[&[selector, chunk][..], &data].concat());
        fuzz_tcp(&[&[0, chunk], &data[..]].concat());
        fuzz_serf(data.get(1..).unwrap_or_default());
    }
}
