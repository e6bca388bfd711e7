//! The glob matcher: two nested greedy searches, over segments for `**` and over bytes for `*`.
//!
//! Each search backtracks only to its latest wildcard. That suffices because the text between two wildcards has a fixed
//! length (in segments, in bytes): if its first occurrence fits, a later one would only leave less for the rest. So
//! each pair of segments and each pair of bytes is compared at most once, and the matcher takes at most about `|key| ·
//! |glob|` steps for any input.

use super::{Parsed, Segment, SegmentKind};
use crate::key::{Key, MAX_SEGMENTS};
use std::cell::OnceCell;

/// Counter of comparisons, with which tests measure the cost of matching.
pub(super) trait Meter {
    fn step(&mut self);
}

impl Meter for () {
    fn step(&mut self) {}
}

/// The spelling of a key. It is split into segments at most once, on first use.
pub(crate) struct Split<'a> {
    bytes: &'a [u8],
    segments: OnceCell<Segments<'a>>,
}

#[derive(Clone, Copy)]
struct Segments<'a> {
    parts: [&'a [u8]; MAX_SEGMENTS],
    /// Number of segments; a number above [`MAX_SEGMENTS`] means that the bytes are not a key.
    count: usize,
}

impl<'a> Split<'a> {
    pub(crate) fn of(key: &'a Key) -> Self {
        Self::new(key.as_bytes())
    }

    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, segments: OnceCell::new() }
    }

    fn segments(&self) -> &[&'a [u8]] {
        let cut = self.segments.get_or_init(|| {
            let (mut parts, mut count): ([&[u8]; MAX_SEGMENTS], _) = ([&[]; MAX_SEGMENTS], 0);
            for part in self.bytes.split(|byte| *byte == b'/').skip(1) {
                if let Some(slot) = parts.get_mut(count) {
                    *slot = part;
                }
                count += 1;
            }
            Segments { parts, count }
        });
        cut.parts.get(..cut.count).unwrap_or_default()
    }
}

/// Whether the glob matches the key, whole key against whole glob.
pub(super) fn matches(glob: &Parsed, key: &Split<'_>, meter: &mut impl Meter) -> bool {
    if !key.bytes.starts_with(&glob.text.as_bytes()[..glob.literal_bytes]) {
        return false;
    }
    if glob.literal_bytes == glob.text.len() {
        return key.bytes.len() == glob.text.len();
    }
    // Bytes with more segments than a key may have yield none here, and every glob needs at least one.
    let segments = key.segments();
    segments.len() >= glob.least_segments && segments_match(glob, segments, meter)
}

fn segments_match(glob: &Parsed, key: &[&[u8]], meter: &mut impl Meter) -> bool {
    let pattern = &glob.segments;
    let (mut p, mut k) = (0, 0);
    // Where to continue after a mismatch: the position after the latest `**`, and the number of key segments before it.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            None if k == key.len() => return true,
            Some(Segment { kind: SegmentKind::Deep, .. }) => {
                if p + 1 == pattern.len() {
                    return k < key.len();
                }
                p += 1;
                retry = Some((p, k));
                continue;
            }
            Some(segment) if k < key.len() && segment_matches(glob, *segment, key[k], meter) => {
                p += 1;
                k += 1;
                continue;
            }
            _ => {}
        }
        match retry {
            Some((after, from)) if from < key.len() => {
                (p, k) = (after, from + 1);
                retry = Some((p, k));
            }
            _ => return false,
        }
    }
}

fn segment_matches(glob: &Parsed, segment: Segment, text: &[u8], meter: &mut impl Meter) -> bool {
    let pattern = glob.bytes(segment);
    match segment.kind {
        SegmentKind::Literal => {
            meter.step();
            pattern == text
        }
        SegmentKind::Wild | SegmentKind::Deep => wild_matches(pattern, text, meter),
    }
}

/// Whether the pattern of one segment, with `*` and `?`, matches the whole of one segment of a key.
fn wild_matches(pattern: &[u8], text: &[u8], meter: &mut impl Meter) -> bool {
    let (mut p, mut k) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        meter.step();
        match pattern.get(p) {
            None if k == text.len() => return true,
            Some(b'*') => {
                p += 1;
                retry = Some((p, k));
                continue;
            }
            Some(byte) if k < text.len() && (*byte == b'?' || *byte == text[k]) => {
                p += 1;
                k += 1;
                continue;
            }
            _ => {}
        }
        match retry {
            Some((after, from)) if from < text.len() => {
                (p, k) = (after, from + 1);
                retry = Some((p, k));
            }
            _ => return false,
        }
    }
}
