//! A copy of a store that shares its tables, so that a check does not change the original: the engine truncates a
//! journal at the first record that it cannot read, and the records after it would be lost to later examination.

use super::super::error::at;
use super::super::layout::{self, is_directory};
use crate::files::{Access, open_own};
use crate::storage::StorageError;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 64 * 1024;

/// A copy of a store, which is removed when this value is dropped.
pub(super) struct Shadow(PathBuf);

impl Shadow {
    /// Copies the store `from` to `to`. Tables, which the engine never changes, are hard-linked; the rest is copied:
    /// journals and a few hundred bytes.
    pub(super) fn make(from: &Path, to: PathBuf) -> Result<Self, StorageError> {
        layout::check(from)?;
        remove(&to)?;
        let shadow = Self(to);
        copy_directory(from, &shadow.0)?;
        Ok(shadow)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // Leftovers are removed at the next opening.
        let _ = remove(&self.0);
    }
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn copy_directory(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::create_dir(to).map_err(at(to))?;
    let are_tables = from.file_name().is_some_and(|name| name == "tables");
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if is_directory(&entry)? {
            copy_directory(&source, &target)?;
        } else if !(are_tables && fs::hard_link(&source, &target).is_ok()) {
            copy_file(&source, &target)?;
        }
    }
    Ok(())
}

/// Copies a file without writing blocks of zeros: a journal is created with 64 MiB of them. Zeros at the end are left
/// out.
fn copy_file(from: &Path, to: &Path) -> Result<(), StorageError> {
    let mut source = open_own(from, Access::Read).map_err(at(from))?;
    let mut target = File::create_new(to).map_err(at(to))?;
    let (mut chunk, mut position) = (vec![0; CHUNK_BYTES], 0u64);
    loop {
        let len = source.read(&mut chunk).map_err(at(from))?;
        if len == 0 {
            return Ok(());
        }
        if chunk[..len].iter().any(|byte| *byte != 0) {
            let written = target.seek(SeekFrom::Start(position));
            written.and_then(|_| target.write_all(&chunk[..len])).map_err(at(to))?;
        }
        position += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_up_to_zeros_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut bytes = vec![0; 5 * CHUNK_BYTES];
        bytes[10] = 1;
        bytes[3 * CHUNK_BYTES - 1] = 2;
        fs::write(&from, &bytes).unwrap();
        copy_file(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), bytes[..3 * CHUNK_BYTES]);
    }

    #[test]
    fn tables_are_linked_and_the_shadow_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        fs::create_dir_all(store.join("keyspaces/1/tables")).unwrap();
        fs::write(store.join("keyspaces/1/tables/7"), "table").unwrap();
        fs::write(store.join("0.jnl"), "journal").unwrap();
        let shadow = Shadow::make(&store, dir.path().join("shadow")).unwrap();
        fs::write(shadow.path().join("0.jnl"), "changed").unwrap();
        fs::remove_file(shadow.path().join("keyspaces/1/tables/7")).unwrap();
        drop(shadow);
        assert!(!dir.path().join("shadow").exists());
        assert_eq!(fs::read(store.join("0.jnl")).unwrap(), b"journal");
        assert_eq!(fs::read(store.join("keyspaces/1/tables/7")).unwrap(), b"table");
    }
}
