//! Types of `/v1/watch`: the request and the events.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Maximum number of keys that one watch may list.
pub const MAX_WATCH_KEYS: usize = 16_384;
/// Maximum number of filters that one watch may have.
pub const MAX_WATCH_FILTERS: usize = 256;

/// Names of the events that a watch stream sends.
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
    /// Beginning of the comment that names a commit, after the colon and the space.
    const TOLD: &str = "told ";

    /// Returns the comment that reports that the stream has sent everything up to this commit, with the empty line that
    /// ends it.
    pub fn to_heartbeat(self) -> String {
        format!(": {}{self}\n\n", Self::TOLD)
    }

    /// Parses the text of a comment, without the colon and the space; `None` if it names no commit.
    pub fn of_heartbeat(comment: &str) -> Option<Self> {
        comment.strip_prefix(Self::TOLD)?.parse().ok()
    }

    /// Whether a stream that has sent everything up to this commit has also sent the commit `other`. False if the two
    /// are of different runs.
    pub fn covers(&self, other: &Self) -> bool {
        self.run == other.run && self.commit >= other.commit
    }
}

impl fmt::Display for CommitMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.commit)
    }
}

/// Error for a text that does not name a commit.
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

/// Form in which the events about keys report their state.
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
    /// Ordered filters, each a list of globs of which the last match decides; a key that one filter includes is
    /// watched. At most [`MAX_WATCH_FILTERS`].
    #[serde(default)]
    pub filters: Vec<Vec<String>>,
    /// Id of the cluster that the watcher verifies against, in hexadecimal. An agent of another cluster refuses the
    /// watch instead of sending facts that do not verify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Form in which the events about keys report their state.
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
    /// Digest of the ids of the authority facts that the watcher has.
    pub authority: String,
    /// Digests of the keys that the watcher has, one for each of 1 to 256 buckets.
    pub buckets: Vec<String>,
}

/// Grants, revocations and floors that the watcher has not received yet, in an order in which they can be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthorityEvent {
    /// Fact records of the grants, revocations and floors.
    pub records_b64: Vec<String>,
}

/// Reason why the stream sends a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CauseRow {
    /// Kind of the reason: `current` (part of the initial state), `written`, `deleted`, `revoked`, `floored` or
    /// `expired`.
    pub kind: String,
    /// Id of the entry, grant or floor that caused the change; absent if there is none, as in `current`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The present state of a key, or a part of it. Changes that occur together are sent once, with the cause of the last
/// of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyEvent {
    /// Key whose state the event reports.
    pub key: String,
    /// State of the key: `present`; `absent`; `early`: no entry is shown, but `entries` names early ones that wait
    /// until they are due, so the state is unknown; or `unreadable`: the agent cannot read the key's entries from its
    /// store. It then sends what it can read, and the key again once all can be read.
    pub state: String,
    /// Id of the shown entry; in quotes, it is the entity tag for `If-Match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Time at which the shown entry was written, by the writer's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_us: Option<u64>,
    /// Id of the grant that the shown entry cites; absent for root's entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// In the form `values`: value of the shown entry as text; absent if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// In the form `values`: value of the shown entry in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_b64: Option<String>,
    /// Reason why this event was sent.
    pub cause: CauseRow,
    /// In the form `records`: the part of the frontier that this event contains; absent if it contains the whole
    /// frontier.
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
    /// In the form `records`: the entries of this event except the shown one, newest first, as fact records without the
    /// value. Unreadable ones are omitted.
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
    /// Number of the sequence of parts within the stream: a `next` or `last` event continues the previous event with
    /// the same number and key. A new `first` event abandons an unfinished sequence. 0 for `news`.
    pub telling: u64,
    /// For `first` and `next`: position of an entry; all entries of the key's frontier from the newest down to this
    /// position, inclusive, have been sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_to: Option<PlaceRow>,
}

impl PartRow {
    /// The event begins a sequence: it contains the newest entries of the key, and the shown one.
    pub const FIRST: &str = "first";
    /// The event continues a sequence: it contains the entries that are next older than those of the sequence's
    /// previous event.
    pub const NEXT: &str = "next";
    /// The event ends a sequence: it contains the remaining entries, down to the oldest of the key.
    pub const LAST: &str = "last";
    /// The event belongs to no sequence: it contains entries that were merged or are shown now.
    pub const NEWS: &str = "news";
}

/// The position of an entry in the order of its key's entries: by timestamp, then by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlaceRow {
    /// Time at which the entry was written, by the writer's clock.
    pub timestamp_us: u64,
    /// Id of the entry.
    pub entry: String,
}

impl KeyEvent {
    /// An entry of the key is shown.
    pub const PRESENT: &str = "present";
    /// No entry of the key is shown.
    pub const ABSENT: &str = "absent";
    /// The agent cannot read the key's entries from its store.
    pub const UNREADABLE: &str = "unreadable";
    /// No entry of the key is shown, and `entries` names early ones that wait until they are due by the agent's clock:
    /// the key's state is unknown.
    pub const EARLY: &str = "early";
}

/// The initial state has been sent, and the stream is live from here on. Of keys with very many entries, the newest and
/// the shown entry have been sent; their older entries follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncedEvent {
    /// Current time by this replica's clock.
    pub now_us: u64,
    /// Id of this replica. It is unproven; a client that uses several agents can tell by it whether two of them are the
    /// same replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// Whether the stream was resumed at the cursor, so that only the changes after it were sent.
    pub resumed: bool,
    /// If `have` was compared: numbers of the buckets, counted from 0, in which the agent's state differs. All keys
    /// with entries in these buckets were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub different: Option<Vec<u32>>,
    /// If `have` was compared: whether the watcher and the agent have the same authority facts. If not, all of them
    /// were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_authority: Option<bool>,
}

/// The watcher has missed changes. Without `have`, the whole state is sent again, followed by `synced`. With `have`, an
/// invalid cursor leads to a comparison of digests instead, and an overflow ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GapEvent {
    /// Reason why changes were missed: `cursor` (the cursor is of another replica, of an earlier run, or too old) or
    /// `overflow` (the watcher is too slow: more changes were pending than are kept).
    pub reason: String,
}

impl GapEvent {
    /// The cursor is of another replica, of an earlier run, or too old.
    pub const CURSOR: &str = "cursor";
    /// More changes were pending than are kept for one watcher, or for all watchers together.
    pub const OVERFLOW: &str = "overflow";
}
