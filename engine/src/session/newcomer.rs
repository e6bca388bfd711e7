//! What a replica that has never compared itself with a peer tells of the others.

use super::frame::{Hello, MAX_EXTENSION_BYTES};
use std::collections::BTreeSet;

/// The number of the extension in which a newcomer names the others that it was told of.
pub const OTHERS_EXTENSION: u64 = 3;

/// The first bytes of a replica's id, by which newcomers name each other. Ids are hashes of keys.
pub type ShortReplicaId = [u8; SHORT_REPLICA_ID_BYTES];

/// Bytes of an id in the extension.
pub const SHORT_REPLICA_ID_BYTES: usize = 16;

/// How many others a newcomer can name.
pub const MAX_OTHERS: usize = MAX_EXTENSION_BYTES / SHORT_REPLICA_ID_BYTES;

/// A replica that has yet to end its first comparison with anybody: what it lacks says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newcomer {
    /// All others that it was told of; `None`: it does not know who they all are, or they are more than [`MAX_OTHERS`].
    pub others: Option<BTreeSet<ShortReplicaId>>,
}

impl Newcomer {
    pub(super) fn extension(&self) -> Option<(u64, Vec<u8>)> {
        let others = self.others.as_ref().filter(|others| others.len() <= MAX_OTHERS)?;
        Some((OTHERS_EXTENSION, others.iter().flatten().copied().collect()))
    }
}

impl Hello {
    /// What the sender tells of itself if it is a newcomer. Others that are not named as the protocol has it are not known.
    pub(super) fn newcomer(&self) -> Option<Newcomer> {
        let content = self.extensions.iter().find(|(number, _)| *number == OTHERS_EXTENSION);
        let others = content.and_then(|(_, content)| {
            let (ids, rest) = content.as_chunks::<SHORT_REPLICA_ID_BYTES>();
            (rest.is_empty() && ids.is_sorted_by(|one, next| one < next))
                .then(|| ids.iter().copied().collect())
        });
        self.is_newcomer.then_some(Newcomer { others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::{ClusterId, Digest, PathPrefix};

    fn told(is_newcomer: bool, extensions: Vec<(u64, Vec<u8>)>) -> Option<Newcomer> {
        let hello = Hello {
            cluster: ClusterId([1; 32]),
            authority_root: Digest([2; 32]),
            entries_root: Digest([3; 32]),
            counts: (0, 0),
            nonce: [4; 8],
            takes_facts: true,
            is_full: false,
            is_newcomer,
            scope: PathPrefix::root(),
            extensions,
        };
        hello.newcomer()
    }

    fn named(count: usize) -> Newcomer {
        let id = |number: usize| [u8::try_from(number).expect("a small number"); SHORT_REPLICA_ID_BYTES];
        Newcomer { others: Some((0..count).map(id).collect()) }
    }

    #[test]
    fn others_are_known_as_they_were_told() {
        for count in [0, 1, MAX_OTHERS] {
            let newcomer = named(count);
            let extensions: Vec<_> = newcomer.extension().into_iter().collect();
            assert!(extensions[0].1.len() <= MAX_EXTENSION_BYTES);
            assert_eq!(told(false, extensions.clone()), None, "who was compared is none");
            assert_eq!(told(true, extensions), Some(newcomer));
        }
    }

    #[test]
    fn what_is_not_told_or_told_otherwise_is_not_known() {
        let unknown = Some(Newcomer { others: None });
        assert_eq!(named(MAX_OTHERS + 1).extension(), None);
        assert_eq!(Newcomer::default().extension(), None);
        assert_eq!(told(true, Vec::new()), unknown);
        for content in [vec![1; 15], vec![1; 17], vec![1; 32], [[2; 16], [1; 16]].concat()] {
            assert_eq!(told(true, vec![(OTHERS_EXTENSION, content)]), unknown);
        }
    }
}
