//! Deterministic simulator: engines under virtual time.
