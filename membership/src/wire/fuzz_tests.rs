//! Random and mutated inputs for the bodies of the fuzz targets.

use proptest::{collection::vec, prelude::*};

use super::fixture_tests::fixtures;
use crate::fuzz::{fuzz_member, fuzz_names, fuzz_serf, fuzz_tcp, fuzz_udp};

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    mutations_of(fixtures().into_iter().map(|fixture| fixture.bytes).collect())
}

/// Generates samples with some bytes changed, cut or doubled.
pub(crate) fn mutations_of(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
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

/// Generates a sequence of operations in the format of `fuzz_member`.
fn operations() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![4 => mutated(), 1 => vec(any::<u8>(), 0..120)];
    let operation = (any::<u8>(), payload).prop_map(|(operation, payload)| {
        let len = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[operation], &len[..], &payload].concat()
    });
    vec(operation, 1..60).prop_map(|operations| operations.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn members_stay_whole(data in operations()) {
        fuzz_member(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_names(data in vec(any::<u8>(), 0..3000)) {
        fuzz_names(&data);
    }

    /// Short texts of bytes that each have a special meaning somewhere.
    #[test]
    fn awkward_bytes_are_names(data in vec(prop_oneof![0u8..6, any::<prop::sample::Index>().prop_map(awkward)], 0..3000)) {
        fuzz_names(&data);
    }
}

fn awkward(index: prop::sample::Index) -> u8 {
    const AWKWARD: &[u8] = b"\\x5cfF\n\r\t\0\x1b\x7f\x80\xc2\x85\xe2\x82\xed\xff,:= _\"'";
    AWKWARD[index.index(AWKWARD.len())]
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
