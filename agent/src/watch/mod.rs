//! Watching keys: who wants to hear of what, and what each has still to be told.
//!
//! One task, the [`Hub`], follows what is committed and what expires. An index finds the watchers of a key, so that a
//! batch costs what it changes and not what is watched. Each watcher has a mailbox of *keys* that changed; what stands
//! of them is read when it is sent, so a slow watcher gets the latest and nobody waits for it. A mailbox that overflows
//! is emptied and says so (`gap`).

mod cause;
mod feed;
mod hub;
mod index;
mod interest;
mod log;
mod mailbox;
mod rows;
mod snapshot;

pub use feed::Feed;
pub use hub::{Hub, WatchError, Watcher};
pub use interest::{Interest, InterestError};

use std::time::Duration;

/// The most watchers at a time.
pub const MAX_WATCHERS: usize = 16_384;
/// The most keys that wait for one watcher; one more makes a gap.
pub const MAX_PENDING_KEYS: usize = 1024;
/// The most authority facts that wait for one watcher; one more makes a gap.
pub const MAX_PENDING_FACTS: usize = 1024;
/// The most changed keys that are remembered for watchers that come back.
pub const MAX_LOG_KEYS: usize = 65_536;
/// What is encoded at a time for a watcher stops growing at this many bytes.
pub const CHUNK_BYTES: usize = 256 << 10;
/// At most so many keys are looked at before a watcher is sent what was found.
pub const CHUNK_KEYS: usize = 4096;
/// The most records of one event.
pub const MAX_EVENT_RECORDS: usize = 32;
/// The records of an event stop growing at this many bytes.
pub const MAX_EVENT_BYTES: usize = 2 << 20;
/// How long a stream may be silent unless the watcher says otherwise.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// The shortest silence that a watcher can ask for.
pub const MIN_HEARTBEAT: Duration = Duration::from_millis(100);
/// The longest silence that a watcher can ask for.
pub const MAX_HEARTBEAT: Duration = Duration::from_secs(60);
