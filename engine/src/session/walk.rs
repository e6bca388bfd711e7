//! One phase of a round: comparing two trees by short hashes, flight by flight, until each side knows what the
//! other lacks.

use super::forest::{Forest, Leaf, Phase, Span};
use super::frame::{Item, MAX_LIST_IDS, MAX_TELLS, Tell, get_item, kind, put_item};
use super::salt::Salt;
use super::wire::{BadFrame, Input};
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
    lists: Vec<Region>,
    /// For each reply sent, what it told of.
    tells: Vec<Vec<Leaf>>,
    claims: usize,
}

/// The last subject of each kind of item in a flight, to check that they ascend.
#[derive(Debug)]
struct Subjects([i64; 4]);

impl Subjects {
    fn new() -> Self {
        Self([-1; 4])
    }

    fn of(&mut self, kind: u8) -> &mut i64 {
        // Kinds of walk frames are PARTS to CLAIMS, which follow one another.
        &mut self.0[usize::from(kind - kind::PARTS) & 3]
    }
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
    written: Subjects,
    bytes: usize,
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
            written: Subjects::new(),
            bytes: 0,
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
        let mut read = Subjects::new();
        self.seen = (0, 0, 0);
        for frame in frames {
            let (&kind, content) = frame.split_first().ok_or(BadFrame)?;
            let mut input = Input::new(content);
            while !input.is_empty() {
                let previous = read.of(kind);
                let base = |subject: u64| asked.parts.get(usize::try_from(subject).ok()?);
                let item = get_item(kind, &mut input, *previous, base)?;
                *previous = self.answer_item(&asked, item)? as i64;
            }
        }
        Ok(())
    }

    fn answer_item(&mut self, asked: &Asked, item: Item) -> Result<u64, BadFrame> {
        match item {
            Item::Parts { subject, parts } => {
                self.answer_parts(get(&asked.parts, subject)?, parts)?;
                Ok(subject)
            }
            Item::List { subject, ids } => {
                self.answer_list(get(&asked.parts, subject)?, ids);
                Ok(subject)
            }
            Item::Reply { subject, wants, tells } => {
                self.answer_reply(get(&asked.lists, subject)?, &wants, &tells);
                Ok(subject)
            }
            Item::Claim { subject, wants } => {
                let told = get(&asked.tells, subject)?;
                for position in wants {
                    let leaf = told.get(position as usize).ok_or(BadFrame)?;
                    self.sends.push_back(Send::One(leaf.clone()));
                }
                Ok(subject)
            }
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
        let wants: Vec<u32> =
            (0..).zip(&ids).filter(|(_, id)| !here.contains(id)).map(|(at, _)| at).collect();
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
            let tells = told.iter().map(|leaf| self.tell(leaf)).collect();
            if self.put(kind::REPLIES, &Item::Reply { subject, wants, tells }, &[]) {
                self.asked.tells.push(told);
            }
        }
    }

    fn tell(&self, leaf: &Leaf) -> Tell {
        let Leaf::Entry(key, meta) = leaf else { return Tell { key: 0, timestamp: 0, grant: 0 } };
        let grant = meta.grant_id().map_or(0, |id| self.salt.short(&id.0));
        Tell { key: self.salt.short(key.as_bytes()), timestamp: meta.timestamp.as_micros(), grant }
    }

    /// Sends what is wanted and claims what was told of, leaving out on either side what the other's supersedes.
    fn answer_reply(&mut self, region: &Region, wants: &[u32], tells: &[Tell]) {
        let subject = self.seen.2;
        self.seen.2 += 1;
        let wanted: Vec<Leaf> = {
            let mut wants = wants.iter().peekable();
            let listed = (0..).zip(self.forest.leaves(region)).take(MAX_LIST_IDS);
            listed.filter(|(at, _)| wants.next_if_eq(&at).is_some()).map(|(_, leaf)| leaf).collect()
        };
        let mine: Vec<Tell> = wanted.iter().map(|leaf| self.tell(leaf)).collect();
        let claims: Vec<u32> = (0..)
            .zip(tells)
            .filter(|(_, told)| !mine.iter().any(|own| own.supersedes(told)))
            .map(|(at, _)| at)
            .collect();
        for (leaf, own) in wanted.into_iter().zip(mine) {
            if !tells.iter().any(|told| self.told_supersedes(told, &own, &leaf)) {
                self.sends.push_back(Send::One(leaf));
            }
        }
        if !claims.is_empty() && self.put(kind::CLAIMS, &Item::Claim { subject, wants: claims }, &[]) {
            self.asked.claims += 1;
        }
    }

    /// Whether an entry that the other side told of supersedes one of ours: then ours is not sent.
    fn told_supersedes(&self, told: &Tell, own: &Tell, leaf: &Leaf) -> bool {
        if told.supersedes(own) {
            return true;
        }
        let Leaf::Entry(_, meta) = leaf else { return false };
        let above = meta.grant.iter().flat_map(|grant| grant.chain());
        let ranks = above.map(|grant| self.salt.short(&grant.id().0)).any(|short| short == told.grant);
        told.key == own.key && told.timestamp > own.timestamp && ranks
    }

    /// Asks about a region where the two sides differ: a list of what is here if that is little, else a cut.
    fn ask(&mut self, subject: u64, region: Region) {
        if self.forest.count(&region) <= BUCKET_MAX {
            let leaves = self.forest.leaves(&region).take(MAX_LIST_IDS);
            let ids = leaves.map(|leaf| leaf.short(&self.salt)).collect();
            if self.put(kind::LISTS, &Item::List { subject, ids }, &[]) {
                self.asked.lists.push(region);
            }
            return;
        }
        let cut = self.forest.cut(&region, PARTS_TARGET);
        let parts: Vec<(Region, u32)> =
            cut.into_iter().map(|part| (part.region, self.salt.short(&part.digest.0))).collect();
        let regions: Vec<Region> = parts.iter().map(|(region, _)| region.clone()).collect();
        if self.put(kind::PARTS, &Item::Parts { subject, parts }, region.bytes()) {
            self.asked.parts.extend(regions);
        }
    }

    /// Writes an item into the open frame of its kind; false if the flight has no room for it.
    fn put(&mut self, kind: u8, item: &Item, base: &[u8]) -> bool {
        if self.bytes >= MAX_FLIGHT_BYTES {
            self.truncated = true;
            return false;
        }
        let slot = usize::from(kind - kind::PARTS) & 3;
        let previous = self.written.of(kind);
        let frame = &mut self.open[slot];
        let before = frame.len();
        if frame.is_empty() {
            frame.push(kind);
        }
        put_item(frame, item, *previous, base);
        *previous = match item {
            Item::Parts { subject, .. }
            | Item::List { subject, .. }
            | Item::Reply { subject, .. }
            | Item::Claim { subject, .. } => *subject as i64,
        };
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
        self.written = Subjects::new();
        self.bytes = 0;
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

impl Tell {
    /// Whether the entry told of is newer than `other` of the same key, and root's or of the same grant. A newer
    /// one of a grant above is not seen here; then both are sent, and the merge decides.
    fn supersedes(&self, other: &Self) -> bool {
        let outranks = self.grant == 0 || self.grant == other.grant;
        self.key == other.key && self.timestamp > other.timestamp && outranks
    }
}

fn get<T>(asked: &[T], subject: u64) -> Result<&T, BadFrame> {
    usize::try_from(subject).ok().and_then(|subject| asked.get(subject)).ok_or(BadFrame)
}
