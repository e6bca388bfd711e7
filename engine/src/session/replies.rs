//! The end of a walk's way down: lists of ids, what they want and lack, and which of two entries supersedes the
//! other before either is sent.

use super::forest::{Leaf, Phase};
use super::frame::{MAX_TELLS, get_reply, kind, put_chosen, put_reply};
use super::region::Region;
use super::reply::{Compared, InKeys, Reply};
use super::tell::{Tell, TellCoding};
use super::walk::{Asked, Coding, Send, Walk, get};
use super::wire::{BadFrame, Input, put_varint};
use std::collections::BTreeSet;

/// The most entries of a flight that are compared beyond the list they stand in. What is beyond may be sent although
/// the other side has something newer.
const MAX_COMPARED: usize = 65_536;

impl Walk {
    /// The key of a region of entries of one key, and the digits that their ids begin with.
    fn key_of<'a>(&self, region: &'a Region) -> Option<(&'a [u8], &'a [u8])> {
        if self.phase == Phase::Entries { region.key() } else { None }
    }

    /// Compares a list with what is here.
    pub(super) fn answer_list(&mut self, region: &Region, ids: Vec<u32>) {
        let subject = self.seen.1;
        self.seen.1 += 1;
        // What supersedes an entry is not to be found among some others of its key.
        let is_part_of_key = self.key_of(region).is_some_and(|(_, digits)| !digits.is_empty());
        if ids.is_empty() && !is_part_of_key {
            self.sends.push_back(Send::Span(region.span()));
            return;
        }
        let theirs: BTreeSet<u32> = ids.iter().copied().collect();
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
        let is_told = is_part_of_key || !wants.is_empty();
        let told = if !is_told || self.phase == Phase::Authority || extra_count > MAX_TELLS {
            if extra_count <= MAX_TELLS {
                self.sends.extend(extra.into_iter().map(Send::One));
            } else {
                self.sends.push_back(Send::Rest(region.span(), theirs));
            }
            Vec::new()
        } else {
            extra
        };
        if !wants.is_empty() || !told.is_empty() {
            self.replies.push(Reply { subject, listed: ids.len(), wants, told });
        }
    }

    /// Writes all replies of the flight. Times are told by their distance to the newest of them.
    pub(super) fn write_replies(&mut self) {
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

    /// The facts at some places of the list of a region.
    fn wanted(&self, region: &Region, places: &[usize]) -> Vec<Leaf> {
        let mut places = places.iter().peekable();
        let listed = self.forest.leaves(region).enumerate();
        let last = places.clone().last().map_or(0, |last| last + 1);
        listed
            .take(last)
            .filter(|(place, _)| places.next_if_eq(&place).is_some())
            .map(|(_, leaf)| leaf)
            .collect()
    }

    /// Looks through the replies of a flight for those to lists inside keys.
    pub(super) fn compare_in_keys(&self, frames: &[bytes::Bytes], asked: &Asked) -> Result<InKeys, BadFrame> {
        let mut in_keys = InKeys::default();
        if !asked.lists.iter().any(|(region, _)| self.key_of(region).is_some()) {
            return Ok(in_keys);
        }
        let (mut coding, mut compared) = (Coding::default(), 0);
        let replies = frames.iter().filter_map(|frame| frame.strip_prefix(&[kind::REPLIES]));
        for content in replies {
            let mut input = Input::new(content);
            while !input.is_empty() {
                let (subject, count) = coding.read_subject(kind::REPLIES, &mut input)?;
                let (region, listed) = get(&asked.lists, subject)?;
                let (wants, tells) = get_reply(&mut input, count, *listed, &mut coding.tells)?;
                let Some((key, _)) = self.key_of(region).filter(|_| compared < MAX_COMPARED) else {
                    continue;
                };
                let known = in_keys.0.entry(key.to_vec()).or_default();
                compared -= known.len();
                known.note(self.wanted(region, &wants).iter().map(|leaf| self.tell(leaf)), &tells);
                compared += known.len();
            }
        }
        Ok(in_keys)
    }

    /// Sends what is wanted and claims what was told of, leaving out on either side what the other's supersedes.
    pub(super) fn answer_reply(
        &mut self,
        region: &Region,
        wants: &[usize],
        tells: &[Tell],
        in_keys: &InKeys,
    ) {
        let subject = self.seen.2;
        self.seen.2 += 1;
        let wanted = self.wanted(region, wants);
        let mine: Vec<Tell> = wanted.iter().map(|leaf| self.tell(leaf)).collect();
        let mut here = Compared::default();
        let compared = match self.key_of(region).and_then(|(key, _)| in_keys.0.get(key)) {
            Some(compared) => compared,
            None => {
                here.note(mine.iter().copied(), tells);
                &here
            }
        };
        let claims: Vec<usize> = tells
            .iter()
            .enumerate()
            .filter(|(_, told)| !compared.wanted.supersedes(told, []))
            .map(|(place, _)| place)
            .collect();
        for (leaf, own) in wanted.into_iter().zip(mine) {
            if !compared.told.supersedes(&own, self.grants_above(&leaf)) {
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

    /// The hashes of all grants whose entries an entry gives way to.
    fn grants_above(&self, leaf: &Leaf) -> Vec<u32> {
        let Leaf::Entry(_, meta) = leaf else { return Vec::new() };
        let above = meta.grant.iter().flat_map(|grant| grant.chain());
        above.map(|grant| self.salt.short(&grant.id().0)).collect()
    }
}

#[cfg(test)]
#[path = "replies_tests.rs"]
mod tests;
