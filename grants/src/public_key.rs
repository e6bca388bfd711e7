//! RSA public keys in their one canonical encoding.

use crate::id::{ClusterId, EntityId, ReplicaId};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
use rsa::traits::PublicKeyParts;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Accepted sizes of the modulus, in bits.
pub const KEY_BITS: [usize; 3] = [2048, 3072, 4096];
/// The only accepted public exponent.
pub const PUBLIC_EXPONENT: u32 = 65_537;
/// Size of the largest canonical public key (4096 bits), in bytes of DER.
pub const MAX_SPKI_BYTES: usize = 550;
/// Version of the signed formats. It is part of every cluster id and every signed body.
pub const FORMAT_VERSION: u8 = 2;

const TAG_ENTITY: &[u8; 16] = b"kvgossip/entity\0";
const TAG_REPLICA: &[u8; 16] = b"kvgossip/replica";
const TAG_CLUSTER: &[u8; 16] = b"kvgossip/cluster";

/// Reason why bytes or a text are not a usable public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// The text is not a PEM block labelled `PUBLIC KEY`.
    #[error("this is not a PEM public key: expected a block that begins with -----BEGIN PUBLIC KEY-----")]
    NotPem,
    /// The bytes are not an RSA SubjectPublicKeyInfo.
    #[error("this is not an RSA public key: `kvgossip keygen -y KEY` prints that of a private key")]
    NotRsa,
    /// The modulus has another size than those of [`KEY_BITS`]: this many bits.
    #[error(
        "the RSA key has {0} bits; only 2048, 3072 and 4096 are accepted: make one with `kvgossip keygen`"
    )]
    Bits(usize),
    /// The public exponent is not [`PUBLIC_EXPONENT`].
    #[error("the RSA key's public exponent is not 65537; make a new key with `kvgossip keygen`")]
    Exponent,
    /// The bytes encode a key, but not canonically.
    #[error("the public key is not in canonical DER")]
    NotCanonical,
}

/// An RSA public key of 2048, 3072 or 4096 bits with e = 65537. A clone shares the key's memory.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    spki: Box<[u8]>,
    entity: EntityId,
    bits: usize,
    /// The key as the verifying library holds it. Parsed on first use, so that keys that are only stored are never
    /// parsed.
    parsed: OnceLock<Option<ParsedPublicKey>>,
}

impl PublicKey {
    /// Decodes a canonical SubjectPublicKeyInfo. Bytes that differ from the key's canonical encoding are refused.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PublicKeyError> {
        if der.len() > MAX_SPKI_BYTES {
            return Err(PublicKeyError::NotRsa);
        }
        let key = rsa::RsaPublicKey::from_public_key_der(der).map_err(|_| PublicKeyError::NotRsa)?;
        let this = Self::from_rsa(&key)?;
        if &*this.0.spki == der { Ok(this) } else { Err(PublicKeyError::NotCanonical) }
    }

    /// Parses a PEM block that begins with `-----BEGIN PUBLIC KEY-----`, under the rules of
    /// [`PublicKey::from_spki_der`].
    pub fn from_pem(text: &str) -> Result<Self, PublicKeyError> {
        let pem = text.trim();
        if !pem.starts_with("-----BEGIN PUBLIC KEY-----") {
            return Err(PublicKeyError::NotPem);
        }
        let key = rsa::RsaPublicKey::from_public_key_pem(pem).map_err(|_| PublicKeyError::NotRsa)?;
        Self::from_rsa(&key)
    }

    pub(crate) fn from_rsa(key: &rsa::RsaPublicKey) -> Result<Self, PublicKeyError> {
        let bits = key.n().bits();
        if !KEY_BITS.contains(&bits) {
            return Err(PublicKeyError::Bits(bits));
        }
        if key.e() != &rsa::BigUint::from(PUBLIC_EXPONENT) {
            return Err(PublicKeyError::Exponent);
        }
        let der = key.to_public_key_der().map_err(|_| PublicKeyError::NotRsa)?;
        Ok(Self::from_canonical(der.as_bytes().into(), bits))
    }

    fn from_canonical(spki: Box<[u8]>, bits: usize) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG_ENTITY).update(&spki);
        let entity = EntityId(*hasher.finalize().as_bytes());
        Self(Arc::new(Inner { spki, entity, bits, parsed: OnceLock::new() }))
    }

    /// Returns the canonical SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// Returns the key as PEM (`-----BEGIN PUBLIC KEY-----`), with a newline at the end.
    pub fn to_pem(&self) -> String {
        use rsa::pkcs8::der::pem::{LineEnding, encode_string};
        encode_string("PUBLIC KEY", LineEnding::LF, &self.0.spki).unwrap_or_default()
    }

    /// Returns the id of the entity with this key: BLAKE3(`kvgossip/entity` ‖ SPKI).
    pub fn entity(&self) -> EntityId {
        self.0.entity
    }

    /// Returns the id of the cluster whose root has this key: BLAKE3(`kvgossip/cluster` ‖ format version ‖ SPKI).
    pub fn cluster(&self) -> ClusterId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG_CLUSTER).update(&[FORMAT_VERSION]).update(&self.0.spki);
        ClusterId(*hasher.finalize().as_bytes())
    }

    /// Returns the id of the replica that proves this key to its peers: BLAKE3(`kvgossip/replica` ‖ SPKI).
    pub fn replica(&self) -> ReplicaId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG_REPLICA).update(&self.0.spki);
        ReplicaId(*hasher.finalize().as_bytes())
    }

    /// Returns the size of the modulus in bits: 2048, 3072 or 4096.
    pub fn bits(&self) -> usize {
        self.0.bits
    }

    /// Returns the length in bytes of a signature made with this key.
    pub fn signature_len(&self) -> usize {
        self.0.bits / 8
    }

    /// Whether `signature` is a valid RSASSA-PKCS1-v1_5 signature with SHA-256 of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let parsed = self
            .0
            .parsed
            .get_or_init(|| ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.0.spki).ok());
        parsed.as_ref().is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bits, {})", self.0.bits, self.0.entity.short())
    }
}
