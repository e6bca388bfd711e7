//! Deterministic simulator: engines under virtual time.
//!
//! Nothing here is random but by a seed, so that whatever fails can be replayed.

pub mod pair;
pub mod replica;
pub mod scribe;

pub use pair::{Cut, Ended, Link, sync};
pub use replica::SimReplica;
pub use scribe::Scribe;
