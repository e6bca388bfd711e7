//! Streams that are open, and the position at which a later one can resume.

use super::interests::InterestId;
use kvgossip_grants::{EntryId, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Id of a stream, unique in its client; 0 is never used.
pub(crate) type StreamId = u64;

/// Maximum length of a cursor that is kept, in bytes; agents send less than 40.
const MAX_CURSOR_BYTES: usize = 128;

/// How a stream is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The first stream, while no other one is open.
    Anew,
    /// For new interests, beside another stream of the same agent, which stays open until this one is in step.
    Beside,
    /// At another agent, while the present stream stays open until this one is answered.
    Over,
}

/// Stream that is open or being opened.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) way: Way,
    pub(super) endpoint: Arc<str>,
    /// Ids of the interests that the stream was opened for, without those removed since.
    pub(super) interests: BTreeSet<InterestId>,
    /// Entries whose digests the client sent, by key, until the stream is in step.
    pub(super) claimed: BTreeMap<Key, Vec<EntryId>>,
    pub(super) buckets: usize,
    /// Keys received between the opening of the stream and its being in step.
    pub(super) told: BTreeSet<Key>,
    /// Whether a cursor was sent and no gap has been reported.
    pub(super) resuming: bool,
    pub(super) synced: bool,
    /// Whether something received could not be kept, so that a later stream must send it again.
    pub(super) dropped_some: bool,
    /// Id of the last event, the cursor from which a later stream can resume; `None` until the stream is in
    /// step.
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

    /// Records the id of an event that was processed.
    pub(super) fn note_cursor(&mut self, cursor: &str) {
        // Before the stream is in step, not everything that is live has been sent.
        if self.synced && self.cursor.as_deref() != Some(cursor) {
            self.cursor = (cursor.len() <= MAX_CURSOR_BYTES).then(|| cursor.to_owned());
        }
    }

    fn bookmark(&self) -> Option<Bookmark> {
        let cursor = self.cursor.clone().filter(|_| !self.dropped_some)?;
        Some(Bookmark { cursor, interests: self.interests.clone() })
    }
}

/// Position in one agent's history, and the interests that were watched up to it.
#[derive(Debug)]
pub(super) struct Bookmark {
    pub(super) cursor: String,
    interests: BTreeSet<InterestId>,
}

impl Bookmark {
    /// Returns whether a stream for these interests can resume here: each was part of the earlier one.
    pub(super) fn serves(&self, interests: &BTreeSet<InterestId>) -> bool {
        interests.is_subset(&self.interests)
    }
}

/// Computes the bookmark when the connection is lost. `before` is the one that the streams were opened with. It
/// must agree with what is remembered per key of the agent's statements.
pub(super) fn bookmark(streams: &BTreeMap<StreamId, Telling>, before: Option<Bookmark>) -> Option<Bookmark> {
    match streams.values().rev().find(|telling| telling.synced) {
        Some(telling) => telling.bookmark(),
        None if streams.values().all(|telling| telling.told.is_empty()) => before,
        // The stream was cut before it was in step, so remembered statements may be of different agents.
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cursor that comes too early, or is too long, is not kept.
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
