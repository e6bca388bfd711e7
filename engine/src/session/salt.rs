//! Short hashes for the walk: hints that a salt makes different in every round.

use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// The key of a round's short hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Salt {
    key: [u8; 16],
}

impl Salt {
    /// From both sides' nonces and the number of the round: the first 16 bytes of
    /// BLAKE3(`kvgossip/salt` padded to 16 ‖ initiator's nonce ‖ responder's nonce ‖ round).
    pub(super) fn new(initiator: [u8; 8], responder: [u8; 8], round: u8) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"kvgossip/salt\0\0\0").update(&initiator).update(&responder).update(&[round]);
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self { key }
    }

    /// The low 32 bits of SipHash-2-4.
    pub(super) fn short(&self, bytes: &[u8]) -> u32 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(bytes);
        hasher.finish() as u32
    }
}
