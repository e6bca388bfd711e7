//! How fast the store takes batches, beside the bare disk, and how fast it gives its index back.
//!
//! `cargo run -p kvgossip-engine --features fjall --release --example store_speed [-- ROWS [DIR]]`
//!
//! Everything happens in one run and in a directory made in `DIR` (by default the current one) and removed again:
//! only the ratios travel from machine to machine, and on a file system in memory they mean nothing. Between filling
//! and loading the file cache stays warm.

use bytes::Bytes;
use kvgossip_engine::tree::{Tree, leaf_digest};
use kvgossip_engine::{Batch, FjallStorage, IndexEntry, Storage, Summary, Write};
use kvgossip_grants::{ClusterId, Digest, EntryId, GrantId, Key, Timestamp};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

const RECORD_BYTES: usize = 800;
const CLUSTER: ClusterId = ClusterId([1; 32]);
/// Rows in a batch while the store is filled.
const FILL_BATCH: usize = 2_000;
const MEASURE_FOR: Duration = Duration::from_secs(3);
const BATCH_SIZES: [usize; 2] = [1, 512];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rows = args.first().map_or(Ok(100_000), |count| count.parse())?;
    let place = args.get(1).map_or(".", String::as_str);
    let dir = tempfile::tempdir_in(place)?;

    let bare = appends_per_second(&dir.path().join("bare"))?;
    println!("append {RECORD_BYTES} B + fsync: {bare:.0}/s");
    for size in BATCH_SIZES {
        let (batches, files) = batches_per_second(&dir.path().join(format!("batches-of-{size}")), size)?;
        let puts = batches * size as f64;
        println!(
            "batches of {size:3}: {batches:5.0}/s, {puts:6.0} puts/s, {:4.1} puts for each bare append; \
             {files:.1} B on disk for each byte put",
            puts / bare,
        );
    }
    fill_and_load(&dir.path().join("index"), rows)?;
    Ok(())
}

fn appends_per_second(path: &Path) -> std::io::Result<f64> {
    let mut file = File::create(path)?;
    let record = [0x5a; RECORD_BYTES];
    rate(|| {
        file.write_all(&record)?;
        file.sync_all()
    })
}

/// Batches a second, and the size of the store for each byte of records in it.
fn batches_per_second(dir: &Path, size: usize) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let mut storage = FjallStorage::open(dir, CLUSTER)?;
    let mut count = 0;
    let per_second = rate(|| {
        count += 1;
        storage.commit(&puts(count, size))
    })?;
    drop(storage);
    Ok((per_second, disk_bytes(dir)? as f64 / (count as usize * size * RECORD_BYTES) as f64))
}

/// How often a second something can be done.
fn rate<E>(mut act: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < MEASURE_FOR {
        act()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn fill_and_load(dir: &Path, rows: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut storage = FjallStorage::open(dir, CLUSTER)?;
    let start = Instant::now();
    for number in 1..=rows.div_ceil(FILL_BATCH) {
        storage.commit(&puts(number as u64, FILL_BATCH))?;
    }
    let filled = start.elapsed().as_secs_f64();
    drop(storage);
    println!("fill with {rows} rows: {filled:.2} s, {:.0} rows/s", rows as f64 / filled);

    let start = Stopwatch::start()?;
    let storage = FjallStorage::open(dir, CLUSTER)?;
    println!("open: {}", start.read()?);
    let scan = Stopwatch::start()?;
    let mut index = Vec::new();
    storage.load_index(&mut |key, row| index.push((key, row.id)))?;
    println!("scan the index: {}", scan.read()?);
    let rebuild = Stopwatch::start()?;
    let leaves = index.into_iter().map(|(key, id)| {
        let digest = leaf_digest(key.as_str().as_bytes(), &[id]);
        (key.to_string(), digest)
    });
    let tree = Tree::from_sorted(leaves)?;
    tree.digest();
    println!("rebuild its tree of {} keys: {}", tree.len(), rebuild.read()?);
    println!("together: {}", start.read()?);
    Ok(())
}

/// Time that passed and time that this thread had a processor, which differ on a busy machine.
struct Stopwatch {
    start: Instant,
    on_cpu: Duration,
}

impl Stopwatch {
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self { start: Instant::now(), on_cpu: on_cpu()? })
    }

    fn read(&self) -> Result<String, Box<dyn std::error::Error>> {
        let (passed, on_cpu) = (self.start.elapsed().as_secs_f64(), (on_cpu()? - self.on_cpu).as_secs_f64());
        Ok(format!("{passed:.2} s, {on_cpu:.2} s of one processor"))
    }
}

/// Linux counts it in nanoseconds.
fn on_cpu() -> Result<Duration, Box<dyn std::error::Error>> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(schedstat.split_whitespace().next().unwrap_or_default().parse()?))
}

/// Batch `number` of `size` puts, each of a key of its own, in no order.
fn puts(number: u64, size: usize) -> Batch {
    let writes = (0..size).flat_map(|index| put(number * size as u64 + index as u64)).collect();
    let summary =
        Summary { batch: number, authority_facts: 0, keys: 0, root: Digest([0; 32]), sweep_pending: false };
    Batch { writes, summary }
}

fn put(number: u64) -> Vec<Write> {
    let hash = *blake3::hash(&number.to_le_bytes()).as_bytes();
    let [a, b, c, d, ..] = hash;
    let text = format!("/site/{a}/host-{b}/service-{c}{d}/setting-{number}");
    let Ok(key) = Key::parse(&text) else { return Vec::new() };
    let (id, grant) = (EntryId(hash), GrantId([a % 8; 32]));
    let entry = IndexEntry {
        id,
        timestamp: Timestamp::ZERO,
        grant: Some(grant),
        is_delete: false,
        value_bytes: None,
    };
    // Signatures and hashes make up most of a record; neither compresses.
    let mut record = vec![0; RECORD_BYTES];
    blake3::Hasher::new().update(&hash).finalize_xof().fill(&mut record);
    vec![Write::PutEntry(key, entry, Bytes::from(record))]
}

/// What a directory takes on the disk; journals are sparse.
fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { disk_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(sum)
}
