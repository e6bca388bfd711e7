//! Compares the frontier with a literal implementation of its definition.

use super::*;
use crate::*;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;

/// Returns the latest timestamp that is not early at local time `clock(micros)`.
fn time(micros: u64) -> Timestamp {
    Timestamp::from_micros(MAX_AHEAD_MICROS + micros).expect("a small time")
}

/// Returns the local time at which `time(micros)` is the latest timestamp that is not early.
fn clock(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).expect("a small time")
}

/// All grants have the same grantee and differ by their nonces.
struct World {
    authority: Authority,
    grants: Vec<Arc<LiveGrant>>,
    root: MockKey,
    holder: MockKey,
}

impl World {
    fn new() -> Self {
        let (root, holder) = (MockKey::new(0), MockKey::new(1));
        Self { authority: Authority::new(root.public().clone()), grants: Vec::new(), root, holder }
    }

    /// Makes `count` grants in a random forest: each below root or below an earlier grant that is not too deep.
    fn with_forest(rng: &mut StdRng, count: usize) -> Self {
        let mut world = Self::new();
        while world.grants.len() < count {
            let parent = match rng.random_range(0..4) {
                0 => None,
                // Recent grants are preferred as parents, which makes deep chains.
                1 => world.grants.len().checked_sub(1 + rng.random_range(0..3)),
                _ => rng.random_range(0..=world.grants.len()).checked_sub(1),
            };
            let parent = parent.and_then(|index| world.grants.get(index)).cloned();
            let expires = rng.random_bool(0.6).then(|| time(rng.random_range(2_000..3_000)));
            if parent.as_ref().is_none_or(|parent| parent.depth() < MAX_DEPTH) {
                world.grant(parent.as_ref(), expires);
            }
        }
        world
    }

    fn grant(&mut self, parent: Option<&Arc<LiveGrant>>, expires_at: Option<Timestamp>) -> Arc<LiveGrant> {
        let signer = if parent.is_some() { &self.holder } else { &self.root };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.grants.len().to_le_bytes());
        let grant = Grant {
            issuer: signer.public().entity(),
            grantee: self.holder.public().clone(),
            pattern: KeyGlob::parse("/**").expect("a glob"),
            subgrant: true,
            parent: parent.map(|parent| parent.id()),
            issued_at: time(1),
            expires_at,
            nonce,
        };
        let signed = Signed::sign(self.authority.cluster(), grant, signer).expect("mock signatures");
        let fact = self.authority.check(Fact::Grant(signed), time(1)).expect("a good grant");
        let id = GrantId(fact.fact().id().0);
        let merged = self.authority.merge(fact.verify(&MockVerifier).expect("a good signature"));
        assert_eq!(merged.verdict, Verdict::Merged);
        let live = self.authority.grant(&id).expect("live").clone();
        self.grants.push(live.clone());
        live
    }
}

fn entry(number: u64, timestamp: u64, grant: Option<&Arc<LiveGrant>>) -> EntryMeta {
    let id = EntryId(value_hash(&number.to_le_bytes()).0);
    let is_delete = number.is_multiple_of(5);
    EntryMeta { id, timestamp: time(timestamp), grant: grant.cloned(), is_delete, value_bytes: 0 }
}

/// The definition applied literally.
#[derive(Default)]
struct Naive(Vec<EntryMeta>);

impl Naive {
    fn offer(&mut self, meta: &EntryMeta) -> Option<Vec<EntryId>> {
        if self.0.iter().any(|other| other.id == meta.id || other.dominates(meta)) {
            return None;
        }
        let ended = self.end(|other| meta.dominates(other));
        self.0.push(meta.clone());
        Some(ended)
    }

    fn end(&mut self, is_gone: impl Fn(&EntryMeta) -> bool) -> Vec<EntryId> {
        let gone = self.0.iter().filter(|entry| is_gone(entry)).map(|entry| entry.id).collect();
        self.0.retain(|entry| !is_gone(entry));
        sorted(gone)
    }

    fn newest_first(&self) -> Vec<EntryId> {
        let mut entries: Vec<&EntryMeta> = self.0.iter().collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.rank()));
        entries.iter().map(|entry| entry.id).collect()
    }

    fn shown(&self, now: Timestamp) -> Option<EntryId> {
        let visible = self.0.iter().filter(|entry| !entry.is_masked(now));
        visible.max_by_key(|entry| entry.rank()).map(|entry| entry.id)
    }
}

fn sorted(mut ids: Vec<EntryId>) -> Vec<EntryId> {
    ids.sort_unstable();
    ids
}

fn ids_of(entries: &[StandingEntry<u64>]) -> Vec<EntryId> {
    sorted(entries.iter().map(|entry| entry.meta.id).collect())
}

fn ids<'a>(entries: impl Iterator<Item = &'a StandingEntry<u64>>) -> Vec<EntryId> {
    entries.map(|entry| entry.meta.id).collect()
}

/// Asserts that every query gives the defined answer.
fn compare(frontier: &Frontier<u64>, naive: &Naive, rng: &mut StdRng, grants: &[Arc<LiveGrant>]) {
    let order = naive.newest_first();
    assert_eq!((frontier.len(), frontier.is_empty()), (order.len(), order.is_empty()));
    assert_eq!(ids(frontier.newest_first()), order);
    assert_eq!(frontier.ids().collect::<Vec<_>>(), sorted(order.clone()));
    assert_eq!(frontier.newest().map(|entry| entry.meta.id), order.first().copied());
    assert_eq!(frontier.oldest().map(|entry| entry.meta.id), order.last().copied());
    for _ in 0..8 {
        let now = time(rng.random_range(1_900..3_100));
        assert_eq!(frontier.shown(now).map(|entry| entry.meta.id), naive.shown(now));
        let rank = entry(rng.random_range(0..9_999), rng.random_range(0..2_000), None).rank();
        let after = naive.newest_first();
        let older = |id: &EntryId| naive.0.iter().any(|entry| entry.id == *id && entry.rank() < rank);
        let after: Vec<EntryId> = after.into_iter().filter(older).collect();
        assert_eq!(ids(frontier.newest_first_after(rank)), after);
        let grant = (!grants.is_empty()).then(|| &grants[rng.random_range(0..grants.len())]);
        let of_grant = naive.0.iter().find(|entry| entry.grant_id() == grant.map(|grant| grant.id()));
        let below = grant.is_some_and(|grant| naive.0.iter().any(|entry| entry.stands_below(grant)));
        assert_eq!(grant.is_some_and(|grant| frontier.has_below(grant)), below);
        assert_eq!(frontier.of_grant(grant).map(|entry| entry.meta.id), of_grant.map(|entry| entry.id));
    }
    for entry in &naive.0 {
        assert!(frontier.contains(&entry.id));
        assert!(!entry.dominates(entry) && !entry.is_newer_than(entry));
    }
    assert_eq!(format!("{frontier:?}").matches("StandingEntry").count(), order.len());
    // The representation is the smallest for the number of entries.
    match (&frontier.0, order.len()) {
        (Repr::Empty, 0) | (Repr::One(_), 1) => {}
        (Repr::List(list), 2..=MAX_FRONTIER_LIST) => assert_eq!(list.len(), order.len()),
        (Repr::Large(large), MIN_LARGE..) => assert_eq!(large.len(), order.len()),
        (_, len) => panic!("{len} entries are not in the form of their number"),
    }
}

const MIN_LARGE: usize = MAX_FRONTIER_LIST + 1;

/// Runs random operations on frontiers of up to `grants` entries.
fn run(seed: u64, grants: usize, steps: u64) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::with_forest(&mut rng, grants);
    let (mut frontier, mut naive) = (Frontier::<u64>::new(), Naive::default());
    let mut offered: Vec<EntryMeta> = Vec::new();
    let mut longest = 0;
    // Mostly older than nearly all others or far newer; ties are common.
    let span = steps / 2 + 4;
    for number in 0..steps {
        let grant = &world.grants[rng.random_range(0..grants)];
        match rng.random_range(0..1_000) {
            0..3 => {
                let gone = naive.end(|entry| entry.stands_below(grant));
                assert_eq!(ids_of(&frontier.end_below(grant)), gone, "seed {seed}");
            }
            3 => {
                let before = time(rng.random_range(0..span / 8));
                let gone = naive.end(|entry| entry.timestamp < before);
                assert_eq!(ids_of(&frontier.end_older(before)), gone, "seed {seed}");
            }
            4 => {
                let rank = entry(number, rng.random_range(0..span / 8), None).rank();
                let rank = naive.0.first().map_or(rank, |one| one.rank().min(rank));
                let gone = naive.end(|entry| entry.rank() <= rank);
                assert_eq!(ids_of(&frontier.end_down_from(rank)), gone, "seed {seed}");
            }
            5 => {
                let now = clock(rng.random_range(span - 1 - span / 32..span));
                let gone = naive.end(|entry| entry.timestamp > now.saturating_add(MAX_AHEAD_MICROS));
                assert_eq!(ids_of(&frontier.end_early(now)), gone, "seed {seed}");
            }
            step => {
                let at = if step < 20 { number / 2 } else { rng.random_range(0..span) };
                let meta = match offered.get(rng.random_range(0..=offered.len() * 8)) {
                    Some(again) => again.clone(),
                    None => entry(number, at, (step != 6).then_some(grant)),
                };
                let snapshot = frontier.clone();
                let before = snapshot.ids().count();
                let is_known = naive.0.iter().any(|entry| entry.id == meta.id);
                match (frontier.offer(meta.clone(), number), naive.offer(&meta)) {
                    (Offer::Stands { ended }, Some(gone)) => assert_eq!(ids_of(&ended), gone, "seed {seed}"),
                    (Offer::Known, None) => assert!(is_known, "seed {seed}"),
                    (Offer::Dominated, None) => assert!(!is_known, "seed {seed}"),
                    (offer, gone) => panic!("seed {seed}: {offer:?} and {gone:?}"),
                }
                assert_eq!(snapshot.len(), before, "seed {seed}: a snapshot changed");
                offered.push(meta);
            }
        }
        longest = longest.max(naive.0.len());
        if number % (1 + steps / 64) == 0 {
            compare(&frontier, &naive, &mut rng, &world.grants);
        }
    }
    compare(&frontier, &naive, &mut rng, &world.grants);
    longest
}

#[test]
fn a_frontier_is_what_its_definition_says() {
    for seed in 0..60 {
        run(seed, 1 + seed as usize, 200);
    }
    for seed in 60..64 {
        run(seed, 300, 1_500);
    }
}

#[test]
fn a_long_frontier_is_what_its_definition_says() {
    let longest = run(100, 3_000, 8_000);
    assert!(longest > 1_000, "{longest} entries at most: nothing long was tried");
}

#[test]
fn what_is_shown_below_thousands_of_masked_entries_is_found() {
    let mut world = World::new();
    let lasting = world.grant(None, None);
    let mut frontier = Frontier::new();
    frontier.offer(entry(0, 10, Some(&lasting)), ());
    for number in 1..3_000 {
        let grant = world.grant(None, Some(time(1_000)));
        frontier.offer(entry(number, 10 + number % 900, Some(&grant)), ());
    }
    assert_eq!(frontier.len(), 3_000);
    let newest = frontier.newest().expect("many stand").meta.id;
    assert_eq!(frontier.shown(time(1_000)).map(|shown| shown.meta.id), Some(newest));
    assert_eq!(frontier.shown(time(1_001)).map(|shown| shown.meta.id), Some(entry(0, 10, None).id));
    assert_eq!(frontier.end_below(&lasting).len(), 1);
    assert!(frontier.shown(time(1_001)).is_none());
}

#[test]
fn roots_newer_entry_ends_all_and_an_older_one_stands_beside() {
    let mut rng = StdRng::seed_from_u64(7);
    for count in [1, 16, 17, 400] {
        let world = World::with_forest(&mut rng, count);
        let mut frontier = Frontier::new();
        // Children get later timestamps than their parents, so that none dominates another.
        let mut grants: Vec<_> = world.grants.iter().collect();
        grants.sort_by_key(|grant| std::cmp::Reverse(grant.depth()));
        for (number, grant) in grants.iter().enumerate() {
            let offer = frontier.offer(entry(number as u64, 1_000 - number as u64, Some(grant)), ());
            assert!(matches!(offer, Offer::Stands { ended } if ended.is_empty()));
        }
        let before = frontier.clone();
        let older = frontier.offer(entry(5_000, 1, None), ());
        assert!(matches!(older, Offer::Stands { ended } if ended.is_empty()));
        assert_eq!(frontier.len(), count + 1);
        let Offer::Stands { ended } = frontier.offer(entry(5_001, 1_001, None), ()) else {
            panic!("root's stands");
        };
        assert_eq!((ended.len(), frontier.len(), before.len()), (count + 1, 1, count));
        let at_most: BTreeSet<_> = before.newest_first().map(|entry| entry.meta.grant_id()).collect();
        assert_eq!(at_most.len(), count, "one entry of each grant");
    }
}

/// Grants are compared by id: a chain of another copy of the authority sorts among the others.
#[test]
fn entries_under_another_copy_of_the_authority_lie_in_the_same_order() {
    let one = World::with_forest(&mut StdRng::seed_from_u64(11), 120);
    let mut copy = Authority::new(one.root.public().clone());
    for grant in &one.grants {
        let fact = copy.check(Fact::Grant(grant.fact().clone()), time(1)).expect("a good grant");
        copy.merge(fact.verify(&MockVerifier).expect("a good signature"));
    }
    let copied: Vec<_> = one.grants.iter().map(|grant| copy.grant(&grant.id()).expect("live")).collect();
    for (a, a_copy) in one.grants.iter().zip(&copied) {
        for (b, b_copy) in one.grants.iter().zip(&copied) {
            let order = path::compare(Some(a), Some(b));
            assert_eq!(path::compare(Some(a), Some(b_copy)), order);
            assert_eq!(path::compare(Some(a_copy), Some(b)), order);
            assert_eq!(order, path::compare(Some(b), Some(a)).reverse());
            assert_eq!(order.is_eq(), a.id() == b.id());
            let in_run = path::compare_to_run(Some(a), Some(b_copy));
            assert_eq!(in_run.is_eq(), a.descends_from(&b.id()));
        }
    }
}

/// A change copies only the nodes that it touches.
#[test]
fn one_entry_touches_the_logarithm_of_all() {
    let mut world = World::new();
    let parent = world.grant(None, None);
    let mut frontier = Frontier::<()>::new();
    for number in 0..12_000 {
        let grant = world.grant(Some(&parent), None);
        frontier.offer(entry(number, 1_000 + number % 700, Some(&grant)), ());
    }
    let touched = |before: &Frontier<()>, after: &Frontier<()>| match (&before.0, &after.0) {
        (Repr::Large(before), Repr::Large(after)) => after.own_nodes(before),
        _ => panic!("they are long"),
    };
    // Three trees, each 14 to 34 nodes deep; one removal, one insertion, and rotations.
    let most = 3 * 2 * 3 * 14;
    let grants = world.grants.clone();
    for (number, grant) in grants.iter().skip(1).step_by(997).enumerate() {
        let before = frontier.clone();
        let offer = frontier.offer(entry(50_000 + number as u64, 9_000, Some(grant)), ());
        assert!(matches!(offer, Offer::Stands { ended } if ended.len() == 1));
        assert!(touched(&before, &frontier) <= most, "a put touches {}", touched(&before, &frontier));
        let before = frontier.clone();
        assert_eq!(frontier.end_below(grant).len(), 1);
        assert!(touched(&before, &frontier) <= most, "an end touches {}", touched(&before, &frontier));
    }
    assert_eq!(frontier.end_below(&parent).len(), 12_000 - 13);
}
