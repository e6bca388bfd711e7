//! Access to the agent's own files, with the checks that the engine makes for the store's files.

pub use kvgossip_engine::files::{open_regular, read_own, read_regular, read_whole, regular, replace_own};
