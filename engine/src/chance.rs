//! Chance for spreading load, out of a seed: whom to meet next, and when.

/// A row of numbers by xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators,
/// scrambled", 2016). It only spreads load: nothing depends on its quality, and nothing secret is made of it.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The same seed gives the same row.
    pub(crate) fn new(seed: u64) -> Self {
        // The row never leaves 0.
        Self(seed | 1)
    }

    /// The next number, of 56 bits.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// A place in a list of `len`; 0 if it is empty.
    pub(crate) fn place(&mut self, len: usize) -> usize {
        self.number() as usize % len.max(1)
    }

    /// From half of `around` to one and a half times it.
    pub(crate) fn jitter(&mut self, around: u64) -> u64 {
        around / 2 + self.number() % around.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_and_places_stay_in_their_range_and_reach_all_of_it() {
        let mut chance = Chance::new(0);
        let waits: Vec<u64> = (0..1_000).map(|_| chance.jitter(100)).collect();
        assert_eq!((waits.iter().min(), waits.iter().max()), (Some(&50), Some(&149)));
        let places: std::collections::BTreeSet<usize> = (0..1_000).map(|_| chance.place(7)).collect();
        assert_eq!(places, (0..7).collect());
        assert_eq!((chance.place(0), chance.jitter(0)), (0, 0));
    }
}
