//! The interface for checking signatures: real RSA, or a mock for tests that need a million entries.

use crate::public_key::PublicKey;

/// Checks signatures of facts: by RSA, or as a mock in tests.
pub trait Verifier: Send + Sync {
    /// Whether `signature` is a valid signature of `message` by `key`.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool;
}

/// Verifies RSASSA-PKCS1-v1_5 with SHA-256. The only verifier in production.
#[derive(Clone, Copy, Debug, Default)]
pub struct RsaVerifier;

impl Verifier for RsaVerifier {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        key.verify(message, signature)
    }
}
