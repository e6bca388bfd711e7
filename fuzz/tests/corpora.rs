//! Runs every committed input of every target, and mutations of them, the same in every run.

use kvgossip_fuzz::{TARGETS, Target};
use rand::rngs::ChaCha12Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

type Corpus = BTreeMap<String, Vec<u8>>;

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target")
}

fn corpus(name: &str) -> Corpus {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(name);
    let files = std::fs::read_dir(&folder).expect("a corpus").map(|file| file.expect("a file").path());
    files
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("readable"))
        })
        .collect()
}

/// Runs one input. On failure, the message names a file with the input.
fn run(target: Target, name: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let file = std::env::temp_dir().join(format!("kvgossip-fuzz-{}", target.name));
        std::fs::write(&file, input).expect("the input is kept");
        panic!("{} fails on {name}; the input is in {}", target.name, file.display());
    }
}

fn mutate(random: &mut ChaCha12Rng, inputs: &[&Vec<u8>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = inputs.choose(random).map(|input| (*input).clone()).unwrap_or_default();
    for _ in 0..random.random_range(1..=4) {
        let place = random.random_range(0..=bytes.len());
        let end = (place + random.random_range(0..=8)).min(bytes.len());
        match random.random_range(0..6) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
            1 if place < bytes.len() => bytes[place] = random.random(),
            2 => bytes.insert(place, random.random()),
            3 => drop(bytes.drain(place..end)),
            4 => bytes.extend_from_within(place..end),
            _ => {
                let other = inputs.choose(random).expect("an input");
                let from = random.random_range(0..=other.len());
                bytes.truncate(place);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn check(name: &str, mutations: u64) {
    let (target, corpus) = (target(name), corpus(name));
    corpus.iter().for_each(|(file, input)| run(target, file, input));
    let inputs: Vec<&Vec<u8>> = corpus.values().collect();
    for seed in 0..mutations {
        let mutated = mutate(&mut ChaCha12Rng::seed_from_u64(seed), &inputs);
        run(target, &format!("mutation {seed}"), &mutated);
    }
}

#[test]
fn facts() {
    check("facts", 20_000);
}

#[test]
fn globs() {
    check("globs", 8_000);
}

#[test]
fn inclusion() {
    check("inclusion", 4_000);
}

#[test]
fn session_frames() {
    check("session_frames", 8_000);
}

#[test]
fn session_pair() {
    check("session_pair", 1_500);
}

#[test]
fn merge() {
    check("merge", 4_000);
}

#[test]
fn gossip() {
    check("gossip_udp", 10_000);
    check("gossip_tcp", 5_000);
    check("gossip_member", 2_000);
    check("gossip_rpc", 5_000);
    check("gossip_names", 1_500);
}

/// Asserts that the seeds match the present formats. After a change of format: `cargo run -p kvgossip-fuzz --example
/// seed_corpora`.
#[test]
fn committed_seeds_are_those_of_today() {
    for target in TARGETS {
        let corpus = corpus(target.name);
        for (name, bytes) in (target.seeds)() {
            assert_eq!(corpus.get(&name), Some(&bytes), "{} {name} is out of date", target.name);
        }
    }
}
