//! Files that a program reads on its own: regular ones alone, and never more of them than a limit.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file. It is opened without waiting and judged by its descriptor, so that a FIFO that nobody writes to,
/// a socket or a device is refused at once, whatever is put in the file's place meanwhile.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for anything that is no regular file, else what the system says.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match retry_on_intr(|| open(path, flags, Mode::empty())) {
        Ok(file) => regular(file.into()),
        // A socket, or a device without a driver.
        Err(Errno::NXIO) => Err(not_regular("neither a file nor a directory")),
        Err(error) => Err(error.into()),
    }
}

/// Gives an open file back if it is a regular one.
///
/// # Errors
/// As of [`open_regular`].
pub fn regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(not_regular(if kind.is_dir() { "a directory" } else { "neither a file nor a directory" }))
}

fn not_regular(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}; a regular file is needed here"))
}

/// Reads an open regular file whole.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] for more than `limit` bytes, else what the system says.
pub fn read_whole(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes"));
    let (size, limit) = (file.metadata()?.len(), limit as u64);
    if size > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    // The size was true a moment ago, and of files that the system makes up (`/proc`) it is not.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a regular file of at most `limit` bytes whole.
///
/// # Errors
/// As of [`open_regular`] and [`read_whole`].
pub fn read_regular(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    read_whole(open_regular(path)?, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, mknodat};

    #[test]
    fn regular_files_are_read_within_a_limit_and_nothing_else_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "12345").expect("written");
        assert_eq!(read_regular(&at("file"), 5).expect("read"), b"12345");
        assert_eq!(read_regular(&at("file"), 4).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        std::os::unix::fs::symlink("file", at("link")).expect("a link");
        assert_eq!(read_regular(&at("link"), 5).expect("read"), b"12345");
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
        for path in [at("fifo"), at("socket"), dir.path().to_owned(), "/dev/null".into()] {
            let error = read_regular(&path, 5).expect_err("not regular");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}: {error}", path.display());
        }
        assert_eq!(read_regular(&at("missing"), 5).expect_err("none").kind(), io::ErrorKind::NotFound);
        // The system says that these have no bytes.
        assert!(!read_regular(Path::new("/proc/self/status"), 1 << 20).expect("read").is_empty());
        let error = read_regular(Path::new("/proc/self/status"), 1).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
