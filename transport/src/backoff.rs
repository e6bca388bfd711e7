//! Exponential back-off between dials.

use rand::{Rng, RngExt};
use std::time::Duration;

/// Maximum wait after the first failed attempt.
pub const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Maximum wait after any number of failed attempts.
pub const MAX_RETRY: Duration = Duration::from_secs(30);

/// Exponential back-off with jitter. The ceiling doubles with every failure, up to [`MAX_RETRY`]; each wait is
/// drawn uniformly between half the ceiling and the ceiling, so that the peers of a replica that restarted do
/// not reconnect in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: FIRST_RETRY }
    }
}

impl Backoff {
    /// Returns the wait after one more failure.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(MAX_RETRY);
        rng.random_range(ceiling / 2..=ceiling)
    }

    /// Starts over with [`FIRST_RETRY`], after a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn waits_double_up_to_the_limit_and_differ_between_replicas() {
        let waits = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::default();
            (0..12).map(|_| backoff.next(&mut rng)).collect::<Vec<_>>()
        };
        for (n, wait) in waits(1).into_iter().enumerate() {
            let ceiling = (FIRST_RETRY * (1 << n)).min(MAX_RETRY);
            assert!(ceiling / 2 <= wait && wait <= ceiling, "{n}: {wait:?}");
        }
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(3), waits(3));
    }

    #[test]
    fn a_success_begins_anew() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.next(&mut rng);
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= FIRST_RETRY);
    }
}
