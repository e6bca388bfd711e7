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
    bytes: Bytes,
    signature: Bytes,
    id: FactId,
}

impl<B: Body> Signed<B> {
    /// Signs `body` for `cluster`.
    pub fn sign(cluster: ClusterId, body: B, signer: &dyn Signer) -> Result<Self, SigningKeyError> {
        let bytes = body.encode();
        let signature = signer.sign(&preimage(B::TAG, cluster, &bytes))?;
        let id = fact_id(B::TAG, cluster, &bytes);
        Ok(Self { body, bytes: bytes.into(), signature: signature.into(), id })
    }

    /// Reads canonical bytes and a signature of a possible length; checks no signature.
    pub fn parse(cluster: ClusterId, bytes: &[u8], signature: &[u8]) -> Option<Self> {
        Self::parse_front(cluster, bytes, signature).filter(|(_, rest)| rest.is_empty()).map(|(this, _)| this)
    }

    /// The same for canonical bytes that others follow; gives those, too.
    pub fn parse_front<'a>(
        cluster: ClusterId,
        bytes: &'a [u8],
        signature: &[u8],
    ) -> Option<(Self, &'a [u8])> {
        if !matches!(signature.len(), 256 | 384 | 512) {
            return None;
        }
        let (body, rest) = B::decode_front(cluster, bytes)?;
        let bytes = bytes.get(..bytes.len() - rest.len())?;
        let id = fact_id(B::TAG, cluster, bytes);
        let (bytes, signature) = (Bytes::copy_from_slice(bytes), Bytes::copy_from_slice(signature));
        Some((Self { body, bytes, signature, id }, rest))
    }

    /// What it says.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The canonical bytes of the body.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signature, 256, 384 or 512 bytes.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// BLAKE3 of what the signature covers.
    pub fn id(&self) -> FactId {
        self.id
    }

    /// What the signature covers: tag ‖ cluster id ‖ body.
    pub fn preimage(&self, cluster: ClusterId) -> Vec<u8> {
        preimage(B::TAG, cluster, &self.bytes)
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
