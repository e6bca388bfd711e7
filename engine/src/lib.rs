//! One kvgossip replica without I/O: merge, Merkle prefix tree, sync sessions and their scheduler.

pub mod tree;
