//! Is every key of one glob matched by at least one of others? Decided exactly, for people who mint, check or explain
//! grants; it never decides whether a fact is valid.
//!
//! The search walks through all ways to spell a key that the pattern matches, shortest first, and keeps for each the set
//! of places where the union's globs may stand after the same bytes. Where the pattern is at its end and no glob of the
//! union is, the bytes are a counterexample. A way is given up when an earlier one has the pattern at the same place,
//! no more places of the union, and as much room left: whatever the later one could reach, the earlier one can.
//!
//! Globs are bytewise and keys are not arbitrary bytes, so the walk goes through the grammar of keys as well (triplets,
//! `.` and `..`, the limits of segments and keys). The answer is therefore exact about *keys*: `/*` is inside the union
//! of `/?`, `/??`, … up to 255 of them, because no segment is longer.
//!
//! The question is coNP-hard (a union can encode any formula), hence the budget.

mod automaton;
mod grammar;
mod search;

#[cfg(test)]
mod tests;

use crate::glob::KeyGlob;
use crate::key::Key;

/// Most product nodes that [`included`] keeps before it gives up.
pub const INCLUSION_BUDGET: usize = 8_192;

/// Most steps of the search for each node of the budget, on average: places of the union that were moved, compared or
/// kept. It matters only where a union has hundreds of globs that all stay possible, and bounds time and memory there
/// (with [`INCLUSION_BUDGET`] to some tenths of a second and 64 MiB).
pub const INCLUSION_WORK_PER_NODE: usize = 32_768;

/// Whether a pattern is inside a union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inclusion {
    /// Every key that the pattern matches is matched by a glob of the union.
    Included,
    /// It is not.
    NotIncluded {
        /// A shortest key that the pattern matches and no glob of the union does.
        counterexample: Key,
    },
    /// The budget was spent before an answer was found. Splitting the grant into narrower patterns helps.
    NotProven {
        /// Product nodes that were kept.
        explored: usize,
    },
}

/// Whether every key that `pattern` matches is matched by a glob of `union`, within [`INCLUSION_BUDGET`].
pub fn included(pattern: &KeyGlob, union: &[KeyGlob]) -> Inclusion {
    included_with_budget(pattern, union, INCLUSION_BUDGET)
}

/// As [`included`], keeping at most `budget` product nodes.
pub fn included_with_budget(pattern: &KeyGlob, union: &[KeyGlob], budget: usize) -> Inclusion {
    search::Search::new(pattern, union, budget).run()
}
