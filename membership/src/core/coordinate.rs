//! Network coordinates: each member computes a position in a space whose distances are round-trip times.
//!
//! The algorithm is Vivaldi (Dabek et al., SIGCOMM 2004) in eight dimensions with a height, the median filter
//! of Ledlie et al. (NSDI 2007), the adjustment of Lee et al. (ToN 2010), and a pull to the origin. It is the
//! same as Serf's, with Serf's constants, so that `serf rtt` works between Serf agents and this member.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::wire::{field::Float, msgpack::DecodeError, serf};

const DIMENSIONS: usize = 8;
const ERROR_MAX: f64 = 1.5;
/// Maximum influence of one observation on the coordinate's error estimate, as a fraction.
const CE: f64 = 0.25;
/// Maximum influence of one observation on the coordinate's position, as a fraction.
const CC: f64 = 0.25;
const ADJUSTMENT_WINDOW: usize = 20;
/// Minimum height of a coordinate, in seconds.
const HEIGHT_MIN: f64 = 10.0e-6;
const GRAVITY_RHO: f64 = 150.0;
/// Threshold in seconds below which a distance counts as zero.
const ZERO: f64 = 1.0e-6;
/// Maximum round-trip time of an observation; longer ones are ignored.
const MAX_RTT: Duration = Duration::from_secs(10);
/// Number of latest round-trip times of one member whose median is used.
const FILTER: usize = 3;
/// Version byte at the start of an ack's payload.
const PING_VERSION: u8 = 1;

/// Vivaldi network coordinate; positions, height and adjustment are in seconds, the error estimate is a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coordinate {
    vec: [f64; DIMENSIONS],
    error: f64,
    adjustment: f64,
    height: f64,
}

impl Default for Coordinate {
    fn default() -> Self {
        Self { vec: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN }
    }
}

impl Coordinate {
    /// Estimated round-trip time between two coordinates.
    pub fn distance(&self, other: &Self) -> Duration {
        let raw = self.raw_distance(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        let seconds = if adjusted > 0.0 { adjusted } else { raw };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn raw_distance(&self, other: &Self) -> f64 {
        magnitude(&difference(&self.vec, &other.vec)) + self.height + other.height
    }

    fn is_valid(&self) -> bool {
        self.vec.iter().chain([&self.error, &self.adjustment, &self.height]).all(|part| part.is_finite())
    }

    /// Moves this coordinate away from `other`, or towards it if `force` (in seconds) is negative.
    fn push(&mut self, force: f64, other: &Self, rng: &mut impl Rng) {
        let apart = difference(&self.vec, &other.vec);
        let distance = magnitude(&apart);
        let direction = if distance > ZERO {
            self.height = ((self.height + other.height) * force / distance + self.height).max(HEIGHT_MIN);
            apart.map(|part| part / distance)
        } else {
            random_direction(rng)
        };
        for (place, part) in self.vec.iter_mut().zip(direction) {
            *place += part * force;
        }
    }

    /// Converts to the coordinate of Serf's messages.
    pub fn to_wire(self) -> serf::Coordinate {
        serf::Coordinate {
            adjustment: self.adjustment.into(),
            error: self.error.into(),
            height: self.height.into(),
            vec: self.vec.map(Float::from).to_vec().into(),
        }
    }

    /// Encodes the coordinate as the payload of an ack: a version byte, then msgpack.
    pub(super) fn to_payload(self) -> Vec<u8> {
        [&[PING_VERSION][..], &self.to_wire().encode()].concat()
    }

    /// Decodes the payload of an ack: a version byte, then msgpack. Fails if the coordinate is malformed.
    pub(super) fn from_payload(payload: &[u8]) -> Result<Self, DecodeError> {
        let body = match payload.split_first() {
            Some((&PING_VERSION, body)) => body,
            other => return Err(DecodeError::UnknownType(other.map_or(0, |(version, _)| *version))),
        };
        let wire = serf::Coordinate::decode(body)?;
        let vec =
            <[Float; DIMENSIONS]>::try_from(wire.vec.as_slice()).map_err(|_| DecodeError::OutOfRange)?;
        let place = Self {
            vec: vec.map(f64::from),
            error: wire.error.into(),
            adjustment: wire.adjustment.into(),
            height: wire.height.into(),
        };
        if place.is_valid() { Ok(place) } else { Err(DecodeError::OutOfRange) }
    }
}

fn difference(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    std::array::from_fn(|i| a[i] - b[i])
}

fn magnitude(vec: &[f64; DIMENSIONS]) -> f64 {
    vec.iter().map(|part| part * part).sum::<f64>().sqrt()
}

fn random_direction(rng: &mut impl Rng) -> [f64; DIMENSIONS] {
    let vec: [f64; DIMENSIONS] = std::array::from_fn(|_| rng.random::<f64>() - 0.5);
    let length = magnitude(&vec);
    if length > ZERO { vec.map(|part| part / length) } else { std::array::from_fn(|i| f64::from(i == 0)) }
}

/// Latest coordinate that another member has announced in an ack.
#[derive(Debug, Clone, Default)]
pub(super) struct Remote {
    pub(super) place: Coordinate,
    /// Latest round-trip times to the member, in seconds, oldest first; at most [`FILTER`].
    rtts: Vec<f64>,
}

/// This member's network coordinate, with the state of its computation by the Vivaldi algorithm.
#[derive(Debug, Default)]
pub(super) struct Vivaldi {
    pub(super) own: Coordinate,
    adjustments: [f64; ADJUSTMENT_WINDOW],
    next: usize,
    /// Number of times the coordinate became invalid and was reset.
    pub(super) resets: u64,
}

impl Vivaldi {
    /// Updates this member's coordinate with one probe of a member: its coordinate `other`, and its round-trip
    /// time `rtt`. Round-trip times above [`MAX_RTT`] are ignored.
    pub(super) fn observe(
        &mut self,
        remote: &mut Remote,
        other: Coordinate,
        rtt: Duration,
        rng: &mut impl Rng,
    ) {
        if rtt > MAX_RTT {
            return;
        }
        remote.place = other;
        remote.rtts.push(rtt.as_secs_f64());
        if remote.rtts.len() > FILTER {
            remote.rtts.remove(0);
        }
        let mut sorted = remote.rtts.clone();
        sorted.sort_by(f64::total_cmp);
        let rtt = sorted.get(sorted.len() / 2).copied().unwrap_or_default().max(ZERO);
        self.settle(&other, rtt, rng);
        self.adjust(&other, rtt);
        // A small pull to the origin keeps the whole system from drifting.
        let origin = Coordinate::default();
        let pull = -(origin.distance(&self.own).as_secs_f64() / GRAVITY_RHO).powi(2);
        self.own.push(pull, &origin, rng);
        if !self.own.is_valid() {
            *self = Self { resets: self.resets + 1, ..Self::default() };
        }
    }

    fn settle(&mut self, other: &Coordinate, rtt: f64, rng: &mut impl Rng) {
        let distance = self.own.distance(other).as_secs_f64();
        let wrong = (distance - rtt).abs() / rtt;
        let weight = self.own.error / (self.own.error + other.error).max(ZERO);
        self.own.error = (CE * weight * wrong + self.own.error * (1.0 - CE * weight)).min(ERROR_MAX);
        self.own.push(CC * weight * (rtt - distance), other, rng);
    }

    fn adjust(&mut self, other: &Coordinate, rtt: f64) {
        if let Some(sample) = self.adjustments.get_mut(self.next) {
            *sample = rtt - self.own.raw_distance(other);
        }
        self.next = (self.next + 1) % ADJUSTMENT_WINDOW;
        self.own.adjustment = self.adjustments.iter().sum::<f64>() / (2.0 * ADJUSTMENT_WINDOW as f64);
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn three_members_find_their_places() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut members: Vec<_> = (0..3).map(|_| (Vivaldi::default(), vec![Remote::default(); 3])).collect();
        let rtt = |a: usize, b: usize| Duration::from_millis([2, 2, 50, 52][a + b]);
        for round in 0..600 {
            for a in 0..3 {
                let b = (a + 1 + round % 2) % 3;
                let other = members[b].0.own;
                let (vivaldi, remotes) = &mut members[a];
                vivaldi.observe(&mut remotes[b], other, rtt(a, b), &mut rng);
            }
        }
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let estimate = members[a].0.own.distance(&members[b].0.own).as_secs_f64();
            let truth = rtt(a, b).as_secs_f64();
            assert!((estimate - truth).abs() < 0.004, "{a} to {b}: {estimate} instead of {truth}");
        }
    }

    /// The ack of a captured agent, byte for byte.
    #[test]
    fn reads_and_writes_what_agents_do() {
        let plain = include_str!("../../tests/fixtures/plain.hex");
        let acks = plain.lines().filter_map(|line| line.strip_prefix("udp 02")).map(hex::decode);
        let mut seen = 0;
        for ack in acks {
            let ack = crate::wire::memberlist::Ack::decode(&ack.expect("hex")).expect("an ack");
            let payload = ack.payload.expect("a coordinate");
            let place = Coordinate::from_payload(&payload).expect("a place");
            assert_eq!(place.to_payload(), payload);
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn absurd_places_are_refused_or_forgotten() {
        let mut rng = StdRng::seed_from_u64(2);
        let good = Coordinate { error: 0.5, ..Coordinate::default() };
        assert_eq!(Coordinate::from_payload(&good.to_payload()), Ok(good));
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(Coordinate::from_payload(&Coordinate { height: bad, ..good }.to_payload()).is_err());
        }
        assert!(Coordinate::from_payload(&[]).is_err() && Coordinate::from_payload(&[2, 0x80]).is_err());
        assert!(Coordinate::from_payload(&[1, 0x80]).is_err(), "no dimensions");
        let mut vivaldi = Vivaldi::default();
        let far = Coordinate { vec: [1e308; DIMENSIONS], ..good };
        for _ in 0..10 {
            vivaldi.observe(&mut Remote::default(), far, Duration::from_millis(1), &mut rng);
            assert!(vivaldi.own.is_valid());
            assert!(far.distance(&vivaldi.own) > MAX_RTT);
        }
        assert_eq!(vivaldi.resets, 10);
    }
}
