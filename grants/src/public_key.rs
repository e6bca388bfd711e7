//! RSA public keys in their one canonical form.

use crate::id::{ClusterId, EntityId, ReplicaId};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
use rsa::traits::PublicKeyParts;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Sizes of modulus that a key may have, in bits.
pub const KEY_BITS: [usize; 3] = [2048, 3072, 4096];
/// The only public exponent.
pub const PUBLIC_EXPONENT: u32 = 65_537;
/// The largest canonical public key (of 4096 bits), in bytes of DER.
pub const MAX_SPKI_BYTES: usize = 550;
/// Version of the signed formats; part of every cluster id and every signed body.
pub const FORMAT_VERSION: u8 = 2;

const TAG_ENTITY: &[u8; 16] = b"kvgossip/entity\0";
const TAG_REPLICA: &[u8; 16] = b"kvgossip/replica";
const TAG_CLUSTER: &[u8; 16] = b"kvgossip/cluster";

/// Why bytes or a text are not a usable public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// Not PEM of the kind `PUBLIC KEY`.
    #[error("this is not a PEM public key: expected a block that begins with -----BEGIN PUBLIC KEY-----")]
    NotPem,
    /// Not an RSA SubjectPublicKeyInfo.
    #[error("this is not an RSA public key: `kvgossip keygen -y KEY` prints that of a private key")]
    NotRsa,
    /// The modulus has another size.
    #[error(
        "the RSA key has {0} bits; only 2048, 3072 and 4096 are accepted: make one with `kvgossip keygen`"
    )]
    Bits(usize),
    /// The public exponent differs.
    #[error("the RSA key's public exponent is not 65537; make a new key with `kvgossip keygen`")]
    Exponent,
    /// A second spelling of the same key.
    #[error("the public key is not in canonical DER")]
    NotCanonical,
}

/// An RSA public key of 2048, 3072 or 4096 bits with e = 65537; cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    spki: Box<[u8]>,
    entity: EntityId,
    bits: usize,
    /// Parsed on first use: a key that is only stored costs nothing.
    parsed: OnceLock<Option<ParsedPublicKey>>,
}

impl PublicKey {
    /// Reads a canonical SubjectPublicKeyInfo. Anything that would not be re-encoded to the same bytes is refused.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PublicKeyError> {
        if der.len() > MAX_SPKI_BYTES {
            return Err(PublicKeyError::NotRsa);
        }
        let key = rsa::RsaPublicKey::from_public_key_der(der).map_err(|_| PublicKeyError::NotRsa)?;
        let this = Self::from_rsa(&key)?;
        if &*this.0.spki == der { Ok(this) } else { Err(PublicKeyError::NotCanonical) }
    }

    /// Reads `-----BEGIN PUBLIC KEY-----`.
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

    /// The canonical SubjectPublicKeyInfo, DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// `-----BEGIN PUBLIC KEY-----`, with a newline at the end.
    pub fn to_pem(&self) -> String {
        use rsa::pkcs8::der::pem::{LineEnding, encode_string};
        encode_string("PUBLIC KEY", LineEnding::LF, &self.0.spki).unwrap_or_default()
    }

    /// Who this key is: BLAKE3(`kvgossip/entity` ‖ SPKI).
    pub fn entity(&self) -> EntityId {
        self.0.entity
    }

    /// The cluster that this key is the root of: BLAKE3(`kvgossip/cluster` ‖ format version ‖ SPKI).
    pub fn cluster(&self) -> ClusterId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG_CLUSTER).update(&[FORMAT_VERSION]).update(&self.0.spki);
        ClusterId(*hasher.finalize().as_bytes())
    }

    /// The replica that proves this key to its peers: BLAKE3(`kvgossip/replica` ‖ SPKI).
    pub fn replica(&self) -> ReplicaId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG_REPLICA).update(&self.0.spki);
        ReplicaId(*hasher.finalize().as_bytes())
    }

    /// Bits of the modulus.
    pub fn bits(&self) -> usize {
        self.0.bits
    }

    /// Bytes of a signature made with this key.
    pub fn signature_len(&self) -> usize {
        self.0.bits / 8
    }

    /// Checks an RSASSA-PKCS1-v1_5 signature with SHA-256.
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
