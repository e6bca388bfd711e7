//! Files that an agent reads or keeps on its own: the rules are those of the store.

pub use kvgossip_engine::files::{open_regular, read_own, read_regular, read_whole, regular, replace_own};
