//! A body with its signature and its id.

use crate::codec::Body;
use crate::id::{ClusterId, FactId};
use crate::signing_key::{Signer, SigningKeyError};
use bytes::Bytes;

/// The longest signature (of an RSA key of 4096 bits), in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 512;

/// A canonical body with a signature that **may not have been verified yet**.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<B> {
    body: B,
    /// Signature and body in one piece, as in a record. Clones share it.
    bytes: Bytes,
    signature_len: usize,
    id: FactId,
}

impl<B: Body> Signed<B> {
    /// Signs `body` for `cluster`.
    pub fn sign(cluster: ClusterId, body: B, signer: &dyn Signer) -> Result<Self, SigningKeyError> {
        let encoded = body.encode();
        let signature = signer.sign(&preimage(B::TAG, cluster, &encoded))?;
        let id = fact_id(B::TAG, cluster, &encoded);
        let bytes = [&signature[..], &encoded].concat().into();
        Ok(Self { body, bytes, signature_len: signature.len(), id })
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
        let id = fact_id(B::TAG, cluster, bytes.get(signature_len..end)?);
        Some(Self { body, bytes: bytes.slice(..end), signature_len, id })
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

    /// BLAKE3 of what the signature covers.
    pub fn id(&self) -> FactId {
        self.id
    }

    /// What the signature covers: tag ‖ cluster id ‖ body.
    pub fn preimage(&self, cluster: ClusterId) -> Vec<u8> {
        preimage(B::TAG, cluster, self.bytes())
    }
}

fn preimage(tag: [u8; 16], cluster: ClusterId, bytes: &[u8]) -> Vec<u8> {
    [&tag[..], &cluster.0, bytes].concat()
}

fn fact_id(tag: [u8; 16], cluster: ClusterId, bytes: &[u8]) -> FactId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&tag).update(&cluster.0).update(bytes);
    FactId(*hasher.finalize().as_bytes())
}
