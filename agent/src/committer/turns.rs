//! Turns of the committer: waiting facts or rows that a sweep removes.

/// Number of batches of facts that are committed in a row before a waiting sweep gets one batch.
const BATCHES_BETWEEN_SWEEPS: u32 = 4;

/// Counts the batches of facts that were committed in a row while a sweep is due.
#[derive(Debug, Default)]
pub(super) struct Turns {
    batches: u32,
}

impl Turns {
    /// Whether a pending sweep gets the next turn. `waits`: whether facts wait. Facts and sweeps alternate, so neither
    /// starves.
    pub(super) fn is_sweeps(&mut self, waits: bool) -> bool {
        let is_sweeps = !waits || self.batches >= BATCHES_BETWEEN_SWEEPS;
        self.batches = if is_sweeps { 0 } else { self.batches + 1 };
        is_sweeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_free_turns_and_every_fifth_otherwise() {
        let mut turns = Turns::default();
        let told: Vec<bool> = [true, true, false, true, true, true, true, true, true, false, false]
            .into_iter()
            .map(|waits| turns.is_sweeps(waits))
            .collect();
        let expected = [false, false, true, false, false, false, false, true, false, true, true];
        assert_eq!(told, expected);
    }
}
