//! The only source of randomness: everything follows from a seed.

use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// A random generator with the draws that the simulator needs.
#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Creates the generator of a seed; generators of different streams of one seed are independent.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        Self(generator)
    }

    /// Returns true with a probability of `percent` percent.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent.min(100), 100)
    }

    /// Returns a random number from `low` to `high`, both included.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        self.0.random_range(low..=high.max(low))
    }

    /// Returns a random number of 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0.random()
    }

    /// Returns a random element of a list, which must not be empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = from.len().saturating_sub(1);
        &from[self.within(0, last)]
    }

    /// Returns a random element of a list, which must not be empty, with a preference for later elements.
    pub fn pick_late<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = from.len().saturating_sub(1);
        &from[self.within(0, last).max(self.within(0, last))]
    }

    /// Shuffles the list in place.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        list.shuffle(&mut self.0);
    }

    /// Returns `count` random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes[..]);
        bytes
    }
}
