//! A signed body and its id.

use crate::body::{AuthorityBody, Body, ShapeError};
use crate::id::ClusterId;
use crate::signing_key::{Signer, SigningKeyError};
use crate::verdict::Code;
use bytes::Bytes;

/// Maximum length of a signature in bytes: that of an RSA key of 4096 bits.
pub const MAX_SIGNATURE_BYTES: usize = 512;

/// Reason why a body was not signed: its own fault or that of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The body breaks a rule of its own kind, so that nobody would decode it.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The signing operation of the key failed.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
}

impl SignError {
    /// Returns the code of the broken rule; `None` if the signing operation failed.
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
/// signed for. The id and the signed message depend on that cluster, so that a fact never has the id that it would have
/// in another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<B: Body> {
    body: B,
    /// Signature and body in one buffer, as in a record. Clones share it.
    bytes: Bytes,
    signature_len: usize,
    id: B::Id,
    cluster: ClusterId,
}

impl<B: AuthorityBody> Signed<B> {
    /// Signs a grant, revocation or floor for `cluster`. Entries are signed together with their value by
    /// [`EntryFact::sign`]:
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
    /// The body breaks a rule of its own, such as a revocation of another cluster's grant, or the signing operation
    /// fails.
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

    /// Decodes the canonical bytes of a body, with a signature of 256, 384 or 512 bytes. Does not verify the signature.
    /// `None` if either is malformed.
    pub fn parse(cluster: ClusterId, bytes: &[u8], signature: &[u8]) -> Option<Self> {
        let whole = Bytes::from([signature, bytes].concat());
        Self::parse_front(cluster, &whole, signature.len()).filter(|this| this.bytes.len() == whole.len())
    }

    /// Decodes a signature of `signature_len` bytes and the body after it from the front of `bytes`, ignoring what
    /// follows. The result shares the memory of `bytes`.
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

    /// Copies the fact out of the buffer that it was read from, so that the buffer can be freed.
    pub(crate) fn into_owned(self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
    }

    /// Returns signature and canonical bytes, as they appear in a record.
    pub(crate) fn signature_and_body(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the signed body.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// Returns the canonical bytes of the body, without the signature.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.signature_len..).unwrap_or_default()
    }

    /// Returns the signature: 256, 384 or 512 bytes.
    pub fn signature(&self) -> &[u8] {
        self.bytes.get(..self.signature_len).unwrap_or_default()
    }

    /// Returns the signature, sharing the memory of the fact.
    pub(crate) fn shared_signature(&self) -> Bytes {
        self.bytes.slice(..self.signature_len)
    }

    /// Returns the cluster that the fact was read or signed for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the id: BLAKE3 of the message that the signature covers.
    pub fn id(&self) -> B::Id {
        self.id
    }

    /// Returns the message that the signature covers: tag ‖ cluster id ‖ body.
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
