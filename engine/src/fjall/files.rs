//! Notices that the files of an open store were taken away.
//!
//! The system keeps a file that is open when its name is removed, and writes into it succeed: a batch would be
//! acknowledged, and gone with the process. So the names are looked at before each batch: two questions to the system
//! in its own memory, beside a flush to the disk.

use super::directory::{LOCK, STORE};
use super::error::at;
use crate::storage::StorageError;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

/// Made by the engine with a store, and never changed while it is open.
const MARKER: &str = "version";

/// Which files a store was opened with.
#[derive(Debug)]
pub(super) struct Files(Vec<(PathBuf, Identity)>);

/// What no other file has at the same time. Only Unix tells.
type Identity = Option<(u64, u64)>;

impl Files {
    /// Notes the files of the store that was just opened in the data directory `dir`.
    pub(super) fn note(dir: &Path) -> Result<Self, StorageError> {
        let paths = [dir.join(LOCK), dir.join(STORE), dir.join(STORE).join(MARKER)];
        let noted = paths.into_iter().map(|path| {
            let identity = path.metadata().map(|found| identity(&found)).map_err(at(&path))?;
            Ok((path, identity))
        });
        noted.collect::<Result<_, _>>().map(Self)
    }

    /// Whether they are still where they were.
    ///
    /// # Errors
    /// `Damaged` if one was removed or replaced, else what the system says.
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
