//! What the connected agent says of one key: how far down it has told what stands, and what of it is in doubt.

use super::MAX_UNVERIFIED_ENTRIES;
use super::streams::StreamId;
use kvgossip_api::{PartRow, PlaceRow};
use kvgossip_grants::{EntryId, Rank, Timestamp};
use std::collections::BTreeSet;

/// Which part of a key's entries an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All that stand.
    Whole,
    /// The newest, down to a place, and the one that the agent shows.
    First {
        /// Names what goes on from here.
        telling: u64,
        /// The place.
        down_to: Rank,
    },
    /// Those after them, down to a place.
    Next {
        /// As in the `First`.
        telling: u64,
        /// The place.
        down_to: Rank,
    },
    /// Those after them, down to the oldest.
    Last {
        /// As in the `First`.
        telling: u64,
    },
    /// Some, in no order.
    News,
}

impl Part {
    /// Reads what an event says of itself; `None` if it says nothing that can be meant.
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

/// How far a stream has told a key, from the newest entry down without a gap.
#[derive(Clone, Copy, Debug)]
struct Reached {
    stream: StreamId,
    telling: u64,
    down_to: Rank,
}

/// What the agent says of a key.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Whether all entries were told that stand at the agent.
    whole: bool,
    /// Whether that was told by a stream that was in step, then or later.
    in_step: bool,
    /// Streams that are in the middle of it; one agent has at most two.
    reached: Vec<Reached>,
    /// The entry that the agent shows.
    shows: Option<EntryId>,
    /// Entries that stand here and that the agent has not told.
    lacking: BTreeSet<EntryId>,
    /// Entries that the agent told and that neither verified nor are known to be over; at most
    /// [`MAX_UNVERIFIED_ENTRIES`].
    unverified: BTreeSet<EntryId>,
    /// Whether there were more.
    more_unverified: bool,
    /// Whether the agent told something that is known to be over.
    pub(crate) outdated: bool,
}

impl Told {
    /// Nothing was told yet, of which `standing` stands here.
    fn nothing(standing: BTreeSet<EntryId>) -> Self {
        Self { lacking: standing, ..Self::default() }
    }

    /// The agent holds `claimed` and nothing else, of what `standing` stands here.
    pub(crate) fn exactly(standing: impl Iterator<Item = EntryId>, claimed: &[EntryId]) -> Self {
        let mut told = Self::nothing(standing.collect());
        told.complete(claimed);
        told
    }

    /// What was told came on top of `claimed`, which the agent held.
    pub(crate) fn complete(&mut self, claimed: &[EntryId]) {
        claimed.iter().for_each(|id| self.account(id));
        self.whole = true;
        self.reached.clear();
    }

    /// Whether an event begins to tell the key anew, instead of going on.
    pub(crate) fn is_begun_anew_by(&self, part: Part, stream: StreamId) -> bool {
        match part {
            Part::Whole => true,
            // What was told wholly stays told: the agent cannot lose an entry without a fact that ends it, nor, on one
            // connection, be another.
            Part::First { .. } => {
                (!self.whole || self.is_disputed()) && self.reached.iter().all(|other| other.stream == stream)
            }
            Part::Next { .. } | Part::Last { .. } | Part::News => false,
        }
    }

    /// Begins anew, with what stands here.
    pub(crate) fn begin(standing: impl Iterator<Item = EntryId>) -> Self {
        Self::nothing(standing.collect())
    }

    /// The agent told an entry that stands here, or is known to be over.
    pub(crate) fn account(&mut self, id: &EntryId) {
        self.lacking.remove(id);
        self.unverified.remove(id);
    }

    /// The agent told an entry that did not verify.
    pub(crate) fn doubt(&mut self, id: EntryId) {
        if self.unverified.len() < MAX_UNVERIFIED_ENTRIES {
            self.unverified.insert(id);
        } else {
            self.more_unverified |= !self.unverified.contains(&id);
        }
    }

    /// An event of a stream was taken in.
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

    /// A stream ended.
    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        self.reached.retain(|other| other.stream != stream);
    }

    /// The stream that told it is in step.
    pub(crate) fn is_in_step(&mut self) {
        self.in_step = true;
    }

    /// Whether everything was told that stands at the agent.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether everything was told by an agent in step, and all of it verified or is known to be over.
    pub(crate) fn is_certain(&self) -> bool {
        self.whole && self.in_step && !self.has_unverified()
    }

    /// Whether what is shown here, or that nothing is, is what the agent says as far as it has told.
    pub(crate) fn decides(&self, shown: Option<Rank>) -> bool {
        let reaches = |shown: Rank| {
            self.shows == Some(shown.1) || self.reached.iter().any(|reached| reached.down_to <= shown)
        };
        self.whole || shown.is_some_and(reaches)
    }

    /// Whether the agent has not told this entry, which stands here.
    pub(crate) fn lacks(&self, id: &EntryId) -> bool {
        self.lacking.contains(id)
    }

    /// How many entries stand here that the agent has not told.
    pub(crate) fn lacking(&self) -> usize {
        self.lacking.len()
    }

    /// An entry stands here that came from elsewhere.
    pub(crate) fn note_lacking(&mut self, id: EntryId) {
        self.lacking.insert(id);
    }

    /// An entry stands no more.
    pub(crate) fn forget(&mut self, id: &EntryId) {
        self.lacking.remove(id);
    }

    /// Whether something did not verify.
    pub(crate) fn has_unverified(&self) -> bool {
        self.more_unverified || !self.unverified.is_empty()
    }

    /// Whether this entry did not verify.
    pub(crate) fn doubts(&self, id: &EntryId) -> bool {
        self.unverified.contains(id)
    }

    /// Whether something did not verify, or is known to be over.
    pub(crate) fn is_disputed(&self) -> bool {
        self.outdated || self.has_unverified()
    }
}
