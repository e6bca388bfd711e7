//! `/v1/watch`: what is asked for, and the events that come.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

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

/// A commit of one run of one agent. As text: the run's number in 16 hexadecimal digits, a hyphen, the commit's in decimal.
///
/// Between events a stream has a comment, `: told COMMIT`, when everything up to that commit has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitMark {
    /// Drawn at random when the agent starts: another run, and another agent, has another.
    pub run: u64,
    /// Counts commits.
    pub commit: u64,
}

impl CommitMark {
    /// What the comment begins with, after the colon and the space.
    const TOLD: &str = "told ";

    /// The comment that says that everything up to this commit was told, and its empty line.
    pub fn to_heartbeat(self) -> String {
        format!(": {}{self}\n\n", Self::TOLD)
    }

    /// Reads the text of a comment, without the colon and the space.
    pub fn of_heartbeat(comment: &str) -> Option<Self> {
        comment.strip_prefix(Self::TOLD)?.parse().ok()
    }

    /// Whether a stream that has told everything up to this commit has told the other one; not if they are of two runs.
    pub fn covers(&self, other: &Self) -> bool {
        self.run == other.run && self.commit >= other.commit
    }
}

impl fmt::Display for CommitMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.commit)
    }
}

/// A text names no commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCommit;

impl FromStr for CommitMark {
    type Err = NoCommit;

    fn from_str(text: &str) -> Result<Self, NoCommit> {
        let (run, commit) = text.split_once('-').ok_or(NoCommit)?;
        let run = u64::from_str_radix(run, 16).map_err(|_| NoCommit)?;
        Ok(Self { run, commit: commit.parse().map_err(|_| NoCommit)? })
    }
}

/// What an event about a key carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WatchForm {
    /// The value, for those who trust the agent.
    #[default]
    Values,
    /// The signed entries that stand, for those who verify: the one that is shown with its value, the others without.
    Records,
}

/// The body of `POST /v1/watch`. `GET /v1/watch?key=&match=&form=&authority=&heartbeat_ms=` asks for the same with one
/// filter and without `have`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
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
    /// How long the stream may be silent; 100 to 60,000 milliseconds, by default 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
}

/// What a watcher holds, as digests: see `grants/src/held.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
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

/// What stands of a key now, or a part of it. Changes that come together are told once, with the cause of the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyEvent {
    /// The key.
    pub key: String,
    /// `present`, `absent`, or `unreadable`: the agent cannot read from its store what stands. It tells what it can, and
    /// the key again when it reads again.
    pub state: String,
    /// The id of the entry that is shown: in quotes, the entity tag that `If-Match` takes.
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
    /// In the form `records`: which of the entries that stand this event tells; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartRow>,
    /// In the form `records`: the ids of the entries that this event tells, tombstones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
    /// In the form `records`: the one of these that is shown, as a fact record with its value. It is left out where it
    /// cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records_b64: Vec<String>,
    /// In the form `records`: the others, the newest first, as fact records that end before the value. What cannot be
    /// read is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fronts_b64: Vec<String>,
}

/// Which part of the entries of a key an event tells. A key with more entries than fit an event is told newest first, in
/// a `first`, any number of `next` and a `last` event, between which other events come; what is taken in meanwhile is
/// told as `news`. The first event has the entry that is shown, wherever that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PartRow {
    /// `first`, `next`, `last`, or `news`: entries that were taken in, or are shown now, apart from any order.
    pub kind: String,
    /// Tells apart what is told on one stream: a `next` or `last` goes on where the event before it with the same number
    /// and key ended. A `first` gives it up. 0 for `news`.
    pub telling: u64,
    /// For `first` and `next`: all entries were told that stand and are not older than this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_to: Option<PlaceRow>,
}

impl PartRow {
    /// The newest entries, and the one that is shown.
    pub const FIRST: &str = "first";
    /// The entries after those of the event before.
    pub const NEXT: &str = "next";
    /// The same, down to the oldest.
    pub const LAST: &str = "last";
    /// Entries that were taken in, or are shown now.
    pub const NEWS: &str = "news";
}

/// The place of an entry among those of its key, which are ordered by time, and by id where times are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlaceRow {
    /// When it was written.
    pub timestamp_us: u64,
    /// Its id.
    pub entry: String,
}

impl KeyEvent {
    /// An entry is shown.
    pub const PRESENT: &str = "present";
    /// None is.
    pub const ABSENT: &str = "absent";
    /// The agent cannot read from its store what stands.
    pub const UNREADABLE: &str = "unreadable";
    /// None is, and `entries` names some that wait until they are due by the agent's clock: it does not know what stands.
    pub const EARLY: &str = "early";
}

/// From here on the stream is live. What stood at the beginning has been told, of keys with very many entries the newest
/// and the one that is shown; the others follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncedEvent {
    /// This replica's clock.
    pub now_us: u64,
    /// This replica's id. Nothing proves it: whoever asks several agents sees by it whether two are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// Whether only what happened after the cursor was told.
    pub resumed: bool,
    /// Where `have` was compared: the numbers of the buckets that differ. Of these every key was told that stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub different: Option<Vec<u32>>,
    /// Where `have` was compared: whether the authority facts were the same. If not, all that stand here were told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_authority: Option<bool>,
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
