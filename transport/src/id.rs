//! The name of a replica.

use std::fmt;
use std::str::FromStr;

/// Separates replica ids from every other hash of a public key.
const TAG: &[u8; 16] = b"kvgossip/replica";

/// Who a replica is: BLAKE3 of the tag `kvgossip/replica` and the canonical SPKI DER of its key.
///
/// Shown as 64 lower-case hexadecimal digits. The order decides which of two connections between the
/// same replicas stays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId([u8; 32]);

/// Why a text is not a replica id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a replica id is 64 lower-case hexadecimal digits")]
pub struct ParseReplicaIdError;

impl ReplicaId {
    /// The id of the key with this canonical SPKI DER.
    pub(crate) fn of_spki(spki: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG);
        hasher.update(spki);
        Self(hasher.finalize().into())
    }

    /// The id of the replica that holds the private half of a key.
    pub fn of(key: &kvgossip_grants::PublicKey) -> Self {
        Self::of_spki(key.spki_der())
    }

    /// From the 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for logs.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({})", self.short())
    }
}

impl FromStr for ReplicaId {
    type Err = ParseReplicaIdError;

    fn from_str(text: &str) -> Result<Self, ParseReplicaIdError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseReplicaIdError);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseReplicaIdError)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_has_one_spelling() {
        let id = ReplicaId::of_spki(b"key");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<ReplicaId>(), Err(ParseReplicaIdError));
        assert_eq!(id.short().parse::<ReplicaId>(), Err(ParseReplicaIdError));
        assert_eq!("é".repeat(32).parse::<ReplicaId>(), Err(ParseReplicaIdError));
    }
}
