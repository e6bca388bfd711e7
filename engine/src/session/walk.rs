//! One phase of a round: comparing two trees by short hashes, flight by flight, until each side knows what the
//! other lacks.

use super::forest::{Forest, Leaf, Phase, Span};
use super::frame::{
    MAX_LIST_IDS, MAX_TELLS, get_chosen, get_list, get_parts, get_reply, get_subject, kind, put_chosen,
    put_list, put_parts, put_reply,
};
use super::salt::Salt;
use super::tell::{Tell, TellCoding};
use super::wire::{BadFrame, Input, put_varint};
use crate::tree::{BUCKET_MAX, Region};
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
struct Asked {
    parts: Vec<Region>,
    /// Each with the number of ids listed.
    lists: Vec<(Region, usize)>,
    /// For each reply sent, what it told of.
    tells: Vec<Vec<Leaf>>,
    claims: usize,
}

/// A reply that waits until all of a flight are known.
#[derive(Debug)]
struct Reply {
    subject: u64,
    /// How many ids the list has.
    listed: usize,
    wants: Vec<usize>,
    told: Vec<Leaf>,
}

/// Where the coding of a flight has come to, the same for who writes it and who reads it.
#[derive(Debug, Default)]
struct Coding {
    /// The least subject that the next item of each kind may have.
    next: [u64; 4],
    tells: TellCoding,
}

impl Coding {
    fn next(&mut self, kind: u8) -> &mut u64 {
        &mut self.next[slot(kind)]
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
    forest: Forest,
    salt: Salt,
    asked: Asked,
    /// The flight that is being made: closed frames, and one open frame of each kind.
    frames: VecDeque<Vec<u8>>,
    open: [Vec<u8>; 4],
    coding: Coding,
    bytes: usize,
    /// Replies to the flight being answered.
    replies: Vec<Reply>,
    /// Names of the regions that the flight asks about: the other side's may be long, and are kept until its answer.
    asked_bytes: usize,
    /// Numbers of the other side's parts, lists and replies in the flight being answered.
    seen: (u64, u64, u64),
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
        let mut coding = Coding::default();
        self.seen = (0, 0, 0);
        for frame in frames {
            let (&kind, content) = frame.split_first().ok_or(BadFrame)?;
            let mut input = Input::new(content);
            while !input.is_empty() {
                self.answer_item(kind, &mut input, &asked, &mut coding)?;
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
        coding: &mut Coding,
    ) -> Result<(), BadFrame> {
        let next = coding.next(kind);
        let (subject, count) = get_subject(kind, input, *next)?;
        *next = subject + 1;
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
                self.answer_reply(region, &wants, &tells);
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
        let regions: Vec<Region> = parts.iter().map(|(region, _)| region.clone()).collect();
        let gaps = self.forest.gaps(region, &regions).map_err(|_| BadFrame)?;
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

    /// Compares a list with what is here.
    fn answer_list(&mut self, region: &Region, ids: Vec<u32>) {
        let subject = self.seen.1;
        self.seen.1 += 1;
        let theirs: BTreeSet<u32> = ids.iter().copied().collect();
        if theirs.is_empty() {
            self.sends.push_back(Send::Span((region.start(), region.end())));
            return;
        }
        let mut here = BTreeSet::new();
        let mut extra: Vec<Leaf> = Vec::new();
        let mut extra_count = 0;
        for leaf in self.forest.leaves(region) {
            let short = leaf.short(&self.salt);
            if theirs.contains(&short) {
                here.insert(short);
            } else {
                extra_count += 1;
                if extra.len() <= MAX_TELLS {
                    extra.push(leaf);
                }
            }
        }
        let wants: Vec<usize> =
            ids.iter().enumerate().filter(|(_, id)| !here.contains(id)).map(|(place, _)| place).collect();
        // Where all of theirs is known here, none of it supersedes what is extra. Otherwise the other side is
        // told first, so that neither sends what the other has something newer for.
        let told = if wants.is_empty() || self.phase == Phase::Authority || extra_count > MAX_TELLS {
            let span = (region.start(), region.end());
            if extra_count <= MAX_TELLS {
                self.sends.extend(extra.into_iter().map(Send::One));
            } else {
                self.sends.push_back(Send::Rest(span, theirs));
            }
            Vec::new()
        } else {
            extra
        };
        if !wants.is_empty() {
            self.replies.push(Reply { subject, listed: ids.len(), wants, told });
        }
    }

    /// Writes all replies of the flight. Times are told by their distance to the newest of them.
    fn write_replies(&mut self) {
        let replies = std::mem::take(&mut self.replies);
        let told = replies.iter().flat_map(|reply| &reply.told);
        self.coding.tells.refer_to(told.map(|leaf| self.tell(leaf).latest).max());
        for Reply { subject, listed, wants, told } in replies {
            let tells: Vec<Tell> = told.iter().map(|leaf| self.tell(leaf)).collect();
            let write = |out: &mut Vec<u8>, skipped, coding: &mut TellCoding| {
                put_reply(out, skipped, listed, &wants, &tells, coding);
            };
            if self.put(kind::REPLIES, subject, write) {
                self.asked.tells.push(told);
            }
        }
    }

    fn tell(&self, leaf: &Leaf) -> Tell {
        let Leaf::Entry(key, meta) = leaf else { return Tell::default() };
        let grant = meta.grant_id().map_or(0, |id| self.salt.short(&id.0));
        let time = meta.timestamp.as_micros();
        Tell { key: self.salt.short(key.as_bytes()) & 0xff_ffff, earliest: time, latest: time, grant }
    }

    /// Sends what is wanted and claims what was told of, leaving out on either side what the other's supersedes.
    fn answer_reply(&mut self, region: &Region, wants: &[usize], tells: &[Tell]) {
        let subject = self.seen.2;
        self.seen.2 += 1;
        let wanted: Vec<Leaf> = {
            let mut wants = wants.iter().peekable();
            let listed = self.forest.leaves(region).take(MAX_LIST_IDS).enumerate();
            listed.filter(|(place, _)| wants.next_if_eq(&place).is_some()).map(|(_, leaf)| leaf).collect()
        };
        let mine: Vec<Tell> = wanted.iter().map(|leaf| self.tell(leaf)).collect();
        let is_superseded = |told: &Tell| mine.iter().any(|own| own.supersedes(told));
        let claims: Vec<usize> = tells
            .iter()
            .enumerate()
            .filter(|(_, told)| !is_superseded(told))
            .map(|(place, _)| place)
            .collect();
        for (leaf, own) in wanted.into_iter().zip(mine) {
            if !tells.iter().any(|told| self.told_supersedes(told, &own, &leaf)) {
                self.sends.push_back(Send::One(leaf));
            }
        }
        if claims.is_empty() {
            return;
        }
        let write = |out: &mut Vec<u8>, skipped, _: &mut TellCoding| {
            put_varint(out, skipped);
            put_chosen(out, tells.len(), &claims);
        };
        if self.put(kind::CLAIMS, subject, write) {
            self.asked.claims += 1;
        }
    }

    /// Whether an entry that the other side told of supersedes one of ours: then ours is not sent.
    fn told_supersedes(&self, told: &Tell, own: &Tell, leaf: &Leaf) -> bool {
        if told.supersedes(own) {
            return true;
        }
        let Leaf::Entry(_, meta) = leaf else { return false };
        let mut above = meta.grant.iter().flat_map(|grant| grant.chain());
        told.is_newer_than(own) && above.any(|grant| self.salt.short(&grant.id().0) == told.grant)
    }

    /// Asks about a region where the two sides differ: a list of what is here if that is little, else a cut.
    fn ask(&mut self, subject: u64, region: Region) {
        if self.forest.count(&region) <= BUCKET_MAX {
            let mut leaves = self.forest.leaves(&region);
            let ids: Vec<u32> =
                leaves.by_ref().take(MAX_LIST_IDS).map(|leaf| leaf.short(&self.salt)).collect();
            let is_whole = leaves.next().is_none();
            drop(leaves);
            self.truncated |= !is_whole;
            self.asked_bytes += region.bytes().len();
            if self.put(kind::LISTS, subject, |out, skipped, _| put_list(out, skipped, &ids)) {
                self.asked.lists.push((region, ids.len()));
            }
            return;
        }
        let cut = self.forest.cut(&region, PARTS_TARGET);
        let parts: Vec<(Region, u32)> =
            cut.into_iter().map(|part| (part.region, self.salt.short(&part.digest.0))).collect();
        self.asked_bytes += parts.iter().map(|(region, _)| region.bytes().len()).sum::<usize>();
        if self.put(kind::PARTS, subject, |out, skipped, _| put_parts(out, skipped, region.bytes(), &parts)) {
            self.asked.parts.extend(parts.into_iter().map(|(region, _)| region));
        }
    }

    /// Writes an item into the open frame of its kind; false if the flight has no room for it. `write` is given
    /// the number of subjects left out before this one, and the coding of tells.
    fn put(
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

fn get<T>(asked: &[T], subject: u64) -> Result<&T, BadFrame> {
    usize::try_from(subject).ok().and_then(|subject| asked.get(subject)).ok_or(BadFrame)
}
