//! Values that stay current: what a program watches, verified here and kept across connections.
//!
//! `Core` is a replica of the watched keys alone: it takes signed facts in, keeps their normal form, and so never depends
//! on which agent told it what, or in which order. It does no I/O and reads no clock. The driver moves bytes between it and
//! one agent at a time, and hands out what changed.

mod asking;
pub(crate) mod audit;
mod auditing;
mod authority;
pub(crate) mod core;
pub(crate) mod driver;
pub(crate) mod handles;
pub(crate) mod held;
mod interests;
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

/// The most keys that one client watches by name; further ones stay `Loading`.
pub const MAX_WATCHED_KEYS: usize = kvgossip_api::MAX_WATCH_KEYS;
/// The most filters that one client watches; further ones stay `Loading`.
pub const MAX_WATCHED_FILTERS: usize = kvgossip_api::MAX_WATCH_FILTERS;
/// The most rejections that are kept; the oldest are forgotten first.
pub const MAX_REJECTIONS: usize = 64;
/// The most entries of a key that wait for a grant or for their time.
pub const MAX_WAITING_ENTRIES: usize = 32;
/// The most entries of a key that are held; then the oldest fall, and when all others have ended the key is asked for anew.
pub const MAX_HELD_ENTRIES: usize = 32_768;
/// What the values of a key's entries may weigh, in bytes, that of the entry that is shown included; the others fall, the
/// oldest first.
pub const MAX_HELD_VALUE_BYTES: usize = 2 << 20;
/// The most entries of a key that are remembered not to have verified.
const MAX_UNVERIFIED_ENTRIES: usize = 1024;
/// The value of an entry that an agent did not have is asked for again after so many microseconds.
const VALUE_RETRY_US: u64 = 1_000_000;
/// When no agent has given the value of the entry that is shown for so many microseconds, that is said, and the end of the
/// entry that was shown before is told alone.
const VALUE_PATIENCE_US: u64 = 3_000_000;
/// What all entries that wait may weigh, in bytes.
pub const MAX_WAITING_BYTES: usize = 16 << 20;
/// What still has no grant, or lies in the future, after so many microseconds is reported.
const WAITING_REPORT_US: u64 = 2_000_000;
/// An agent that tells more keys than this of which nothing verifies is left.
pub const MAX_UNVERIFIED_KEYS: usize = 4096;
/// The most grants that are remembered to hang below a revoked one.
const MAX_DEAD_GRANTS: usize = 65_536;
/// So long an agent that told something that does not verify is asked only while no other answers.
pub const BLAME: Duration = Duration::from_secs(300);
/// A list of more keys than this is forgotten at once, and not after the grace delay.
pub const MAX_LINGERING_KEYS: usize = 1024;
/// The largest event that is read, in bytes.
pub const MAX_EVENT_BYTES: usize = 64 << 20;
/// The most facts that are known from other agents alone and remembered as such.
pub const MAX_LEARNED: usize = 4096;
/// The most facts that are handed to an agent at a time, beside the grants that they stand on.
pub const MAX_HANDED_FACTS: usize = 1024;
/// What these may weigh, in bytes; a single larger one goes alone.
pub const MAX_HANDED_BYTES: usize = 4 << 20;
/// The longest answer of another agent that is read, in bytes; the next one goes on where it was cut.
pub const MAX_ANSWER_EVENTS_BYTES: usize = 64 << 20;
/// Another agent's answer is given up after so much that does not verify.
pub const MAX_ANSWER_REJECTIONS: usize = 64;
/// The most parts of answers of other agents that wait to be taken in.
const MAX_UNREAD_ANSWERS: usize = 16;
/// How long another agent's answer may take.
pub const MAX_ANSWER_TIME: Duration = Duration::from_secs(20);
/// The longest pause between two questions to another agent, unless told otherwise; the shortest is half of it.
pub const DEFAULT_AUDIT_INTERVAL: Duration = Duration::from_secs(24);
/// How long an agent may take to tell what it was handed, unless told otherwise.
pub const DEFAULT_AUDIT_PATIENCE: Duration = Duration::from_secs(5);
/// So long an agent that stayed behind is asked only while no other answers.
pub const AVOIDANCE: Duration = Duration::from_secs(60);
/// How long an interest that nobody holds is kept, unless told otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How long an agent may be silent before another is tried, unless told otherwise.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(15);
/// The first pause before an agent that failed is tried again, unless told otherwise; it doubles.
pub const DEFAULT_BACKOFF: Duration = Duration::from_millis(200);
/// The longest such pause, unless told otherwise.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(10);
