//! Live values: what a program watches, verified here and kept across connections.
//!
//! `Core` is a replica of the watched keys only. It takes in signed facts and keeps their normal form, so its
//! state does not depend on which agent sent a fact, or in which order. It does no I/O and reads no clock. The
//! driver moves bytes between it and one agent at a time, and publishes changes.

mod asking;
pub(crate) mod audit;
mod auditing;
mod authority;
pub(crate) mod core;
pub(crate) mod driver;
pub(crate) mod handles;
pub(crate) mod held;
mod interests;
mod learned;
pub(crate) mod matches;
mod offered;
mod others;
mod places;
mod publish;
pub(crate) mod registry;
mod rejections;
pub(crate) mod root;
pub(crate) mod sse;
pub(crate) mod state;
pub(crate) mod stream;
mod streams;
mod telling;
mod told;
pub(crate) mod union;
mod values;
mod waiting;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod paged_tests;
#[cfg(test)]
mod publish_tests;

use std::time::Duration;

/// Maximum number of keys that one client watches by name (16,384); further ones stay `Loading`.
pub const MAX_WATCHED_KEYS: usize = kvgossip_api::MAX_WATCH_KEYS;
/// Maximum number of filters that one client watches (256); further ones stay `Loading`.
pub const MAX_WATCHED_FILTERS: usize = kvgossip_api::MAX_WATCH_FILTERS;
/// Maximum number of rejections kept; the oldest are dropped first.
pub const MAX_REJECTIONS: usize = 64;
/// Maximum number of entries per key that wait for a grant or for their time.
pub const MAX_WAITING_ENTRIES: usize = 32;
/// Maximum number of entries held per key. Beyond it the oldest are dropped; when all others have ended, the
/// key is loaded again.
pub const MAX_HELD_ENTRIES: usize = 32_768;
/// Maximum total size of the values held per key, in bytes. Beyond it values are dropped, the oldest first, but
/// never that of the shown entry.
pub const MAX_HELD_VALUE_BYTES: usize = 2 << 20;
/// Maximum number of unverified entries remembered per key.
const MAX_UNVERIFIED_ENTRIES: usize = 1024;
/// Delay before the value of an entry that an agent did not have is requested again, in microseconds (1 s).
const VALUE_RETRY_US: u64 = 1_000_000;
/// Time after which the missing value of a shown entry is reported, in microseconds (3 s). The end of the
/// previously shown entry is then published alone.
const VALUE_PATIENCE_US: u64 = 3_000_000;
/// Maximum total weight of all waiting entries, in bytes.
pub const MAX_WAITING_BYTES: usize = 16 << 20;
/// Time after which an entry that still has no grant, or is ahead of the clock, is reported, in microseconds.
const WAITING_REPORT_US: u64 = 2_000_000;
/// Maximum number of keys of which nothing verifies; an agent that sends more is left.
pub const MAX_UNVERIFIED_KEYS: usize = 4096;
/// Maximum number of grants remembered as revoked or below a revoked one.
const MAX_DEAD_GRANTS: usize = 65_536;
/// Time for which an agent that sent something that does not verify is used only if no other answers.
pub const BLAME: Duration = Duration::from_secs(300);
/// Maximum number of keys of a `list` result that is kept for the grace delay; a larger one is dropped at once.
pub const MAX_LINGERING_KEYS: usize = 1024;
/// Maximum size of one event of an agent's stream, in bytes.
pub const MAX_EVENT_BYTES: usize = 64 << 20;
/// Maximum number of facts remembered as known from other agents only.
pub const MAX_LEARNED: usize = 4096;
/// Maximum number of facts handed to an agent at a time, not counting the grants that they depend on.
pub const MAX_HANDED_FACTS: usize = 1024;
/// Maximum total size of the facts handed to an agent at a time, in bytes; a single larger fact is sent alone.
pub const MAX_HANDED_BYTES: usize = 4 << 20;
/// Maximum size of the answer of an agent other than the connected one, in bytes; the next question to it
/// continues where the answer was cut.
pub const MAX_ANSWER_EVENTS_BYTES: usize = 64 << 20;
/// Maximum number of rejections after which the answer of an agent other than the connected one is abandoned.
pub const MAX_ANSWER_REJECTIONS: usize = 64;
/// Maximum number of parts of answers to audit questions that wait to be processed; further ones wait in their
/// tasks.
const MAX_UNREAD_ANSWERS: usize = 16;
/// Time limit of the answer of an agent other than the connected one.
pub const MAX_ANSWER_TIME: Duration = Duration::from_secs(20);
/// Default maximum interval between two questions to an agent other than the connected one; the minimum is half
/// of it.
pub const DEFAULT_AUDIT_INTERVAL: Duration = Duration::from_secs(24);
/// Default time for the connected agent to send the facts that it was handed.
pub const DEFAULT_AUDIT_PATIENCE: Duration = Duration::from_secs(5);
/// Time for which an agent that lacked facts and did not catch up is used only if no other answers.
pub const AVOIDANCE: Duration = Duration::from_secs(60);
/// Default time for which an interest is kept after its last holder is gone.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Default silence after which an agent counts as lost.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(15);
/// Default first pause before a failed agent is tried again; it doubles with each failure.
pub const DEFAULT_BACKOFF: Duration = Duration::from_millis(200);
/// Default maximum pause before a failed agent is tried again.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(10);
