//! The matcher: two nested greedy searches, segments among `**` and bytes among `*`.
//!
//! Each keeps only its latest wildcard to go back to. That suffices because what stands between two wildcards has a fixed
//! length (in segments, in bytes): where its first occurrence fits, a later one would only leave less for the rest. So a
//! segment of the glob meets a segment of the key at most once, and a byte of the one a byte of the other at most once:
//! no input makes the matcher take more than about `|key| · |glob|` steps.

use super::{Parsed, Segment, SegmentKind};
use crate::key::{Key, MAX_SEGMENTS};
use std::cell::OnceCell;

/// Counts comparisons, where a test asks for it.
pub(super) trait Meter {
    fn step(&mut self);
}

impl Meter for () {
    fn step(&mut self) {}
}

/// A key's spelling, which is cut into segments once, however many globs ask for them.
pub(crate) struct Split<'a> {
    bytes: &'a [u8],
    segments: OnceCell<Segments<'a>>,
}

#[derive(Clone, Copy)]
struct Segments<'a> {
    parts: [&'a [u8]; MAX_SEGMENTS],
    /// More than [`MAX_SEGMENTS`] where the bytes are not a key's.
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

/// Whether the glob matches a key.
pub(super) fn matches(glob: &Parsed, key: &Split<'_>, meter: &mut impl Meter) -> bool {
    if !key.bytes.starts_with(&glob.text.as_bytes()[..glob.literal_bytes]) {
        return false;
    }
    if glob.literal_bytes == glob.text.len() {
        return key.bytes.len() == glob.text.len();
    }
    // None of a text with more segments than a key has: and every glob asks for one.
    let segments = key.segments();
    segments.len() >= glob.least_segments && segments_match(glob, segments, meter)
}

fn segments_match(glob: &Parsed, key: &[&[u8]], meter: &mut impl Meter) -> bool {
    let pattern = &glob.segments;
    let (mut p, mut k) = (0, 0);
    // Where to go on after a mismatch: behind the latest `**`, which then takes the key's segments before this one.
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

fn segment_matches(glob: &Parsed, segment: Segment, key: &[u8], meter: &mut impl Meter) -> bool {
    let pattern = glob.bytes(segment);
    match segment.kind {
        SegmentKind::Literal => {
            meter.step();
            pattern == key
        }
        SegmentKind::Wild | SegmentKind::Deep => wild_matches(pattern, key, meter),
    }
}

/// Whether `pattern`, with `*` and `?`, matches all of `key`; neither has a slash.
fn wild_matches(pattern: &[u8], key: &[u8], meter: &mut impl Meter) -> bool {
    let (mut p, mut k) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        meter.step();
        match pattern.get(p) {
            None if k == key.len() => return true,
            Some(b'*') => {
                p += 1;
                retry = Some((p, k));
                continue;
            }
            Some(byte) if k < key.len() && (*byte == b'?' || *byte == key[k]) => {
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
