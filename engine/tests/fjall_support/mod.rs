//! A replica on a store on disk, fed with numbered batches of facts that depend on the number alone, so that whoever
//! knows how many batches were taken in knows the whole state.

#![allow(dead_code, reason = "every test file uses its own part")]

use bytes::Bytes;
use kvgossip_engine::{FjallStorage, MemoryStorage, Replica, Storage, StorageError, Summary};
use kvgossip_grants::{
    AuthorityBody, By, ClusterId, EntryDraft, EntryFact, Fact, Floor, Grant, GrantId, Key, KeyGlob, MockKey,
    MockVerifier, Revocation, Signed, Signer, Timestamp,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::Path;

/// Batches that a grant lives before it is revoked.
const GRANT_LIFE: u64 = 20;
/// Batches between two floors.
const FLOOR_EVERY: u64 = 50;

/// Who signs: root and one other.
pub(crate) struct World {
    pub(crate) root: MockKey,
    pub(crate) writer: MockKey,
    /// The largest value written.
    pub(crate) max_value_bytes: usize,
}

impl World {
    pub(crate) fn new(max_value_bytes: usize) -> Self {
        Self { root: MockKey::new(0), writer: MockKey::new(1), max_value_bytes }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.root.public().cluster()
    }

    pub(crate) fn open(&self, dir: &Path) -> Result<FjallStorage, StorageError> {
        FjallStorage::open(dir, self.cluster())
    }

    pub(crate) fn load(&self, storage: &dyn Storage) -> Result<Replica, StorageError> {
        Replica::load(self.root.public().clone(), storage)
    }

    /// The facts of batch `number`: entries of root and of a grantee, sets and deletes; grants that come and are
    /// revoked; a floor now and then.
    pub(crate) fn facts(&self, number: u64) -> Vec<Fact> {
        let mut rng = StdRng::seed_from_u64(number);
        let generation = number / GRANT_LIFE;
        let grant = self.grant(generation);
        let mut facts = vec![Fact::Grant(grant.clone())];
        for index in 0..rng.random_range(1..8u64) {
            let time = number * 1_000 + index;
            let key = format!("/conf/{}/{}", rng.random_range(0..20), rng.random_range(0..10));
            let value = match rng.random_range(0..5) {
                0 => None,
                _ => {
                    let mut value = vec![0; rng.random_range(0..=self.max_value_bytes)];
                    rng.fill(&mut value[..]);
                    Some(value)
                }
            };
            let by_root = rng.random_bool(0.3);
            facts.push(self.entry(by_root, &key, value, time, &grant));
        }
        // Merges for certain, so that every number is a batch.
        facts.push(self.entry(true, "/count", Some(number.to_le_bytes().to_vec()), number * 1_000, &grant));
        if number % GRANT_LIFE == GRANT_LIFE - 1 {
            let revocation = Revocation { grant, by: By::Root, revoked_at: at(number * 1_000) };
            facts.push(Fact::Revocation(self.sign(true, revocation)));
        }
        if number.is_multiple_of(FLOOR_EVERY) {
            let patterns = vec![KeyGlob::parse("/conf/1/**").unwrap()];
            let floor = Floor { patterns, before: at(number * 1_000), nonce: nonce(number) };
            facts.push(Fact::Floor(self.sign(true, floor)));
        }
        facts
    }

    fn grant(&self, generation: u64) -> Signed<Grant> {
        let grant = Grant {
            issuer: self.root.public().entity(),
            grantee: self.writer.public().clone(),
            pattern: KeyGlob::parse("/conf/**").unwrap(),
            subgrant: false,
            parent: None,
            issued_at: Timestamp::ZERO,
            expires_at: None,
            nonce: nonce(generation),
        };
        self.sign(true, grant)
    }

    fn entry(
        &self,
        by_root: bool,
        key: &str,
        value: Option<Vec<u8>>,
        time: u64,
        grant: &Signed<Grant>,
    ) -> Fact {
        let signer = if by_root { &self.root } else { &self.writer };
        let draft = EntryDraft {
            key: Key::parse(key).unwrap(),
            value: value.map(Bytes::from),
            timestamp: at(time),
            grant: (!by_root).then(|| grant.id()),
        };
        Fact::Entry(EntryFact::sign(self.cluster(), draft, signer).unwrap())
    }

    fn sign<B: AuthorityBody>(&self, by_root: bool, body: B) -> Signed<B> {
        let signer = if by_root { &self.root } else { &self.writer };
        Signed::sign(self.cluster(), body, signer).unwrap()
    }

    /// Takes in the facts of batch `number` and commits them.
    pub(crate) fn write(
        &self,
        replica: &mut Replica,
        storage: &mut dyn Storage,
        number: u64,
    ) -> Result<Summary, StorageError> {
        let now = Timestamp::MAX;
        let mut verified = Vec::new();
        // In one batch, a grant and what stands on it; so the entries are judged after the grant is known.
        for (index, fact) in self.facts(number).into_iter().enumerate() {
            if index == 0 && replica.view().authority().grant(&GrantId(fact.id().0)).is_none() {
                let grant = replica.view().check(fact, now).unwrap().verify(&MockVerifier).unwrap();
                let applied = replica.apply(vec![grant], &*storage.reader())?;
                // Its own batch, so that numbers of batches and of commits go apart, as they may.
                if let Some(batch) = applied.batch {
                    storage.commit(&batch)?;
                }
                continue;
            }
            match replica.view().check(fact, now) {
                Ok(fact) => verified.push(fact.verify(&MockVerifier).unwrap()),
                Err(_moot) => continue,
            }
        }
        let applied = replica.apply(verified, &*storage.reader())?;
        let batch = applied.batch.expect("every number changes something");
        storage.commit(&batch)?;
        Ok(batch.summary)
    }

    /// Writes the facts of these numbers to a fresh store in `dir`, and closes it.
    pub(crate) fn fill(&self, dir: &Path, numbers: std::ops::RangeInclusive<u64>) -> Summary {
        let mut storage = self.open(dir).unwrap();
        let mut replica = self.load(&storage).unwrap();
        let mut last = None;
        for number in numbers {
            last = Some(self.write(&mut replica, &mut storage, number).unwrap());
        }
        last.expect("at least one batch")
    }

    /// Opens the store again and looks at everything in it. Returns its summary.
    pub(crate) fn examine(&self, dir: &Path) -> Result<Option<Summary>, StorageError> {
        let storage = self.open(dir)?;
        self.examine_open(&storage)
    }

    pub(crate) fn examine_open(&self, storage: &FjallStorage) -> Result<Option<Summary>, StorageError> {
        storage.check()?;
        let replica = self.load(storage)?;
        let summary = storage.summary()?;
        assert_eq!(Some(replica.summary()).filter(|summary| summary.batch > 0), summary);
        Ok(summary)
    }

    /// The state after the numbers up to `last`, as a replica that never crashed has it.
    pub(crate) fn expected(&self, last: u64) -> Replica {
        let mut storage = MemoryStorage::new();
        let mut replica = Replica::new(self.root.public().clone());
        for number in 1..=last {
            self.write(&mut replica, &mut storage, number).unwrap();
        }
        replica
    }
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn nonce(number: u64) -> [u8; 16] {
    u128::from(number).to_le_bytes()
}

/// The keyspaces of a store.
pub(crate) const KEYSPACES: [&str; 5] = ["entries", "index", "authority", "by_grant", "meta"];

/// Makes the engine write all that it holds in memory into tables.
pub(crate) fn flush_tables(dir: &Path) {
    let db = fjall::Database::builder(dir.join("store")).open().unwrap();
    for name in KEYSPACES {
        db.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap().rotate_memtable_and_wait().unwrap();
    }
}

/// Copies a directory with all that is in it; of journals, which are sparse, what is not zero at the end.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else if target.extension().is_some_and(|extension| extension == "jnl") {
            std::fs::write(&target, journal(&entry.path())).unwrap();
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// The written part of a journal.
pub(crate) fn journal(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}
