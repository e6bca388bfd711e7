//! A replica that leaves everything to the sweep and is opened again at random moments, against one that removes
//! everything at once.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use bytes::Bytes;
use kvgossip_engine::{Frontier, IndexEntry, MemoryStorage, Replica, Storage, View};
use kvgossip_grants::{
    AuthorityBody, By, EntryDraft, EntryFact, EntryId, Fact, Floor, Grant, GrantId, Key, KeyGlob,
    MAX_AHEAD_MICROS, MockKey, MockVerifier, Revocation, Signed, Signer, Timestamp,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;

const KEYS: [&str; 3] = ["/a/one", "/a/two", "/b/one"];

struct World {
    rng: StdRng,
    root: MockKey,
    holder: MockKey,
    grants: Vec<Signed<Grant>>,
    number: u64,
    /// How far entries may lie apart, in microseconds.
    span: u64,
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            rng,
            root: MockKey::new(0),
            holder: MockKey::new(1),
            grants: Vec::new(),
            number: 0,
            span: 2_000,
        }
    }

    fn sign<B: AuthorityBody>(&self, body: B, by_root: bool) -> Signed<B> {
        let signer = if by_root { &self.root } else { &self.holder };
        Signed::sign(self.root.public().cluster(), body, signer).unwrap()
    }

    fn some_grant(&mut self) -> Option<Signed<Grant>> {
        let len = self.grants.len();
        if len == 0 { None } else { self.grants.get(self.rng.random_range(0..len)).cloned() }
    }

    /// Any fact; perhaps one that may not be taken in.
    fn fact(&mut self) -> Fact {
        self.number += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.number.to_le_bytes());
        match self.rng.random_range(0..100) {
            0..25 => {
                let parent = self.some_grant().filter(|_| !self.number.is_multiple_of(3));
                let issuer = if parent.is_some() { &self.holder } else { &self.root };
                let grant = Grant {
                    issuer: issuer.public().entity(),
                    grantee: self.holder.public().clone(),
                    pattern: KeyGlob::parse(["/**", "/a/*"][(self.number % 2) as usize]).unwrap(),
                    subgrant: true,
                    parent: parent.as_ref().map(Signed::id),
                    issued_at: Timestamp::ZERO,
                    expires_at: None,
                    nonce,
                };
                let grant = self.sign(grant, parent.is_none());
                self.grants.push(grant.clone());
                Fact::Grant(grant)
            }
            25..90 => {
                let grant = self.some_grant().filter(|_| !self.number.is_multiple_of(23));
                let signer = if grant.is_some() { &self.holder } else { &self.root };
                let draft = EntryDraft {
                    key: Key::parse(KEYS[self.number as usize % 3]).unwrap(),
                    value: Some(Bytes::from_static(b"v")),
                    timestamp: at(self.rng.random_range(0..self.span)),
                    grant: grant.as_ref().map(Signed::id),
                };
                Fact::Entry(EntryFact::sign(self.root.public().cluster(), draft, signer).unwrap())
            }
            90..97 => match self.some_grant() {
                Some(grant) => {
                    let by = if self.number.is_multiple_of(2) { By::Root } else { By::Grantee };
                    let body = Revocation { grant, by, revoked_at: at(self.number) };
                    Fact::Revocation(self.sign(body, by == By::Root))
                }
                None => self.fact(),
            },
            _ => {
                let patterns = vec![KeyGlob::parse(["/a/*", "/b/*"][(self.number % 2) as usize]).unwrap()];
                let before = at(self.rng.random_range(0..1_000));
                Fact::Floor(self.sign(Floor { patterns, before, nonce }, true))
            }
        }
    }
}

struct Side {
    replica: Replica,
    storage: MemoryStorage,
}

impl Side {
    fn take(&mut self, facts: &[Fact]) {
        // One after the other, so that each is judged by what those before it made; one batch for all.
        let mut verified = Vec::new();
        for fact in facts {
            if let Ok(fact) = self.replica.view().check(fact.clone(), Timestamp::MAX) {
                verified.push(fact.verify(&MockVerifier).unwrap());
            }
        }
        let applied = self.replica.apply(verified, &*self.storage.reader()).unwrap();
        if let Some(batch) = applied.batch {
            self.storage.commit(&batch).unwrap();
        }
    }

    fn sweep(&mut self) -> bool {
        let batch = self.replica.next_sweep();
        batch.map(|batch| self.storage.commit(&batch).unwrap()).is_some()
    }

    /// All rows but the values.
    fn rows(&self, grants: &[Signed<Grant>]) -> Rows {
        let (mut index, mut authority) = (Vec::new(), BTreeSet::new());
        self.storage.load_index(&mut |key, row| index.push((key, row))).unwrap();
        self.storage
            .load_authority(&mut |record| {
                authority.insert(record);
            })
            .unwrap();
        let reader = self.storage.reader();
        let mut citations = BTreeSet::new();
        for grant in grants {
            let each = &mut |key| {
                citations.insert((grant.id(), key));
            };
            reader.keys_citing(&grant.id(), each).unwrap();
        }
        for (key, row) in &index {
            assert!(reader.entry(key, &row.id).unwrap().is_some());
        }
        (index, authority, citations)
    }
}

type Rows = (Vec<(Key, IndexEntry)>, BTreeSet<Bytes>, BTreeSet<(GrantId, Key)>);

fn run(seed: u64) -> usize {
    let mut world = World::new(seed);
    let root = world.root.public().clone();
    let side = |most| Side {
        replica: Replica::new(root.clone()).removing_at_once(most),
        storage: MemoryStorage::new(),
    };
    let (mut lazy, mut eager) = (side(0), side(usize::MAX));
    let mut reopened_pending = 0;
    for _ in 0..120 {
        let facts: Vec<Fact> = (0..world.rng.random_range(1..6)).map(|_| world.fact()).collect();
        lazy.take(&facts);
        eager.take(&facts);
        assert!(!eager.replica.is_sweep_due(), "seed {seed}");
        if world.rng.random_bool(0.15) {
            lazy.sweep();
        }
        if world.rng.random_bool(0.2) {
            reopened_pending += usize::from(lazy.replica.is_sweep_due());
            let opened = Replica::load(root.clone(), &lazy.storage).unwrap();
            assert_eq!(opened.is_sweep_due(), lazy.replica.is_sweep_due(), "seed {seed}");
            lazy.replica = opened.removing_at_once(0);
        }
        let (lazy, eager) = (lazy.replica.view(), eager.replica.view());
        assert_eq!(lazy.root(), eager.root(), "seed {seed}");
        assert_eq!(lazy.authority().len(), eager.authority().len(), "seed {seed}");
    }
    while lazy.sweep() {}
    assert_eq!(lazy.rows(&world.grants), eager.rows(&world.grants), "seed {seed}");
    let opened = Replica::load(root.clone(), &lazy.storage).unwrap();
    assert_eq!(opened.summary(), lazy.replica.summary(), "seed {seed}");
    reopened_pending
}

#[test]
fn what_is_swept_later_is_what_would_be_removed_at_once() {
    let mut reopened_pending = 0;
    for seed in 0..200 {
        reopened_pending += run(seed);
    }
    assert!(reopened_pending > 100, "{reopened_pending} openings in the middle of a sweep: too few");
}

/// Ids of what stands of each key.
fn standing(view: &View) -> BTreeSet<(Key, EntryId)> {
    let of_key =
        |(key, frontier): (Key, &Frontier)| frontier.ids().map(move |id| (key.clone(), id)).collect();
    view.keys("", None).flat_map(|row| -> Vec<_> { of_key(row) }).collect()
}

/// Gives whether the store lagged behind the state, and how many entries were forgotten.
fn forget(seed: u64) -> (bool, usize) {
    let mut world = World { span: 4 * MAX_AHEAD_MICROS, ..World::new(seed) };
    let (root, now) = (world.root.public().clone(), at(MAX_AHEAD_MICROS));
    let replica = Replica::new(root.clone()).removing_at_once(0);
    let mut side = Side { replica, storage: MemoryStorage::new() };
    for _ in 0..world.rng.random_range(1..40) {
        let facts: Vec<Fact> = (0..world.rng.random_range(1..6)).map(|_| world.fact()).collect();
        side.take(&facts);
    }
    let before = standing(side.replica.view());
    let early_keys: BTreeSet<Key> = side.replica.view().early_keys(now).map(|(key, _)| key).collect();
    let unset: BTreeSet<Key> = side.replica.view().unset_without_early(now).collect();
    let lagged = side.replica.is_sweep_due();

    let mut kept = BTreeSet::new();
    let keep = &mut |fact: &Fact, due: Timestamp| {
        let Fact::Entry(entry) = fact else { panic!("{fact:?}") };
        assert_eq!(entry.entry().early_until(now), Some(due), "seed {seed}");
        kept.insert((entry.entry().key.clone(), entry.id()));
    };
    let forgotten = side.replica.forget_early(&mut side.storage, now, keep).unwrap();
    let after = standing(side.replica.view());
    assert_eq!(forgotten, kept.len(), "seed {seed}");
    assert_eq!(after, before.difference(&kept).cloned().collect(), "seed {seed}");
    let keys =
        |set: &BTreeSet<(Key, EntryId)>| set.iter().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>();
    assert_eq!(keys(&kept), early_keys, "seed {seed}");
    assert_eq!(side.replica.view().early_keys(now).count(), 0, "seed {seed}");
    let shown = |key: &&Key| side.replica.view().shown(key, now).is_none();
    assert_eq!(
        unset,
        early_keys.iter().filter(shown).cloned().collect(),
        "seed {seed}: no entry here is a delete"
    );

    let opened = Replica::load(root, &side.storage).unwrap();
    assert_eq!(standing(opened.view()), after, "seed {seed}: what was superseded does not come to life");
    assert_eq!(opened.summary(), side.replica.summary(), "seed {seed}");
    assert!(!opened.is_sweep_due(), "seed {seed}");
    (lagged, forgotten)
}

#[test]
fn what_is_forgotten_stays_so_and_nothing_that_it_had_superseded_comes_to_life() {
    let done: Vec<(bool, usize)> = (0..200).map(forget).collect();
    let at_work = done.iter().filter(|(lagged, forgotten)| *lagged && *forgotten > 0).count();
    assert!(at_work > 50, "{at_work} replicas forgot something while rows were to be swept: too few");
}
