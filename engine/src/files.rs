//! Safe access to files that the program reads or keeps: only regular files, and only up to a size limit.
//!
//! A file that a user names may be a symbolic link to a regular file ([`open_regular`]). A file that the program keeps
//! in its data directory must not be a link ([`open_own`]), so that nothing there can redirect the program to another
//! file.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, retry_on_intr};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Flags with which every file is opened: never wait, whatever kind of file is at the path.
const ALWAYS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Mode of access to a file of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads a file, which must exist.
    Read,
    /// Reads and writes a file, which is created if it is missing.
    Keep,
}

/// Opens a regular file. The file is opened without waiting and checked by its descriptor, so that a FIFO without a
/// writer, a socket or a device is refused at once, even if the file is replaced meanwhile.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if it is not a regular file, else the error of the system.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_checked(path, OFlags::RDONLY, Mode::empty())
}

/// Opens a file of the data directory like [`open_regular`], but refuses symbolic links as well.
///
/// # Errors
/// The same errors as [`open_regular`].
pub fn open_own(path: &Path, access: Access) -> io::Result<File> {
    let access = match access {
        Access::Read => OFlags::RDONLY,
        Access::Keep => OFlags::RDWR | OFlags::CREATE,
    };
    open_checked(path, access | OFlags::NOFOLLOW, Mode::from_raw_mode(0o666))
}

fn open_checked(path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
    match retry_on_intr(|| open(path, flags | ALWAYS, mode)) {
        Ok(file) => regular(file.into()),
        // A socket, a FIFO without a reader, or a device without a driver.
        Err(Errno::NXIO) => Err(not_regular("neither a file nor a directory")),
        Err(Errno::LOOP) if flags.contains(OFlags::NOFOLLOW) => Err(not_regular("a symbolic link")),
        Err(Errno::ISDIR) => Err(not_regular("a directory")),
        Err(error) => Err(error.into()),
    }
}

/// Creates a file of the data directory. Anything at its path is removed first and never followed or written to, except
/// that a directory is refused.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a directory, else the error of the system.
pub fn create_own(path: &Path) -> io::Result<File> {
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Err(not_regular("a directory"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // With `create_new` the system follows no link.
    File::options().read(true).write(true).create_new(true).open(path)
}

/// Replaces the contents of a file of the data directory as a whole and durably, by a new file that takes its name.
/// Anything at its path that is not a regular file is left there and refused.
///
/// # Errors
/// The same errors as [`open_own`].
pub fn replace_own(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match open_own(path, Access::Read) {
        // A file that this user may not read can be replaced.
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Err(error);
        }
        _ => {}
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = create_own(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Returns the open file if it is a regular file.
///
/// # Errors
/// The same errors as [`open_regular`].
pub fn regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(not_regular(if kind.is_dir() { "a directory" } else { "neither a file nor a directory" }))
}

/// Makes the error for a path at which there is not a regular file but `what`.
pub(crate) fn not_regular(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("it is {what}; a regular file is needed here"))
}

/// Reads an open regular file of at most `limit` bytes to its end.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] above `limit` bytes, else the error of the system.
pub fn read_whole(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {limit} bytes"));
    let (size, limit) = (file.metadata()?.len(), limit as u64);
    if size > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    // The size may have changed since, and files that the system generates (`/proc`) report a wrong one.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a whole regular file of at most `limit` bytes.
///
/// # Errors
/// The errors of [`open_regular`] and [`read_whole`].
pub fn read_regular(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    read_whole(open_regular(path)?, limit)
}

/// Reads a whole file of the data directory of at most `limit` bytes.
///
/// # Errors
/// The errors of [`open_own`] and [`read_whole`].
pub fn read_own(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    read_whole(open_own(path, Access::Read)?, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, mknodat};
    use std::os::unix::fs::symlink;

    fn fifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
    }

    #[test]
    fn regular_files_are_read_within_a_limit_and_nothing_else_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "12345").expect("written");
        assert_eq!(read_regular(&at("file"), 5).expect("read"), b"12345");
        assert_eq!(read_regular(&at("file"), 4).expect_err("too large").kind(), ErrorKind::FileTooLarge);
        symlink("file", at("link")).expect("a link");
        assert_eq!(read_regular(&at("link"), 5).expect("read"), b"12345");
        fifo(&at("fifo"));
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
        for path in [at("fifo"), at("socket"), dir.path().to_owned(), "/dev/null".into()] {
            let error = read_regular(&path, 5).expect_err("not regular");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
        }
        assert_eq!(read_regular(&at("missing"), 5).expect_err("none").kind(), ErrorKind::NotFound);
        // The system reports these files as empty.
        assert!(!read_regular(Path::new("/proc/self/status"), 1 << 20).expect("read").is_empty());
        let error = read_regular(Path::new("/proc/self/status"), 1).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_of_ones_own_is_neither_a_link_nor_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "12345").expect("written");
        assert_eq!(read_own(&at("file"), 5).expect("read"), b"12345");
        assert_eq!(read_own(&at("missing"), 5).expect_err("none").kind(), ErrorKind::NotFound);
        fifo(&at("fifo"));
        symlink("file", at("link")).expect("a link");
        symlink("nowhere", at("dangling")).expect("a link");
        fs::create_dir(at("dir")).expect("made");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
        for name in ["fifo", "link", "dangling", "dir", "socket"] {
            let refusals = [
                open_own(&at(name), Access::Read).map(drop),
                open_own(&at(name), Access::Keep).map(drop),
                replace_own(&at(name), b"new"),
            ];
            for refused in refusals {
                let error = refused.expect_err("not regular");
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
                assert!(error.to_string().ends_with("a regular file is needed here"), "{name}: {error}");
            }
        }
        assert_eq!(fs::read(at("file")).expect("read"), b"12345", "nothing was written through the link");
        assert!(!at("nowhere").exists());
        open_own(&at("made"), Access::Keep).expect("made");
        assert!(at("made").is_file());
    }

    #[test]
    fn a_file_is_made_in_place_of_whatever_stands_there_and_never_through_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "12345").expect("written");
        fifo(&at("fifo"));
        symlink("file", at("link")).expect("a link");
        symlink("nowhere", at("dangling")).expect("a link");
        for name in ["fifo", "link", "dangling", "new"] {
            create_own(&at(name)).expect("made").write_all(b"own").expect("written");
            assert!(at(name).symlink_metadata().expect("there").is_file(), "{name}");
        }
        assert_eq!(fs::read(at("file")).expect("read"), b"12345");
        assert!(!at("nowhere").exists());
        let error = create_own(dir.path()).expect_err("a directory");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        // A leftover of an earlier attempt does not redirect the write either.
        symlink("file", at("kept.new")).expect("a link");
        for bytes in ["first", "second"] {
            replace_own(&at("kept"), bytes.as_bytes()).expect("replaced");
            assert_eq!(read_own(&at("kept"), 6).expect("read"), bytes.as_bytes());
        }
        assert_eq!(fs::read(at("file")).expect("read"), b"12345");
    }
}
