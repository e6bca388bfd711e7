//! What a key with many entries costs on a disk: `cargo run --release -p kvgossip-engine --features fjall
//! --example long_frontier [ENTRIES] [DIRECTORY]`. Signatures are mocked.

#![allow(clippy::unwrap_used, reason = "an example may panic")]

#[path = "../tests/many/mod.rs"]
mod many;

use kvgossip_engine::{FjallStorage, Replica, Storage};
use many::Many;
use std::time::{Duration, Instant};

const PUTS: u64 = 200;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn measure(entries: usize, dir: &std::path::Path) -> Duration {
    let place = tempfile::tempdir_in(dir).unwrap();
    let mut many = Many::new();
    let root = many.root_key();
    let mut storage = FjallStorage::open(place.path(), root.cluster()).unwrap();
    let mut replica = Replica::new(root.clone());
    many.fill(&mut replica, &mut storage, entries);
    let (mut merges, mut puts) = (Vec::new(), Vec::new());
    for put in 0..PUTS {
        let fact = many.entry(put as usize * 7_919 % entries, (1 << 40) + put, b"value");
        // As a reader or a watcher does.
        let held = replica.view().clone();
        let began = Instant::now();
        let batch = many.apply(&mut replica, &storage, vec![fact]).batch.unwrap();
        merges.push(began.elapsed());
        storage.commit(&batch).unwrap();
        puts.push(began.elapsed());
        drop(held);
    }
    let (merge, put) = (median(merges), median(puts));
    let revocation = many.revoke_parent();
    let held = replica.view().clone();
    let began = Instant::now();
    let batch = many.apply(&mut replica, &storage, vec![revocation]).batch.unwrap();
    let merged = began.elapsed();
    storage.commit(&batch).unwrap();
    let revoked = began.elapsed();
    drop(held);
    let (mut sweeps, mut longest, began) = (0, Duration::ZERO, Instant::now());
    loop {
        let one = Instant::now();
        let Some(batch) = replica.next_sweep() else { break };
        storage.commit(&batch).unwrap();
        longest = longest.max(one.elapsed());
        sweeps += 1;
    }
    let swept = began.elapsed();
    println!(
        "| {entries} | {merge:.1?} | {put:.1?} | {merged:.1?} | {revoked:.1?} | {sweeps} in {swept:.1?} | {longest:.1?} |"
    );
    put
}

fn main() {
    let mut args = std::env::args().skip(1);
    let entries = args.next().map_or(24_000, |entries| entries.parse().unwrap());
    let dir = args.next().unwrap_or_else(|| ".".into());
    println!("| entries | merge of a put | put | merge of the revocation | revocation | sweeps | longest |");
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    let one = measure(1, dir.as_ref());
    for entries in [33, 1_000, entries] {
        let many = measure(entries, dir.as_ref());
        println!("a put at {entries} costs {:.2} times one at 1", many.as_secs_f64() / one.as_secs_f64());
    }
}
