//! Failures as people read them: some by name, the others by number.

/// How many are named.
const NAMED: usize = 3;

/// Failures in one line: the first three, and how many others there are.
pub fn some_of(mut failures: impl ExactSizeIterator<Item = String>) -> String {
    let named: Vec<_> = failures.by_ref().take(NAMED).collect();
    match failures.len() {
        0 => named.join("; "),
        others => format!("{}; and {others} more", named.join("; ")),
    }
}
