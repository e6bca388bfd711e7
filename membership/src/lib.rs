//! Serf-compatible SWIM membership: foca inside, Serf's bytes outside.

pub mod fuzz;
pub mod wire;
