//! A seeded random number generator for spreading load: which peer to meet next, and when.

/// xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016). Not for
/// secrets.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Creates a generator whose numbers depend on `seed` alone.
    pub(crate) fn new(seed: u64) -> Self {
        // The state 0 would never change.
        Self(seed | 1)
    }

    /// Returns the next random number, of 56 bits.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// Returns a random index into a list of `len` items; 0 if the list is empty.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.number() as usize % len.max(1)
    }

    /// Returns a random number from `around / 2` to below `around * 3 / 2`.
    pub(crate) fn jitter(&mut self, around: u64) -> u64 {
        around / 2 + self.number() % around.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_and_places_stay_in_their_range_and_reach_all_of_it() {
        let mut rng = Rng::new(0);
        let waits: Vec<u64> = (0..1_000).map(|_| rng.jitter(100)).collect();
        assert_eq!((waits.iter().min(), waits.iter().max()), (Some(&50), Some(&149)));
        let places: std::collections::BTreeSet<usize> = (0..1_000).map(|_| rng.index(7)).collect();
        assert_eq!(places, (0..7).collect());
        assert_eq!((rng.index(0), rng.jitter(0)), (0, 0));
    }
}
