//! The grammar of keys as an automaton over bytes, and the reduced alphabet of the search.

use crate::glob::KeyGlob;
use crate::key::{MAX_KEY_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS, is_plain};

/// State of the key grammar, without the counters of bytes and segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Before the first slash of the key.
    Start,
    /// Directly after a slash.
    Slash,
    /// The segment is `.` or `..` so far.
    Dots,
    /// Inside a segment; the key may end here.
    Within,
    /// Directly after `%`.
    Percent,
    /// After `%` and one hexadecimal digit, which is given.
    High(u8),
}

/// A state of the key grammar with the bytes and segments used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrammarState {
    mode: Mode,
    key_bytes: u16,
    segment_bytes: u16,
    segments: u8,
}

impl GrammarState {
    /// Number of different values of [`GrammarState::index`], which are less than it.
    pub(super) const INDICES: usize = 21;

    pub(super) const START: Self = Self { mode: Mode::Start, key_bytes: 0, segment_bytes: 0, segments: 0 };

    /// Whether the bytes read so far are a complete key.
    pub(super) fn is_key(self) -> bool {
        self.mode == Mode::Within
    }

    /// Returns a number that is equal for states that differ only in their counters.
    pub(super) fn index(self) -> usize {
        match self.mode {
            Mode::Start => 0,
            Mode::Slash => 1,
            Mode::Dots => 2,
            Mode::Within => 3,
            Mode::Percent => 4,
            Mode::High(digit) => 5 + usize::from(hex_value(digit).unwrap_or(0)),
        }
    }

    /// Whether this state has at least as much room left as `other`, which has the same index.
    pub(super) fn is_roomier(self, other: Self) -> bool {
        self.key_bytes <= other.key_bytes
            && self.segments <= other.segments
            && match self.mode {
                // `.` and `..` share the mode, but only after `..` does another dot make a valid name.
                Mode::Dots => self.segment_bytes == other.segment_bytes,
                _ => self.segment_bytes <= other.segment_bytes,
            }
    }

    /// Whether the grammar may treat `byte` differently from other bytes that are allowed here.
    pub(super) fn tells_apart(self, byte: u8) -> bool {
        self.mode == Mode::Percent || matches!(byte, b'/' | b'%' | b'.')
    }

    /// Returns the state after `byte`; `None` if no key continues with it.
    pub(super) fn after(self, byte: u8) -> Option<Self> {
        if usize::from(self.key_bytes) == MAX_KEY_BYTES {
            return None;
        }
        let key_bytes = self.key_bytes + 1;
        if byte == b'/' {
            let fits = usize::from(self.segments) < MAX_SEGMENTS;
            let between = matches!(self.mode, Mode::Start | Mode::Within);
            let place = Self { mode: Mode::Slash, key_bytes, segment_bytes: 0, segments: self.segments + 1 };
            return (fits && between).then_some(place);
        }
        if usize::from(self.segment_bytes) == MAX_SEGMENT_BYTES {
            return None;
        }
        let mode = match (self.mode, byte) {
            (Mode::Start, _) => return None,
            (Mode::Percent, digit) => hex_value(digit).map(|_| Mode::High(digit))?,
            (Mode::High(high), low) => is_triplet(high, low).then_some(Mode::Within)?,
            (_, b'%') => Mode::Percent,
            (Mode::Slash, b'.') => Mode::Dots,
            (Mode::Dots, b'.') if self.segment_bytes == 1 => Mode::Dots,
            (_, byte) => is_plain(byte).then_some(Mode::Within)?,
        };
        Some(Self { mode, key_bytes, segment_bytes: self.segment_bytes + 1, ..self })
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether `%` followed by these two digits is a triplet that a key may contain.
fn is_triplet(high: u8, low: u8) -> bool {
    match (hex_value(high), hex_value(low)) {
        (Some(high), Some(low)) => !is_plain(high << 4 | low),
        _ => false,
    }
}

/// The reduced alphabet of the search: the bytes that a glob names, and one representative of all others.
///
/// No glob distinguishes two unnamed bytes. So a key remains a key of the same length that the same globs match, when
/// each unnamed plain character is replaced by the representative, and each triplet by the first one whose digits are
/// named or unnamed in the same way. If no glob names `%`, a triplet can also be replaced by three plain characters.
pub(super) struct Letters {
    /// Plain characters and `%`: the bytes to try where a character begins.
    characters: Vec<u8>,
    /// First digits of triplets: the bytes to try after `%`.
    highs: Vec<u8>,
    /// Second digits of triplets, one list for each element of `highs`.
    lows: Vec<Vec<u8>>,
}

/// Candidates for the representative of all unnamed characters, in order of preference: characters that read best in a
/// counterexample come first; `.` is last because the grammar treats it differently.
const PLAIN: &[u8] = b"xyzwvutsrqponmlkjihgfedcbaXYZWVUTSRQPONMLKJIHGFEDCBA0123456789-_~@:+=,.";
/// Candidate digits, beginning with those that form a valid triplet with any second digit.
const DIGITS: &[u8] = b"FEDCBA9810234567";

impl Letters {
    pub(super) fn new<'a>(globs: impl Iterator<Item = &'a KeyGlob>) -> Self {
        let mut named = [false; 256];
        for glob in globs {
            for byte in glob.as_str().bytes().filter(|byte| !matches!(byte, b'*' | b'?')) {
                named[usize::from(byte)] = true;
            }
        }
        let named = |byte: u8| named[usize::from(byte)];
        let representative = PLAIN.iter().copied().find(|byte| !named(*byte));
        let mut characters: Vec<u8> = representative.into_iter().collect();
        characters.extend(PLAIN.iter().copied().filter(|byte| named(*byte)));
        let mut letters = Self { characters, highs: Vec::new(), lows: Vec::new() };
        if named(b'%') || representative.is_none() {
            letters.characters.push(b'%');
            letters.add_triplets(named);
        }
        letters
    }

    fn add_triplets(&mut self, named: impl Fn(u8) -> bool) {
        let class = |digit: u8| named(digit).then_some(digit);
        let mut seen = Vec::new();
        for &high in DIGITS {
            let mut lows = Vec::new();
            for &low in DIGITS.iter().filter(|low| is_triplet(high, **low)) {
                let classes = (class(high), class(low));
                if !seen.contains(&classes) {
                    seen.push(classes);
                    lows.push(low);
                }
            }
            if !lows.is_empty() {
                self.highs.push(high);
                self.lows.push(lows);
            }
        }
    }

    /// Returns the bytes to try at `place`; the grammar may not allow all of them there.
    pub(super) fn at(&self, place: GrammarState) -> impl Iterator<Item = u8> + '_ {
        let (bytes, slash): (&[u8], bool) = match place.mode {
            Mode::Start => (&[], true),
            Mode::Slash | Mode::Dots => (&self.characters, false),
            Mode::Within => (&self.characters, true),
            Mode::Percent => (&self.highs, false),
            Mode::High(high) => {
                let row = self.highs.iter().position(|digit| *digit == high);
                (row.and_then(|row| self.lows.get(row)).map_or(&[], Vec::as_slice), false)
            }
        };
        bytes.iter().copied().chain(slash.then_some(b'/'))
    }
}
