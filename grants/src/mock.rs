//! Mock keys and signatures that cost almost no time, for simulators, fuzzers and benchmarks only.
//!
//! A mock key is a well-formed RSA public key whose private key nobody has; its "signature" is a hash that anybody can
//! compute. Only tests, fuzzers and benchmarks enable the feature that this module needs.

use crate::public_key::PublicKey;
use crate::signing_key::{Signer, SigningKeyError};
use crate::verifier::Verifier;

/// A signer whose signatures are hashes that anybody can compute.
#[derive(Clone, Debug)]
pub struct MockKey(PublicKey);

impl MockKey {
    /// Derives a key from `seed` alone.
    pub fn new(seed: u64) -> Self {
        let mut modulus = [0; 256];
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"kvgossip mock key").update(&seed.to_le_bytes());
        hasher.finalize_xof().fill(&mut modulus);
        modulus[0] |= 0x80;
        modulus[255] |= 1;
        let modulus = rsa::BigUint::from_bytes_be(&modulus);
        let key = rsa::RsaPublicKey::new_unchecked(modulus, rsa::BigUint::from(65_537u32));
        #[expect(clippy::expect_used, reason = "a modulus of 2048 bits with e = 65537 is always acceptable")]
        Self(PublicKey::from_rsa(&key).expect("a well-formed key"))
    }
}

impl Signer for MockKey {
    fn public(&self) -> &PublicKey {
        &self.0
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        Ok(mock_signature(&self.0, message).to_vec())
    }
}

/// Verifier that accepts exactly the signatures of [`MockKey`].
#[derive(Clone, Copy, Debug, Default)]
pub struct MockVerifier;

impl Verifier for MockVerifier {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        signature == mock_signature(key, message)
    }
}

fn mock_signature(key: &PublicKey, message: &[u8]) -> [u8; 256] {
    let mut signature = [0; 256];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.entity().0).update(message);
    hasher.finalize_xof().fill(&mut signature);
    signature
}
