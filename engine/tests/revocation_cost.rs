//! A revocation touches what stands on the grant, however much else there is. Records and rows are counted.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use bytes::Bytes;
use kvgossip_engine::{Batch, MemoryStorage, Reader, Replica, Storage, StorageError, Write};
use kvgossip_grants::{
    AuthorityBody, By, EntryDraft, EntryFact, EntryId, Fact, Floor, Grant, GrantId, Key, KeyGlob, MockKey,
    MockVerifier, Revocation, Signed, Signer, Timestamp, Verdict,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Entries that stand on the grant to be revoked.
const DOOMED: usize = 100;

/// Counts what is read.
struct Counting {
    inner: Arc<dyn Reader>,
    records: AtomicUsize,
    citations: AtomicUsize,
}

impl Reader for Counting {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.inner.entry(key, id)
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        self.inner.keys_citing(grant, &mut |key| {
            self.citations.fetch_add(1, Ordering::Relaxed);
            each(key);
        })
    }
}

struct World {
    root: MockKey,
    writer: MockKey,
    replica: Replica,
    storage: MemoryStorage,
}

/// What a batch cost.
#[derive(Debug, PartialEq)]
struct Cost {
    records_read: usize,
    citations_read: usize,
    entries_removed: usize,
    citations_removed: usize,
    authority_rows: usize,
    others: usize,
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

impl World {
    fn new() -> Self {
        let root = MockKey::new(0);
        let replica = Replica::new(root.public().clone());
        Self { root, writer: MockKey::new(1), replica, storage: MemoryStorage::new() }
    }

    fn sign<B: AuthorityBody>(&self, body: B, signer: &MockKey) -> Signed<B> {
        Signed::sign(self.root.public().cluster(), body, signer).unwrap()
    }

    fn grant(&self, number: u8) -> Signed<Grant> {
        let grant = Grant {
            issuer: self.root.public().entity(),
            grantee: self.writer.public().clone(),
            pattern: KeyGlob::parse("/**").unwrap(),
            subgrant: false,
            parent: None,
            issued_at: Timestamp::ZERO,
            expires_at: None,
            nonce: [number; 16],
        };
        self.sign(grant, &self.root)
    }

    fn entry(&self, number: usize, grant: &Signed<Grant>) -> Fact {
        let key = Key::parse(&format!("/service-{}/{number}", number / 50)).unwrap();
        let (value, grant) = (Some(Bytes::from_static(b"v")), Some(grant.id()));
        let draft = EntryDraft { key, value, timestamp: at(1_000 + number as u64), grant };
        Fact::Entry(EntryFact::sign(self.root.public().cluster(), draft, &self.writer).unwrap())
    }

    /// Takes facts in as one batch.
    fn take(&mut self, facts: Vec<Fact>) -> Cost {
        let check =
            |fact| self.replica.view().check(fact, Timestamp::MAX).unwrap().verify(&MockVerifier).unwrap();
        let verified = facts.into_iter().map(check).collect();
        let reader = Counting { inner: self.storage.reader(), records: 0.into(), citations: 0.into() };
        let applied = self.replica.apply(verified, &reader).unwrap();
        assert!(applied.verdicts.iter().all(|verdict| *verdict == Verdict::Merged));
        let batch = applied.batch.unwrap();
        self.storage.commit(&batch).unwrap();
        cost(&batch, &reader)
    }

    /// A replica of so many entries, of which some, all over the tree, stand on a grant of their own.
    fn with_entries(count: usize) -> (Self, Signed<Grant>) {
        let mut world = Self::new();
        let (lasting, doomed) = (world.grant(1), world.grant(2));
        world.take(vec![Fact::Grant(lasting.clone()), Fact::Grant(doomed.clone())]);
        let every = count / DOOMED;
        let facts: Vec<Fact> = (0..count)
            .map(|number| world.entry(number, if number % every == 0 { &doomed } else { &lasting }))
            .collect();
        for part in facts.chunks(1_000) {
            world.take(part.to_vec());
        }
        // Computes what is due before anything is counted.
        world.replica.view().root();
        (world, doomed)
    }
}

fn cost(batch: &Batch, reader: &Counting) -> Cost {
    let count = |is: &dyn Fn(&Write) -> bool| batch.writes.iter().filter(|write| is(write)).count();
    let mut cost = Cost {
        records_read: reader.records.load(Ordering::Relaxed),
        citations_read: reader.citations.load(Ordering::Relaxed),
        entries_removed: count(&|write| matches!(write, Write::RemoveEntry(..))),
        citations_removed: count(&|write| matches!(write, Write::RemoveCitation(..))),
        authority_rows: count(&|write| matches!(write, Write::PutAuthority(..) | Write::RemoveAuthority(_))),
        others: 0,
    };
    let known = cost.entries_removed + cost.citations_removed + cost.authority_rows;
    cost.others = batch.writes.len() - known;
    cost
}

#[test]
fn a_revocation_touches_the_entries_of_its_grant_alone() {
    let mut hashed = Vec::new();
    for count in [2_000, 20_000] {
        let (mut world, doomed) = World::with_entries(count);
        let before = world.replica.view().entries().nodes_hashed();
        let body = Revocation { grant: doomed, by: By::Root, revoked_at: at(0) };
        let cost = world.take(vec![Fact::Revocation(world.sign(body, &world.root))]);
        world.replica.view().root();
        hashed.push(world.replica.view().entries().nodes_hashed() - before);
        let expected = Cost {
            // Nothing is read but which keys there are.
            records_read: 0,
            citations_read: DOOMED,
            entries_removed: DOOMED,
            citations_removed: DOOMED,
            // The revocation comes, the grant goes.
            authority_rows: 2,
            others: 0,
        };
        assert_eq!(cost, expected, "of {count}");
        assert_eq!(world.replica.view().entries().len(), count - DOOMED);
    }
    // Ten times as many entries lengthen the paths to the root, and nothing else.
    assert!(hashed[1] < 3 * hashed[0], "{hashed:?}");
    assert!(hashed[1] < 8 * DOOMED as u64, "{hashed:?}");
}

/// The same of a floor, and of a put.
#[test]
fn a_floor_touches_what_it_ends_and_a_put_its_key() {
    for count in [2_000, 20_000] {
        let (mut world, doomed) = World::with_entries(count);
        let patterns = vec![KeyGlob::parse("/service-3/*").unwrap()];
        let floor = Floor { patterns, before: at(1_000_000), nonce: [0; 16] };
        let cost = world.take(vec![Fact::Floor(world.sign(floor, &world.root))]);
        assert_eq!((cost.records_read, cost.citations_read, cost.others), (0, 0, 0), "of {count}");
        assert_eq!((cost.entries_removed, cost.authority_rows), (50, 1), "of {count}");

        let entry = world.entry(count, &doomed);
        let cost = world.take(vec![entry]);
        assert_eq!((cost.records_read, cost.citations_read, cost.others), (0, 0, 1));
    }
}
