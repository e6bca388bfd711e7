//! QUIC between replicas with raw public keys: admission, limits, accounting.
