//! The latest changes, for watchers that reconnect, and the cursors that name places among them.

use super::cause::Why;
use kvgossip_grants::{FactId, Key};
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// A place in the log of one run of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Random number drawn when the agent starts. It differs between runs and between agents.
    pub(super) epoch: u64,
    /// Number of steps of the hub up to this place.
    pub(super) seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, seq) = text.split_once('-').ok_or(())?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ())?;
        Ok(Self { epoch, seq: seq.parse().map_err(|_| ())? })
    }
}

/// Changes of one step of the hub: a committed batch, expired grants, or keys that are sent again.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) keys: Vec<(Key, Why)>,
    pub(super) facts: Vec<FactId>,
}

impl Step {
    fn weight(&self) -> usize {
        1 + self.keys.len() + self.facts.len()
    }
}

/// The latest steps of the hub, up to a total weight of `limit` keys and facts.
#[derive(Debug)]
pub(super) struct Log {
    /// Sequence number of the last step, counted from the start of the agent.
    seq: u64,
    steps: VecDeque<Step>,
    weight: usize,
    limit: usize,
}

impl Log {
    pub(super) fn new(limit: usize) -> Self {
        Self { seq: 0, steps: VecDeque::new(), weight: 0, limit }
    }

    /// Returns the sequence number of the last step.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn push(&mut self, step: Step) {
        self.seq += 1;
        self.weight += step.weight();
        self.steps.push_back(step);
        while self.weight > self.limit {
            let Some(old) = self.steps.pop_front() else { break };
            self.weight -= old.weight();
        }
    }

    /// Forgets all steps, because the hub has missed some.
    pub(super) fn forget(&mut self) {
        self.seq += 1;
        self.steps.clear();
        self.weight = 0;
    }

    /// Returns the steps after `seq`; `None` if some of them are forgotten, or `seq` is greater than that of the last
    /// step.
    pub(super) fn since(&self, seq: u64) -> Option<impl Iterator<Item = &Step>> {
        let missed = usize::try_from(self.seq.checked_sub(seq)?).ok()?;
        let skip = self.steps.len().checked_sub(missed)?;
        Some(self.steps.iter().skip(skip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: usize) -> Step {
        let keys = (0..number).map(|n| (Key::parse(&format!("/{n}")).expect("a key"), Why::Current));
        Step { keys: keys.collect(), facts: Vec::new() }
    }

    fn sizes(log: &Log, seq: u64) -> Option<Vec<usize>> {
        Some(log.since(seq)?.map(|step| step.keys.len()).collect())
    }

    #[test]
    fn what_is_remembered_can_be_resumed_and_what_is_forgotten_is_a_gap() {
        let mut log = Log::new(10);
        (1..=4).for_each(|n| log.push(step(n)));
        // Weights 2, 3, 4 and 5: only the last two fit.
        assert_eq!(log.seq(), 4);
        assert_eq!(sizes(&log, 4), Some(vec![]));
        assert_eq!(sizes(&log, 3), Some(vec![4]));
        assert_eq!(sizes(&log, 2), Some(vec![3, 4]));
        assert_eq!(sizes(&log, 1), None);
        assert_eq!(sizes(&log, 5), None);
        log.forget();
        assert_eq!(sizes(&log, 4), None);
        assert_eq!(sizes(&log, 5), Some(vec![]));
        log.push(step(20));
        assert_eq!(sizes(&log, 5), None, "a step that is heavier than the log");
    }

    #[test]
    fn cursors_read_as_they_are_written() {
        let cursor = Cursor { epoch: 0xabc, seq: 7 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "7", "x-7", "abc-", "abc--1"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
