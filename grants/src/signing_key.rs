//! RSA private keys: generated and parsed with `rsa`, used with `aws-lc-rs`.

use crate::public_key::{KEY_BITS, PublicKey, PublicKeyError};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use std::fmt;

/// Reason why a text is not a usable private key, or why signing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// The text is not the PEM of a private key.
    #[error("this is not a PEM private key: expected a block that begins with -----BEGIN PRIVATE KEY-----")]
    NotPem,
    /// The private key is protected by a pass phrase.
    #[error("the private key is encrypted; decrypt it first, for example with `openssl pkey`")]
    Encrypted,
    /// The text is a public key, but a private one is needed.
    #[error("this is a public key; a private key is needed here")]
    IsPublic,
    /// The private key is not an RSA key, or it is damaged.
    #[error("this is not a valid RSA private key")]
    NotRsa,
    /// The key's public part is not accepted: see [`PublicKeyError`].
    #[error(transparent)]
    Public(#[from] PublicKeyError),
    /// A key of this many bits was requested; only those of [`KEY_BITS`](crate::KEY_BITS) are offered.
    #[error("an RSA key of {0} bits is not offered; choose 2048, 3072 or 4096")]
    Bits(usize),
    /// The cryptographic library reported an error while generating a key or signing.
    #[error("the RSA operation failed")]
    Failed,
}

/// Something that can sign: a real key, or a mock key in tests.
pub trait Signer {
    /// Returns the public key to which the signatures belong.
    fn public(&self) -> &PublicKey;
    /// Returns the signature of `message`. Fails only if the cryptographic library does.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError>;
}

/// An RSA private key. Its `Debug` output shows only the public key.
pub struct SigningKey {
    public: PublicKey,
    pair: KeyPair,
}

impl SigningKey {
    /// Generates a key of `bits` bits (2048, 3072 or 4096) and returns it with its PKCS#8 PEM. `random` fills a buffer
    /// with bytes of a cryptographically secure generator.
    pub fn generate(
        bits: usize,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(Self, String), SigningKeyError> {
        if !KEY_BITS.contains(&bits) {
            return Err(SigningKeyError::Bits(bits));
        }
        let key = rsa::RsaPrivateKey::new(&mut Random(random), bits).map_err(|_| SigningKeyError::Failed)?;
        let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| SigningKeyError::Failed)?;
        Ok((Self::from_rsa(&key)?, pem.to_string()))
    }

    /// Parses an RSA private key from PEM: PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`).
    pub fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
        let pem = text.trim();
        let key = if pem.starts_with("-----BEGIN PRIVATE KEY-----") {
            rsa::RsaPrivateKey::from_pkcs8_pem(pem).map_err(|_| SigningKeyError::NotRsa)?
        } else if pem.starts_with("-----BEGIN RSA PRIVATE KEY-----") {
            rsa::RsaPrivateKey::from_pkcs1_pem(pem).map_err(|_| SigningKeyError::NotRsa)?
        } else if pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Err(SigningKeyError::Encrypted);
        } else if pem.starts_with("-----BEGIN PUBLIC KEY-----") {
            return Err(SigningKeyError::IsPublic);
        } else {
            return Err(SigningKeyError::NotPem);
        };
        Self::from_rsa(&key)
    }

    fn from_rsa(key: &rsa::RsaPrivateKey) -> Result<Self, SigningKeyError> {
        let public = PublicKey::from_rsa(&key.to_public_key())?;
        let der = key.to_pkcs8_der().map_err(|_| SigningKeyError::Failed)?;
        let pair = KeyPair::from_pkcs8(der.as_bytes()).map_err(|_| SigningKeyError::NotRsa)?;
        Ok(Self { public, pair })
    }
}

impl Signer for SigningKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        // PKCS#1 v1.5 signatures are deterministic; the library's interface requires a generator anyway.
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| SigningKeyError::Failed)?;
        Ok(signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public)
    }
}

/// Adapts a function that fills a buffer to the generator trait of `rsa`.
struct Random<'a>(&'a mut dyn FnMut(&mut [u8]));

impl rsa::rand_core::RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes);
        u32::from_le_bytes(bytes)
    }
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        u64::from_le_bytes(bytes)
    }
    fn fill_bytes(&mut self, dest: &mut [u8]) {
        (self.0)(dest);
    }
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        (self.0)(dest);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Random<'_> {}
