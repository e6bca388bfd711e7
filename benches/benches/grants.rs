//! Micro-benchmarks of signatures, canonical bytes, globs and inclusion.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kvgossip_grants::{
    Authority, EntryDraft, EntryFact, Fact, Filter, Key, KeyGlob, RsaVerifier, Signer, SigningKey, Timestamp,
    included,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::hint::black_box;

const VALUE: &[u8] = &[7; 300];

fn key(text: &str) -> Key {
    Key::parse(text).expect("a key")
}

fn glob(text: &str) -> KeyGlob {
    KeyGlob::parse(text).expect("a glob")
}

/// Makes root's key of 2048 bits, the same in every run.
fn root() -> SigningKey {
    let mut random = StdRng::seed_from_u64(1);
    let (root, _) = SigningKey::generate(2048, &mut |bytes| random.fill_bytes(bytes)).expect("a key");
    root
}

fn draft() -> EntryDraft {
    let key = key("/dc3/host1742/cpu/core7/user");
    EntryDraft { key, value: Some(VALUE.into()), timestamp: Timestamp::ZERO, grant: None }
}

fn facts(criterion: &mut Criterion) {
    let root = root();
    let cluster = root.public().cluster();
    let draft = draft();
    let sign = || EntryFact::sign(cluster, draft.clone(), &root).expect("a signature");
    let fact = Fact::Entry(sign());
    let record = fact.to_record();
    let authority = Authority::new(root.public().clone());
    let now = Timestamp::ZERO;
    let mut group = criterion.benchmark_group("entry of 300 B, RSA-2048");
    group.throughput(Throughput::Elements(1));
    group.bench_function("sign", |b| b.iter(&sign));
    group.bench_function("encode", |b| b.iter(|| black_box(&fact).to_record()));
    group.bench_function("decode", |b| b.iter(|| Fact::from_record(cluster, black_box(&record))));
    group.bench_function("check", |b| b.iter(|| authority.check(black_box(&fact).clone(), now)));
    group.bench_function("check and verify", |b| {
        b.iter(|| {
            let unverified = authority.check(black_box(&fact).clone(), now).expect("acceptable");
            unverified.verify(&RsaVerifier).expect("root's signature")
        });
    });
    group.finish();
}

fn names(criterion: &mut Criterion) {
    let text = "/dc3/host1742/cpu/core7/user";
    let key = key(text);
    let mut group = criterion.benchmark_group("names");
    group.bench_function("parse a key of 28 B", |b| b.iter(|| Key::parse(black_box(text))));
    for pattern in ["/dc3/**", "/*/host1742/**/user", "/**/core?/us*", "/**/a*/**/b*"] {
        let glob = glob(pattern);
        group.bench_function(format!("match {pattern}"), |b| b.iter(|| glob.matches(black_box(&key))));
    }
    for globs in [4, 32] {
        let filter = Filter::parse((0..globs).map(|n| format!("/dc{n}/**"))).expect("a filter");
        group.bench_function(format!("filter of {globs}"), |b| b.iter(|| filter.includes(black_box(&key))));
    }
    group.finish();
}

fn inclusion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inclusion");
    let cases = [
        ("one in one", "/my/key/*", vec!["/my/**"]),
        ("outside", "/my/**", vec!["/my/key/**", "/my/*"]),
        ("only together", "/a/**", vec!["/a/*", "/a/*/**"]),
        ("deep", "/**/x/**/y", vec!["/**/x/y", "/**/x/*/**/y"]),
    ];
    for (name, pattern, union) in cases {
        let union: Vec<KeyGlob> = union.into_iter().map(glob).collect();
        let pattern = glob(pattern);
        group.bench_function(name, |b| b.iter(|| included(black_box(&pattern), black_box(&union))));
    }
    group.finish();
}

criterion_group!(benches, facts, names, inclusion);
criterion_main!(benches);
