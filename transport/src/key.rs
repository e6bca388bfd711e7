//! A replica's RSA key: the private half as it is read from a file, the public half as a peer shows it.

use crate::id::ReplicaId;
use aws_lc_rs::hmac;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;

/// Largest key file that is read, in bytes; a 4096-bit key in PEM has 3.3 kB.
pub const MAX_KEY_FILE_LEN: usize = 64 << 10;

/// Why bytes are not the key of a replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No `PRIVATE KEY` block, or a broken one.
    #[error("this is not a PKCS#8 private key in PEM (a `BEGIN PRIVATE KEY` block)")]
    NotPem,
    /// The bytes are no private key that can sign.
    #[error("this is not a usable PKCS#8 private key: {0}")]
    NotPkcs8(String),
    /// A key of another kind, size or exponent, or not in the one canonical encoding.
    #[error("a replica key is RSA of 2048, 3072 or 4096 bits with exponent 65537, canonically encoded")]
    NotAllowed,
}

/// The private key that a replica proves to its peers; its public half gives the [`ReplicaId`].
///
/// It signs TLS handshakes and nothing else. `Debug` shows the id only.
#[derive(Clone)]
pub struct ReplicaKey {
    id: ReplicaId,
    certified: Arc<CertifiedKey>,
    reset_secret: [u8; 32],
    connection_id_key: u64,
}

impl ReplicaKey {
    /// Reads a key from the first block of a PEM text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if pem.len() > MAX_KEY_FILE_LEN {
            return Err(KeyError::NotPem);
        }
        Self::from_der(PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotPem)?)
    }

    /// Reads a key from PKCS#8 DER.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_der(PrivatePkcs8KeyDer::from(der.to_vec()))
    }

    fn from_der(der: PrivatePkcs8KeyDer<'static>) -> Result<Self, KeyError> {
        let reset_secret = blake3::derive_key("kvgossip 1 QUIC stateless reset", der.secret_pkcs8_der());
        let id_secret = blake3::derive_key("kvgossip 1 QUIC connection ids", der.secret_pkcs8_der());
        let mut connection_id_key = [0; 8];
        connection_id_key.copy_from_slice(&id_secret[..8]);

        let signing = any_supported_type(&PrivateKeyDer::Pkcs8(der))
            .map_err(|error| KeyError::NotPkcs8(error.to_string()))?;
        let spki = signing.public_key().ok_or(KeyError::NotAllowed)?.to_vec();
        let id = replica_id_of_spki(&spki)?;
        // rustls carries a raw public key where a certificate would stand (RFC 7250).
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signing));
        Ok(Self { id, certified, reset_secret, connection_id_key: u64::from_le_bytes(connection_id_key) })
    }

    /// Who this key makes its holder.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The canonical SPKI DER of the public half.
    pub fn spki_der(&self) -> &[u8] {
        self.certified.cert.first().map_or(&[], |der| der.as_ref())
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Signs stateless resets (RFC 9000 section 10.3). It comes from the key, not from chance, so that
    /// a replica that restarted can tell its peers at once that their connections are gone.
    pub(crate) fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.reset_secret)
    }

    /// Marks this replica's connection ids, so that it knows those of before a restart from garbage.
    pub(crate) fn connection_id_key(&self) -> u64 {
        self.connection_id_key
    }
}

impl fmt::Debug for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaKey({})", self.id.short())
    }
}

/// The id of a public key, if it is one that a replica may have.
pub(crate) fn replica_id_of_spki(spki: &[u8]) -> Result<ReplicaId, KeyError> {
    if is_canonical_rsa(spki) { Ok(ReplicaId::of_spki(spki)) } else { Err(KeyError::NotAllowed) }
}

/// Whether these bytes are the DER of an RSA public key (RFC 8017 appendix A.1.1 in RFC 5280's
/// SubjectPublicKeyInfo) of an allowed size with e = 65537.
///
/// For each size everything but the modulus is fixed, so there is nothing to parse: one header, the
/// modulus with its highest and lowest bit set, one trailer.
fn is_canonical_rsa(spki: &[u8]) -> bool {
    const EXPONENT: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
    [256usize, 384, 512].into_iter().any(|modulus_len| {
        let header = rsa_header(modulus_len);
        let Some(rest) = spki.strip_prefix(header.as_slice()) else { return false };
        let Some(modulus) = rest.strip_suffix(EXPONENT.as_slice()) else { return false };
        modulus.len() == modulus_len
            && modulus.first().is_some_and(|byte| byte & 0x80 != 0)
            && modulus.last().is_some_and(|byte| byte & 1 != 0)
    })
}

/// Everything before the modulus. All the lengths need two bytes, which `0x82` announces.
fn rsa_header(modulus_len: usize) -> Vec<u8> {
    // AlgorithmIdentifier { rsaEncryption, NULL }
    const ALGORITHM: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let open = |tag: u8, len: usize| [tag, 0x82, (len >> 8) as u8, len as u8];
    let integer = modulus_len + 1; // one zero byte keeps the number positive
    let sequence = 4 + integer + 5;
    let bit_string = 1 + 4 + sequence;
    let mut header = Vec::with_capacity(33);
    header.extend(open(0x30, ALGORITHM.len() + 4 + bit_string));
    header.extend(ALGORITHM);
    header.extend(open(0x03, bit_string));
    header.push(0); // no unused bits
    header.extend(open(0x30, sequence));
    header.extend(open(0x02, integer));
    header.push(0);
    header
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
            assert_eq!(replica_id_of_spki(spki), Err(KeyError::NotAllowed));
        }
    }

    /// Every byte outside the modulus is fixed, and so are the modulus' outermost bits.
    #[test]
    fn an_spki_with_any_changed_byte_of_structure_is_refused() {
        let good = fixture!("replica-a.spki.der");
        assert!(is_canonical_rsa(good));
        for at in (0..33).chain(good.len() - 5..good.len()) {
            let mut changed = good.to_vec();
            changed[at] ^= 0x40;
            assert!(!is_canonical_rsa(&changed), "byte {at}");
        }
        for (at, bit) in [(33, 0x80), (good.len() - 6, 0x01)] {
            let mut changed = good.to_vec();
            changed[at] &= !bit;
            assert!(!is_canonical_rsa(&changed), "byte {at}");
        }
        assert!(!is_canonical_rsa(&[good, b"\0"].concat()));
        assert!(!is_canonical_rsa(&good[..good.len() - 1]));
    }
}
