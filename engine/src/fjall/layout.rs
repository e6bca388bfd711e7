//! The shape of a store's directory, checked before the engine reads it.
//!
//! The engine takes every directory below `keyspaces` for a keyspace, every file below `tables` for a table, and every `*.jnl` for a
//! journal. It calls a foreign file there damage, or panics in a way that ends the process. It would wait for a FIFO, and write
//! through a link.

use super::error::at;
use crate::files::not_regular;
use crate::storage::StorageError;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::path::Path;

/// Checks that the directory of a store holds nothing that the engine would misread.
///
/// # Errors
/// - [`StorageError::ForeignFile`]: something that the engine did not write lies where it expects its own files.
/// - [`StorageError::Damaged`]: a directory is in the place of a table or journal.
/// - [`StorageError::Io`]: something is neither a file nor a directory, or the system refused.
pub(super) fn check(store: &Path) -> Result<(), StorageError> {
    for entry in items(store)? {
        let name = entry.file_name();
        match is_directory(&entry)? {
            true if name == "keyspaces" => check_keyspaces(&entry.path())?,
            true => check_kinds(&entry.path())?,
            false if Path::new(&name).extension() == Some(OsStr::new("jnl")) => {
                let stem = Path::new(&name).file_stem().unwrap_or_default();
                own(&entry, is_number(stem))?;
            }
            false => {}
        }
    }
    Ok(())
}

fn check_keyspaces(dir: &Path) -> Result<(), StorageError> {
    for keyspace in items(dir)? {
        if !is_directory(&keyspace)? {
            continue;
        }
        own(&keyspace, is_number(&keyspace.file_name()))?;
        for entry in items(&keyspace.path())? {
            match is_directory(&entry)? {
                true if entry.file_name() == "tables" => check_tables(&entry.path())?,
                true => check_kinds(&entry.path())?,
                false => {}
            }
        }
    }
    Ok(())
}

fn check_tables(dir: &Path) -> Result<(), StorageError> {
    for entry in items(dir)? {
        let is_directory = is_directory(&entry)?;
        own(&entry, is_number(&entry.file_name()))?;
        if is_directory {
            let path = entry.path();
            return Err(StorageError::Damaged(format!("{} is a directory, not a table", path.display())));
        }
    }
    Ok(())
}

/// Checks that everything below is a file or a directory.
fn check_kinds(dir: &Path) -> Result<(), StorageError> {
    for entry in items(dir)? {
        if is_directory(&entry)? {
            check_kinds(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether an item of a store is a directory; otherwise it is a regular file.
///
/// # Errors
/// The item is neither.
pub(super) fn is_directory(entry: &DirEntry) -> Result<bool, StorageError> {
    let path = entry.path();
    let kind = entry.file_type().map_err(at(&path))?;
    match (kind.is_dir(), kind.is_file(), kind.is_symlink()) {
        (true, ..) => Ok(true),
        (_, true, _) => Ok(false),
        (.., true) => Err(at(&path)(not_regular("a symbolic link"))),
        _ => Err(at(&path)(not_regular("neither a file nor a directory"))),
    }
}

fn items(dir: &Path) -> Result<Vec<DirEntry>, StorageError> {
    fs::read_dir(dir).map_err(at(dir))?.map(|entry| entry.map_err(at(dir))).collect()
}

/// Whether a name is the decimal number of a keyspace, table or journal.
fn is_number(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.parse::<u64>().is_ok_and(|number| number.to_string() == name))
}

fn own(entry: &DirEntry, is_own: bool) -> Result<(), StorageError> {
    if is_own { Ok(()) } else { Err(StorageError::ForeignFile(entry.path().display().to_string())) }
}
