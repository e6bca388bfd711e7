//! An independent computation of the short hashes in a session's walk. They are hints of 32 bits, so that among
//! millions of sessions some have a collision. Such a session may end without having found a difference, and reports
//! that; the judge accepts it only if it can find the collision.

use crate::replica::SimReplica;
use kvgossip_grants::FactId;
use siphasher::sip::SipHasher24;
use std::collections::BTreeSet;
use std::hash::Hasher;

/// Returns the short hash of `bytes` in round `round` of a session whose salts have this seed.
pub fn short(seed: u64, round: u8, bytes: &[u8]) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"kvgossip/salt\0\0\0").update(&seed.to_le_bytes()).update(&(!seed).to_le_bytes());
    hasher.update(&[round]);
    let mut salt = [0; 16];
    salt.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    let mut hasher = SipHasher24::new_with_key(&salt);
    hasher.write(bytes);
    hasher.finish() as u32
}

/// Whether two ids or keys, of either side, have the same short hash in one of the first `rounds` rounds.
pub(crate) fn is_misled(a: &SimReplica, b: &SimReplica, seed: u64, rounds: u32) -> bool {
    let ids: BTreeSet<FactId> =
        [a, b].iter().flat_map(|side| side.storage().records().keys().copied()).collect();
    let keys = [a, b].into_iter().flat_map(|side| side.view().keys("", None).map(|(key, _)| key));
    let ids = ids.into_iter().map(|id| id.0.to_vec());
    let all: BTreeSet<Vec<u8>> = ids.chain(keys.map(|key| key.as_bytes().to_vec())).collect();
    (1..=u8::try_from(rounds).unwrap_or(u8::MAX)).any(|round| {
        let mut seen = BTreeSet::new();
        all.iter().any(|bytes| !seen.insert(short(seed, round, bytes)))
    })
}
