//! Fixed-size identifiers. Their text form is lower-case hexadecimal.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Error for a text that is not an id: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 64 lower-case hexadecimal digits")]
pub struct ParseIdError;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Returns the 32 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Returns the first eight hexadecimal digits of the id, to be shown to people.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(ParseIdError);
                }
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError)?;
                Ok(Self(bytes))
            }
        }
    };
}

id_type!(
    /// A BLAKE3 hash: of a value, of a node of a tree, or the root digest of a replica's state.
    Digest
);
id_type!(
    /// Id of an entity, which signs facts: BLAKE3 of a tag and its canonical public key.
    EntityId
);
id_type!(
    /// Id of a signed fact of any kind (grant, revocation, floor or entry): BLAKE3 of the bytes that its signature
    /// covers.
    FactId
);
id_type!(
    /// Id of a signed grant: BLAKE3 of the bytes that its signature covers.
    GrantId
);
id_type!(
    /// Id of a signed entry: BLAKE3 of the bytes that its signature covers.
    EntryId
);
id_type!(
    /// Id of a cluster: BLAKE3 of a tag, the format version and the canonical public key of its root.
    ClusterId
);
id_type!(
    /// Id of a replica: BLAKE3 of a tag and the canonical public key that it proves to its peers. The order of ids
    /// decides which of two connections between the same replicas is kept.
    ReplicaId
);

impl From<GrantId> for FactId {
    fn from(id: GrantId) -> Self {
        Self(id.0)
    }
}

impl From<EntryId> for FactId {
    fn from(id: EntryId) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_has_one_spelling() {
        let id = Digest([0xab; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<Digest>(), Err(ParseIdError));
        assert_eq!("ab".parse::<Digest>(), Err(ParseIdError));
    }
}
