//! How fast the tree takes in keys and how much memory it needs beside them.
//!
//! `cargo run -p kvgossip-engine --release --example tree_speed [-- KEYS]`
//!
//! Each way of filling the tree runs in a process of its own, so that what the allocator keeps of one does not
//! count for the next. Memory is the growth of the resident set, less the bytes of the keys and the leaves.

use kvgossip_engine::tree::{Region, Tree};
use kvgossip_grants::Digest;
use std::process::Command;
use std::time::Instant;

const FILLINGS: [&str; 5] =
    ["sorted inserts", "random inserts", "random ids", "from_sorted", "writes while shared"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let keys = args.first().map_or(Ok(1_000_000), |count| count.parse())?;
    match args.get(1) {
        Some(filling) => measure(filling, keys),
        None => {
            println!("{keys} keys");
            for filling in FILLINGS {
                Command::new(std::env::current_exe()?).args([&keys.to_string(), filling]).status()?;
            }
            Ok(())
        }
    }
}

fn measure(filling: &str, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut keys = if filling == "random ids" { ids(count) } else { paths(count) };
    if !filling.starts_with("random") {
        keys.sort_unstable();
    }
    let before = resident_bytes()?;
    let start = Instant::now();
    let mut tree = match filling {
        "from_sorted" => Tree::from_sorted(keys.iter().map(|key| (key, leaf(key))))?,
        _ => {
            let mut tree = Tree::new();
            for key in &keys {
                tree.insert(key, leaf(key));
            }
            tree
        }
    };
    let mut filled = start.elapsed();
    let memory = resident_bytes()?.saturating_sub(before);
    let payload: usize = keys.iter().map(|key| key.len() + size_of::<Digest>()).sum();

    let start = Instant::now();
    tree.digest();
    let hashed = start.elapsed();
    if filling == "writes while shared" {
        let start = Instant::now();
        let mut snapshot = tree.clone();
        for (n, key) in keys.iter().enumerate() {
            if n % 1000 == 0 {
                snapshot = tree.clone();
            }
            tree.insert(key, Digest([n as u8; 32]));
        }
        filled = start.elapsed();
        drop(snapshot);
    }
    let per_key = |bytes: usize| bytes as f64 / count as f64;
    println!(
        "{filling:20} {:5.2} s, {:8.0} keys/s, {:6.1} B per key beside {:.1} B of key and leaf; \
         {} nodes hashed in {:.2} s; a split in {:.1} µs",
        filled.as_secs_f64(),
        count as f64 / filled.as_secs_f64(),
        per_key(memory) - per_key(payload),
        per_key(payload),
        tree.nodes_hashed(),
        hashed.as_secs_f64(),
        split_time_us(&tree),
    );
    Ok(())
}

/// Paths like those of a fleet's metrics, in a random order that is the same each time.
fn paths(count: usize) -> Vec<Vec<u8>> {
    let names = ["user", "system", "iowait", "idle", "nice"];
    let path = |n: usize| {
        let (name, core, host, dc) = (n % 5, n / 5 % 8, n / 40 % 2500, n / 100_000);
        format!("/dc{dc}/host{host}/cpu/core{core}/{}", names[name]).into_bytes()
    };
    let mut paths: Vec<_> = (0..count).map(path).collect();
    paths.sort_by_cached_key(|path| leaf(path).0);
    paths
}

/// 32 random bytes each.
fn ids(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| leaf(&n.to_le_bytes()).0.to_vec()).collect()
}

fn leaf(key: &[u8]) -> Digest {
    Digest(*blake3::hash(key).as_bytes())
}

fn split_time_us(tree: &Tree<Digest>) -> f64 {
    const ROUNDS: usize = 100;
    tree.digest();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(tree.split(&Region::all()));
    }
    start.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64
}

/// Linux tells the resident set in pages of 4 KiB.
fn resident_bytes() -> Result<usize, Box<dyn std::error::Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(pages * 4096)
}
