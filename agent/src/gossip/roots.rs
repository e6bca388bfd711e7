//! The query `kvgossip` and its answer, which carry the root digest of a replica.
//!
//! Both consist of the byte `02`, eight bytes of the cluster id, the replica id and its root digest. Further bytes
//! are ignored.

use super::tags::{CLUSTER_BYTES, cluster_prefix};
use kvgossip_grants::{ClusterId, Digest, ReplicaId};

/// Name of the gossip query by which replicas compare their root digests.
pub(super) const QUERY: &str = "kvgossip";
const VERSION: u8 = 2;
const LEN: usize = 1 + CLUSTER_BYTES + 32 + 32;

/// A replica and its root digest, as a query or an answer carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Roots {
    pub(super) replica: ReplicaId,
    pub(super) root: Digest,
}

impl Roots {
    pub(super) fn encode(&self, cluster: ClusterId) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(cluster_prefix(cluster));
        bytes.extend(self.replica.as_bytes());
        bytes.extend(self.root.as_bytes());
        bytes
    }

    /// Decodes a query or an answer; `None` for another version or cluster, or too few bytes.
    pub(super) fn decode(bytes: &[u8], cluster: ClusterId) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.first_chunk()?;
        let (version, rest) = bytes.split_first()?;
        let (prefix, rest) = rest.split_first_chunk::<CLUSTER_BYTES>()?;
        let (replica, rest) = rest.split_first_chunk::<32>()?;
        let (root, _) = rest.split_first_chunk::<32>()?;
        let ours = *version == VERSION && *prefix == cluster_prefix(cluster);
        ours.then_some(Self { replica: ReplicaId(*replica), root: Digest(*root) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_these() {
        let cluster = ClusterId([0xcc; 32]);
        let roots = Roots { replica: ReplicaId([0x11; 32]), root: Digest([0x22; 32]) };
        let mut bytes = roots.encode(cluster);
        assert_eq!(bytes, [&[2][..], &[0xcc; 8], &[0x11; 32], &[0x22; 32]].concat());
        assert_eq!(Roots::decode(&bytes, cluster), Some(roots));
        assert_eq!(Roots::decode(&bytes[..72], cluster), None, "too short");
        bytes.extend(b"later versions may say more");
        assert_eq!(Roots::decode(&bytes, cluster), Some(roots));
        assert_eq!(Roots::decode(&bytes, ClusterId([1; 32])), None);
        bytes[0] = 1;
        assert_eq!(Roots::decode(&bytes, cluster), None);
        assert_eq!(Roots::decode(&[], cluster), None);
    }
}
