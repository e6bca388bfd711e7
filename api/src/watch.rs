//! `/v1/watch`: what is asked for, and the events that come.

use serde::{Deserialize, Serialize};

/// The most keys of one watch.
pub const MAX_WATCH_KEYS: usize = 16_384;
/// The most filters of one watch.
pub const MAX_WATCH_FILTERS: usize = 256;

/// The names of the events.
pub mod event {
    /// Grants, revocations and floors: see [`AuthorityEvent`](super::AuthorityEvent).
    pub const AUTHORITY: &str = "authority";
    /// What stands of a key: see [`KeyEvent`](super::KeyEvent).
    pub const KEY: &str = "key";
    /// All that stood at the beginning has been told: see [`SyncedEvent`](super::SyncedEvent).
    pub const SYNCED: &str = "synced";
    /// Changes were missed: see [`GapEvent`](super::GapEvent).
    pub const GAP: &str = "gap";
}

/// What an event about a key carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WatchForm {
    /// The value, for those who trust the agent.
    #[default]
    Values,
    /// The signed entries that stand, for those who verify.
    Records,
}

/// The body of `POST /v1/watch`. `GET /v1/watch?key=&match=&form=&authority=&heartbeat_ms=` asks for the same with one
/// filter and without `have`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WatchRequest {
    /// These keys, set or not; at most [`MAX_WATCH_KEYS`].
    #[serde(default)]
    pub keys: Vec<String>,
    /// Keys that one of these ordered filters includes; at most [`MAX_WATCH_FILTERS`].
    #[serde(default)]
    pub filters: Vec<Vec<String>>,
    /// The cluster that the watcher verifies against, in hexadecimal: an agent of another one refuses the watch instead of
    /// telling what cannot verify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What the events carry.
    #[serde(default)]
    pub form: WatchForm,
    /// Whether grants, revocations and floors are told too, each before the first entry that stands on it.
    #[serde(default)]
    pub authority: bool,
    /// What the watcher has already: only what differs is told. It counts where there is no `cursor`, or the cursor leads
    /// nowhere. After an overflow the stream then ends, so that the watcher can compare anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have: Option<HeldRow>,
    /// The id of the last event of an earlier stream with the same interest; the header `Last-Event-ID` counts alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How long the stream may be silent; brought between 100 and 60,000, by default 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
}

/// What a watcher holds, as digests: see `grants/src/held.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeldRow {
    /// Over the ids of its authority facts.
    pub authority: String,
    /// Over its keys, one digest for each bucket; at least one.
    pub buckets: Vec<String>,
}

/// Grants, revocations and floors in an order in which they can be taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthorityEvent {
    /// The facts.
    pub records_b64: Vec<String>,
}

/// Why a key is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CauseRow {
    /// `current` (it stood at the beginning), `written`, `deleted`, `revoked`, `floored` or `expired`.
    pub kind: String,
    /// The entry, grant or floor behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What stands of a key now. Changes that come together are told once, with the cause of the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyEvent {
    /// The key.
    pub key: String,
    /// `present`, `absent`, or `unreadable`: the agent cannot read from its store what stands. It tells what it can, and
    /// the key again when it reads again.
    pub state: String,
    /// The entry that is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// When it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_us: Option<u64>,
    /// The grant that it cites; none for root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// In the form `values`: the value, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// In the form `values`: the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_b64: Option<String>,
    /// Why this is told.
    pub cause: CauseRow,
    /// In the form `records`: all entries that stand, tombstones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
    /// In the form `records`: the same as fact records, the newest first; where there are very many, the oldest are left
    /// out, and what cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records_b64: Vec<String>,
}

impl KeyEvent {
    /// An entry is shown.
    pub const PRESENT: &str = "present";
    /// None is.
    pub const ABSENT: &str = "absent";
    /// The agent cannot read from its store what stands.
    pub const UNREADABLE: &str = "unreadable";
}

/// From here on the stream is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncedEvent {
    /// This replica's clock.
    pub now_us: u64,
    /// Whether only what happened after the cursor was told.
    pub resumed: bool,
    /// Where `have` was compared: the numbers of the buckets that differ. Of these every key was told that stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub different: Option<Vec<u32>>,
}

/// The watcher has missed changes. Without `have` everything is told again, and then comes `synced`. With `have`, a
/// cursor that leads nowhere has digests compared instead, and after an overflow the stream ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GapEvent {
    /// `cursor` (it is of another replica, of an earlier run, or too old) or `overflow` (too slow).
    pub reason: String,
}

impl GapEvent {
    /// The cursor is of another replica, of an earlier run, or too old.
    pub const CURSOR: &str = "cursor";
    /// More changed than waits for one watcher.
    pub const OVERFLOW: &str = "overflow";
}
