//! The four kinds of signed fact, their bodies, and the rules that a body must keep independently of other facts.

use crate::body::ShapeError;
use crate::glob::KeyGlob;
use crate::id::{ClusterId, Digest, EntityId, GrantId};
use crate::key::Key;
use crate::public_key::PublicKey;
use crate::signed::Signed;
use crate::time::Timestamp;

/// Largest value of an entry, in bytes. It is a constant of the protocol: replicas with different limits would never
/// converge.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// Maximum number of patterns in one floor.
pub const MAX_FLOOR_PATTERNS: usize = 64;
/// Maximum length of a chain of grants; root's own grant counts as 1.
pub const MAX_DEPTH: u8 = 16;

/// Authority over a pattern, given by an issuer to a grantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Entity that issues the grant: root, or the grantee of the parent grant.
    pub issuer: EntityId,
    /// Public key of the entity that receives the authority.
    pub grantee: PublicKey,
    /// Pattern of keys. A grant reaches the keys that every pattern of its chain matches.
    pub pattern: KeyGlob,
    /// Whether the grantee may issue grants under this grant.
    pub subgrant: bool,
    /// Id of the grant under which this one is issued, which the issuer holds; `None` exactly if the issuer is root.
    pub parent: Option<GrantId>,
    /// Start of the window: entries with an earlier timestamp are refused.
    pub issued_at: Timestamp,
    /// End of the window: entries with a later timestamp are refused, and after this time no entry under the grant is
    /// shown. `None`: no end.
    pub expires_at: Option<Timestamp>,
    /// Arbitrary bytes that distinguish grants that are otherwise equal.
    pub nonce: [u8; 16],
}

/// The role in which a revocation is signed; variants are in order of precedence, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The root of the cluster.
    Root,
    /// The issuer of the grant. Not used for grants that root issued: those are revoked as `Root`.
    Issuer,
    /// The grantee, who gives the grant up.
    Grantee,
}

impl By {
    /// Returns the name of the role: `root`, `issuer` or `grantee`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuer => "issuer",
            Self::Grantee => "grantee",
        }
    }
}

/// Permanent end of a grant and of every grant and entry below it, effective at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The whole signed grant, so that a replica that never saw the grant can judge the revocation.
    pub grant: Signed<Grant>,
    /// Role in which the signer revokes the grant.
    pub by: By,
    /// Time of the revocation by the signer's clock, for information only: it decides nothing.
    pub revoked_at: Timestamp,
}

/// What an entry does to the value of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a value, which is stored and sent after the body.
    Set {
        /// Length of the value in bytes, at most [`MAX_VALUE_BYTES`].
        len: u32,
        /// BLAKE3 hash of the value.
        hash: Digest,
    },
    /// Deletes the value of the key: the entry is a tombstone.
    Delete,
}

impl Op {
    /// Returns the operation that sets `value`.
    pub fn set(value: &[u8]) -> Self {
        // `Entry::check` refuses values longer than `u32::MAX` by their size.
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        Self::Set { len, hash: value_hash(value) }
    }
}

/// Returns the BLAKE3 hash of a value.
pub fn value_hash(value: &[u8]) -> Digest {
    Digest(*blake3::hash(value).as_bytes())
}

/// Value of a key, or the deletion of its value, written by one signer at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key whose value the entry sets or deletes.
    pub key: Key,
    /// Time of writing by the writer's clock; decides which of two entries is newer.
    pub timestamp: Timestamp,
    /// What the entry does to the value of the key: sets or deletes it.
    pub op: Op,
    /// Entity that signs the entry: root, or the grantee of the cited grant.
    pub signer: EntityId,
    /// Id of the grant that allows the write; `None` exactly if the signer is root.
    pub grant: Option<GrantId>,
}

/// Root's declaration that entries of matching keys with a timestamp before `before` are no longer valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Patterns of the keys whose entries end: 1 to [`MAX_FLOOR_PATTERNS`], strictly ascending.
    pub patterns: Vec<KeyGlob>,
    /// Time before which entries end: those with a smaller timestamp are invalid.
    pub before: Timestamp,
    /// Arbitrary bytes that distinguish floors that are otherwise equal.
    pub nonce: [u8; 16],
}

impl Entry {
    /// Checks that the value is at most [`MAX_VALUE_BYTES`] long.
    pub fn check(&self) -> Result<(), ShapeError> {
        match self.op {
            Op::Set { len, .. } if len as usize > MAX_VALUE_BYTES => Err(ShapeError::ValueTooLarge),
            Op::Set { .. } | Op::Delete => Ok(()),
        }
    }
}

impl Floor {
    /// Checks that there are 1 to [`MAX_FLOOR_PATTERNS`] patterns, in strictly ascending order.
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
    /// Checks that the revoked grant belongs to `cluster`, and that `by` is not `Issuer` if root issued that grant.
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
