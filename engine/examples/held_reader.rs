//! Disk that a held [`Reader`](kvgossip_engine::Reader) keeps from being freed, and what taking one at each commit costs.
//!
//! `cargo run -p kvgossip-engine --features fjall --release --example held_reader [-- KEYS [ROUNDS]]`
//!
//! A store of KEYS records of 1 KiB is overwritten ROUNDS times, in batches of 500. Each case has a store of its own in a
//! directory that is removed again.

use bytes::Bytes;
use kvgossip_engine::{Batch, FjallStorage, IndexEntry, Reader, Storage, Summary, Write};
use kvgossip_grants::{ClusterId, Digest, EntryId, Key, Timestamp};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const CLUSTER: ClusterId = ClusterId([1; 32]);
const BATCH: u64 = 500;

/// Which readers are held.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// None.
    None,
    /// The one of the last commit, as an agent does.
    Last,
    /// The one of the first commit.
    First,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let keys: u64 = args.first().map_or(Ok(50_000), |text| text.parse())?;
    let rounds: u64 = args.get(1).map_or(Ok(10), |text| text.parse())?;
    println!("{keys} records of 1 KiB, overwritten {rounds} times in batches of {BATCH}");
    for held in [Held::None, Held::Last, Held::First] {
        let dir = tempfile::tempdir_in(".")?;
        let began = Instant::now();
        overwrite(dir.path(), keys, rounds, held)?;
        let (mib, seconds) = (size_of(dir.path())? >> 20, began.elapsed().as_secs_f64());
        println!("held: {held:?}: {mib} MiB on disk, {seconds:.1} s");
    }
    Ok(())
}

fn overwrite(dir: &Path, keys: u64, rounds: u64, held: Held) -> Result<(), Box<dyn std::error::Error>> {
    let mut storage = FjallStorage::open(dir, CLUSTER)?;
    let mut reader: Option<Arc<dyn Reader>> = None;
    let mut number = 0;
    for round in 0..rounds {
        for first in (0..keys).step_by(BATCH as usize) {
            number += 1;
            storage.commit(&batch(number, round, first..keys.min(first + BATCH))?)?;
            match held {
                Held::None => {}
                Held::Last => reader = Some(storage.reader()),
                Held::First => reader = reader.or_else(|| Some(storage.reader())),
            }
        }
    }
    drop(reader);
    Ok(())
}

/// A batch in which each of the keys gets a record instead of its last one.
fn batch(number: u64, round: u64, keys: std::ops::Range<u64>) -> Result<Batch, Box<dyn std::error::Error>> {
    let mut writes = Vec::new();
    for n in keys {
        let key = Key::parse(&format!("/k/{n}"))?;
        // Random bytes, so that nothing compresses.
        let mut record = [0; 1024];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&n.to_le_bytes()).update(&round.to_le_bytes());
        hasher.finalize_xof().fill(&mut record);
        let (id, timestamp, value_bytes) = (EntryId([7; 32]), Timestamp::ZERO, Some(1024));
        let row = IndexEntry { id, timestamp, grant: None, is_delete: false, value_bytes };
        writes.push(Write::PutEntry(key, row, Bytes::copy_from_slice(&record)));
    }
    let summary =
        Summary { batch: number, authority_facts: 0, keys: 0, root: Digest([0; 32]), sweep_pending: false };
    Ok(Batch { writes, summary })
}

fn size_of(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size_of(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}
