//! Frontiers of any length, for tests: each entry under a grant of its own, so that none supersedes another.

use crate::Frontier;
use crate::leaf::KeyLeaf;
use kvgossip_grants::{
    Authority, EntryId, EntryMeta, Fact, Grant, Key, KeyGlob, LiveGrant, MockKey, MockVerifier, Signed,
    Signer, Timestamp,
};
use std::sync::{Arc, LazyLock};

/// The most entries of one key.
pub(super) const MAX_CROWD: usize = 24_001;

static GRANTS: LazyLock<Vec<Arc<LiveGrant>>> = LazyLock::new(|| grants(MAX_CROWD));

/// Grants of root's over everything.
pub(crate) fn grants(count: usize) -> Vec<Arc<LiveGrant>> {
    let root = MockKey::new(1);
    let mut authority = Authority::new(root.public().clone());
    for number in 0..count as u128 {
        let grant = Grant {
            issuer: root.public().entity(),
            grantee: root.public().clone(),
            pattern: KeyGlob::parse("/**").expect("a glob"),
            subgrant: false,
            parent: None,
            issued_at: Timestamp::ZERO,
            expires_at: None,
            nonce: number.to_be_bytes(),
        };
        let signed = Signed::sign(authority.cluster(), grant, &root).expect("mock signatures");
        let unverified = authority.check(Fact::Grant(signed), Timestamp::ZERO).expect("a good grant");
        authority.merge(unverified.verify(&MockVerifier).expect("a good signature"));
    }
    authority.grants().cloned().collect()
}

/// A key with these entries, all of one time.
pub(super) fn leaf(key: &Key, ids: impl IntoIterator<Item = EntryId>) -> KeyLeaf {
    let mut frontier = Frontier::new();
    for (id, grant) in ids.into_iter().zip(GRANTS.iter()) {
        let (timestamp, grant) = (Timestamp::MAX, Some(grant.clone()));
        let meta = EntryMeta { id, timestamp, grant, is_delete: false, value_bytes: 0 };
        frontier.offer(meta, ());
    }
    KeyLeaf::new(key, frontier)
}
