//! Test helpers that several crates share.
//!
//! Only dev-dependencies name this crate. Unit tests in `src/` of a crate cannot use its types, because it links
//! another build of that crate.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[cfg(feature = "agents")]
pub mod agents;
#[cfg(feature = "clients")]
pub mod clients;
#[cfg(feature = "program")]
pub mod desk;
#[cfg(feature = "agents")]
pub mod faulty;
#[cfg(feature = "agents")]
pub mod http;
#[cfg(all(feature = "program", unix))]
pub mod namespace;
#[cfg(all(feature = "program", unix))]
pub mod process;
#[cfg(feature = "program")]
pub mod relay;
#[cfg(all(feature = "serf", unix))]
pub mod serf;
#[cfg(feature = "program")]
pub mod served;
#[cfg(feature = "agents")]
pub mod stream;
#[cfg(feature = "vectors")]
pub mod vectors;
pub mod wait;
