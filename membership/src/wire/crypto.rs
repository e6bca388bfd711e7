//! Encryption of packets and streams with AES-GCM and a ring of shared keys.
//!
//! Format: `[version][nonce 12][ciphertext and tag 16]`. Version 0 uses PKCS#7 padding, version 1 has none. As
//! in memberlist, there is no replay protection.

use std::fmt;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::Rng;

use super::WireError;

const TAG_LEN: usize = 16;
const BLOCK: usize = 16;
/// Maximum number of keys in a keyring.
pub const MAX_KEYS: usize = 32;
/// Number of bytes that encryption adds to a packet: version, nonce and tag.
pub const OVERHEAD: usize = 1 + NONCE_LEN + TAG_LEN;

/// Error of parsing a key or changing a keyring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has this number of bytes, and not 16, 24 or 32.
    #[error("a key is 16, 24 or 32 bytes, not {0}")]
    Length(usize),
    /// The key's text is not base64.
    #[error("the key is not base64")]
    Base64,
    /// The keyring already has [`MAX_KEYS`] keys.
    #[error("the keyring is full")]
    Full,
    /// The key to use is not in the keyring.
    #[error("the key is not in the keyring")]
    Unknown,
    /// The key to remove is the primary one, which can be replaced but not removed.
    #[error("the primary key cannot be removed")]
    Primary,
}

/// AES key that all members share. `Debug` shows only its size.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(AES-{})", self.0.len() * 8)
    }
}

impl Key {
    /// Creates a key from 16, 24 or 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        match bytes.len() {
            16 | 24 | 32 => Ok(Self(bytes.to_vec())),
            len => Err(KeyError::Length(len)),
        }
    }

    /// Parses a key in base64, as `serf keygen` prints it.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Self::new(&STANDARD.decode(text.trim()).map_err(|_| KeyError::Base64)?)
    }

    /// Returns the key in base64, for keyring files and key queries. It is secret.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// Returns the key's bytes, for key queries. They are secret.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn cipher(&self) -> Result<LessSafeKey, WireError> {
        let algorithm = match self.0.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            _ => &AES_256_GCM,
        };
        UnboundKey::new(algorithm, &self.0).map(LessSafeKey::new).map_err(|_| WireError::Decrypt)
    }
}

/// Keys of a cluster: the first one encrypts, all of them decrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// Creates a keyring with one key, the primary.
    pub fn new(primary: Key) -> Self {
        Self { keys: vec![primary] }
    }

    /// Primary key of the ring: the one that encrypts.
    pub fn primary(&self) -> &Key {
        &self.keys[0]
    }

    /// All keys of the ring, the primary first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Adds a key to the ring for decryption; has no effect if the ring has it already. Fails if the ring has
    /// [`MAX_KEYS`] keys.
    pub fn install(&mut self, key: Key) -> Result<(), KeyError> {
        if self.keys.contains(&key) {
            return Ok(());
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(KeyError::Full);
        }
        self.keys.push(key);
        Ok(())
    }

    /// Makes a key of the ring the primary one, which encrypts. Fails if the ring lacks it.
    pub fn use_key(&mut self, key: &Key) -> Result<(), KeyError> {
        let at = self.keys.iter().position(|k| k == key).ok_or(KeyError::Unknown)?;
        self.keys.swap(0, at);
        Ok(())
    }

    /// Removes a key from the ring; has no effect if the ring lacks it. Fails for the primary key.
    pub fn remove(&mut self, key: &Key) -> Result<(), KeyError> {
        if self.primary() == key {
            return Err(KeyError::Primary);
        }
        self.keys.retain(|k| k != key);
        Ok(())
    }

    /// Encrypts `plain` with the primary key, and authenticates `aad` with it. `rng` provides the nonce, so it
    /// must be cryptographic.
    pub fn seal(&self, plain: &[u8], aad: &[u8], rng: &mut impl Rng) -> Result<Vec<u8>, WireError> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut body = plain.to_vec();
        self.primary()
            .cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
            .map_err(|_| WireError::TooLarge("a message to encrypt"))?;
        Ok([&[1], &nonce[..], &body].concat())
    }

    /// Decrypts with whichever key of the ring fits, and returns the plaintext. Fails with
    /// [`WireError::Decrypt`] if none does.
    pub fn open(&self, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, WireError> {
        let (version, rest) = sealed.split_first().ok_or(WireError::Decrypt)?;
        if *version > 1 {
            return Err(WireError::Decrypt);
        }
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(WireError::Decrypt)?;
        for key in &self.keys {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| WireError::Decrypt)?;
            let mut plain = body.to_vec();
            if let Ok(opened) = key.cipher()?.open_in_place(nonce, Aad::from(aad), &mut plain) {
                let len = if *version == 0 { unpadded_len(opened)? } else { opened.len() };
                plain.truncate(len);
                return Ok(plain);
            }
        }
        Err(WireError::Decrypt)
    }
}

/// Returns the length of a decrypted text without its PKCS#7 padding. The plaintext is authenticated, so wrong
/// padding is a fault of the sender and gives no padding oracle.
fn unpadded_len(padded: &[u8]) -> Result<usize, WireError> {
    let pad = padded.last().map_or(0, |b| usize::from(*b));
    if pad == 0 || pad > BLOCK {
        return Err(WireError::Decrypt);
    }
    padded.len().checked_sub(pad).ok_or(WireError::Decrypt)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn all_key_sizes_and_rings() {
        let mut rng = StdRng::seed_from_u64(1);
        for len in [16, 24, 32] {
            let ring = Keyring::new(Key::new(&vec![7; len]).expect("a key"));
            let sealed = ring.seal(b"hello", b"label", &mut rng).expect("seals");
            assert_eq!(sealed.len(), 5 + OVERHEAD);
            assert_ne!(
                ring.seal(b"hello", b"label", &mut rng).expect("seals"),
                sealed,
                "a nonce is used once"
            );
            assert_eq!(ring.open(&sealed, b"label").as_deref(), Ok(&b"hello"[..]));
            assert_eq!(ring.open(&sealed, b"other"), Err(WireError::Decrypt));
            let mut other = Keyring::new(Key::new(&[8; 16]).expect("a key"));
            assert_eq!(other.open(&sealed, b"label"), Err(WireError::Decrypt));
            other.install(ring.primary().clone()).expect("room");
            assert!(other.open(&sealed, b"label").is_ok());
        }
        assert_eq!(Key::new(&[0; 17]), Err(KeyError::Length(17)));
        assert_eq!(format!("{:?}", Key::new(&[1; 32])), "Ok(Key(AES-256))");
    }

    #[test]
    fn version_zero_is_padded() {
        let key = Key::new(&[9; 16]).expect("a key");
        let ring = Keyring::new(key.clone());
        let seal = |plain: &[u8]| {
            let mut body = plain.to_vec();
            let nonce = Nonce::assume_unique_for_key([3; NONCE_LEN]);
            key.cipher()
                .expect("a cipher")
                .seal_in_place_append_tag(nonce, Aad::from(b""), &mut body)
                .expect("seals");
            [&[0], &[3; NONCE_LEN][..], &body].concat()
        };
        let padded = [&b"twelve bytes"[..], &[4; 4]].concat();
        assert_eq!(ring.open(&seal(&padded), b"").as_deref(), Ok(&b"twelve bytes"[..]));
        assert_eq!(ring.open(&seal(&[0; 16]), b""), Err(WireError::Decrypt), "no padding of length zero");
        assert_eq!(ring.open(&seal(&[17; 16]), b""), Err(WireError::Decrypt), "nor longer than a block");
        assert_eq!(ring.open(&seal(&[]), b""), Err(WireError::Decrypt));
    }

    #[test]
    fn ring_changes() {
        let key = |b| Key::new(&[b; 32]).expect("a key");
        let mut ring = Keyring::new(key(1));
        assert_eq!(ring.use_key(&key(2)), Err(KeyError::Unknown));
        ring.install(key(2)).expect("room");
        ring.use_key(&key(2)).expect("is there");
        assert_eq!(ring.remove(&key(2)), Err(KeyError::Primary));
        ring.remove(&key(1)).expect("not primary");
        assert_eq!(ring.keys(), [key(2)]);
        for b in 3..=(MAX_KEYS as u8 + 1) {
            ring.install(key(b)).expect("room");
        }
        assert_eq!(ring.install(key(200)), Err(KeyError::Full));
    }
}
