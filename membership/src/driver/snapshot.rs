//! The snapshot file: replaced as a whole, so that a crash leaves the old one or the new one.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use tokio::{fs, io::AsyncReadExt};

use super::Error;
use crate::core::Snapshot;

/// Most bytes that are read of a snapshot; agents compact theirs far below.
const MAX_LEN: u64 = 4 * 1024 * 1024;

pub(super) async fn read(path: &Path) -> Result<Option<Snapshot>, Error> {
    let failed = |source| Error::Snapshot { path: path.to_owned(), source };
    let file = match fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(Some(Snapshot::parse(&bytes)))
}

/// Blocks until the disk has it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
