//! Formats a list of failures: the first few in full, the others as a count.

/// Maximum number of failures listed in full.
const NAMED: usize = 3;

/// Formats failures in one line: at most the first three in full, and the number of the remaining ones.
pub fn some_of(mut failures: impl ExactSizeIterator<Item = String>) -> String {
    let named: Vec<_> = failures.by_ref().take(NAMED).collect();
    match failures.len() {
        0 => named.join("; "),
        others => format!("{}; and {others} more", named.join("; ")),
    }
}
