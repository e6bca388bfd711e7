//! Serf-compatible SWIM membership: foca inside, Serf's bytes outside.

pub mod core;
pub mod fuzz;
pub mod wire;
