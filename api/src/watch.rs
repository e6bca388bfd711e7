//! Types of `/v1/watch`: the request and the events.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Maximum number of keys in one watch.
pub const MAX_WATCH_KEYS: usize = 16_384;
/// Maximum number of filters in one watch.
pub const MAX_WATCH_FILTERS: usize = 256;

/// Names of the events.
pub mod event {
    /// New grants, revocations and floors: see [`AuthorityEvent`](super::AuthorityEvent).
    pub const AUTHORITY: &str = "authority";
    /// The state of a key: see [`KeyEvent`](super::KeyEvent).
    pub const KEY: &str = "key";
    /// The whole initial state has been sent: see [`SyncedEvent`](super::SyncedEvent).
    pub const SYNCED: &str = "synced";
    /// Changes were missed: see [`GapEvent`](super::GapEvent).
    pub const GAP: &str = "gap";
}

/// A commit of one run of one agent. Text form: the number of the run in 16 hexadecimal digits, a hyphen, and the
/// number of the commit in decimal.
///
/// Between events, a stream contains the comment `: told COMMIT` when everything up to that commit has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitMark {
    /// Number of the run, drawn at random when the agent starts: it differs for each run and each agent.
    pub run: u64,
    /// Number of the commit within the run.
    pub commit: u64,
}

impl CommitMark {
    /// Beginning of the comment, after the colon and the space.
    const TOLD: &str = "told ";

    /// Returns the comment that reports that everything up to this commit was sent, with its empty line.
    pub fn to_heartbeat(self) -> String {
        format!(": {}{self}\n\n", Self::TOLD)
    }

    /// Parses the text of a comment, without the colon and the space.
    pub fn of_heartbeat(comment: &str) -> Option<Self> {
        comment.strip_prefix(Self::TOLD)?.parse().ok()
    }

    /// Whether a stream that has sent everything up to this commit has sent the commit `other`. False if they are of
    /// different runs.
    pub fn covers(&self, other: &Self) -> bool {
        self.run == other.run && self.commit >= other.commit
    }
}

impl fmt::Display for CommitMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.commit)
    }
}

/// The text is not a commit.
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

/// Content of the events about keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WatchForm {
    /// Values, for watchers that trust the agent.
    #[default]
    Values,
    /// Signed entries of the frontier, for watchers that verify: the shown entry with its value, the others without.
    Records,
}

/// Body of `POST /v1/watch`. `GET /v1/watch?key=&match=&form=&authority=&heartbeat_ms=` is the same request with one
/// filter and without `have`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// Keys to watch, set or not; at most [`MAX_WATCH_KEYS`].
    #[serde(default)]
    pub keys: Vec<String>,
    /// Ordered filters; keys that one of them includes are watched. At most [`MAX_WATCH_FILTERS`].
    #[serde(default)]
    pub filters: Vec<Vec<String>>,
    /// Id of the cluster that the watcher verifies against, in hexadecimal. An agent of another cluster refuses the
    /// watch instead of sending facts that do not verify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Content of the events about keys.
    #[serde(default)]
    pub form: WatchForm,
    /// Whether grants, revocations and floors are sent too, each before the first entry that depends on it.
    #[serde(default)]
    pub authority: bool,
    /// State that the watcher has already: only differences are sent. It is used if there is no `cursor` or the cursor
    /// is invalid. After an overflow the stream then ends, so that the watcher can compare again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have: Option<HeldRow>,
    /// Id of the last event of an earlier stream with the same interest; the header `Last-Event-ID` has the same
    /// effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Maximum silence of the stream in milliseconds, 100 to 60,000; 10,000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
}

/// State of a watcher as digests: see `grants/src/held.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HeldRow {
    /// Digest of the ids of its authority facts.
    pub authority: String,
    /// Digests of its keys, one for each bucket; at least one.
    pub buckets: Vec<String>,
}

/// Grants, revocations and floors in an order in which they can be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthorityEvent {
    /// Fact records.
    pub records_b64: Vec<String>,
}

/// Reason why a key is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CauseRow {
    /// Kind of the reason: `current` (part of the initial state), `written`, `deleted`, `revoked`, `floored` or
    /// `expired`.
    pub kind: String,
    /// Id of the entry, grant or floor that caused the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The present state of a key, or a part of it. Changes that occur together are sent once, with the cause of the last
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyEvent {
    /// Key whose state the event reports.
    pub key: String,
    /// State of the key: `present`; `absent`; `early`: no entry is shown, but `entries` names early ones that wait
    /// until they are due, so the state is unknown; or `unreadable`: the agent cannot read the entries from its store.
    /// It then sends what it can, and the key again once it can be read.
    pub state: String,
    /// Id of the shown entry; in quotes, it is the entity tag for `If-Match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Time of writing of the shown entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_us: Option<u64>,
    /// Id of the grant that the shown entry cites; absent for root's entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// In the form `values`: the value, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// In the form `values`: the value in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_b64: Option<String>,
    /// Reason for this event.
    pub cause: CauseRow,
    /// In the form `records`: the part of the frontier that this event contains; absent: the whole frontier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartRow>,
    /// In the form `records`: ids of the entries in this event, tombstones included. In the state `early`: ids of the
    /// waiting entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
    /// In the form `records`: the shown entry, if it is among `entries`, as a fact record with its value. Omitted if it
    /// cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records_b64: Vec<String>,
    /// In the form `records`: the other entries, newest first, as fact records without the value. Unreadable ones are
    /// omitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fronts_b64: Vec<String>,
}

/// The part of a key's entries that an event contains. If the entries do not fit in one event, they are sent newest
/// first in a `first`, any number of `next` and a `last` event, with other events in between; entries merged meanwhile
/// are sent as `news`. The `first` event also contains the shown entry, whatever its position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PartRow {
    /// Kind of the part: `first`, `next`, `last`, or `news` (entries that were merged or are shown now, outside this
    /// order).
    pub kind: String,
    /// Number of the sequence within the stream: a `next` or `last` event continues the previous event with the same
    /// number and key. A new `first` event abandons an unfinished sequence. 0 for `news`.
    pub telling: u64,
    /// For `first` and `next`: all entries of the frontier down to this place, inclusive, have been sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_to: Option<PlaceRow>,
}

impl PartRow {
    /// The newest entries, and the shown one.
    pub const FIRST: &str = "first";
    /// The entries that follow those of the previous event.
    pub const NEXT: &str = "next";
    /// The entries that follow those of the previous event, down to the oldest.
    pub const LAST: &str = "last";
    /// Entries that were merged or are shown now.
    pub const NEWS: &str = "news";
}

/// The position of an entry in the order of its key's entries: by time, then by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlaceRow {
    /// Time of writing.
    pub timestamp_us: u64,
    /// Id of the entry.
    pub entry: String,
}

impl KeyEvent {
    /// An entry is shown.
    pub const PRESENT: &str = "present";
    /// No entry is shown.
    pub const ABSENT: &str = "absent";
    /// The agent cannot read the entries from its store.
    pub const UNREADABLE: &str = "unreadable";
    /// No entry is shown, and `entries` names early ones that wait until they are due by the agent's clock: the state
    /// is unknown.
    pub const EARLY: &str = "early";
}

/// The initial state has been sent, and the stream is live from here on. Of keys with very many entries, the newest and
/// the shown entry have been sent; the others follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncedEvent {
    /// Current time by this replica's clock.
    pub now_us: u64,
    /// Id of this replica. It is unproven; a client that uses several agents can tell by it whether two are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// Whether only the changes after the cursor were sent.
    pub resumed: bool,
    /// If `have` was compared: the numbers of the buckets that differ. All keys with entries in these buckets were
    /// sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub different: Option<Vec<u32>>,
    /// If `have` was compared: whether the authority facts were the same. If not, all of them were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_authority: Option<bool>,
}

/// The watcher has missed changes. Without `have`, the whole state is sent again, followed by `synced`. With `have`, an
/// invalid cursor leads to a comparison of digests instead, and an overflow ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GapEvent {
    /// Reason: `cursor` (of another replica, of an earlier run, or too old) or `overflow` (the watcher is too slow).
    pub reason: String,
}

impl GapEvent {
    /// The cursor is of another replica, of an earlier run, or too old.
    pub const CURSOR: &str = "cursor";
    /// More changes were pending than are kept for one watcher.
    pub const OVERFLOW: &str = "overflow";
}
