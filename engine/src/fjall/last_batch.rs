//! The number of the last batch in a separate file, which reveals that a store has lost its last batches.
//!
//! A damaged length field in the middle of a journal ends its replay early and without an error. All batches after it
//! are then missing, and nothing inside the store shows it.
//!
//! The file is overwritten in place after every commit but *not* flushed to the disk with it, which would double the
//! flushes of a commit. So it survives the end of the process at once, and a failure of the whole machine after the
//! system's own write-back (usually half a minute). It is never ahead of the store, because a batch is durable before
//! its number is written here. After a failure of the machine it may have an older number, which detects less and
//! reports no false loss. It is flushed when a store is opened and when it is closed.

use super::error::at;
use crate::files::{Access, open_own};
use crate::storage::StorageError;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Name of the file with the number of the last batch. It is beside the store's directory, so that replacing one does
/// not replace the other.
pub(super) const FILE_NAME: &str = "last-batch";
const MAGIC: [u8; 8] = *b"kvg-last";
const CHECKED_BYTES: usize = 20;
const CHECK_BYTES: usize = 8;
const FILE_BYTES: usize = CHECKED_BYTES + CHECK_BYTES;

/// Contents of the file `last-batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Version of the format of the store.
    pub(super) format: u32,
    /// Number of the last acknowledged batch.
    pub(super) batch: u64,
}

/// The open file `last-batch` with its pending write.
#[derive(Debug)]
pub(super) struct LastBatch {
    file: File,
    path: PathBuf,
    /// Contents that could not be written yet; `None` if nothing is pending.
    owed: Option<Seen>,
}

impl LastBatch {
    /// Opens or creates the file in the data directory `dir`. The contents are `None` if the file is new or incomplete,
    /// which a failure of the machine may cause.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<Seen>), StorageError> {
        let path = dir.join(FILE_NAME);
        let file = open_own(&path, Access::Keep).map_err(at(&path))?;
        let mut this = Self { file, path, owed: None };
        let mut bytes = [0; FILE_BYTES];
        let seen = match this.file.read_exact(&mut bytes) {
            Ok(()) => parse(&bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(at(&this.path)(error)),
        };
        Ok((this, seen))
    }

    /// Reads the file in the data directory `dir` without changing it; `None` if it is missing or incomplete.
    pub(super) fn peek(dir: &Path) -> Result<Option<Seen>, StorageError> {
        let path = dir.join(FILE_NAME);
        let mut bytes = [0; FILE_BYTES];
        match open_own(&path, Access::Read).and_then(|mut file| file.read_exact(&mut bytes)) {
            Ok(()) => Ok(parse(&bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Writes the number of a durable batch to the file. If that fails, [`LastBatch::settle`], which the next batch
    /// calls first, tries again and reports the failure.
    pub(super) fn note(&mut self, seen: Seen) {
        self.owed = self.write(seen).is_err().then_some(seen);
    }

    /// Writes the pending contents to the file, if there are any.
    pub(super) fn settle(&mut self) -> Result<(), StorageError> {
        if let Some(seen) = self.owed {
            self.write(seen)?;
            self.owed = None;
        }
        Ok(())
    }

    fn write(&mut self, seen: Seen) -> Result<(), StorageError> {
        let written = self.file.rewind().and_then(|()| self.file.write_all(&encode(seen)));
        written.map_err(at(&self.path))
    }

    /// Flushes the file `last-batch` to the disk.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.settle()?;
        self.file.sync_all().map_err(at(&self.path))
    }

    /// Test helper: makes every later write of the file fail, or succeed again.
    #[cfg(test)]
    pub(super) fn set_writable(&mut self, writable: bool) {
        self.file = File::options().read(true).write(writable).open(&self.path).expect("a file of ours");
    }
}

fn encode(seen: Seen) -> [u8; FILE_BYTES] {
    let mut bytes = [0; FILE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&seen.format.to_le_bytes());
    bytes[12..CHECKED_BYTES].copy_from_slice(&seen.batch.to_le_bytes());
    let check = check(&bytes[..CHECKED_BYTES]);
    bytes[CHECKED_BYTES..].copy_from_slice(&check);
    bytes
}

fn parse(bytes: &[u8; FILE_BYTES]) -> Option<Seen> {
    let (checked, stored) = bytes.split_at(CHECKED_BYTES);
    if stored != check(checked) {
        return None;
    }
    let rest = checked.strip_prefix(&MAGIC)?;
    let (format, rest) = rest.split_first_chunk()?;
    let (batch, _) = rest.split_first_chunk()?;
    Some(Seen { format: u32::from_le_bytes(*format), batch: u64::from_le_bytes(*batch) })
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, seen) = LastBatch::open(dir.path()).unwrap();
        assert_eq!(seen, None);
        for batch in [u64::MAX, 7] {
            file.note(Seen { format: 1, batch });
        }
        file.sync().unwrap();
        let (_, seen) = LastBatch::open(dir.path()).unwrap();
        assert_eq!(seen, Some(Seen { format: 1, batch: 7 }));
    }

    #[test]
    fn what_was_not_written_whole_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let whole = encode(Seen { format: 1, batch: 7 });
        for len in 0..FILE_BYTES {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(LastBatch::open(dir.path()).unwrap().1, None, "{len} bytes");
        }
        for at in 0..FILE_BYTES {
            let mut other = whole;
            other[at] ^= 0x10;
            std::fs::write(&path, other).unwrap();
            assert_eq!(LastBatch::open(dir.path()).unwrap().1, None, "byte {at}");
        }
    }
}
