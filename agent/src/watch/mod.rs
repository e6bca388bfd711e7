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
mod round;
mod rows;
mod snapshot;
mod tails;

pub use feed::Feed;
pub use hub::{Hub, WatchError, Watcher};
pub use interest::{Interest, InterestError};

use std::time::Duration;

/// The most watchers at a time.
pub const MAX_WATCHERS: usize = 16_384;
/// The most keys that wait for one watcher; one more makes a gap.
pub const MAX_PENDING_KEYS: usize = 1024;
/// The most entries that are named with the keys that wait for one watcher; a key with more is told anew.
pub const MAX_PENDING_ENTRIES: usize = 1024;
/// The most authority facts that wait for one watcher; one more makes a gap.
pub const MAX_PENDING_FACTS: usize = 1024;
/// The most changed keys that are remembered for watchers that come back.
pub const MAX_LOG_KEYS: usize = 65_536;
/// What is encoded at a time for a watcher stops growing at this many bytes.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Where there is no room for more, it stops growing at this many, and no event is larger.
pub const SMALL_CHUNK_BYTES: usize = 16 << 10;
/// The most bytes of a chunk: one event that goes beyond [`CHUNK_BYTES`], with a value of 1 MiB as text and in base64, or
/// [`MAX_EVENT_BYTES`] of records and one more in base64.
pub const MAX_CHUNK_BYTES: usize = 5 << 20;
/// Chunks are made for so many watchers at a time, large ones (each takes a few times its bytes while it is made) and small
/// ones apart.
pub const MAX_TURNS: usize = 2;
/// The most bytes that the keys and filters of one watcher take.
pub const MAX_INTEREST_BYTES: usize = 8 << 20;
/// Keys and filters up to this many bytes belong to what a connection takes anyway.
pub const SMALL_INTEREST_BYTES: usize = 4 << 10;
/// The most bytes of globs of one watcher: each change of a key may be held against all of them.
pub const MAX_GLOBS_BYTES: usize = 256 << 10;
/// So many byte comparisons with globs count as a key that was looked at.
pub(crate) const STEPS_OF_A_KEY: usize = 64 << 10;
/// The most keys, entries and facts that wait for all watchers together; beyond, whom most of them wait for gets a gap.
pub const MAX_PENDING_NAMES: usize = 256 << 10;
/// At most so many keys are looked at before a watcher is sent what was found.
pub const CHUNK_KEYS: usize = 4096;
/// The most entries of one event.
pub const MAX_EVENT_RECORDS: usize = 32;
/// An event stops growing when this many bytes were read for it, values that are not told included.
pub const MAX_EVENT_BYTES: usize = 2 << 20;
/// The most keys whose older entries wait to be told to one watcher. If there are more, all keys are gone through again
/// afterwards.
pub const MAX_TAILS: usize = 64;
/// How long a stream may be silent unless the watcher says otherwise.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// The shortest silence that a watcher can ask for.
pub const MIN_HEARTBEAT: Duration = Duration::from_millis(kvgossip_api::MIN_HEARTBEAT_MS);
/// The longest silence that a watcher can ask for.
pub const MAX_HEARTBEAT: Duration = Duration::from_millis(kvgossip_api::MAX_HEARTBEAT_MS);
