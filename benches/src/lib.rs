//! Divergence recovery and micro-benchmarks. See `docs/benchmarks.md`.

pub mod divergence;
pub mod rates;
pub mod workload;
