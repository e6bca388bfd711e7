//! Values that stay current: what a program watches, verified here and kept across connections.
//!
//! `Core` is a replica of the watched keys alone: it takes signed facts in, keeps their normal form, and so never depends
//! on which agent told it what, or in which order. It does no I/O and reads no clock. The driver moves bytes between it and
//! one agent at a time, and hands out what changed.

pub(crate) mod core;
pub(crate) mod driver;
pub(crate) mod handles;
pub(crate) mod held;
mod interests;
mod places;
mod publish;
pub(crate) mod registry;
mod rejections;
pub(crate) mod sse;
pub(crate) mod state;
pub(crate) mod stream;
mod streams;
mod telling;
mod waiting;

#[cfg(test)]
mod model_tests;

use std::time::Duration;

/// The most keys that one client watches by name; further ones stay `Loading`.
pub const MAX_WATCHED_KEYS: usize = kvgossip_api::MAX_WATCH_KEYS;
/// The most filters that one client watches; further ones stay `Loading`.
pub const MAX_WATCHED_FILTERS: usize = kvgossip_api::MAX_WATCH_FILTERS;
/// The most rejections that are kept; the oldest are forgotten first.
pub const MAX_REJECTIONS: usize = 64;
/// The most entries of a key that wait for a grant or for their time.
pub const MAX_WAITING_ENTRIES: usize = 32;
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
/// How long an interest that nobody holds is kept, unless told otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How long an agent may be silent before another is tried, unless told otherwise.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(15);
/// The first pause before an agent that failed is tried again, unless told otherwise; it doubles.
pub const DEFAULT_BACKOFF: Duration = Duration::from_millis(200);
/// The longest such pause, unless told otherwise.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(10);
