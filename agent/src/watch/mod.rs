//! Watching keys: which watcher receives what, and what is pending for each.
//!
//! One task, the [`Hub`], follows commits and expiries. An index finds the watchers of a key, so that a batch costs as
//! much as it changes, not as much as is watched. Each watcher has a mailbox of *keys* that changed. Their entries are
//! read when they are sent: a slow watcher gets the latest state, and nobody waits for it. A mailbox that overflows is
//! emptied, and the watcher receives the event `gap`.

mod cause;
mod feed;
mod hub;
mod index;
mod interest;
mod log;
mod mailbox;
mod round;
mod rows;
mod snapshot;
mod tails;

pub use feed::Feed;
pub use hub::{Hub, WatchError, Watcher};
pub use interest::{Interest, InterestError};

use std::time::Duration;

/// Maximum number of concurrent watchers per agent.
pub const MAX_WATCHERS: usize = 16_384;
/// Maximum number of changed keys pending per watcher; one more causes a gap.
pub const MAX_PENDING_KEYS: usize = 1024;
/// Maximum number of entries named with the pending keys of one watcher; beyond it, keys are sent whole.
pub const MAX_PENDING_ENTRIES: usize = 1024;
/// Maximum number of entries named with the pending keys of one watcher; beyond it, further changed keys are sent
/// whole.
pub const MAX_PENDING_FACTS: usize = 1024;
/// Maximum number of changed keys that are remembered for watchers that reconnect.
pub const MAX_LOG_KEYS: usize = 65_536;
/// Size in bytes at which a chunk for a watcher is complete.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Size in bytes at which a chunk is complete while there is no room for large events; no event is larger then.
pub const SMALL_CHUNK_BYTES: usize = 16 << 10;
/// Maximum size of a chunk in bytes. One event may exceed [`CHUNK_BYTES`]: a value of 1 MiB as text and in base64, or
/// [`MAX_EVENT_BYTES`] of records and one more record in base64.
pub const MAX_CHUNK_BYTES: usize = 5 << 20;
/// Maximum number of chunks made concurrently, for large and for small ones separately. A large chunk takes a few times
/// its size in memory while it is made.
pub const MAX_TURNS: usize = 2;
/// Maximum memory of the keys and filters of one watcher, in bytes.
pub const MAX_INTEREST_BYTES: usize = 8 << 20;
/// Size in bytes up to which keys and filters are part of the constant cost of a connection.
pub const SMALL_INTEREST_BYTES: usize = 4 << 10;
/// Maximum size of all globs of one watcher, in bytes: a changed key may be matched against all of them.
pub const MAX_GLOBS_BYTES: usize = 256 << 10;
/// Number of byte comparisons with globs that count as one examined key.
pub(crate) const STEPS_OF_A_KEY: usize = 64 << 10;
/// Maximum number of keys, entries and facts pending for all watchers together. Beyond it, the largest mailboxes get a
/// gap.
pub const MAX_PENDING_NAMES: usize = 256 << 10;
/// Maximum number of keys that are examined for one chunk, where a key with many glob comparisons counts as several.
pub const CHUNK_KEYS: usize = 4096;
/// Maximum number of entries in one event about a key.
pub const MAX_EVENT_RECORDS: usize = 32;
/// Number of bytes of records read for one event at which the event is complete, including values that are not sent.
pub const MAX_EVENT_BYTES: usize = 2 << 20;
/// Maximum number of keys per watcher whose older entries are still to be sent. If there are more, all keys are walked
/// again afterwards.
pub const MAX_TAILS: usize = 64;
/// Default of the maximum silence of a stream, after which a heartbeat is sent.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// Minimum interval between heartbeats that a watcher can ask for.
pub const MIN_HEARTBEAT: Duration = Duration::from_millis(kvgossip_api::MIN_HEARTBEAT_MS);
/// Maximum interval between heartbeats that a watcher can ask for.
pub const MAX_HEARTBEAT: Duration = Duration::from_millis(kvgossip_api::MAX_HEARTBEAT_MS);
