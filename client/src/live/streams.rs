//! The streams that are read, and the place where a later one may go on.

use super::interests::InterestId;
use kvgossip_grants::{EntryId, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names a stream. 0 is never given.
pub(crate) type StreamId = u64;

/// The longest cursor that is kept, in bytes: agents give less than 40.
const MAX_CURSOR_BYTES: usize = 128;

/// How a stream is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// While none is read.
    Anew,
    /// For new interests, beside another of the same agent, which goes on until this one is in step.
    Beside,
    /// At another agent, while one goes on until this one is answered.
    Over,
}

/// A stream that is being read, or opened.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) way: Way,
    pub(super) endpoint: Arc<str>,
    /// What it was opened for.
    pub(super) interests: BTreeSet<InterestId>,
    /// What this client said it has, until the stream is in step.
    pub(super) claimed: BTreeMap<Key, Vec<EntryId>>,
    pub(super) buckets: usize,
    /// Keys that were told since it was opened and before it was in step.
    pub(super) told: BTreeSet<Key>,
    /// Whether a cursor was sent and no gap was heard of.
    pub(super) resuming: bool,
    pub(super) synced: bool,
    /// Something that it told could not be kept: a later stream has to tell it again.
    pub(super) dropped_some: bool,
    /// The id of the last event, once it is in step.
    cursor: Option<String>,
}

impl Telling {
    pub(super) fn new(way: Way, endpoint: Arc<str>, interests: BTreeSet<InterestId>) -> Self {
        Self {
            way,
            endpoint,
            interests,
            claimed: BTreeMap::new(),
            buckets: 1,
            told: BTreeSet::new(),
            resuming: false,
            synced: false,
            dropped_some: false,
            cursor: None,
        }
    }

    /// Notes the id of an event that was taken in.
    pub(super) fn note_cursor(&mut self, cursor: &str) {
        // Before it is in step, not all that stood has been told.
        if self.synced && self.cursor.as_deref() != Some(cursor) {
            self.cursor = (cursor.len() <= MAX_CURSOR_BYTES).then(|| cursor.to_owned());
        }
    }

    fn bookmark(&self) -> Option<Bookmark> {
        let cursor = self.cursor.clone().filter(|_| !self.dropped_some)?;
        Some(Bookmark { cursor, interests: self.interests.clone() })
    }
}

/// A place in one agent's history, and what was watched up to there.
#[derive(Debug)]
pub(super) struct Bookmark {
    pub(super) cursor: String,
    interests: BTreeSet<InterestId>,
}

impl Bookmark {
    /// Whether a stream for these interests may go on here: each was part of the one before.
    pub(super) fn serves(&self, interests: &BTreeSet<InterestId>) -> bool {
        interests.is_subset(&self.interests)
    }
}

/// What is left of the streams when their connection is lost; `before` is the place that they were opened with. What an
/// agent said it holds is remembered with the keys, and has to be what it said up to this place.
pub(super) fn bookmark(streams: &BTreeMap<StreamId, Telling>, before: Option<Bookmark>) -> Option<Bookmark> {
    match streams.values().rev().find(|telling| telling.synced) {
        Some(telling) => telling.bookmark(),
        None if streams.values().all(|telling| telling.told.is_empty()) => before,
        // Cut in the middle, perhaps of what another agent said.
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an agent says too early, or at too great a length, is no place to go on at.
    #[test]
    fn a_cursor_is_kept_once_everything_before_it_was_told() {
        let cursor = |telling: &Telling| telling.bookmark().map(|bookmark| bookmark.cursor);
        let mut telling = Telling::new(Way::Anew, "http://a".into(), BTreeSet::from([1]));
        telling.note_cursor("7-1");
        assert_eq!(cursor(&telling), None, "not all that stood has been told");
        telling.synced = true;
        assert_eq!(cursor(&telling), None);
        telling.note_cursor("7-2");
        assert_eq!(cursor(&telling).as_deref(), Some("7-2"));
        telling.note_cursor(&"7".repeat(MAX_CURSOR_BYTES + 1));
        assert_eq!(cursor(&telling), None, "the place before it is not the last one");
        telling.note_cursor("7-3");
        telling.dropped_some = true;
        assert_eq!(cursor(&telling), None, "something before it has to be told again");
    }
}
