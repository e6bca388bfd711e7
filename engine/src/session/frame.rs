//! The frames of a session and their bytes. A frame is a kind byte and its content; the transport puts the
//! length in front.
//!
//! A walk frame is a run of items of one kind. Each begins with its *subject*, a number that counts from 0 what
//! the receiver put into its last flight: parts for [`kind::PARTS`] and [`kind::LISTS`], lists for
//! [`kind::REPLIES`], replies for [`kind::CLAIMS`]. Subjects ascend strictly within a flight and are written as
//! the number of those left out since the one before.

use super::region::Region;
use super::tell::{MIN_TELL_BYTES, Tell, TellCoding};
use super::wire::{BadFrame, Input, put_packed, put_varint};
use crate::tree::FLAT_IDS_MAX;
use kvgossip_grants::{ClusterId, Digest, MAX_KEY_BYTES, PathPrefix, Timestamp};

/// Version of the session protocol.
pub const PROTOCOL_VERSION: u8 = 2;
/// The extension of a hello that says what the sender's clock says as it sends the hello: 8 bytes, microseconds since
/// 1970.
pub const CLOCK_EXTENSION: u64 = 2;
/// The most extensions that a hello may carry.
pub const MAX_EXTENSIONS: usize = 32;
/// The most bytes of one extension.
pub const MAX_EXTENSION_BYTES: usize = 1024;
/// The most parts that one region is cut into: every possible next byte, and the key that ends there.
pub const MAX_PARTS: usize = 257;
/// The most ids in one list; more facts than that are cut.
pub const MAX_LIST_IDS: usize = FLAT_IDS_MAX;
/// The most entries told of in one reply.
pub const MAX_TELLS: usize = 64;
/// The longest code in a refusal, in bytes.
pub const MAX_CODE_BYTES: usize = 64;
/// The longest name of a region, in bytes: a key, a zero byte, and an id in hexadecimal.
pub const MAX_REGION_BYTES: usize = MAX_KEY_BYTES + 1 + 64;

/// Kind bytes.
pub(super) mod kind {
    pub(crate) const HELLO: u8 = 1;
    /// A region cut into parts, each with its salted digest.
    pub(crate) const PARTS: u8 = 2;
    /// All salted ids of a region.
    pub(crate) const LISTS: u8 = 3;
    /// Which ids of a list are wanted, and entries that the list lacks.
    pub(crate) const REPLIES: u8 = 4;
    /// Which of those entries are wanted.
    pub(crate) const CLAIMS: u8 = 5;
    /// Records of facts, one after the other.
    pub(crate) const FACTS: u8 = 6;
    pub(crate) const END: u8 = 7;
    pub(crate) const FINAL: u8 = 8;
    pub(crate) const BYE: u8 = 9;
    /// Names of facts, in a session that moves none.
    pub(crate) const NAMES: u8 = 10;
    /// Salted ids of facts that the sender does not want to be sent.
    pub(crate) const DECLINES: u8 = 11;
}

/// The first frame of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Which cluster; another one is refused.
    pub cluster: ClusterId,
    /// Digest over the authority facts.
    pub authority_root: Digest,
    /// Digest over the entries of the scope.
    pub entries_root: Digest,
    /// How many authority facts, and how many keys in the scope.
    pub counts: (u64, u64),
    /// Half of the salt.
    pub nonce: [u8; 8],
    /// Whether this side takes facts in; one that only hands out says no.
    pub takes_facts: bool,
    /// Whether this side's store has reached its limit, so that it takes no entry that sets a key.
    pub is_full: bool,
    /// Whether this side has yet to end its first comparison with anybody: what it lacks says nothing then.
    pub is_newcomer: bool,
    /// The path prefix that the session is confined to.
    pub scope: PathPrefix,
    /// For later versions: numbered, and skipped where the number is unknown.
    pub extensions: Vec<(u64, Vec<u8>)>,
}

impl Hello {
    pub(super) fn time_extension(now: Timestamp) -> (u64, Vec<u8>) {
        (CLOCK_EXTENSION, now.as_micros().to_le_bytes().to_vec())
    }

    /// The sender's clock; `None` if it is not told, or is no time.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let (_, content) = self.extensions.iter().find(|(number, _)| *number == CLOCK_EXTENSION)?;
        let micros = u64::from_le_bytes(content.as_slice().try_into().ok()?);
        Timestamp::from_micros(micros).ok()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let flags =
            u8::from(self.takes_facts) | u8::from(self.is_full) << 1 | u8::from(self.is_newcomer) << 2;
        let mut out = vec![kind::HELLO, PROTOCOL_VERSION, flags];
        out.extend_from_slice(&self.cluster.0);
        out.extend_from_slice(&self.authority_root.0);
        out.extend_from_slice(&self.entries_root.0);
        put_varint(&mut out, self.counts.0);
        put_varint(&mut out, self.counts.1);
        out.extend_from_slice(&self.nonce);
        let scope = if self.scope.is_root() { "" } else { self.scope.as_str() };
        put_varint(&mut out, scope.len() as u64);
        out.extend_from_slice(scope.as_bytes());
        put_varint(&mut out, self.extensions.len() as u64);
        for (number, content) in &self.extensions {
            put_varint(&mut out, *number);
            put_varint(&mut out, content.len() as u64);
            out.extend_from_slice(content);
        }
        out
    }

    /// The version is looked at by the caller, before the rest is read.
    pub(super) fn decode(mut input: Input<'_>) -> Result<Self, BadFrame> {
        // Unknown flags are skipped like unknown extensions.
        let flags = input.byte()?;
        let (takes_facts, is_full, is_newcomer) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        let cluster = ClusterId(input.array()?);
        let authority_root = Digest(input.array()?);
        let entries_root = Digest(input.array()?);
        let counts = (input.varint()?, input.varint()?);
        let nonce = input.array()?;
        let len = input.count(1, MAX_KEY_BYTES)?;
        let scope = match std::str::from_utf8(input.bytes(len)?).map_err(|_| BadFrame)? {
            "" => PathPrefix::root(),
            text => PathPrefix::parse(text).map_err(|_| BadFrame)?,
        };
        let count = input.count(2, MAX_EXTENSIONS)?;
        let mut extensions = Vec::new();
        for _ in 0..count {
            let number = input.varint()?;
            let len = input.count(1, MAX_EXTENSION_BYTES)?;
            extensions.push((number, input.bytes(len)?.to_vec()));
        }
        input.finish()?;
        Ok(Self {
            cluster,
            authority_root,
            entries_root,
            counts,
            nonce,
            takes_facts,
            is_full,
            is_newcomer,
            scope,
            extensions,
        })
    }
}

/// The last frame of a round: what this side has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Final {
    pub(super) authority_root: Digest,
    pub(super) entries_root: Digest,
    /// Whether this side took anything in during the round.
    pub(super) changed: bool,
    /// [`Obstacles`](super::Obstacles) as bits.
    pub(super) obstacles: u8,
}

impl Final {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![kind::FINAL];
        out.extend_from_slice(&self.authority_root.0);
        out.extend_from_slice(&self.entries_root.0);
        out.push(u8::from(self.changed));
        out.push(self.obstacles);
        out
    }

    pub(super) fn decode(mut input: Input<'_>) -> Result<Self, BadFrame> {
        let this = Self {
            authority_root: Digest(input.array()?),
            entries_root: Digest(input.array()?),
            changed: input.byte()? != 0,
            obstacles: input.byte()?,
        };
        input.finish()?;
        Ok(this)
    }
}

/// How many low bits of a packed pair each item gives to its second number; what is usual then fits in a byte.
const COUNT_BITS: u32 = 5;
const TELLS_BITS: u32 = 4;
const REGION_BITS: u32 = 3;

/// The subject of the next item, and the count that is packed with it (0 where there is none). `next` is the
/// least subject that it may have.
pub(super) fn get_subject(kind: u8, input: &mut Input<'_>, next: u64) -> Result<(u64, u64), BadFrame> {
    let (skipped, count) = match kind {
        kind::PARTS | kind::LISTS => input.packed(COUNT_BITS)?,
        kind::REPLIES => input.packed(TELLS_BITS)?,
        _ => (input.varint()?, 0),
    };
    // Far below where adding 1 to it overflows.
    let subject = next.checked_add(skipped).filter(|subject| *subject <= u64::from(u32::MAX));
    Ok((subject.ok_or(BadFrame)?, count))
}

/// The subject and the parts of a region `base`.
pub(super) fn put_parts(out: &mut Vec<u8>, skipped: u64, base: &[u8], parts: &[(Region, u32)]) {
    put_packed(out, skipped, parts.len() as u64, COUNT_BITS);
    let mut before: &[u8] = base;
    for (region, hash) in parts {
        put_region(out, region, base, before);
        out.extend_from_slice(&hash.to_le_bytes());
        before = region.bytes();
    }
}

/// What follows the subject of parts.
pub(super) fn get_parts(
    input: &mut Input<'_>,
    count: u64,
    base: &[u8],
) -> Result<Vec<(Region, u32)>, BadFrame> {
    // A part takes at least a packed byte and its hash: one that is the whole region has no bytes of its own.
    let count = input.check_count(count, 5, MAX_PARTS)?;
    let mut parts: Vec<(Region, u32)> = Vec::new();
    for _ in 0..count {
        let before = parts.last().map_or(base, |(region, _)| region.bytes());
        let region = get_region(input, base, before)?;
        parts.push((region, input.u32()?));
    }
    Ok(parts)
}

/// A region relative to `base`, the region that is cut: how many bytes it shares with the part before it, how
/// many more it has, and those.
fn put_region(out: &mut Vec<u8>, region: &Region, base: &[u8], before: &[u8]) {
    let own = |bytes: &[u8]| bytes.get(base.len()..).unwrap_or_default().to_vec();
    let (own, before) = (own(region.bytes()), own(before));
    let shared = own.iter().zip(&before).take_while(|(a, b)| a == b).count();
    put_packed(out, shared as u64, (own.len() - shared) as u64, REGION_BITS);
    out.extend_from_slice(&own[shared..]);
}

fn get_region(input: &mut Input<'_>, base: &[u8], before: &[u8]) -> Result<Region, BadFrame> {
    let (shared, more) = input.packed(REGION_BITS)?;
    let shared = usize::try_from(shared).map_err(|_| BadFrame)?;
    let more = usize::try_from(more).map_err(|_| BadFrame)?;
    let kept = before.get(base.len()..).and_then(|own| own.get(..shared)).ok_or(BadFrame)?;
    let mut bytes = [base, kept].concat();
    bytes.extend_from_slice(input.bytes(more)?);
    if bytes.len() > MAX_REGION_BYTES {
        return Err(BadFrame);
    }
    Ok(Region(bytes))
}

/// The subject and the ids of a list.
pub(super) fn put_list(out: &mut Vec<u8>, skipped: u64, ids: &[u32]) {
    put_packed(out, skipped, ids.len() as u64, COUNT_BITS);
    ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
}

/// What follows the subject of a list.
pub(super) fn get_list(input: &mut Input<'_>, count: u64) -> Result<Vec<u32>, BadFrame> {
    let count = input.check_count(count, 4, MAX_LIST_IDS)?;
    (0..count).map(|_| input.u32()).collect()
}

/// The subject of a reply, which of `listed` ids are wanted, and what is told.
pub(super) fn put_reply(
    out: &mut Vec<u8>,
    skipped: u64,
    listed: usize,
    wants: &[usize],
    tells: &[Tell],
    coding: &mut TellCoding,
) {
    put_packed(out, skipped, tells.len() as u64, TELLS_BITS);
    put_chosen(out, listed, wants);
    tells.iter().for_each(|tell| coding.put(out, tell));
}

/// What follows the subject of a reply.
pub(super) fn get_reply(
    input: &mut Input<'_>,
    tells: u64,
    listed: usize,
    coding: &mut TellCoding,
) -> Result<(Vec<usize>, Vec<Tell>), BadFrame> {
    let wants = get_chosen(input, listed)?;
    let count = input.check_count(tells, MIN_TELL_BYTES, MAX_TELLS)?;
    let tells = (0..count).map(|_| coding.get(input)).collect::<Result<_, _>>()?;
    Ok((wants, tells))
}

/// One bit for each of `count` places, ascending from the lowest bit of the first byte.
pub(super) fn put_chosen(out: &mut Vec<u8>, count: usize, chosen: &[usize]) {
    let start = out.len();
    out.resize(start + count.div_ceil(8), 0);
    for place in chosen.iter().filter(|place| **place < count) {
        out[start + place / 8] |= 1 << (place % 8);
    }
}

pub(super) fn get_chosen(input: &mut Input<'_>, count: usize) -> Result<Vec<usize>, BadFrame> {
    let bits = input.bytes(count.div_ceil(8))?;
    let chosen: Vec<usize> =
        (0..bits.len() * 8).filter(|place| bits[place / 8] >> (place % 8) & 1 == 1).collect();
    if chosen.last().is_some_and(|last| *last >= count) { Err(BadFrame) } else { Ok(chosen) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_name_regions_relative_to_their_base() {
        let regions = ["/a", "/a\0", "/a/b", "/a/c\x00f", "/a/c\0ff00", "/a/c/d/e/f"];
        let regions = regions.map(|bytes| Region(bytes.into()));
        let parts: Vec<(Region, u32)> = regions.into_iter().zip([1, 2, 3, 4, 5, u32::MAX]).collect();
        let mut out = Vec::new();
        put_parts(&mut out, 40, b"/a", &parts);
        let mut input = Input::new(&out);
        let (subject, count) = get_subject(kind::PARTS, &mut input, 2).expect("a subject");
        assert_eq!(subject, 42);
        assert_eq!(get_parts(&mut input, count, b"/a"), Ok(parts));
        assert_eq!(input.finish(), Ok(()));
        let longest = Region([b'x'; MAX_REGION_BYTES].into());
        let mut out = Vec::new();
        put_region(&mut out, &longest, b"", b"");
        assert_eq!(get_region(&mut Input::new(&out), b"", b""), Ok(longest));
        let far = Region([b'x'; MAX_REGION_BYTES + 1].into());
        let mut out = Vec::new();
        put_region(&mut out, &far, b"", b"");
        assert_eq!(get_region(&mut Input::new(&out), b"", b""), Err(BadFrame), "longer than a key");
    }

    #[test]
    fn the_flags_of_a_hello_are_apart_and_unknown_ones_are_skipped() {
        for flags in 0..8u8 {
            let hello = Hello {
                cluster: ClusterId([1; 32]),
                authority_root: Digest([2; 32]),
                entries_root: Digest([3; 32]),
                counts: (4, 5),
                nonce: [6; 8],
                takes_facts: flags & 1 != 0,
                is_full: flags & 2 != 0,
                is_newcomer: flags & 4 != 0,
                scope: PathPrefix::root(),
                extensions: Vec::new(),
            };
            // The kind and the version are taken off by then.
            let mut bytes = hello.encode().split_off(2);
            assert_eq!(bytes[0], flags);
            assert_eq!(Hello::decode(Input::new(&bytes)), Ok(hello.clone()));
            bytes[0] |= 0xf8;
            assert_eq!(Hello::decode(Input::new(&bytes)), Ok(hello));
        }
    }

    #[test]
    fn replies_round_trip() {
        let tell = Tell { key: 3, earliest: 1, latest: 1, grant: 0 };
        let replies = [(vec![0, 15], vec![tell; 3]), (vec![], vec![tell; MAX_TELLS]), (vec![7, 8], vec![])];
        let (mut out, mut coding) = (Vec::new(), TellCoding::default());
        for (wants, tells) in &replies {
            put_reply(&mut out, 0, 16, wants, tells, &mut coding);
        }
        let (mut input, mut coding) = (Input::new(&out), TellCoding::default());
        for (subject, (wants, tells)) in (0..).zip(replies) {
            let (read, count) = get_subject(kind::REPLIES, &mut input, subject).expect("a subject");
            assert_eq!(read, subject);
            assert_eq!(get_reply(&mut input, count, 16, &mut coding), Ok((wants, tells)));
        }
        assert_eq!(input.finish(), Ok(()));
        let mut out = Vec::new();
        put_reply(&mut out, 0, 1, &[], &[tell; MAX_TELLS + 1], &mut TellCoding::default());
        let mut input = Input::new(&out);
        let (_, count) = get_subject(kind::REPLIES, &mut input, 0).expect("a subject");
        assert_eq!(get_reply(&mut input, count, 1, &mut TellCoding::default()), Err(BadFrame), "too many");
    }

    #[test]
    fn places_beyond_the_list_cannot_be_chosen() {
        let mut out = Vec::new();
        put_chosen(&mut out, 10, &[0, 7, 8, 9]);
        assert_eq!(out, [0b1000_0001, 0b11]);
        assert_eq!(get_chosen(&mut Input::new(&out), 10), Ok(vec![0, 7, 8, 9]));
        assert_eq!(get_chosen(&mut Input::new(&out), 9), Err(BadFrame));
        let mut out = Vec::new();
        put_chosen(&mut out, 8, &[0, 8, 9]);
        assert_eq!(out, [1], "nor named");
        assert_eq!(get_chosen(&mut Input::new(&[]), 1), Err(BadFrame));
        assert_eq!(get_chosen(&mut Input::new(&[]), 0), Ok(vec![]));
    }
}
