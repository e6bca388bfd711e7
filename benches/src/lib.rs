//! Divergence recovery and micro-benchmarks.
