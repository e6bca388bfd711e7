//! The four kinds of signed fact, their bodies and the rules a body must keep by itself.

use crate::glob::KeyGlob;
use crate::id::{ClusterId, Digest, EntityId, GrantId};
use crate::key::Key;
use crate::public_key::PublicKey;
use crate::signed::Signed;
use crate::time::Timestamp;

/// The largest value of an entry, in bytes. A constant of the protocol: a limit that differed between replicas
/// would keep them different for ever.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// The most patterns that one floor may name.
pub const MAX_FLOOR_PATTERNS: usize = 64;
/// The longest chain of grants, counted from root's own grant as 1.
pub const MAX_DEPTH: u8 = 16;

/// Authority over a pattern, given by an issuer to a grantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who gives: root, or the grantee of the parent.
    pub issuer: EntityId,
    /// Who receives.
    pub grantee: PublicKey,
    /// The keys it speaks of; what it reaches is what every pattern of its chain matches.
    pub pattern: KeyGlob,
    /// Whether the grantee may pass authority on.
    pub subgrant: bool,
    /// The grant that the issuer holds; `None` exactly if the issuer is root.
    pub parent: Option<GrantId>,
    /// Entries before this time are outside its window.
    pub issued_at: Timestamp,
    /// Entries after this time are outside its window, and after it nothing written under the grant is shown.
    pub expires_at: Option<Timestamp>,
    /// Makes two otherwise equal grants differ.
    pub nonce: [u8; 16],
}

/// Who revokes; the order is the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The cluster's root.
    Root,
    /// Whoever issued the grant (never written for a grant of root's: that is `Root`).
    Issuer,
    /// Whoever holds the grant, giving it up.
    Grantee,
}

impl By {
    /// `root`, `issuer` or `grantee`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuer => "issuer",
            Self::Grantee => "grantee",
        }
    }
}

/// The end of a grant and of all that depends on it, at once and for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The whole signed grant, so that the revocation can be judged where the grant was never seen.
    pub grant: Signed<Grant>,
    /// Who signs.
    pub by: By,
    /// For people; it has no effect.
    pub revoked_at: Timestamp,
}

/// What an entry does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Gives it a value, which travels beside the body.
    Set {
        /// Bytes of the value, at most [`MAX_VALUE_BYTES`].
        len: u32,
        /// BLAKE3 of the value.
        hash: Digest,
    },
    /// Unsets it.
    Delete,
}

impl Op {
    /// The operation that sets `value`.
    pub fn set(value: &[u8]) -> Self {
        // Longer values than u32 can count are refused by the size check of `Entry::check`.
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        Self::Set { len, hash: value_hash(value) }
    }
}

/// BLAKE3 of a value.
pub fn value_hash(value: &[u8]) -> Digest {
    Digest(*blake3::hash(value).as_bytes())
}

/// One key's value or tombstone, as one signer wrote it at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which key.
    pub key: Key,
    /// When, by the writer's clock.
    pub timestamp: Timestamp,
    /// Set or delete.
    pub op: Op,
    /// Who signs.
    pub signer: EntityId,
    /// The grant that covers the key; `None` exactly if the signer is root.
    pub grant: Option<GrantId>,
}

/// Root's word that entries of matching keys older than `before` are no longer valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// 1 to [`MAX_FLOOR_PATTERNS`] patterns, strictly ascending.
    pub patterns: Vec<KeyGlob>,
    /// Entries with a smaller timestamp fall.
    pub before: Timestamp,
    /// Makes two otherwise equal floors differ.
    pub nonce: [u8; 16],
}

/// What a body breaks by itself, whatever the authority says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A value above [`MAX_VALUE_BYTES`].
    #[error("a value is at most 1 MiB")]
    ValueTooLarge,
    /// No pattern, too many, or not strictly ascending.
    #[error("a floor names 1 to 64 patterns in strictly ascending order")]
    FloorPatterns,
    /// `by: Issuer` on a grant of root's.
    #[error("a revocation of root's own grant is signed as root, not as issuer")]
    IssuerIsRoot,
    /// A grant of another cluster.
    #[error("a revocation names a grant of its own cluster")]
    ForeignGrant,
}

impl Entry {
    /// Checks what the entry must keep by itself.
    pub fn check(&self) -> Result<(), ShapeError> {
        match self.op {
            Op::Set { len, .. } if len as usize > MAX_VALUE_BYTES => Err(ShapeError::ValueTooLarge),
            Op::Set { .. } | Op::Delete => Ok(()),
        }
    }
}

impl Floor {
    /// Checks what the floor must keep by itself.
    pub fn check(&self) -> Result<(), ShapeError> {
        let ascending = self.patterns.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str());
        if ascending && (1..=MAX_FLOOR_PATTERNS).contains(&self.patterns.len()) {
            Ok(())
        } else {
            Err(ShapeError::FloorPatterns)
        }
    }
}

impl Revocation {
    /// Checks what a revocation in `cluster` must keep by itself.
    pub fn check(&self, cluster: ClusterId) -> Result<(), ShapeError> {
        if self.grant.cluster() != cluster {
            return Err(ShapeError::ForeignGrant);
        }
        if self.by == By::Issuer && self.grant.body().parent.is_none() {
            return Err(ShapeError::IssuerIsRoot);
        }
        Ok(())
    }
}
