//! The choice of replicas to stay connected with.

use kvgossip_grants::ReplicaId;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Number of members that a replica dials and stays connected with; further ones dial it.
pub(super) const NEIGHBOURS: usize = 8;

/// Returns the replicas to stay connected with, at most [`NEIGHBOURS`]: the ring successor by id, so that all replicas
/// form a ring, plus others by rendezvous hashing, which is stable when members come and go.
pub(super) fn neighbours(own: ReplicaId, all: impl Iterator<Item = ReplicaId>) -> Vec<ReplicaId> {
    let score = |id: &ReplicaId| {
        let mut hasher = DefaultHasher::new();
        (own.as_bytes(), id.as_bytes()).hash(&mut hasher);
        hasher.finish()
    };
    let mut all: Vec<ReplicaId> = all.collect();
    let next = all.iter().filter(|id| **id > own).min().or(all.iter().min()).copied();
    all.sort_by_cached_key(|id| (Some(*id) != next, score(id)));
    all.truncate(NEIGHBOURS);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn id(number: u32) -> ReplicaId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        ReplicaId(bytes)
    }

    #[test]
    fn neighbours_connect_a_large_cluster_and_hardly_change() {
        const ALL: u32 = 500;
        let chosen: Vec<Vec<ReplicaId>> =
            (0..ALL).map(|own| neighbours(id(own), (0..ALL).filter(|n| *n != own).map(id))).collect();
        let mut reached = BTreeSet::from([id(0)]);
        let mut hops = 0;
        while reached.len() < ALL as usize {
            let next: Vec<ReplicaId> = (0..ALL)
                .filter(|n| reached.contains(&id(*n)))
                .flat_map(|n| chosen[n as usize].clone())
                .collect();
            let before = reached.len();
            reached.extend(next);
            assert!(reached.len() > before, "{before} of {ALL} are an island");
            hops += 1;
        }
        assert!(hops <= 6, "{hops} hops");
        let without: Vec<ReplicaId> =
            neighbours(id(0), (1..ALL).map(id).filter(|other| *other != chosen[0][1]));
        let kept: Vec<ReplicaId> = chosen[0].iter().copied().filter(|other| *other != chosen[0][1]).collect();
        assert_eq!(without[..NEIGHBOURS - 1], kept, "one goes, one comes");
        let of = |own: u32| neighbours(id(own), (0..ALL).filter(|n| *n != own).map(id))[0];
        assert_eq!((of(7), of(ALL - 1)), (id(8), id(0)), "all together are a ring");
    }
}
