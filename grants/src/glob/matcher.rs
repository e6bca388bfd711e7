//! The matcher: two nested greedy searches, segments among `**` and bytes among `*`.
//!
//! Each keeps only its latest wildcard to go back to. That suffices because what stands between two wildcards has a fixed
//! length (in segments, in bytes): where its first occurrence fits, a later one would only leave less for the rest. So a
//! segment of the glob meets a segment of the key at most once, and a byte of the one a byte of the other at most once:
//! no input makes the matcher take more than about `|key| · |glob|` steps.

use super::{Parsed, Segment, SegmentKind};
use crate::key::MAX_SEGMENTS;

/// Counts comparisons, where a test asks for it.
pub(super) trait Meter {
    fn step(&mut self);
}

impl Meter for () {
    fn step(&mut self) {}
}

/// Whether the glob matches `key`, the bytes of a key's spelling.
pub(super) fn matches(glob: &Parsed, key: &[u8], meter: &mut impl Meter) -> bool {
    if !key.starts_with(&glob.text.as_bytes()[..glob.literal_bytes]) {
        return false;
    }
    if glob.literal_bytes == glob.text.len() {
        return key.len() == glob.text.len();
    }
    let mut parts: [&[u8]; MAX_SEGMENTS] = [&[]; MAX_SEGMENTS];
    let mut count = 0;
    for part in key.split(|byte| *byte == b'/').skip(1) {
        let Some(slot) = parts.get_mut(count) else { return false };
        *slot = part;
        count += 1;
    }
    count >= glob.least_segments && segments_match(glob, &parts[..count], meter)
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
