//! Fuzz targets as functions, and their seed inputs. See `docs/fuzzing.md`.
//!
//! Each target is a function of bytes that panics if something is wrong. `fuzz_targets/` passes them to libFuzzer;
//! `tests/corpora.rs` runs them on the committed corpora and on mutations of those, with any compiler.

pub mod facts;
pub mod globs;
pub mod gossip;
pub mod inclusion;
mod input;
pub mod merge;
mod names;
pub mod session_frames;
pub mod session_pair;

/// A named seed input.
pub type Seed = (String, Vec<u8>);

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of its binary and of its corpus.
    pub name: &'static str,
    /// Runs one input; panics if the input reveals a fault.
    pub run: fn(&[u8]),
    /// Returns named inputs that reach the parts of the tested code.
    pub seeds: fn() -> Vec<Seed>,
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    Target { name: "facts", run: facts::run, seeds: facts::seeds },
    Target { name: "globs", run: globs::run, seeds: globs::seeds },
    Target { name: "inclusion", run: inclusion::run, seeds: inclusion::seeds },
    Target { name: "session_frames", run: session_frames::run, seeds: session_frames::seeds },
    Target { name: "session_pair", run: session_pair::run, seeds: session_pair::seeds },
    Target { name: "merge", run: merge::run, seeds: merge::seeds },
    Target { name: "gossip_udp", run: gossip::udp, seeds: gossip::udp_seeds },
    Target { name: "gossip_tcp", run: gossip::tcp, seeds: gossip::tcp_seeds },
    Target { name: "gossip_member", run: gossip::member, seeds: gossip::member_seeds },
    Target { name: "gossip_names", run: gossip::names, seeds: gossip::names_seeds },
    Target { name: "gossip_rpc", run: gossip::rpc, seeds: gossip::rpc_seeds },
];
