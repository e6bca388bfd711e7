//! What one side tells of an entry before it is sent: enough to see which of two entries of a key supersedes the
//! other.

use super::wire::{BadFrame, Input, put_varint};
use std::collections::BTreeMap;

/// An entry that the sender of a reply has and does not push before it knows that the other side lacks it: the
/// other may have a newer one of the same key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tell {
    /// Salted hash of the key, 24 bits. It is only ever compared with the few keys of one region.
    pub(super) key: u32,
    /// The entry's time lies between this one and `latest`, both included; in microseconds.
    pub(super) earliest: u64,
    pub(super) latest: u64,
    /// Salted hash of the cited grant's id; 0 for root.
    pub(super) grant: u32,
}

/// The newest that is known of some entries, by the hashes of key and grant.
#[derive(Debug, Default)]
pub(super) struct Newest(BTreeMap<(u32, u32), u64>);

impl Newest {
    /// Takes an entry in.
    pub(super) fn note(&mut self, tell: &Tell) {
        let earliest = self.0.entry((tell.key, tell.grant)).or_default();
        *earliest = tell.earliest.max(*earliest);
    }

    /// How many keys and grants there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of the entries certainly is newer than this one of the same key, and root's, of the same grant, or
    /// of one of those `above` it. A newer one of a grant above that nobody names here is not seen; then both are
    /// sent, and the merge decides.
    pub(super) fn supersedes(&self, tell: &Tell, above: impl IntoIterator<Item = u32>) -> bool {
        let outranking = [0, tell.grant].into_iter().chain(above);
        let mut newest = outranking.filter_map(|grant| self.0.get(&(tell.key, grant)));
        newest.any(|earliest| *earliest > tell.latest)
    }
}

/// Writes and reads the tells of a flight: each relative to those before.
///
/// ```text
/// tell = key (24 bits) ‖ bits u16 ‖ grant u32, if the lowest of `bits` is set: it differs from the last one
/// bits = earlier than the reference (1) | exponent (6) | mantissa (8) | other grant (1)
/// ```
///
/// The reference is a time of the sender's choice and stands in front of the flight's first tell as a varint. Of the
/// distance to it, 9 binary digits are kept: an hour away that is a precision of 14 seconds. Two entries of a key
/// that are closer in time than this both move, and the merge decides. With the newest entry told of as reference,
/// recent entries are told precisely.
#[derive(Debug, Default)]
pub(super) struct TellCoding {
    /// Where the writer wants the reference.
    chosen: Option<u64>,
    /// What was written or read.
    reference: Option<u64>,
    grant: u32,
}

/// The least bytes that a tell takes.
pub(super) const MIN_TELL_BYTES: usize = 5;
const MANTISSA_BITS: u32 = 8;
/// With this exponent, a distance has 63 binary digits.
const MAX_EXPONENT: u32 = 55;

impl TellCoding {
    /// Chooses the reference of the tells to come; without it, the first one's time is taken.
    pub(super) fn refer_to(&mut self, time: Option<u64>) {
        self.chosen = time;
    }

    /// Writes a tell of an entry whose time is `tell.earliest`.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, tell: &Tell) {
        let time = tell.earliest;
        let reference = *self.reference.get_or_insert_with(|| {
            let reference = self.chosen.unwrap_or(time);
            put_varint(out, reference);
            reference
        });
        out.extend_from_slice(&tell.key.to_le_bytes()[..3]);
        let (exponent, mantissa) = split(time.abs_diff(reference));
        let (is_earlier, other_grant) = (time < reference, tell.grant != self.grant);
        let bits = u16::from(is_earlier) << 15 | exponent << 9 | mantissa << 1 | u16::from(other_grant);
        out.extend_from_slice(&bits.to_le_bytes());
        if other_grant {
            out.extend_from_slice(&tell.grant.to_le_bytes());
            self.grant = tell.grant;
        }
    }

    /// Reads a tell.
    pub(super) fn get(&mut self, input: &mut Input<'_>) -> Result<Tell, BadFrame> {
        let reference = match self.reference {
            Some(reference) => reference,
            None => *self.reference.insert(input.varint()?),
        };
        let [a, b, c] = input.array()?;
        let bits = u16::from_le_bytes(input.array()?);
        let (least, most) = join(u32::from(bits >> 9 & 0x3f), u64::from(bits >> 1 & 0xff))?;
        let (earliest, latest) = if bits >> 15 == 1 {
            (reference.saturating_sub(most), reference.saturating_sub(least))
        } else {
            (reference.saturating_add(least), reference.saturating_add(most))
        };
        if bits & 1 == 1 {
            self.grant = input.u32()?;
        }
        Ok(Tell { key: u32::from_le_bytes([a, b, c, 0]), earliest, latest, grant: self.grant })
    }
}

/// A distance as exponent and mantissa; below 256 exactly. Distances of valid times have 58 digits at most.
fn split(distance: u64) -> (u16, u16) {
    let digits = u64::BITS - distance.leading_zeros();
    if digits <= MANTISSA_BITS {
        return (0, distance as u16);
    }
    let exponent = (digits - MANTISSA_BITS).min(MAX_EXPONENT);
    (exponent as u16, (distance >> (exponent - 1)) as u16 & 0xff)
}

/// The least and the greatest distance with this exponent and mantissa.
fn join(exponent: u32, mantissa: u64) -> Result<(u64, u64), BadFrame> {
    match exponent {
        0 => Ok((mantissa, mantissa)),
        1..=MAX_EXPONENT => {
            let shift = exponent - 1;
            let least = (mantissa | 1 << MANTISSA_BITS) << shift;
            Ok((least, least | ((1 << shift) - 1)))
        }
        _ => Err(BadFrame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_keep_nine_digits() {
        for distance in (0..2_000).chain((0..62).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let (exponent, mantissa) = split(distance);
            let (least, most) = join(exponent.into(), mantissa.into()).expect("a distance");
            assert!((least..=most).contains(&distance), "{distance} {least} {most}");
            assert!(most - least <= distance >> 8, "{distance} {least} {most}");
        }
        assert_eq!(split(511), (1, 255), "nine digits are exact");
        assert_eq!(join(MAX_EXPONENT + 1, 0), Err(BadFrame));
    }

    #[test]
    fn tells_round_trip() {
        let max = kvgossip_grants::Timestamp::MAX.as_micros();
        let (mut out, mut coding) = (Vec::new(), TellCoding::default());
        coding.refer_to(Some(1_000_000));
        let times = [999_999, 1_000_001, 999_000, 0, max, 1_000_000];
        let told = |time, grant| Tell { key: 0xab_cdef, earliest: time, latest: time, grant };
        let tells: Vec<Tell> =
            times.iter().zip([0, 7, 7, 0, 9, 9]).map(|(time, grant)| told(*time, grant)).collect();
        tells.iter().for_each(|tell| coding.put(&mut out, tell));
        assert_eq!(out.len(), 3 + 6 * MIN_TELL_BYTES + 3 * 4, "the grant is written when it changes");
        let (mut input, mut coding) = (Input::new(&out), TellCoding::default());
        for tell in tells {
            let read = coding.get(&mut input).expect("a tell");
            assert_eq!((read.key, read.grant), (tell.key, tell.grant));
            assert!((read.earliest..=read.latest).contains(&tell.earliest), "{read:?} {tell:?}");
        }
        assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn what_is_not_certainly_newer_supersedes_nothing() {
        let tell = |earliest, latest, grant| Tell { key: 1, earliest, latest, grant };
        let supersedes = |one: Tell, other: Tell, above: &[u32]| {
            let mut newest = Newest::default();
            // An older one of the same key and grant changes nothing.
            newest.note(&one);
            newest.note(&Tell { earliest: 0, latest: 0, ..one });
            newest.supersedes(&other, above.iter().copied())
        };
        assert!(supersedes(tell(5, 6, 2), tell(3, 4, 2), &[]));
        assert!(supersedes(tell(5, 6, 0), tell(3, 4, 2), &[]), "root's");
        assert!(supersedes(tell(5, 6, 2), tell(3, 4, 3), &[9, 2]), "of a grant above");
        assert!(!supersedes(tell(5, 6, 2), tell(3, 5, 2), &[]), "perhaps of the same time");
        assert!(!supersedes(tell(5, 6, 2), tell(3, 4, 3), &[9]), "another grant's");
        assert!(!supersedes(tell(5, 6, 2), tell(3, 4, 0), &[]), "root's is not superseded");
        assert!(!supersedes(tell(5, 6, 0), Tell { key: 2, ..tell(3, 4, 2) }, &[2]), "another key's");
    }
}
