//! Facts that a side asks not to be sent, by short hashes of their ids.
//!
//! Each side names them once, in front of its first answer. The hashes are salted for the session, so a fact whose hash
//! happens to be that of another is left out of one session, and sent in the next.

use super::forest::Leaf;
use super::frame::kind;
use super::salt::Salt;
use super::wire::{BadFrame, Input, put_varint};
use super::{Session, SessionError};
use crate::declined::{MAX_DECLINED, Reason};
use crate::view::View;
use kvgossip_grants::FactId;
use std::collections::{BTreeMap, BTreeSet};

/// The most facts that one side declines in a session.
pub const MAX_DECLINES: usize = 16_384;
const _: () = assert!(MAX_DECLINED <= MAX_DECLINES, "all that a replica declines has room in the frame");

/// The round whose salt the hashes have; those of walks have 1 or more.
const NO_ROUND: u8 = 0;

/// What the two sides decline.
#[derive(Debug, Default)]
pub(super) struct Declines {
    /// Ours, until they are told.
    ours: Vec<(FactId, Reason)>,
    /// Theirs, once they were told, and the salt of the hashes.
    theirs: Option<(Salt, BTreeMap<u32, Reason>)>,
}

impl Session {
    /// Names the facts that this side does not want to be sent. Call it before the first frame is handled or polled.
    ///
    /// They are told in front of this side's first answer, the first [`MAX_DECLINES`] of them.
    pub fn decline(&mut self, mut declined: Vec<(FactId, Reason)>) {
        declined.truncate(MAX_DECLINES);
        self.declines.ours = declined;
    }

    /// The frame that tells what this side declines, the first time that it is asked for.
    pub(super) fn declines_frame(&mut self) -> Option<Vec<u8>> {
        let ours = std::mem::take(&mut self.declines.ours);
        if ours.is_empty() || !self.config.takes_facts || self.compares() {
            return None;
        }
        let salt = self.salt(NO_ROUND);
        let shorts = |wanted: Reason| -> BTreeSet<u32> {
            let of_reason = ours.iter().filter(|(_, reason)| *reason == wanted);
            of_reason.map(|(id, _)| salt.short(&id.0)).collect()
        };
        let (not_yet, refused) = (shorts(Reason::NotYet), shorts(Reason::Refused));
        let mut frame = vec![kind::DECLINES];
        put_varint(&mut frame, not_yet.len() as u64);
        not_yet.iter().chain(&refused).for_each(|short| frame.extend_from_slice(&short.to_le_bytes()));
        Some(frame)
    }

    /// Takes what the other side declines.
    pub(super) fn handle_declines(&mut self, content: &[u8]) -> Result<(), SessionError> {
        if self.declines.theirs.is_some() {
            return Err(SessionError::Protocol("a side declines twice"));
        }
        self.declines.theirs = Some((self.salt(NO_ROUND), read(content)?));
        Ok(())
    }

    /// Whether the other side declines a fact that stands. Then what keeps the two sides from becoming equal is noted:
    /// the other side does not hear of the fact in this session.
    pub(super) fn withholds(&mut self, leaf: &Leaf, view: &View) -> bool {
        let is_set = matches!(leaf, Leaf::Entry(_, meta) if !meta.is_delete);
        let no_room = self.their_hello.as_ref().is_some_and(|theirs| theirs.is_full && theirs.takes_facts);
        if is_set && no_room && leaf.stands(view) {
            self.obstacles.quota = true;
            return true;
        }
        let Some((salt, theirs)) = &self.declines.theirs else { return false };
        // Whoever declines nothing costs no hashes.
        let reason = if theirs.is_empty() { None } else { theirs.get(&leaf.short(salt)) };
        match reason.filter(|_| leaf.stands(view)) {
            None => return false,
            Some(Reason::NotYet) => self.obstacles.not_yet = true,
            Some(Reason::Refused) => self.obstacles.refused = true,
        }
        true
    }
}

fn read(content: &[u8]) -> Result<BTreeMap<u32, Reason>, BadFrame> {
    let mut input = Input::new(content);
    let not_yet = input.count(4, MAX_DECLINES)?;
    let mut declined = BTreeMap::new();
    for place in 0.. {
        if input.is_empty() {
            break;
        }
        if place >= MAX_DECLINES {
            return Err(BadFrame);
        }
        declined.insert(input.u32()?, if place < not_yet { Reason::NotYet } else { Reason::Refused });
    }
    Ok(declined)
}

#[cfg(test)]
#[path = "declines_tests.rs"]
mod tests;
