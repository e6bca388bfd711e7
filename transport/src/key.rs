//! RSA key of a replica: the private key as read from a file, and the public key as presented by a peer.

use aws_lc_rs::hmac;
use kvgossip_grants::ReplicaId;
use kvgossip_grants::{PublicKey, PublicKeyError};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;

/// Maximum length of a key file in bytes; a 4096-bit RSA key in PEM takes 3.3 kB.
pub const MAX_KEY_FILE_LEN: usize = 64 << 10;

/// Error of reading a replica key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key file has no valid `PRIVATE KEY` block.
    #[error("this is not a PKCS#8 private key in PEM (a `BEGIN PRIVATE KEY` block)")]
    NotPem,
    /// The content of the block is not a PKCS#8 private key that can sign; the text says why.
    #[error("this is not a usable PKCS#8 private key: {0}")]
    NotPkcs8(String),
    /// The private key does not provide its public key.
    #[error("the private key does not give its public key")]
    NoPublicKey,
    /// The public key has another type, size or exponent, or is not in the canonical encoding.
    #[error(transparent)]
    Public(#[from] PublicKeyError),
}

/// Private key that a replica proves to its peers. Its public key determines the [`ReplicaId`].
///
/// It only signs TLS handshakes. `Debug` shows the id alone.
#[derive(Clone)]
pub struct ReplicaKey {
    id: ReplicaId,
    certified: Arc<CertifiedKey>,
    reset_secret: [u8; 32],
    connection_id_key: u64,
}

impl ReplicaKey {
    /// Reads the private key from the first block of a PEM text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if pem.len() > MAX_KEY_FILE_LEN {
            return Err(KeyError::NotPem);
        }
        Self::from_der(PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotPem)?)
    }

    fn from_der(der: PrivatePkcs8KeyDer<'static>) -> Result<Self, KeyError> {
        let reset_secret = blake3::derive_key("kvgossip 1 QUIC stateless reset", der.secret_pkcs8_der());
        let id_secret = blake3::derive_key("kvgossip 1 QUIC connection ids", der.secret_pkcs8_der());
        let mut connection_id_key = [0; 8];
        connection_id_key.copy_from_slice(&id_secret[..8]);

        let signing = any_supported_type(&PrivateKeyDer::Pkcs8(der))
            .map_err(|error| KeyError::NotPkcs8(error.to_string()))?;
        let spki = signing.public_key().ok_or(KeyError::NoPublicKey)?.to_vec();
        let id = replica_id_of_spki(&spki)?;
        // rustls carries a raw public key in the place of a certificate (RFC 7250).
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signing));
        Ok(Self { id, certified, reset_secret, connection_id_key: u64::from_le_bytes(connection_id_key) })
    }

    /// Replica id that this key proves.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// Canonical SPKI DER encoding of the public key.
    pub fn spki_der(&self) -> &[u8] {
        self.certified.cert.first().map_or(&[], |der| der.as_ref())
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Key for stateless reset tokens (RFC 9000 section 10.3). It derives from the replica key instead of being
    /// random, so that a restarted replica can tell its peers at once that their connections are gone.
    pub(crate) fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.reset_secret)
    }

    /// Key for this replica's connection ids, by which it recognises ids issued before a restart.
    pub(crate) fn connection_id_key(&self) -> u64 {
        self.connection_id_key
    }
}

impl fmt::Debug for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaKey({})", self.id.short())
    }
}

/// Computes the replica id of a public key in SPKI DER. Fails if a replica may not have that key.
pub(crate) fn replica_id_of_spki(spki: &[u8]) -> Result<ReplicaId, KeyError> {
    Ok(PublicKey::from_spki_der(spki)?.replica())
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../tests/fixtures/", $name)).as_slice()
        };
    }

    #[test]
    fn keys_of_the_three_sizes_are_taken() {
        for pem in [fixture!("replica-a.pem"), fixture!("replica-3072.pem"), fixture!("replica-4096.pem")] {
            let key = ReplicaKey::from_pem(pem).unwrap();
            assert_eq!(replica_id_of_spki(key.spki_der()), Ok(key.id()));
            assert!(format!("{key:?}").len() < 24, "Debug shows the id only");
        }
    }

    #[test]
    fn the_id_is_the_tagged_hash_of_the_spki_file() {
        let key = ReplicaKey::from_pem(fixture!("replica-a.pem")).unwrap();
        let spki = fixture!("replica-a.spki.der");
        assert_eq!(key.spki_der(), spki);
        let preimage = [b"kvgossip/replica".as_slice(), spki].concat();
        assert_eq!(key.id().as_bytes(), blake3::hash(&preimage).as_bytes());
    }

    #[test]
    fn other_keys_are_refused() {
        for pem in [
            fixture!("bad-rsa1024.pem"),
            fixture!("bad-rsa2056.pem"),
            fixture!("bad-exponent3.pem"),
            fixture!("bad-ed25519.pem"),
            fixture!("bad-p256.pem"),
            fixture!("pkcs1.pem"),
            b"".as_slice(),
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(ReplicaKey::from_pem(pem).is_err(), "{}", String::from_utf8_lossy(pem));
        }
        for spki in [
            fixture!("bad-rsa1024.spki.der"),
            fixture!("bad-rsa2056.spki.der"),
            fixture!("bad-exponent3.spki.der"),
            fixture!("bad-ed25519.spki.der"),
            fixture!("bad-p256.spki.der"),
            fixture!("x509.der"),
            b"".as_slice(),
        ] {
            assert!(matches!(replica_id_of_spki(spki), Err(KeyError::Public(_))));
        }
    }

    /// A second encoding of one key would give its holder a second id.
    #[test]
    fn an_spki_with_any_changed_byte_of_structure_is_refused() {
        let good = fixture!("replica-a.spki.der");
        assert!(replica_id_of_spki(good).is_ok());
        for at in (0..33).chain(good.len() - 5..good.len()) {
            let mut changed = good.to_vec();
            changed[at] ^= 0x40;
            assert!(replica_id_of_spki(&changed).is_err(), "byte {at}");
        }
        assert!(replica_id_of_spki(&[good, b"\0"].concat()).is_err());
        assert!(replica_id_of_spki(&good[..good.len() - 1]).is_err());
    }
}
