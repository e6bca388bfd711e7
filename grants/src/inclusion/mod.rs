//! Decides exactly whether every key that one glob matches is matched by at least one of several others. It helps
//! people who issue, check or explain grants; it never decides whether a fact is valid.
//!
//! The search enumerates the spellings of keys that the pattern matches, shortest first, and keeps for each prefix the
//! set of states that the union's globs can be in after it. Where the pattern accepts and no glob of the union does,
//! the bytes are a counterexample. A prefix is dropped when an earlier one has the pattern in the same state, a subset
//! of the union's states, and at least as much room left: the earlier one reaches every counterexample that the later
//! one could.
//!
//! Globs match any bytes, but keys are not arbitrary bytes, so the search also follows the grammar of keys (triplets,
//! `.` and `..`, the limits of segments and keys). The answer is therefore exact about *keys*: `/*` is included in the
//! union of `/?`, `/??`, … up to 255 of them, because no segment is longer.
//!
//! The problem is coNP-hard (a union can encode any Boolean formula), hence the budget.

mod automaton;
mod grammar;
mod search;

#[cfg(test)]
mod tests;

use crate::glob::KeyGlob;
use crate::key::Key;

/// Maximum number of product nodes that [`included`] keeps before it gives up.
pub const INCLUSION_BUDGET: usize = 8_192;

/// Average number of search steps per node of the budget: states of the union that are advanced, compared or kept. The
/// limit takes effect only for unions of hundreds of globs that all stay possible, and bounds time and memory there
/// (with [`INCLUSION_BUDGET`] to some tenths of a second and 64 MiB).
pub const INCLUSION_WORK_PER_NODE: usize = 32_768;

/// Answer of [`included`]: whether a union of globs matches every key that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inclusion {
    /// Every key that the pattern matches is matched by a glob of the union.
    Included,
    /// Some key that the pattern matches is matched by no glob of the union.
    NotIncluded {
        /// A shortest key that the pattern matches and no glob of the union does.
        counterexample: Key,
    },
    /// The budget was spent before an answer was found. Splitting the grant into narrower patterns helps.
    NotProven {
        /// Number of product nodes that the search had kept when it gave up.
        explored: usize,
    },
}

/// Decides whether every key that `pattern` matches is matched by a glob of `union`, within [`INCLUSION_BUDGET`].
pub fn included(pattern: &KeyGlob, union: &[KeyGlob]) -> Inclusion {
    included_with_budget(pattern, union, INCLUSION_BUDGET)
}

/// Decides like [`included`], keeping at most `budget` product nodes.
pub fn included_with_budget(pattern: &KeyGlob, union: &[KeyGlob], budget: usize) -> Inclusion {
    search::Search::new(pattern, union, budget).run()
}
