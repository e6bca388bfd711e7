//! Reads of the engine, with its errors and panics converted to errors of the store.
//!
//! The engine asserts properties of what it reads from its files, and panics if they do not hold. Every read of a store
//! goes through this module, so that such a store is reported as damaged, while a panic outside of the engine remains a
//! fault of the program.

use super::error::engine_error;
use crate::storage::StorageError;
use fjall::{Keyspace, Readable, Slice, Snapshot};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Maximum length of the engine's own text within an error, in characters.
const MAX_REASON_CHARS: usize = 200;

/// Runs a read of the engine and catches its panics. Reads change nothing, so a panic leaves no partial change.
///
/// # Errors
/// Those of `read`; [`StorageError::Damaged`] with the message of a panic.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, fjall::Error>) -> Result<T, StorageError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(done) => done.map_err(engine_error),
        Err(panic) => Err(StorageError::Damaged(format!("its engine cannot read it: {}", words(&*panic)))),
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    words.chars().take(MAX_REASON_CHARS).collect()
}

/// Whether a keyspace has a row with this key.
pub(super) fn contains(
    snapshot: &Snapshot,
    table: &Keyspace,
    row: impl AsRef<[u8]>,
) -> Result<bool, StorageError> {
    guarded(|| snapshot.contains_key(table, row))
}

/// Returns the value of the row with this key; `None` if the keyspace has no such row.
pub(super) fn get(
    snapshot: &Snapshot,
    table: &Keyspace,
    row: impl AsRef<[u8]>,
) -> Result<Option<Slice>, StorageError> {
    guarded(|| snapshot.get(table, row))
}

/// Iterator over the rows of a table in order, or over those with a prefix. It ends after the first row that cannot be
/// read.
pub(super) struct Rows(Option<Result<fjall::Iter, StorageError>>);

impl Rows {
    pub(super) fn all(snapshot: &Snapshot, table: &Keyspace) -> Self {
        Self(Some(guarded(|| Ok(snapshot.iter(table)))))
    }

    pub(super) fn with_prefix(snapshot: &Snapshot, table: &Keyspace, prefix: &[u8]) -> Self {
        Self(Some(guarded(|| Ok(snapshot.prefix(table, prefix)))))
    }
}

impl Iterator for Rows {
    type Item = Result<(Slice, Slice), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.0.as_mut()? {
            Ok(rows) => guarded(|| rows.next().map(fjall::Guard::into_inner).transpose()),
            Err(error) => Err(error.clone()),
        };
        if !matches!(next, Ok(Some(_))) {
            self.0 = None;
        }
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_engine_is_damage_and_its_words_are_told() {
        let error = guarded::<()>(|| panic!("a block of {} bytes", 7)).expect_err("it panicked");
        assert_eq!(error.to_string(), "the store is damaged: its engine cannot read it: a block of 7 bytes");
        let error = guarded::<()>(|| panic!("{}", "x".repeat(1_000))).expect_err("it panicked");
        assert!(error.to_string().len() < 300, "{error}");
    }
}
