//! A body with its signature and its id.

use crate::codec::{AuthorityBody, Body};
use crate::fact::ShapeError;
use crate::id::ClusterId;
use crate::signing_key::{Signer, SigningKeyError};
use crate::verdict::Code;
use bytes::Bytes;

/// The longest signature (of an RSA key of 4096 bits), in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 512;

/// Why a body was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The body breaks a rule of its own: nobody would read it.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The key did not sign.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
}

impl SignError {
    /// The code of what the body breaks; `None` where the key failed.
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Shape(ShapeError::ValueTooLarge) => Some(Code::TooLarge),
            Self::Shape(ShapeError::ForeignGrant) => Some(Code::ForeignCluster),
            Self::Shape(ShapeError::FloorPatterns | ShapeError::IssuerIsRoot) => Some(Code::Malformed),
            Self::Key(_) => None,
        }
    }
}

/// A canonical body with a signature that **may not have been verified yet**, and the cluster that it was read or
/// signed for. The id and what the signature covers follow from that cluster, so that a fact cannot go by the id that
/// it would have in another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<B: Body> {
    body: B,
    /// Signature and body in one piece, as in a record. Clones share it.
    bytes: Bytes,
    signature_len: usize,
    id: B::Id,
    cluster: ClusterId,
}

impl<B: AuthorityBody> Signed<B> {
    /// Signs a grant, revocation or floor for `cluster`. Entries are signed by [`EntryFact::sign`], with their value:
    ///
    /// ```compile_fail,E0277
    /// use kvgossip_grants::{ClusterId, Entry, Signed, Signer};
    ///
    /// fn sign_without_the_value(cluster: ClusterId, entry: Entry, signer: &dyn Signer) {
    ///     let _ = Signed::sign(cluster, entry, signer);
    /// }
    /// ```
    ///
    /// # Errors
    /// When the body breaks a rule of its own, such as a revocation of another cluster's grant; or when the key fails.
    ///
    /// [`EntryFact::sign`]: crate::EntryFact::sign
    pub fn sign(cluster: ClusterId, body: B, signer: &dyn Signer) -> Result<Self, SignError> {
        Self::sign_body(cluster, body, signer)
    }
}

impl<B: Body> Signed<B> {
    pub(crate) fn sign_body(cluster: ClusterId, body: B, signer: &dyn Signer) -> Result<Self, SignError> {
        body.check_rules(cluster)?;
        let encoded = body.encode();
        let signature = signer.sign(&preimage(B::TAG, cluster, &encoded))?;
        let id = fact_id::<B>(cluster, &encoded);
        let bytes = [&signature[..], &encoded].concat().into();
        Ok(Self { body, bytes, signature_len: signature.len(), id, cluster })
    }

    /// Reads canonical bytes and a signature of a possible length; checks no signature.
    pub fn parse(cluster: ClusterId, bytes: &[u8], signature: &[u8]) -> Option<Self> {
        let whole = Bytes::from([signature, bytes].concat());
        Self::parse_front(cluster, &whole, signature.len()).filter(|this| this.bytes.len() == whole.len())
    }

    /// Reads a signature of `signature_len` bytes and the canonical bytes after it from the front of `bytes`, whatever
    /// follows them. What is read is shared with `bytes`, not copied.
    pub(crate) fn parse_front(cluster: ClusterId, bytes: &Bytes, signature_len: usize) -> Option<Self> {
        if !matches!(signature_len, 256 | 384 | 512) {
            return None;
        }
        let (_, after) = bytes.split_at_checked(signature_len)?;
        let (body, rest) = B::decode_front(cluster, after)?;
        let end = bytes.len() - rest.len();
        let id = fact_id::<B>(cluster, bytes.get(signature_len..end)?);
        Some(Self { body, bytes: bytes.slice(..end), signature_len, id, cluster })
    }

    /// The same in memory of its own.
    pub(crate) fn into_owned(self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
    }

    /// Signature and canonical bytes, as they stand in a record.
    pub(crate) fn signature_and_body(&self) -> &Bytes {
        &self.bytes
    }

    /// What it says.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The canonical bytes of the body.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.signature_len..).unwrap_or_default()
    }

    /// The signature, 256, 384 or 512 bytes.
    pub fn signature(&self) -> &[u8] {
        self.bytes.get(..self.signature_len).unwrap_or_default()
    }

    /// The signature, sharing the bytes of the fact.
    pub(crate) fn shared_signature(&self) -> Bytes {
        self.bytes.slice(..self.signature_len)
    }

    /// The cluster that it was read or signed for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// BLAKE3 of what the signature covers.
    pub fn id(&self) -> B::Id {
        self.id
    }

    /// What the signature covers: tag ‖ cluster id ‖ body.
    pub fn preimage(&self) -> Vec<u8> {
        preimage(B::TAG, self.cluster, self.bytes())
    }
}

fn preimage(tag: [u8; 16], cluster: ClusterId, bytes: &[u8]) -> Vec<u8> {
    [&tag[..], &cluster.0, bytes].concat()
}

fn fact_id<B: Body>(cluster: ClusterId, bytes: &[u8]) -> B::Id {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&B::TAG).update(&cluster.0).update(bytes);
    (*hasher.finalize().as_bytes()).into()
}
