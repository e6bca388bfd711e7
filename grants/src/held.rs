//! Bucketed digests that compare the entries of a watcher with those of a replica.
//!
//! Keys are spread over buckets, so that two sides that differ little exchange little. The digest of a bucket is the
//! BLAKE3 hash of its keys in ascending order, each as its length (u16, big-endian), its bytes, the number of its
//! frontier's entries (u32, big-endian) and their ids in ascending order. The bucket of a key is given by the first two
//! bytes of its BLAKE3 hash, as a big-endian number modulo the number of buckets. The watcher chooses the number of
//! buckets.

use crate::id::{Digest, EntryId, FactId};
use crate::key::Key;

/// Maximum number of buckets over which a comparison spreads its keys.
pub const MAX_HELD_BUCKETS: usize = 256;

/// Target number of keys per bucket.
const KEYS_PER_BUCKET: usize = 16;

/// Builder of the digests of all buckets, fed with one key after the other.
#[derive(Debug)]
pub struct HeldDigests {
    buckets: Vec<blake3::Hasher>,
}

impl HeldDigests {
    /// Returns the number of buckets that a watcher of `keys` keys should use: about one for every 16 keys, a power of
    /// two, at most [`MAX_HELD_BUCKETS`].
    pub fn buckets_for(keys: usize) -> usize {
        (keys / KEYS_PER_BUCKET).next_power_of_two().clamp(1, MAX_HELD_BUCKETS)
    }

    /// Creates a builder with `buckets` buckets, clamped to 1 to [`MAX_HELD_BUCKETS`].
    pub fn new(buckets: usize) -> Self {
        Self { buckets: vec![blake3::Hasher::new(); buckets.clamp(1, MAX_HELD_BUCKETS)] }
    }

    /// Returns the index of the bucket of a key among `buckets` buckets.
    pub fn bucket(key: &Key, buckets: usize) -> usize {
        let hash = blake3::hash(key.as_bytes());
        let [high, low, ..] = *hash.as_bytes();
        usize::from(u16::from_be_bytes([high, low])) % buckets.max(1)
    }

    /// Adds a key with the ids of its entries, in any order. Keys must be added in ascending order. A key without
    /// entries is ignored.
    pub fn add(&mut self, key: &Key, mut entries: Vec<EntryId>) {
        entries.sort_unstable();
        self.add_ascending(key, entries.len(), entries.into_iter());
    }

    /// Adds a key like [`HeldDigests::add`], with `count` ids that are already in ascending order.
    pub fn add_ascending(&mut self, key: &Key, count: usize, ids: impl Iterator<Item = EntryId>) {
        if count == 0 {
            return;
        }
        let bucket = Self::bucket(key, self.buckets.len());
        let hasher = &mut self.buckets[bucket];
        // A key has at most 1024 bytes.
        hasher.update(&(key.as_bytes().len() as u16).to_be_bytes()).update(key.as_bytes());
        hasher.update(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        for id in ids {
            hasher.update(&id.0);
        }
    }

    /// Returns the digest of each bucket, in the order of the buckets' indexes.
    pub fn finish(self) -> Vec<Digest> {
        self.buckets.iter().map(|hasher| Digest(*hasher.finalize().as_bytes())).collect()
    }
}

/// Returns the digest of a set of authority facts: BLAKE3 of their ids, which must be given in ascending order.
pub fn held_authority(ids: impl Iterator<Item = FactId>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for id in ids {
        hasher.update(&id.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(rows: &[(&str, &[u8])], buckets: usize) -> Vec<Digest> {
        let mut held = HeldDigests::new(buckets);
        for (key, ids) in rows {
            let ids = ids.iter().map(|id| EntryId([*id; 32])).collect();
            held.add(&Key::parse(key).expect("a key"), ids);
        }
        held.finish()
    }

    #[test]
    fn only_the_bucket_of_a_key_that_differs_differs() {
        let one = digests(&[("/a", &[1]), ("/b", &[2, 3]), ("/c", &[4])], 64);
        let same = digests(&[("/a", &[1]), ("/b", &[3, 2]), ("/c", &[4]), ("/d", &[])], 64);
        assert_eq!(one, same);
        let other = digests(&[("/a", &[1]), ("/b", &[2, 5]), ("/c", &[4])], 64);
        let different: Vec<usize> = (0..64).filter(|place| one[*place] != other[*place]).collect();
        assert_eq!(different, [HeldDigests::bucket(&Key::parse("/b").expect("a key"), 64)]);
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        assert_eq!(HeldDigests::buckets_for(0), 1);
        assert_eq!(HeldDigests::buckets_for(100), 8);
        assert_eq!(HeldDigests::buckets_for(1 << 20), MAX_HELD_BUCKETS);
        assert_eq!(HeldDigests::new(0).finish().len(), 1);
        assert_eq!(HeldDigests::new(1 << 30).finish().len(), MAX_HELD_BUCKETS);
    }
}
