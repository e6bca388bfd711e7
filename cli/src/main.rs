//! kvgossip: a signed, gossiped key/value tree for configuration.
fn main() {}
