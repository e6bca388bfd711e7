//! Serf-compatible SWIM membership: foca inside, Serf's bytes outside.
