//! Snapshot file, replaced as a whole, so that a crash leaves either the old or the new one.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, retry_on_intr},
};

use super::Error;
use crate::core::Snapshot;

/// Maximum number of bytes read from a snapshot file; agents keep theirs far smaller.
const MAX_LEN: u64 = 4 * 1024 * 1024;

pub(super) async fn read(path: &Path) -> Result<Option<Snapshot>, Error> {
    let failed = |source| Error::Snapshot { path: path.to_owned(), source };
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_regular(&owned)).await;
    match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(bytes) => Ok(Some(Snapshot::parse(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Reads a regular file. It is opened without blocking and checked by its descriptor, so that a FIFO without a
/// writer is rejected at once. A symbolic link is rejected too, because replacing the file would replace the
/// link.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let refused = |what| {
        let text = format!("it is {what}; a regular file is needed here");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    let file = match retry_on_intr(|| open(path, flags, Mode::empty())) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return refused("a symbolic link"),
        Err(Errno::NXIO) => return refused("neither a file nor a directory"),
        Err(error) => return Err(error.into()),
    };
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        return refused(if kind.is_dir() { "a directory" } else { "neither a file nor a directory" });
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces the snapshot file by one with these bytes, and blocks until it is on the disk.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // Another file there does not belong to this program, and opening a FIFO would wait for a reader.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType, mknodat};
    use std::time::Duration;

    async fn soon<F: Future>(work: F) -> Result<F::Output, tokio::time::error::Elapsed> {
        tokio::time::timeout(Duration::from_secs(10), work).await
    }

    #[tokio::test]
    async fn a_snapshot_is_a_regular_file_and_nothing_else_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("members");
        assert!(matches!(read(&path).await, Ok(None)));
        let snapshot = Snapshot { clock: 7, ..Snapshot::default() };
        let (temporary, fifo) = (dir.path().join("members.new"), dir.path().join("fifo"));
        for place in [&temporary, &fifo] {
            mknodat(rustix::fs::CWD, place, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        }
        let (target, bytes) = (path.clone(), snapshot.encode());
        let written = tokio::task::spawn_blocking(move || write(&target, &bytes));
        soon(written).await.expect("it does not wait").expect("no panic").expect("written");
        assert_eq!(read(&path).await.expect("read").map(|read| read.clock), Some(7));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        for other in [&fifo, &link] {
            let refused = soon(read(other)).await.expect("it does not wait");
            let Err(Error::Snapshot { source, .. }) = refused else { panic!("{refused:?}") };
            assert!(source.to_string().ends_with("a regular file is needed here"), "{source}");
        }
    }
}
