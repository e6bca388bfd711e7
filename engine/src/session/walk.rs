//! One phase of a round: comparing two trees by short hashes, flight by flight, until each side knows what the
//! other lacks.

use super::forest::{Forest, Leaf, Phase};
use super::frame::{
    MAX_LIST_IDS, get_chosen, get_list, get_parts, get_reply, get_subject, kind, put_list, put_parts,
};
use super::region::{Region, Span};
use super::reply::{InKeys, Reply};
use super::salt::Salt;
use super::tell::TellCoding;
use super::wire::{BadFrame, Input};
use crate::view::View;
use kvgossip_grants::PathPrefix;
use std::collections::{BTreeSet, VecDeque};

/// How many parts a region is cut into, unless its first cut makes more.
const PARTS_TARGET: usize = 16;
/// A walk frame is closed when it has this many bytes.
const FRAME_BYTES: usize = 32 * 1024;
/// The most bytes of walk frames in one flight; what does not fit is left to the next round.
pub const MAX_FLIGHT_BYTES: usize = 32 << 20;

/// The most bytes of names of regions that one flight asks about; the rest is left to the next round.
pub const MAX_ASKED_BYTES: usize = 64 << 20;

/// A fact or a run of facts to be sent.
#[derive(Debug)]
pub(super) enum Send {
    One(Leaf),
    Span(Span),
    /// All of a region but those that the other side listed.
    Rest(Span, BTreeSet<u32>),
}

/// What a flight asked for: the answers of the next flight refer to these by number.
#[derive(Debug, Default)]
pub(super) struct Asked {
    parts: Vec<Region>,
    /// Each with the number of ids listed.
    pub(super) lists: Vec<(Region, usize)>,
    /// For each reply sent, what it told of.
    pub(super) tells: Vec<Vec<Leaf>>,
    pub(super) claims: usize,
}

/// Where the coding of a flight has come to, the same for who writes it and who reads it.
#[derive(Debug, Default)]
pub(super) struct Coding {
    /// The least subject that the next item of each kind may have.
    next: [u64; 4],
    pub(super) tells: TellCoding,
}

impl Coding {
    fn next(&mut self, kind: u8) -> &mut u64 {
        &mut self.next[slot(kind)]
    }

    /// The subject of the next item that is read, and the count that is packed with it.
    pub(super) fn read_subject(&mut self, kind: u8, input: &mut Input<'_>) -> Result<(u64, u64), BadFrame> {
        let next = self.next(kind);
        let (subject, count) = get_subject(kind, input, *next)?;
        *next = subject + 1;
        Ok((subject, count))
    }
}

/// Kinds of walk frames are PARTS to CLAIMS, which follow one another.
fn slot(kind: u8) -> usize {
    usize::from(kind.wrapping_sub(kind::PARTS)) & 3
}

/// One phase of a round.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) phase: Phase,
    pub(super) forest: Forest,
    pub(super) salt: Salt,
    pub(super) asked: Asked,
    /// The flight that is being made: closed frames, and one open frame of each kind.
    frames: VecDeque<Vec<u8>>,
    open: [Vec<u8>; 4],
    pub(super) coding: Coding,
    bytes: usize,
    /// Replies to the flight being answered.
    pub(super) replies: Vec<Reply>,
    /// Names of the regions that the flight asks about: the other side's may be long, and are kept until its answer.
    asked_bytes: usize,
    /// Numbers of the other side's parts, lists and replies in the flight being answered.
    pub(super) seen: (u64, u64, u64),
    /// What the other side lacks, in the order in which it is sent.
    pub(super) sends: VecDeque<Send>,
    /// Whether something had to be left out for want of room.
    pub(super) truncated: bool,
}

impl Walk {
    /// Starts a phase on a snapshot of `view`. Both sides count as having asked for the scope.
    pub(super) fn new(phase: Phase, view: &View, scope: &PathPrefix, salt: Salt) -> Self {
        let asked = Asked { parts: Forest::scope(phase, scope), ..Asked::default() };
        Self {
            phase,
            forest: Forest::new(phase, view),
            salt,
            asked,
            frames: VecDeque::new(),
            open: Default::default(),
            coding: Coding::default(),
            bytes: 0,
            replies: Vec::new(),
            asked_bytes: 0,
            seen: (0, 0, 0),
            sends: VecDeque::new(),
            truncated: false,
        }
    }

    /// Opens the walk with the first questions.
    pub(super) fn open(&mut self) {
        let scope = std::mem::take(&mut self.asked.parts);
        for (subject, region) in (0..).zip(scope) {
            self.ask(subject, region);
        }
    }

    /// Answers all walk frames of the other side's flight.
    pub(super) fn answer(&mut self, frames: &[bytes::Bytes]) -> Result<(), BadFrame> {
        let asked = std::mem::take(&mut self.asked);
        let in_keys = self.compare_in_keys(frames, &asked)?;
        let mut coding = Coding::default();
        self.seen = (0, 0, 0);
        for frame in frames {
            let (&kind, content) = frame.split_first().ok_or(BadFrame)?;
            let mut input = Input::new(content);
            while !input.is_empty() {
                self.answer_item(kind, &mut input, &asked, &in_keys, &mut coding)?;
            }
        }
        self.write_replies();
        Ok(())
    }

    fn answer_item(
        &mut self,
        kind: u8,
        input: &mut Input<'_>,
        asked: &Asked,
        in_keys: &InKeys,
        coding: &mut Coding,
    ) -> Result<(), BadFrame> {
        let (subject, count) = coding.read_subject(kind, input)?;
        match kind {
            kind::PARTS => {
                let region = get(&asked.parts, subject)?;
                let parts = get_parts(input, count, region.bytes())?;
                self.answer_parts(region, parts)
            }
            kind::LISTS => {
                let region = get(&asked.parts, subject)?;
                self.answer_list(region, get_list(input, count)?);
                Ok(())
            }
            kind::REPLIES => {
                let (region, listed) = get(&asked.lists, subject)?;
                let (wants, tells) = get_reply(input, count, *listed, &mut coding.tells)?;
                self.answer_reply(region, &wants, &tells, in_keys);
                Ok(())
            }
            kind::CLAIMS => {
                let told = get(&asked.tells, subject)?;
                let claimed = get_chosen(input, told.len())?;
                let claimed = claimed.into_iter().filter_map(|place| told.get(place));
                self.sends.extend(claimed.cloned().map(Send::One));
                Ok(())
            }
            _ => Err(BadFrame),
        }
    }

    /// Cuts what differs further, and sends what lies in no part at all: the other side has nothing there.
    fn answer_parts(&mut self, region: &Region, parts: Vec<(Region, u32)>) -> Result<(), BadFrame> {
        let gaps = self.forest.gaps(region, parts.iter().map(|(part, _)| part)).map_err(|_| BadFrame)?;
        self.sends.extend(gaps.into_iter().map(Send::Span));
        for (region, theirs) in parts {
            let subject = self.seen.0;
            self.seen.0 += 1;
            if self.salt.short(&self.forest.digest(&region).0) != theirs {
                self.ask(subject, region);
            }
        }
        Ok(())
    }

    /// Asks about a region where the two sides differ: a list of what is here if that is little, else a cut.
    fn ask(&mut self, subject: u64, region: Region) {
        if self.forest.count(&region) <= MAX_LIST_IDS {
            let ids: Vec<u32> = self.forest.leaves(&region).map(|leaf| leaf.short(&self.salt)).collect();
            debug_assert!(self.forest.count(&region) == ids.len(), "a list is whole");
            self.asked_bytes += region.bytes().len();
            if self.put(kind::LISTS, subject, |out, skipped, _| put_list(out, skipped, &ids)) {
                self.asked.lists.push((region, ids.len()));
            }
            return;
        }
        let hash = |part: Region| {
            let short = self.salt.short(&self.forest.digest(&part).0);
            (part, short)
        };
        let parts: Vec<(Region, u32)> =
            self.forest.cut(&region, PARTS_TARGET).into_iter().map(hash).collect();
        debug_assert!(
            parts.iter().all(|(part, _)| part.bytes().starts_with(region.bytes()))
                && parts.is_sorted_by(|(a, _), (b, _)| a.bytes() < b.bytes()),
            "parts ascend within their region"
        );
        self.asked_bytes += parts.iter().map(|(region, _)| region.bytes().len()).sum::<usize>();
        if self.put(kind::PARTS, subject, |out, skipped, _| put_parts(out, skipped, region.bytes(), &parts)) {
            self.asked.parts.extend(parts.into_iter().map(|(region, _)| region));
        }
    }

    /// Writes an item into the open frame of its kind; false if the flight has no room for it. `write` is given
    /// the number of subjects left out before this one, and the coding of tells.
    pub(super) fn put(
        &mut self,
        kind: u8,
        subject: u64,
        write: impl FnOnce(&mut Vec<u8>, u64, &mut TellCoding),
    ) -> bool {
        if self.bytes >= MAX_FLIGHT_BYTES || self.asked_bytes >= MAX_ASKED_BYTES {
            self.truncated = true;
            return false;
        }
        let next = self.coding.next(kind);
        let skipped = subject - *next;
        *next = subject + 1;
        let frame = &mut self.open[slot(kind)];
        let before = frame.len();
        if frame.is_empty() {
            frame.push(kind);
        }
        write(frame, skipped, &mut self.coding.tells);
        self.bytes += frame.len() - before;
        if frame.len() >= FRAME_BYTES {
            let full = std::mem::take(frame);
            self.frames.push_back(full);
        }
        true
    }

    /// Whether the flight being made asks for anything.
    pub(super) fn is_open(&self) -> bool {
        let Asked { parts, lists, tells, claims } = &self.asked;
        !parts.is_empty() || !lists.is_empty() || !tells.is_empty() || *claims > 0
    }

    /// The next walk frame of the flight.
    pub(super) fn next_frame(&mut self) -> Option<Vec<u8>> {
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        let open = self.open.iter_mut().find(|frame| !frame.is_empty());
        open.map(std::mem::take)
    }

    /// Forgets what the finished flight wrote, so that the next one starts afresh.
    pub(super) fn end_flight(&mut self) {
        self.coding = Coding::default();
        self.bytes = 0;
        self.asked_bytes = 0;
    }

    /// The next fact to send.
    pub(super) fn next_send(&mut self) -> Option<Leaf> {
        const CHUNK: usize = 64;
        loop {
            match self.sends.pop_front()? {
                Send::One(leaf) => return Some(leaf),
                Send::Span(span) => {
                    let (leaves, rest) = self.forest.take(span, CHUNK);
                    self.push_front(leaves, rest.map(Send::Span));
                }
                Send::Rest(span, listed) => {
                    let (mut leaves, rest) = self.forest.take(span, CHUNK);
                    leaves.retain(|leaf| !listed.contains(&leaf.short(&self.salt)));
                    self.push_front(leaves, rest.map(|rest| Send::Rest(rest, listed)));
                }
            }
        }
    }

    fn push_front(&mut self, leaves: Vec<Leaf>, rest: Option<Send>) {
        if let Some(rest) = rest {
            self.sends.push_front(rest);
        }
        leaves.into_iter().rev().for_each(|leaf| self.sends.push_front(Send::One(leaf)));
    }
}

pub(super) fn get<T>(asked: &[T], subject: u64) -> Result<&T, BadFrame> {
    usize::try_from(subject).ok().and_then(|subject| asked.get(subject)).ok_or(BadFrame)
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
