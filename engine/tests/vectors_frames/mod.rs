//! A second reading of session frames, written from `docs/protocol.md` alone: puts a whole session into words.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use bytes::Bytes;
use kvgossip_grants::{Fact, Signer};
use kvgossip_testkit::vectors::{key, shown};
use std::fmt::Write;

/// A region: what the names of its facts begin with.
#[derive(Clone)]
struct Region(Vec<u8>);

impl Region {
    fn words(&self) -> String {
        let Some(end) = self.0.iter().position(|byte| *byte == 0) else {
            return format!("begins with {}", shown(&self.0));
        };
        let (key, digits) = (shown(&self.0[..end]), &self.0[end + 1..]);
        if digits.is_empty() { format!("key {key}") } else { format!("key {key} ids {}", shown(digits)) }
    }
}

/// What a flight asked about, by the numbers that the answers use.
#[derive(Default)]
struct Asked {
    parts: Vec<Region>,
    /// With the count of ids.
    lists: Vec<(Region, usize)>,
    /// The count of what each reply tells of.
    replies: Vec<usize>,
}

/// Reads both directions of one session.
#[derive(Default)]
pub(crate) struct Transcript {
    /// By side: 0 is the initiator.
    asked: [Asked; 2],
    /// The flight that is being read.
    asking: Asked,
    next: [u64; 4],
    /// Of the flight's tells: the first one's time, and the last one's grant.
    reference: Option<u64>,
    grant: u32,
    authority: bool,
    roots: Option<Vec<u8>>,
    scope: Vec<Region>,
    /// The authority root of the round's first final.
    first_final: Option<Vec<u8>>,
    /// Every salted id of a list, and every salted digest of a part.
    pub(crate) ids: Vec<u32>,
    pub(crate) digests: Vec<u32>,
}

/// The records of a frame. Where one ends only its body knows, so they are cut with the help of the crate.
fn facts(input: Input<'_>) -> Vec<String> {
    let mut records = Bytes::copy_from_slice(input.0);
    let mut words = Vec::new();
    while !records.is_empty() {
        let (head, before) = (records[0], records.len());
        let name = ["grant", "revocation", "floor", "entry"][usize::from(head & 15) - 1];
        Fact::take_record(key("root").public().cluster(), &mut records).unwrap();
        words.push(format!("{name}, a record of {} bytes", before - records.len()));
    }
    words
}

/// What a side does not want to be sent.
fn declines(mut input: Input<'_>) -> String {
    let not_yet = input.varint() as usize;
    let mut shorts = Vec::new();
    while !input.0.is_empty() {
        shorts.push(format!("{:08x}", input.u32()));
    }
    let refused = shorts.split_off(not_yet);
    format!("declines: not yet [{}], refused [{}]", shorts.join(" "), refused.join(" "))
}

/// Reads primitives from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(len);
        self.0 = tail;
        head
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn varint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    /// Two numbers in one varint.
    fn packed(&mut self, bits: u32) -> (u64, u64) {
        let (value, most) = (self.varint(), (1 << bits) - 1);
        let low = value & most;
        (value >> bits, if low == most { low + self.varint() } else { low })
    }

    fn bits(&mut self, count: usize) -> Vec<usize> {
        let bytes = self.take(count.div_ceil(8));
        (0..count).filter(|at| bytes[at / 8] >> (at % 8) & 1 == 1).collect()
    }
}

impl Transcript {
    /// Puts a frame of `side` into words, one line or more.
    pub(crate) fn frame(&mut self, side: usize, frame: &[u8]) -> Vec<String> {
        let mut input = Input(&frame[1..]);
        match frame[0] {
            1 => vec![self.hello(side, input)],
            2..=5 => {
                let mut words = Vec::new();
                while !input.0.is_empty() {
                    words.push(self.item(side, frame[0], &mut input));
                }
                words
            }
            6 => facts(input),
            7 => vec![self.end(side, input.byte())],
            8 => vec![self.last(side, input)],
            11 => vec![declines(input)],
            other => panic!("kind {other}"),
        }
    }

    fn hello(&mut self, side: usize, mut input: Input<'_>) -> String {
        let (version, flags) = (input.byte(), input.byte());
        let (cluster, roots) = (input.take(32), input.take(64).to_vec());
        let counts = (input.varint(), input.varint());
        let nonce = hex::encode(input.take(8));
        let len = input.varint() as usize;
        let scope = input.take(len).to_vec();
        assert_eq!((input.varint(), input.0), (0, &[][..]), "no extensions, and nothing behind");
        if side == 0 {
            self.scope = match scope.as_slice() {
                b"" => vec![Region(vec![])],
                prefix => vec![Region([prefix, b"\0"].concat()), Region([prefix, b"/"].concat())],
            };
        }
        match self.roots.replace(roots.clone()) {
            None => {}
            Some(first) => {
                self.authority = first[..32] != roots[..32];
                self.begin_phase(1 - side);
            }
        }
        let cluster = hex::encode(&cluster[..4]);
        let (authority, entries) = (hex::encode(&roots[..4]), hex::encode(&roots[32..36]));
        format!(
            "hello: version {version}, flags {flags}, cluster {cluster}…, authority {authority}… of {}, entries \
             {entries}… of {} keys, nonce {nonce}, scope {}",
            counts.0,
            counts.1,
            shown(&scope)
        )
    }

    /// Who speaks next opens a phase: it answers as if `asker` had asked for everything.
    fn begin_phase(&mut self, asker: usize) {
        let parts = if self.authority { vec![Region(vec![])] } else { self.scope.clone() };
        self.asked[asker] = Asked { parts, ..Asked::default() };
    }

    fn item(&mut self, side: usize, kind: u8, input: &mut Input<'_>) -> String {
        let (skipped, count) = match kind {
            2 | 3 => input.packed(5),
            4 => input.packed(4),
            _ => (input.varint(), 0),
        };
        let next = &mut self.next[usize::from(kind - 2)];
        let subject = *next + skipped;
        *next = subject + 1;
        let (at, count) = (subject as usize, count as usize);
        match kind {
            2 => self.parts(side, at, count, input),
            3 => self.list(side, at, count, input),
            4 => self.reply(side, at, count, input),
            _ => {
                let claimed = input.bits(self.asked[1 - side].replies[at]);
                format!("claim of what reply {at} told: {claimed:?}")
            }
        }
    }

    fn parts(&mut self, side: usize, at: usize, count: usize, input: &mut Input<'_>) -> String {
        let base = self.asked[1 - side].parts[at].clone();
        let mut words = format!("parts of {at}, {}:", base.words());
        let mut before: Vec<u8> = Vec::new();
        for _ in 0..count {
            let (shared, more) = input.packed(3);
            let mut own = before[..shared as usize].to_vec();
            own.extend_from_slice(input.take(more as usize));
            let region = Region([&base.0[..], &own].concat());
            let hash = input.u32();
            self.digests.push(hash);
            write!(words, " [{} {hash:08x}]", region.words()).unwrap();
            self.asking.parts.push(region);
            before = own;
        }
        words
    }

    fn list(&mut self, side: usize, at: usize, count: usize, input: &mut Input<'_>) -> String {
        let region = self.asked[1 - side].parts[at].clone();
        let ids: Vec<u32> = (0..count).map(|_| input.u32()).collect();
        let words: Vec<String> = ids.iter().map(|id| format!("{id:08x}")).collect();
        let words = if ids.is_empty() { "no ids".into() } else { words.join(" ") };
        let words = format!("list of {at}, {}: {words}", region.words());
        self.ids.extend(ids);
        self.asking.lists.push((region, count));
        words
    }

    fn reply(&mut self, side: usize, at: usize, tells: usize, input: &mut Input<'_>) -> String {
        let (region, listed) = &self.asked[1 - side].lists[at];
        let mut words = format!("reply to list {at}, {}: wants {:?}", region.words(), input.bits(*listed));
        for _ in 0..tells {
            write!(words, ", tells of {}", self.tell(input)).unwrap();
        }
        self.asking.replies.push(tells);
        words
    }

    fn tell(&mut self, input: &mut Input<'_>) -> String {
        let reference = *self.reference.get_or_insert_with(|| input.varint());
        let key = input.take(3);
        let key = u32::from_le_bytes([key[0], key[1], key[2], 0]);
        let bits = u16::from_le_bytes(input.take(2).try_into().unwrap());
        let (earlier, exponent, mantissa) =
            (bits >> 15 == 1, u32::from(bits >> 9 & 63), u64::from(bits >> 1 & 255));
        let (least, most) = match exponent {
            0 => (mantissa, mantissa),
            _ => ((256 + mantissa) << (exponent - 1), ((257 + mantissa) << (exponent - 1)) - 1),
        };
        let (first, last) = if earlier {
            (reference - most, reference - least)
        } else {
            (reference + least, reference + most)
        };
        if bits & 1 == 1 {
            self.grant = input.u32();
        }
        let until = if first == last { String::new() } else { format!(" to {last}") };
        format!("key {key:06x} at {first}{until} under {:08x}", self.grant)
    }

    fn end(&mut self, side: usize, flags: u8) -> String {
        self.asked[side] = std::mem::take(&mut self.asking);
        self.next = [0; 4];
        (self.reference, self.grant) = (None, 0);
        if flags & 1 == 0 && self.authority {
            self.authority = false;
            self.begin_phase(side);
        }
        let asks = if flags & 1 == 1 { "asks" } else { "asks nothing" };
        format!("end of the flight, which {asks}")
    }

    fn last(&mut self, side: usize, mut input: Input<'_>) -> String {
        let (authority, entries) = (input.take(32), input.take(32));
        let (changed, obstacles) = (input.byte(), input.byte());
        match self.first_final.take() {
            None => self.first_final = Some(authority.to_vec()),
            Some(first) => {
                self.authority = first != authority;
                self.begin_phase(1 - side);
            }
        }
        let (authority, entries) = (hex::encode(&authority[..4]), hex::encode(&entries[..4]));
        format!("final: authority {authority}…, entries {entries}…, changed {changed}, obstacles {obstacles}")
    }
}
