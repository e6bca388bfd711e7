//! Tags and byte layouts of the tree's digests. They are part of the protocol.
//!
//! All integers are 32-bit little-endian. A tag is 16 bytes of ASCII padded with zero bytes.

use kvgossip_grants::{Digest, FactId};
use smallvec::SmallVec;

/// Version of the layouts of the tree's digests; part of the root digest.
pub const FORMAT_VERSION: u32 = 2;

const TAG_LEAF: &[u8; 16] = b"kvgossip/leaf\0\0\0";
const TAG_EMPTY: &[u8; 16] = b"kvgossip/empty\0\0";
const TAG_BUCKET: &[u8; 16] = b"kvgossip/bucket\0";
const TAG_INNER: &[u8; 16] = b"kvgossip/inner\0\0";
const TAG_ROOT: &[u8; 16] = b"kvgossip/root\0\0\0";

/// Returns the digest of a key with at most [`FLAT_IDS_MAX`](super::FLAT_IDS_MAX) ids, given in any order: `BLAKE3(leaf
/// tag ‖ len(key) ‖ key ‖ n ‖ n ids ascending)`.
pub(super) fn flat_leaf(key: &[u8], ids: impl ExactSizeIterator<Item = FactId>) -> Digest {
    let mut layout = Layout::new(TAG_LEAF);
    layout.framed(key);
    layout.number(ids.len());
    let mut ids: SmallVec<[FactId; 1]> = ids.collect();
    ids.sort_unstable();
    ids.iter().for_each(|id| layout.bytes(id.as_bytes()));
    layout.digest()
}

/// Returns the digest of a key with more than [`FLAT_IDS_MAX`](super::FLAT_IDS_MAX) ids: `BLAKE3(leaf tag ‖ len(key) ‖
/// key ‖ n ‖ digest of the tree over the ids)`.
pub(super) fn long_leaf(key: &[u8], count: usize, ids: &Digest) -> Digest {
    let mut layout = Layout::new(TAG_LEAF);
    layout.framed(key);
    layout.number(count);
    layout.bytes(ids.as_bytes());
    layout.digest()
}

/// Returns the root digest of a replica: `BLAKE3(root tag ‖ format version ‖ authority root ‖ entries root)`.
pub fn root_digest(authority: &Digest, entries: &Digest) -> Digest {
    let mut layout = Layout::new(TAG_ROOT);
    layout.bytes(&FORMAT_VERSION.to_le_bytes());
    layout.bytes(authority.as_bytes());
    layout.bytes(entries.as_bytes());
    layout.digest()
}

/// Returns the digest of at most [`BUCKET_MAX`](super::BUCKET_MAX) leaves in key order; without leaves, `BLAKE3(empty
/// tag)`.
pub(super) fn bucket_digest(leaves: impl ExactSizeIterator<Item = Digest>) -> Digest {
    if leaves.len() == 0 {
        return Layout::new(TAG_EMPTY).digest();
    }
    let mut layout = Layout::new(TAG_BUCKET);
    layout.number(leaves.len());
    leaves.for_each(|leaf| layout.bytes(leaf.as_bytes()));
    layout.digest()
}

/// Returns the digest of more than [`BUCKET_MAX`](super::BUCKET_MAX) keys.
///
/// `prefix` is the longest common prefix of the keys, `own` the leaf digest of the key that equals it,
/// `children` the digests of the rest by their next byte, ascending.
pub(super) fn inner_digest(
    prefix: &[u8],
    own: Option<Digest>,
    children: impl ExactSizeIterator<Item = (u8, Digest)>,
) -> Digest {
    let mut layout = Layout::new(TAG_INNER);
    layout.framed(prefix);
    match own {
        None => layout.bytes(&[0]),
        Some(leaf) => {
            layout.bytes(&[1]);
            layout.bytes(leaf.as_bytes());
        }
    }
    layout.number(children.len());
    for (byte, child) in children {
        layout.bytes(&[byte]);
        layout.bytes(child.as_bytes());
    }
    layout.digest()
}

/// The input of one hash, built up in memory. One-shot hashing of a small buffer is faster than an incremental hasher.
struct Layout(Vec<u8>);

impl Layout {
    fn new(tag: &[u8; 16]) -> Self {
        let mut bytes = Vec::with_capacity(640);
        bytes.extend_from_slice(tag);
        Self(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, number: usize) {
        // Counts of children and ids and lengths of keys; 4 Gi of any of them would not fit in memory.
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn framed(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.bytes(bytes);
    }

    fn digest(&self) -> Digest {
        Digest(*blake3::hash(&self.0).as_bytes())
    }
}
