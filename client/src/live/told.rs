//! What the connected agent has sent of one key: down to which rank, and which of the entries did not verify.

use super::MAX_UNVERIFIED_ENTRIES;
use super::streams::StreamId;
use kvgossip_api::{PartRow, PlaceRow};
use kvgossip_grants::{EntryId, Rank, Timestamp};
use std::collections::BTreeSet;

/// Part of a key's live entries that one event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All live entries of the key.
    Whole,
    /// The newest entries, down to a rank, and the shown entry.
    First {
        /// Number of the sequence of events about the key that starts with this one.
        telling: u64,
        /// Rank down to which this event carries the newest entries; the shown entry may be below it.
        down_to: Rank,
    },
    /// The entries after the previous part, down to a rank.
    Next {
        /// Number of the sequence of events, as in its `First` part.
        telling: u64,
        /// Rank down to which this event continues.
        down_to: Rank,
    },
    /// The entries after the previous part, down to the oldest.
    Last {
        /// Number of the sequence of events, as in its `First` part.
        telling: u64,
    },
    /// Entries that were merged since the last event about the key, in no order.
    News,
}

impl Part {
    /// Parses the part row of an event; `None` if it is invalid.
    pub(crate) fn read(row: Option<&PartRow>) -> Option<Self> {
        let Some(row) = row else { return Some(Self::Whole) };
        let down_to = || {
            let PlaceRow { timestamp_us, entry } = row.down_to.as_ref()?;
            Some((Timestamp::from_micros(*timestamp_us).ok()?, entry.parse::<EntryId>().ok()?))
        };
        let telling = row.telling;
        Some(match row.kind.as_str() {
            PartRow::FIRST => Self::First { telling, down_to: down_to()? },
            PartRow::NEXT => Self::Next { telling, down_to: down_to()? },
            PartRow::LAST => Self::Last { telling },
            PartRow::NEWS => Self::News,
            _ => return None,
        })
    }
}

/// Rank down to which a stream has sent a key, without a gap from the newest entry.
#[derive(Clone, Copy, Debug)]
struct Reached {
    stream: StreamId,
    telling: u64,
    down_to: Rank,
}

/// What the connected agent has sent of one key.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Whether all entries of the key that are live at the agent have been sent.
    whole: bool,
    /// Whether the stream that sent these entries has reported that it is in step (`synced`), before or since.
    in_step: bool,
    /// Streams that have sent part of the key; one agent has at most two.
    reached: Vec<Reached>,
    /// Id of the entry that the agent shows for the key; `None` if it shows none or has not sent it.
    shows: Option<EntryId>,
    /// Entries in this client's frontier that the agent has not sent.
    lacking: BTreeSet<EntryId>,
    /// Entries that the agent sent, that did not verify, and that are not known to be ended or superseded; at most
    /// [`MAX_UNVERIFIED_ENTRIES`].
    unverified: BTreeSet<EntryId>,
    /// Whether the agent sent more entries that did not verify than `unverified` can hold.
    more_unverified: bool,
    /// Whether the agent sent an entry that is known to be ended or superseded.
    pub(crate) outdated: bool,
}

impl Told {
    /// Returns the state before anything is sent. `standing`: this client's frontier.
    fn nothing(standing: BTreeSet<EntryId>) -> Self {
        Self { lacking: standing, ..Self::default() }
    }

    /// Returns the state in which the agent holds exactly `claimed`. `standing`: this client's frontier.
    pub(crate) fn exactly(standing: impl Iterator<Item = EntryId>, claimed: &[EntryId]) -> Self {
        let mut told = Self::nothing(standing.collect());
        told.complete(claimed);
        told
    }

    /// Records that the agent holds `claimed` and what it has sent, and nothing else.
    pub(crate) fn complete(&mut self, claimed: &[EntryId]) {
        claimed.iter().for_each(|id| self.account(id));
        self.whole = true;
        self.reached.clear();
    }

    /// Returns whether an event starts to send the key again, instead of continuing.
    pub(crate) fn is_begun_anew_by(&self, part: Part, stream: StreamId) -> bool {
        match part {
            Part::Whole => true,
            // A key that was sent completely remains complete: a connection always leads to the same agent, and an
            // agent loses an entry only by a fact that ends it.
            Part::First { .. } => {
                (!self.whole || self.is_disputed()) && self.reached.iter().all(|other| other.stream == stream)
            }
            Part::Next { .. } | Part::Last { .. } | Part::News => false,
        }
    }

    /// Returns the state at the start of a new sequence. `standing`: this client's frontier.
    pub(crate) fn begin(standing: impl Iterator<Item = EntryId>) -> Self {
        Self::nothing(standing.collect())
    }

    /// Records that the agent sent an entry that is in this client's frontier, or known to be ended or superseded.
    pub(crate) fn account(&mut self, id: &EntryId) {
        self.lacking.remove(id);
        self.unverified.remove(id);
    }

    /// Records that the agent sent an entry that did not verify.
    pub(crate) fn doubt(&mut self, id: EntryId) {
        if self.unverified.len() < MAX_UNVERIFIED_ENTRIES {
            self.unverified.insert(id);
        } else {
            self.more_unverified |= !self.unverified.contains(&id);
        }
    }

    /// Records an event of a stream about the key.
    pub(crate) fn note(&mut self, part: Part, stream: StreamId, shows: Option<EntryId>) {
        self.shows = shows;
        let at = |told: &Self, telling| {
            told.reached.iter().position(|other| (other.stream, other.telling) == (stream, telling))
        };
        match part {
            Part::Whole => self.complete(&[]),
            Part::First { telling, down_to } => {
                self.reached.retain(|other| other.stream != stream);
                self.reached.push(Reached { stream, telling, down_to });
            }
            Part::Next { telling, down_to } => {
                if let Some(at) = at(self, telling) {
                    self.reached[at].down_to = down_to;
                }
            }
            Part::Last { telling } => {
                if at(self, telling).is_some() {
                    self.complete(&[]);
                }
            }
            Part::News => {}
        }
    }

    /// Records the end of a stream that sent part of the key.
    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        self.reached.retain(|other| other.stream != stream);
    }

    /// Records that the stream that sent the key is in step.
    pub(crate) fn is_in_step(&mut self) {
        self.in_step = true;
    }

    /// Returns whether all entries that are live at the agent have been sent.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Returns whether an agent in step has sent everything, and every entry verified or is known to be ended or
    /// superseded.
    pub(crate) fn is_certain(&self) -> bool {
        self.whole && self.in_step && !self.has_unverified()
    }

    /// Returns whether the shown entry, or its absence, agrees with what the agent has sent so far.
    pub(crate) fn decides(&self, shown: Option<Rank>) -> bool {
        let reaches = |shown: Rank| {
            self.shows == Some(shown.1) || self.reached.iter().any(|reached| reached.down_to <= shown)
        };
        self.whole || shown.is_some_and(reaches)
    }

    /// Returns whether the agent has not sent this entry of the frontier.
    pub(crate) fn lacks(&self, id: &EntryId) -> bool {
        self.lacking.contains(id)
    }

    /// Returns the number of entries of the frontier that the agent has not sent.
    pub(crate) fn lacking(&self) -> usize {
        self.lacking.len()
    }

    /// Records that an entry from an agent other than the connected one joined the frontier.
    pub(crate) fn note_lacking(&mut self, id: EntryId) {
        self.lacking.insert(id);
    }

    /// Records that the entry with this id left the frontier.
    pub(crate) fn forget(&mut self, id: &EntryId) {
        self.lacking.remove(id);
    }

    /// Returns whether the agent sent an entry of the key that did not verify.
    pub(crate) fn has_unverified(&self) -> bool {
        self.more_unverified || !self.unverified.is_empty()
    }

    /// Returns whether the agent sent the entry with this id and it did not verify.
    pub(crate) fn doubts(&self, id: &EntryId) -> bool {
        self.unverified.contains(id)
    }

    /// Returns whether the agent sent an entry that did not verify or is known to be ended or superseded.
    pub(crate) fn is_disputed(&self) -> bool {
        self.outdated || self.has_unverified()
    }
}
