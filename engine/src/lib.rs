//! A kvgossip replica without I/O: merge, Merkle prefix tree, sync sessions and their scheduler.
//!
//! - [`Replica`] is the state and the only way to change it; [`View`] is its state in memory after one commit, and
//!   [`Snapshot`] is that with reads of the store as of the same commit.
//! - [`Storage`] is the interface to a store; [`MemoryStorage`] implements it, and so does a durable store behind the
//!   feature `fjall`.
//! - [`session`] makes two replicas equal, [`tree`] lets them find their differences, [`scheduler`] decides when to
//!   sync with which connected peer, and [`survey`] finds out which replicas of a cluster differ.
//! - [`clocks`] compares this replica's clock with those of its peers.
//! - [`declined`] holds the facts that a replica does not accept now or ever; early facts among them wait in a
//!   [`waiting_room`].
//!
//! Nothing here reads a clock, draws a random number or opens a socket.

mod change;
pub mod clocks;
pub mod declined;
pub mod early_keys;
#[cfg(feature = "fjall")]
pub mod files;
#[cfg(feature = "fjall")]
mod fjall;
mod internal;
mod judging;
mod leaf;
mod long;
mod memory;
mod replica;
mod rng;
pub mod scheduler;
pub mod session;
mod snapshot;
mod storage;
pub mod survey;
mod sweep;
pub mod tree;
mod view;
pub mod waiting_room;
mod weight;

#[cfg(feature = "fjall")]
pub use self::fjall::{FjallStorage, fsck};
pub use change::{Cause, Change};
pub use internal::{Failure, InternalError};
pub use judging::{Checked, Judging, Pass};
pub use kvgossip_grants::EntryMeta;
pub use leaf::KeyLeaf;
pub use long::{LONG_FRONTIER, LongFrontier, MAX_HEAVY_GRANTS, MAX_LONG_FRONTIERS};
pub use memory::MemoryStorage;
pub use replica::{Applied, Replica};
pub use snapshot::Snapshot;
pub use storage::{Batch, IndexEntry, Reader, Storage, StorageError, Summary, Write};
pub use sweep::{MAX_REMOVED_AT_ONCE, MAX_SWEEP_ROWS, MAX_UNSWEPT};
pub use view::View;
pub use weight::{AUTHORITY_WEIGHT, ENTRY_WEIGHT, GrantWeight};

/// The frontier of a key, without values.
pub type Frontier = kvgossip_grants::Frontier<()>;
