//! Measures the cost of opening a store of a million entries, of puts and of a revocation: see `docs/benchmarks.md`.

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Parser;
use kvgossip_engine::{Batch, FjallStorage, Reader, Replica, Storage, StorageError, Write};
use kvgossip_grants::{
    AuthorityBody, By, EntryDraft, EntryFact, EntryId, Fact, Grant, GrantId, Key, KeyGlob, MockKey,
    MockVerifier, PublicKey, Revocation, Signed, Signer, Timestamp, Verified,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Signs with mock keys, which cost almost nothing, so that only the store and the replica are measured.
#[derive(Debug, Parser)]
#[command(name = "million")]
struct Args {
    /// Directory for the stores, on a disk and not in memory.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Numbers of entries to measure with.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 1_000_000])]
    n: Vec<usize>,
    /// Number of entries that the revocation ends.
    #[arg(long, default_value_t = 1_000)]
    doomed: usize,
    /// Number of single puts, each with its flush.
    #[arg(long, default_value_t = 300)]
    puts: usize,
}

/// Number of entries per batch while the store is filled.
const FILL: usize = 4_000;
const VALUE_BYTES: usize = 330;

struct World {
    root: MockKey,
    writer: MockKey,
}

/// An open store and its replica.
struct Open {
    replica: Replica,
    storage: FjallStorage,
}

struct Counting {
    inner: Arc<dyn Reader>,
    reads: AtomicUsize,
}

impl Reader for Counting {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.entry(key, id)
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        self.inner.keys_citing(grant, &mut |key| {
            self.reads.fetch_add(1, Ordering::Relaxed);
            each(key);
        })
    }
}

impl World {
    fn sign<B: AuthorityBody>(&self, body: B, signer: &MockKey) -> Result<Signed<B>> {
        Ok(Signed::sign(self.root.public().cluster(), body, signer)?)
    }

    fn grant(&self, number: u8) -> Result<Signed<Grant>> {
        let grant = Grant {
            issuer: self.root.public().entity(),
            grantee: self.writer.public().clone(),
            pattern: KeyGlob::parse("/**")?,
            subgrant: false,
            parent: None,
            issued_at: Timestamp::ZERO,
            expires_at: None,
            nonce: [number; 16],
        };
        self.sign(grant, &self.root)
    }

    fn entry(&self, number: usize, time: u64, grant: &Signed<Grant>) -> Result<Fact> {
        let mut value = vec![0; VALUE_BYTES];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut value);
        let draft = EntryDraft {
            key: Key::parse(&format!("/bench/service-{:05}/setting-{:02}", number / 100, number % 100))?,
            value: Some(Bytes::from(value)),
            timestamp: Timestamp::from_micros(time)?,
            grant: Some(grant.id()),
        };
        Ok(Fact::Entry(EntryFact::sign(self.root.public().cluster(), draft, &self.writer)?))
    }
}

impl Open {
    fn load(dir: &Path, root: &PublicKey) -> Result<Self> {
        let storage = FjallStorage::open(dir, root.cluster())?;
        Ok(Self { replica: Replica::load(root.clone(), &storage)?, storage })
    }

    /// Merges facts as one durable batch. Returns the batch and the number of rows read for it.
    fn take(&mut self, facts: Vec<Fact>) -> Result<(Batch, usize)> {
        let mut verified: Vec<Verified> = Vec::with_capacity(facts.len());
        for fact in facts {
            let checked = self.replica.view().check(fact, Timestamp::MAX);
            let checked = checked.and_then(|fact| fact.verify(&MockVerifier));
            verified.push(checked.map_err(|verdict| anyhow::anyhow!("{verdict:?}"))?);
        }
        let reader = Counting { inner: self.storage.reader(), reads: AtomicUsize::new(0) };
        let applied = self.replica.apply(verified, &reader)?;
        let mut batch = applied.batch.ok_or_else(|| anyhow::anyhow!("nothing changed"))?;
        self.storage.commit(&batch)?;
        while let Some(sweep) = self.replica.next_sweep() {
            self.storage.commit(&sweep)?;
            batch.writes.extend(sweep.writes);
        }
        // The committer computes the root for its readers, too.
        self.replica.view().root();
        Ok((batch, reader.reads.into_inner()))
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let began = Instant::now();
    Ok((work()?, began.elapsed()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!(
        "| N | open, s | of this load, s | a put, µs | without its flush, µs | revocation, ms | rows read | rows written |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    for &count in &args.n {
        measure(&args, count)?;
    }
    Ok(())
}

fn measure(args: &Args, count: usize) -> Result<()> {
    let world = World { root: MockKey::new(0), writer: MockKey::new(1) };
    let (root, place) = (world.root.public(), tempfile::tempdir_in(&args.dir)?);
    let (lasting, doomed) = (world.grant(1)?, world.grant(2)?);
    let dying = args.doomed.min(count / 2).max(1);
    {
        let mut open = Open::load(place.path(), root)?;
        open.take(vec![Fact::Grant(lasting.clone()), Fact::Grant(doomed.clone())])?;
        for from in (0..count).step_by(FILL) {
            let grant = |number: usize| if number.is_multiple_of(count / dying) { &doomed } else { &lasting };
            let facts: Result<_> = (from..count.min(from + FILL))
                .map(|number| world.entry(number, 1_000_000, grant(number)))
                .collect();
            open.take(facts?)?;
        }
    }
    let (storage, opened) = timed(|| Ok(FjallStorage::open(place.path(), root.cluster())?))?;
    let (replica, loaded) = timed(|| Ok(Replica::load(root.clone(), &storage)?))?;
    let mut open = Open { replica, storage };
    ensure!(open.replica.view().entries().len() == count, "everything is there");

    let (mut puts, mut bare) = (Vec::new(), Vec::new());
    for put in 0..args.puts {
        // Spread over the whole tree.
        let number = put * 7_919 % count;
        let fact = world.entry(number, 2_000_000 + put as u64, &lasting)?;
        let checked = open.replica.view().check(fact, Timestamp::MAX);
        let fact = checked.and_then(|fact| fact.verify(&MockVerifier));
        let fact = fact.map_err(|verdict| anyhow::anyhow!("{verdict:?}"))?;
        let reader = open.storage.reader();
        let began = Instant::now();
        let applied = open.replica.apply(vec![fact], &*reader)?;
        open.replica.view().root();
        bare.push(began.elapsed());
        if let Some(batch) = &applied.batch {
            open.storage.commit(batch)?;
        }
        puts.push(began.elapsed());
    }
    let body = Revocation { grant: doomed, by: By::Root, revoked_at: Timestamp::ZERO };
    let revocation = Fact::Revocation(world.sign(body, &world.root)?);
    let ((batch, read), took) = timed(|| open.take(vec![revocation]))?;
    let ended = batch.writes.iter().filter(|write| matches!(write, Write::RemoveEntry(..))).count();
    // Rows removed for each entry: its record, its index row and its citation; in addition the revocation and the
    // grant.
    let rows = batch.writes.len() + ended;
    ensure!(rows <= 3 * ended + 2 && read <= dying, "only what stands on the grant is touched");
    println!(
        "| {count} | {:.2} | {:.2} | {} | {} | {:.1} | {read} | {} |",
        (opened + loaded).as_secs_f64(),
        loaded.as_secs_f64(),
        median(puts).as_micros(),
        median(bare).as_micros(),
        took.as_secs_f64() * 1e3,
        rows
    );
    Ok(())
}
