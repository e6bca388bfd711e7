//! Detects that the files of an open store were removed or replaced.
//!
//! The system keeps an open file when its name is removed, and writes to it succeed: a batch would be acknowledged and
//! be lost with the process. So the names are checked before each batch, by `stat` calls that are answered from the
//! kernel's cache and cost little compared with a flush to the disk.

use super::directory::{LOCK, STORE};
use super::error::at;
use crate::storage::StorageError;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

/// Name of a file that the engine creates with a store and never changes while the store is open.
const MARKER: &str = "version";

/// Paths and identities of the files with which a store was opened.
#[derive(Debug)]
pub(super) struct Files(Vec<(PathBuf, Identity)>);

/// Device and inode of a file, which no other file has at the same time; `None` on systems other than Unix.
type Identity = Option<(u64, u64)>;

impl Files {
    /// Records the files of the store that was just opened in the data directory `dir`.
    pub(super) fn note(dir: &Path) -> Result<Self, StorageError> {
        let paths = [dir.join(LOCK), dir.join(STORE), dir.join(STORE).join(MARKER)];
        let noted = paths.into_iter().map(|path| {
            let identity = path.metadata().map(|found| identity(&found)).map_err(at(&path))?;
            Ok((path, identity))
        });
        noted.collect::<Result<_, _>>().map(Self)
    }

    /// Checks that the recorded files are still in place.
    ///
    /// # Errors
    /// `Damaged` if a file was removed or replaced, else the error of the system.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        let gone = |path: &Path| {
            let why = format!("{} was removed or replaced while it was open", path.display());
            Err(StorageError::Damaged(why))
        };
        for (path, noted) in &self.0 {
            match path.metadata() {
                Ok(found) if identity(&found) == *noted => {}
                Ok(_) => return gone(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return gone(path),
                Err(error) => return Err(at(path)(error)),
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn identity(found: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    None
}
