//! Fact bodies: their tags, canonical bytes and own rules.

use crate::id::{ClusterId, FactId};
use std::fmt;

pub(crate) mod sealed {
    /// Prevents other crates from implementing `Body`.
    pub trait Sealed {}
}

/// Reason why a body is invalid by itself, independently of the authority set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// The value of an entry is longer than [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES).
    #[error("a value is at most 1 MiB")]
    ValueTooLarge,
    /// A floor's list of patterns is empty, longer than [`MAX_FLOOR_PATTERNS`](crate::MAX_FLOOR_PATTERNS) or not
    /// strictly ascending.
    #[error("a floor names 1 to 64 patterns in strictly ascending order")]
    FloorPatterns,
    /// `by` of a revocation is `Issuer`, but root issued the revoked grant.
    #[error("a revocation of root's own grant is signed as root, not as issuer")]
    IssuerIsRoot,
    /// The revoked grant belongs to another cluster.
    #[error("a revocation names a grant of its own cluster")]
    ForeignGrant,
}

/// A kind of fact body: its tag and its canonical bytes. There are four, all of this crate.
pub trait Body: Sized + Clone + sealed::Sealed {
    /// Domain-separation tag: the first 16 bytes of the message that a signature of this kind covers.
    const TAG: [u8; 16];

    /// Type of the ids of facts of this kind, such as [`GrantId`](crate::GrantId).
    type Id: Copy + fmt::Debug + Eq + From<[u8; 32]> + Into<FactId>;

    /// Returns the canonical bytes of the body, which are signed and hashed.
    fn encode(&self) -> Vec<u8>;

    /// Checks the rules that do not depend on other facts. A body that breaks one is neither signed nor decoded.
    fn check_rules(&self, cluster: ClusterId) -> Result<(), ShapeError>;

    /// Decodes a body from the front of `bytes` and returns it with the rest of `bytes`. `None` for bytes that are not
    /// canonical and for bodies that break a rule of [`Body::check_rules`]. The cluster is needed for the id of a grant
    /// inside a revocation.
    fn decode_front(cluster: ClusterId, bytes: &[u8]) -> Option<(Self, &[u8])>;

    /// Decodes `bytes` as one body; `None` if bytes are left over.
    fn decode(cluster: ClusterId, bytes: &[u8]) -> Option<Self> {
        Self::decode_front(cluster, bytes).filter(|(_, rest)| rest.is_empty()).map(|(body, _)| body)
    }
}

/// A body that is signed alone: any body but an [`Entry`](crate::Entry), which is signed together with its value.
pub trait AuthorityBody: Body {}
