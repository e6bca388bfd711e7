//! Micro-benchmarks of the tree, of merging, and of sessions, with mock signatures.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kvgossip_benches::workload::{Mix, Spread, Workload, key};
use kvgossip_engine::tree::Tree;
use kvgossip_grants::{Digest, Fact, Verified};
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::{Link, Scribe, SimReplica, sync};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::hint::black_box;

const KEYS: usize = 50_000;
const BATCH: usize = 1_000;

fn leaf(number: usize) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Digest(bytes)
}

fn tree(criterion: &mut Criterion) {
    let mut items: Vec<(String, Digest)> = (0..KEYS).map(|number| (key(number), leaf(number))).collect();
    let mut shuffled = items.clone();
    shuffled.shuffle(&mut StdRng::seed_from_u64(1));
    items.sort_unstable();
    let sorted = || Tree::from_sorted(items.iter().map(|(key, leaf)| (key, *leaf))).expect("ascending");
    let mut group = criterion.benchmark_group("tree of 50,000 keys");
    group.sample_size(10);
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("insert in any order", |b| {
        b.iter(|| {
            let mut tree = Tree::new();
            for (key, leaf) in &shuffled {
                tree.insert(key.as_bytes(), *leaf);
            }
            tree
        });
    });
    group.bench_function("build from sorted keys", |b| b.iter(sorted));
    group.bench_function("digest of all", |b| {
        b.iter_batched_ref(sorted, |tree| tree.digest(), BatchSize::LargeInput);
    });
    let whole = sorted();
    whole.digest();
    group.throughput(Throughput::Elements(1));
    group.bench_function("insert one and digest", |b| {
        let mut number = 0;
        b.iter_batched_ref(
            || whole.clone(),
            |tree| {
                number += 1;
                tree.insert(shuffled[number % KEYS].0.as_bytes(), leaf(KEYS + number));
                tree.digest()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn apply(criterion: &mut Criterion) {
    let mut scribe = Scribe::new(2);
    let grant = scribe.grant(0, 1, "/**", None, Terms::default());
    let id = grant.id();
    let replica = || {
        let mut replica = SimReplica::new(scribe.root().clone(), at(1));
        replica.offer(Fact::Grant(grant.clone()));
        replica
    };
    let judge = replica();
    let set = |number| judge.check(scribe.set(1, &key(number), b"value", 1, Some(id))).expect("acceptable");
    let batch: Vec<Verified> = (0..BATCH).map(set).collect();
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("1,000 new entries", |b| {
        let setup = || (replica(), batch.clone());
        b.iter_batched(setup, |(mut replica, batch)| (replica.apply(batch), replica), BatchSize::LargeInput);
    });
    group.bench_function("1,000 known entries", |b| {
        let mut replica = replica();
        replica.apply(batch.clone());
        b.iter_batched(|| batch.clone(), |batch| black_box(replica.apply(batch)), BatchSize::LargeInput);
    });
    group.finish();
}

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session of both sides, 10,000 keys");
    group.sample_size(10);
    for differences in [0, 10, 1_000] {
        let workload =
            Workload { keys: 10_000, differences, spread: Spread::Uniform, mix: Mix::Mixed, seed: 1 };
        group.bench_function(format!("{differences} differences"), |b| {
            b.iter_batched_ref(
                || {
                    let pair = workload.build();
                    // Makes the allocator clean up after the build now, at this large request, and not during the
                    // session.
                    drop(black_box(Vec::<u8>::with_capacity(1 << 20)));
                    pair
                },
                |[one, two]| sync(one, two, &Link { batch: BATCH, ..Link::default() }),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, tree, apply, session);
criterion_main!(benches);
