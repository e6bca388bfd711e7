//! Conversion of fjall's errors to errors of the store.

use crate::storage::StorageError;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Converts an error of the engine to an error of the store.
pub(super) fn engine_error(error: fjall::Error) -> StorageError {
    use fjall::Error;
    match error {
        Error::Io(error) => engine_io_error(&error),
        Error::Storage(fjall::LsmError::Io(error)) => engine_io_error(&error),
        Error::Storage(error) => StorageError::Damaged(format!("a table does not read: {error:?}")),
        Error::JournalRecovery(error) => StorageError::Damaged(format!("a journal does not read: {error:?}")),
        Error::InvalidVersion(found) => {
            let found =
                found.map_or_else(|| "no known version".to_owned(), |version| format!("version {version}"));
            StorageError::Damaged(format!("its engine's version marker says {found}"))
        }
        Error::Locked => StorageError::InUse,
        // The engine does not keep the cause of failures in its background threads.
        Error::Poisoned => StorageError::Stopped(
            "writing failed in the background, most often because the disk is full".to_owned(),
        ),
        Error::Decompress(_) | Error::InvalidTrailer | Error::InvalidTag(_) | Error::Unrecoverable => {
            StorageError::Damaged(format!("{error:?}"))
        }
        other => StorageError::Io(format!("{other:?}")),
    }
}

/// Converts an I/O error of fjall as [`io_error`] does, except that `NotFound` and `InvalidInput` are damage: fjall opens
/// only files, and positions in them, that its other files name.
fn engine_io_error(error: &io::Error) -> StorageError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidInput => {
            StorageError::Damaged(format!("a file of its engine is missing or wrong: {error}"))
        }
        _ => io_error(error),
    }
}

/// Converts an I/O error of the system to an error of the store.
pub(super) fn io_error(error: &io::Error) -> StorageError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageError::Full,
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
            StorageError::Damaged(format!("a file is shorter or other than it was written: {error}"))
        }
        _ => StorageError::Io(error.to_string()),
    }
}

/// Returns a function that converts an I/O error to an error of the store and adds `path` where that helps.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StorageError + use<'_> {
    move |error| match io_error(&error) {
        StorageError::Io(text) => StorageError::Io(format!("{}: {text}", path.display())),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_must_tell_apart_is_told_apart() {
        let full = || io::Error::from(ErrorKind::StorageFull);
        assert!(matches!(engine_error(fjall::Error::Io(full())), StorageError::Full));
        let in_table = fjall::Error::Storage(fjall::LsmError::Io(full()));
        assert!(matches!(engine_error(in_table), StorageError::Full));
        assert!(matches!(engine_error(fjall::Error::Poisoned), StorageError::Stopped(_)));
        assert!(matches!(engine_error(fjall::Error::Locked), StorageError::InUse));
        let checksum = fjall::Error::JournalRecovery(fjall::JournalRecoveryError::ChecksumMismatch);
        assert!(matches!(engine_error(checksum), StorageError::Damaged(_)));
        let short = fjall::Error::Io(io::Error::from(ErrorKind::UnexpectedEof));
        assert!(matches!(engine_error(short), StorageError::Damaged(_)));
        let table = fjall::Error::Storage(fjall::LsmError::InvalidTrailer);
        assert!(matches!(engine_error(table), StorageError::Damaged(_)));
        let missing = fjall::Error::Storage(fjall::LsmError::Io(io::Error::from(ErrorKind::NotFound)));
        assert!(matches!(engine_error(missing), StorageError::Damaged(_)));
        let denied = engine_error(fjall::Error::Io(io::Error::from(ErrorKind::PermissionDenied)));
        assert!(matches!(denied, StorageError::Io(_)));
        let named = at(Path::new("there"))(io::Error::from(ErrorKind::PermissionDenied));
        assert!(named.to_string().contains("there"), "{named}");
    }
}
