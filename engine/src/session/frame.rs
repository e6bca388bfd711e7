//! The frames of a session and their bytes. A frame is a kind byte and its content; the transport puts the
//! length in front.

use super::wire::{BadFrame, Input, put_varint};
use crate::tree::Region;
use kvgossip_grants::{ClusterId, Digest, PathPrefix};

/// Version of the session protocol.
pub const PROTOCOL_VERSION: u8 = 1;
/// The most extensions that a hello may carry.
pub const MAX_EXTENSIONS: usize = 32;
/// The most bytes of one extension.
pub const MAX_EXTENSION_BYTES: usize = 1024;
/// The most parts that one region is cut into: every possible next byte, and the key that ends there.
pub const MAX_PARTS: usize = 257;
/// The most ids in one list. A bucket has few keys, but a key may have any number of entries.
pub const MAX_LIST_IDS: usize = 100_000;
/// The most entries told of in one reply.
pub const MAX_TELLS: usize = 64;
/// The longest code in a refusal, in bytes.
pub const MAX_CODE_BYTES: usize = 64;
/// The longest name of a region, in bytes.
pub const MAX_REGION_BYTES: usize = 1026;

/// Kind bytes.
pub(super) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const PARTS: u8 = 2;
    pub(crate) const LISTS: u8 = 3;
    pub(crate) const REPLIES: u8 = 4;
    pub(crate) const CLAIMS: u8 = 5;
    pub(crate) const FACT: u8 = 6;
    pub(crate) const END: u8 = 7;
    pub(crate) const FINAL: u8 = 8;
    pub(crate) const BYE: u8 = 9;
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
    /// The path prefix that the session is confined to.
    pub scope: PathPrefix,
    /// For later versions: numbered, and skipped where the number is unknown.
    pub extensions: Vec<(u64, Vec<u8>)>,
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![kind::HELLO, PROTOCOL_VERSION, u8::from(self.takes_facts)];
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
        let takes_facts = input.byte()? & 1 != 0;
        let cluster = ClusterId(input.array()?);
        let authority_root = Digest(input.array()?);
        let entries_root = Digest(input.array()?);
        let counts = (input.varint()?, input.varint()?);
        let nonce = input.array()?;
        let len = input.count(1, kvgossip_grants::MAX_KEY_BYTES)?;
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
        Ok(Self { cluster, authority_root, entries_root, counts, nonce, takes_facts, scope, extensions })
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

/// An entry that the sender of a reply has and does not push before it knows that the other side lacks it: the
/// other may have a newer one of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tell {
    /// Salted hash of the key.
    pub(super) key: u32,
    pub(super) timestamp: u64,
    /// Salted hash of the cited grant's id; 0 for root.
    pub(super) grant: u32,
}

/// One item of a walk frame. Subjects count from 0 what the receiver put into its last flight: parts for
/// `Parts` and `List`, lists for `Reply`, replies for `Claim`; they ascend strictly within a flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The subject, cut into parts, each with its salted digest.
    Parts { subject: u64, parts: Vec<(Region, u32)> },
    /// All salted ids of the subject.
    List { subject: u64, ids: Vec<u32> },
    /// Positions in the list that are wanted, and what the list lacks.
    Reply { subject: u64, wants: Vec<u32>, tells: Vec<Tell> },
    /// Positions of the reply's tells that are wanted.
    Claim { subject: u64, wants: Vec<u32> },
}

/// Appends an item; `previous` is the subject of the item of this kind before it in the flight, or -1.
pub(super) fn put_item(out: &mut Vec<u8>, item: &Item, previous: i64, base: &[u8]) {
    let subject_delta = |subject: u64| (subject as i64 - previous - 1) as u64;
    match item {
        Item::Parts { subject, parts } => {
            put_varint(out, subject_delta(*subject));
            put_varint(out, parts.len() as u64);
            let mut before: &[u8] = base;
            for (region, hash) in parts {
                put_region(out, region, base, before);
                out.extend_from_slice(&hash.to_le_bytes());
                before = region.bytes();
            }
        }
        Item::List { subject, ids } => {
            put_varint(out, subject_delta(*subject));
            put_varint(out, ids.len() as u64);
            ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
        }
        Item::Reply { subject, wants, tells } => {
            put_varint(out, subject_delta(*subject));
            put_positions(out, wants);
            put_varint(out, tells.len() as u64);
            for tell in tells {
                out.extend_from_slice(&tell.key.to_le_bytes());
                out.extend_from_slice(&tell.timestamp.to_le_bytes());
                out.extend_from_slice(&tell.grant.to_le_bytes());
            }
        }
        Item::Claim { subject, wants } => {
            put_varint(out, subject_delta(*subject));
            put_positions(out, wants);
        }
    }
}

/// A region relative to `base`, the region that is cut: how many bytes it shares with the part before it, how
/// many more it has (doubled, plus 1 for a single key), and those.
fn put_region(out: &mut Vec<u8>, region: &Region, base: &[u8], before: &[u8]) {
    let (bytes, is_exact) = match region {
        Region::Subtree(bytes) => (bytes, 0),
        Region::Exact(bytes) => (bytes, 1),
    };
    let (own, before) =
        (bytes.get(base.len()..).unwrap_or_default(), before.get(base.len()..).unwrap_or_default());
    let shared = own.iter().zip(before).take_while(|(a, b)| a == b).count();
    put_varint(out, shared as u64);
    put_varint(out, ((own.len() - shared) as u64) << 1 | is_exact);
    out.extend_from_slice(&own[shared..]);
}

fn get_region(input: &mut Input<'_>, base: &[u8], before: &[u8]) -> Result<Region, BadFrame> {
    let shared = usize::try_from(input.varint()?).map_err(|_| BadFrame)?;
    let packed = input.varint()?;
    let more = usize::try_from(packed >> 1).map_err(|_| BadFrame)?;
    let kept = before.get(base.len()..).and_then(|own| own.get(..shared)).ok_or(BadFrame)?;
    let mut bytes = [base, kept].concat();
    bytes.extend_from_slice(input.bytes(more)?);
    if bytes.len() > MAX_REGION_BYTES {
        return Err(BadFrame);
    }
    Ok(if packed & 1 == 1 { Region::Exact(bytes) } else { Region::Subtree(bytes) })
}

fn put_positions(out: &mut Vec<u8>, positions: &[u32]) {
    put_varint(out, positions.len() as u64);
    let mut next = 0;
    for position in positions {
        put_varint(out, u64::from(position - next));
        next = position + 1;
    }
}

fn get_positions(input: &mut Input<'_>) -> Result<Vec<u32>, BadFrame> {
    let count = input.count(1, MAX_LIST_IDS)?;
    let mut positions = Vec::new();
    let mut next = 0u64;
    for _ in 0..count {
        let position = next.checked_add(input.varint()?).ok_or(BadFrame)?;
        positions.push(u32::try_from(position).map_err(|_| BadFrame)?);
        next = position + 1;
    }
    Ok(positions)
}

/// Reads the next item of a walk frame. `previous` is the subject before it, or -1; `base` gives the bytes of
/// the region that a subject names.
pub(super) fn get_item<'a>(
    kind: u8,
    input: &mut Input<'_>,
    previous: i64,
    base: impl FnOnce(u64) -> Option<&'a Region>,
) -> Result<Item, BadFrame> {
    let subject = u64::try_from(previous + 1).ok().and_then(|next| next.checked_add(input.varint().ok()?));
    let subject = subject.filter(|subject| *subject < i64::MAX as u64).ok_or(BadFrame)?;
    match kind {
        kind::PARTS => {
            let base = base(subject).ok_or(BadFrame)?.bytes();
            let count = input.count(6, MAX_PARTS)?;
            let mut parts: Vec<(Region, u32)> = Vec::new();
            for _ in 0..count {
                let before = parts.last().map_or(base, |(region, _)| region.bytes());
                let region = get_region(input, base, before)?;
                parts.push((region, input.u32()?));
            }
            Ok(Item::Parts { subject, parts })
        }
        kind::LISTS => {
            let count = input.count(4, MAX_LIST_IDS)?;
            let ids = (0..count).map(|_| input.u32()).collect::<Result<_, _>>()?;
            Ok(Item::List { subject, ids })
        }
        kind::REPLIES => {
            let wants = get_positions(input)?;
            let count = input.count(16, MAX_TELLS)?;
            let mut tells = Vec::new();
            for _ in 0..count {
                tells.push(Tell { key: input.u32()?, timestamp: input.u64()?, grant: input.u32()? });
            }
            Ok(Item::Reply { subject, wants, tells })
        }
        kind::CLAIMS => Ok(Item::Claim { subject, wants: get_positions(input)? }),
        _ => Err(BadFrame),
    }
}
