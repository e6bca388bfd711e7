//! Breadth-first search in the product of pattern state, set of union states and grammar state.

use super::automaton::{Automaton, Token};
use super::grammar::{GrammarState, Letters};
use super::{INCLUSION_WORK_PER_NODE, Inclusion};
use crate::glob::KeyGlob;
use crate::key::Key;

/// Cost of keeping one state of the union, in steps: with it, the work also bounds memory, at a quarter of a byte per
/// step.
const KEEPING_COST: usize = 16;

/// A node of the search: the states after one prefix of a key.
struct Node {
    /// Index of the node for the prefix without its last byte.
    parent: u32,
    byte: u8,
    /// State of the pattern's automaton after the prefix.
    state: u32,
    place: GrammarState,
    union: Set,
}

/// A set of states of the union's globs, ascending.
struct Set {
    states: Box<[u32]>,
    /// One bit per state number modulo 64: quickly rules out most subset relations.
    signature: u64,
}

impl Set {
    fn new(states: &[u32]) -> Self {
        let signature = states.iter().fold(0, |bits, state| bits | 1 << (state % 64));
        Self { states: states.into(), signature }
    }

    /// Whether the signatures and lengths allow that this set is a subset of `other`.
    fn may_be_subset(&self, other: &Self) -> bool {
        self.signature & !other.signature == 0 && self.states.len() <= other.states.len()
    }

    fn is_subset(&self, other: &Self) -> bool {
        let mut others = other.states.iter();
        self.states.iter().all(|state| others.any(|other| other == state))
    }
}

pub(super) struct Search<'a> {
    pattern_glob: &'a KeyGlob,
    union_globs: &'a [KeyGlob],
    pattern: Automaton,
    union: Automaton,
    letters: Letters,
    nodes: Vec<Node>,
    /// Indexes of the nodes by pattern state and grammar state.
    met: Vec<Vec<u32>>,
    budget: usize,
    /// Number of search steps left before the search gives up.
    work: usize,
}

/// Reason for ending the search before all nodes are examined.
enum Stop {
    Counterexample { parent: u32, byte: u8 },
    Budget,
}

impl<'a> Search<'a> {
    pub(super) fn new(pattern_glob: &'a KeyGlob, union_globs: &'a [KeyGlob], budget: usize) -> Self {
        let pattern = Automaton::new(std::iter::once(pattern_glob));
        // Other globs have no key in common with the pattern.
        let relevant = || union_globs.iter().filter(|glob| may_meet(glob, pattern_glob));
        Self {
            union: Automaton::new(relevant()),
            letters: Letters::new(relevant().chain([pattern_glob])),
            nodes: Vec::new(),
            met: (0..pattern.len() * GrammarState::INDICES).map(|_| Vec::new()).collect(),
            pattern,
            pattern_glob,
            union_globs,
            budget,
            work: budget.saturating_mul(INCLUSION_WORK_PER_NODE),
        }
    }

    pub(super) fn run(mut self) -> Inclusion {
        let start = Set::new(self.union.starts());
        let first = Node { parent: 0, byte: 0, state: 0, place: GrammarState::START, union: start };
        if self.keep(first).is_err() {
            return Inclusion::NotProven { explored: 0 };
        }
        let mut at = 0;
        while at < self.nodes.len() {
            match self.expand(at) {
                Ok(()) => at += 1,
                Err(Stop::Budget) => return Inclusion::NotProven { explored: self.nodes.len() },
                Err(Stop::Counterexample { parent, byte }) => return self.counterexample(parent, byte),
            }
        }
        Inclusion::Included
    }

    fn expand(&mut self, at: usize) -> Result<(), Stop> {
        let Node { state, place, .. } = self.nodes[at];
        match self.pattern.only_byte(state) {
            Some(byte) => self.follow(at, byte),
            None => {
                self.bytes_to_try(at, state, place)?.into_iter().try_for_each(|byte| self.follow(at, byte))
            }
        }
    }

    /// Returns the bytes that lead from node `at` to different nodes: of bytes that lead to the same node, only the
    /// first.
    fn bytes_to_try(&mut self, at: usize, state: u32, place: GrammarState) -> Result<Vec<u8>, Stop> {
        let mut told_apart = [false; 256];
        self.pattern.mark_bytes(state, &mut told_apart);
        self.spend(self.nodes[at].union.states.len())?;
        for state in &self.nodes[at].union.states {
            self.union.mark_bytes(*state, &mut told_apart);
        }
        let mut other_tried = false;
        let tried = self.letters.at(place).filter(|byte| {
            let apart = told_apart[usize::from(*byte)] || place.tells_apart(*byte);
            apart || !std::mem::replace(&mut other_tried, true)
        });
        Ok(tried.collect())
    }

    /// Extends the prefix of node `at` by `byte` and keeps the resulting node, if it is needed.
    fn follow(&mut self, at: usize, byte: u8) -> Result<(), Stop> {
        let node = &self.nodes[at];
        let Some(place) = node.place.after(byte) else { return Ok(()) };
        let mut states = Vec::new();
        self.pattern.step(node.state, byte, &mut states);
        if states.is_empty() {
            return Ok(());
        }
        let mut others = Vec::new();
        for other in &node.union.states {
            self.union.step(*other, byte, &mut others);
        }
        self.spend(self.nodes[at].union.states.len() + others.len())?;
        if others.iter().any(|other| self.union.token(*other) == Token::Rest) {
            // That glob matches every key with this prefix.
            return Ok(());
        }
        others.sort_unstable();
        others.dedup();
        let escapes = place.is_key() && !others.iter().any(|other| self.union.accepts(*other));
        let parent = at as u32;
        if escapes && states.iter().any(|state| self.pattern.accepts(*state)) {
            return Err(Stop::Counterexample { parent, byte });
        }
        for state in states {
            if self.pattern.token(state) != Token::End {
                self.keep(Node { parent, byte, state, place, union: Set::new(&others) })?;
            }
        }
        Ok(())
    }

    /// Keeps a node unless an earlier one makes it redundant.
    fn keep(&mut self, node: Node) -> Result<(), Stop> {
        let bucket = node.state as usize * GrammarState::INDICES + node.place.index();
        let (mut needless, mut compared) = (false, 0);
        for earlier in &self.met[bucket] {
            let earlier = &self.nodes[*earlier as usize];
            compared += 1;
            if earlier.place.is_roomier(node.place) && earlier.union.may_be_subset(&node.union) {
                compared += node.union.states.len();
                needless = earlier.union.is_subset(&node.union);
                if needless {
                    break;
                }
            }
        }
        self.spend(compared)?;
        if needless {
            return Ok(());
        }
        if self.nodes.len() >= self.budget {
            return Err(Stop::Budget);
        }
        self.spend(KEEPING_COST * node.union.states.len())?;
        self.met[bucket].push(self.nodes.len() as u32);
        self.nodes.push(node);
        Ok(())
    }

    fn spend(&mut self, work: usize) -> Result<(), Stop> {
        self.work = self.work.checked_sub(work).ok_or(Stop::Budget)?;
        Ok(())
    }

    /// Returns the key spelled by the path to node `parent` and then `byte`, as a counterexample.
    fn counterexample(&self, parent: u32, byte: u8) -> Inclusion {
        let mut bytes = vec![byte];
        let mut at = parent;
        while at != 0 {
            let node = &self.nodes[at as usize];
            bytes.push(node.byte);
            at = node.parent;
        }
        bytes.reverse();
        let key = std::str::from_utf8(&bytes).ok().and_then(|text| Key::parse(text).ok());
        match key {
            // Verified with the matcher: a wrong counterexample must never be shown.
            Some(key)
                if self.pattern_glob.matches(&key)
                    && !self.union_globs.iter().any(|glob| glob.matches(&key)) =>
            {
                Inclusion::NotIncluded { counterexample: key }
            }
            _ => Inclusion::NotProven { explored: self.nodes.len() },
        }
    }
}

/// Whether some key may match both globs, by their literal prefixes: one is a prefix of the other.
fn may_meet(one: &KeyGlob, other: &KeyGlob) -> bool {
    let (one, other) = (one.literal_prefix(), other.literal_prefix());
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_subset_is_one_also_where_signatures_collide(
            some in prop::collection::btree_set(prop::sample::select(vec![0_u32, 1, 2, 64, 65, 128]), 0..4),
            more in prop::collection::btree_set(prop::sample::select(vec![0_u32, 1, 2, 64, 65, 128]), 0..6),
        ) {
            let set = |states: &BTreeSet<u32>| Set::new(&states.iter().copied().collect::<Vec<_>>());
            let ours = set(&some).may_be_subset(&set(&more)) && set(&some).is_subset(&set(&more));
            prop_assert_eq!(ours, some.is_subset(&more));
        }
    }
}
