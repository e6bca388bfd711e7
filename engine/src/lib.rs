//! One kvgossip replica without I/O: merge, Merkle prefix tree, sync sessions and their scheduler.
//!
//! - [`Replica`] is the state and the one way to change it; [`View`] is a snapshot of it.
//! - [`Storage`] is what it asks of a store; [`MemoryStorage`] is one, and there is a durable one behind the
//!   feature `fjall`.
//! - [`session`] makes two replicas equal, [`tree`] is what lets them find where they differ, [`scheduler`] says
//!   with which connected peer to sync and when, and [`survey`] finds out who of a cluster differs.
//!
//! Nothing here reads a clock, draws a random number or opens a socket.

mod chance;
mod change;
#[cfg(feature = "fjall")]
mod fjall;
mod frontier;
mod memory;
mod replica;
pub mod scheduler;
pub mod session;
mod storage;
pub mod survey;
pub mod tree;
mod view;

#[cfg(feature = "fjall")]
pub use self::fjall::{FjallStorage, fsck};
pub use change::{Cause, Change};
pub use frontier::{EntryMeta, Frontier};
pub use memory::MemoryStorage;
pub use replica::{Applied, Replica};
pub use storage::{Batch, IndexEntry, IndexRow, Reader, Storage, StorageError, Summary, Write};
pub use view::View;
