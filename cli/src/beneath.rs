//! A directory whose files are opened relative to its descriptor, and never outside it.

use kvgossip_agent::files::regular;
use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Maximum number of retries when a path is renamed during its resolution.
const MAX_RACES: usize = 64;

/// An open directory. Its files are named by paths relative to it.
#[derive(Debug)]
pub(crate) struct Beneath {
    dir: PathBuf,
    top: OwnedFd,
    /// Whether the system can confine symbolic links to the directory. If not, no link is followed.
    follows: bool,
}

/// Identity of a directory, independent of the path to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirId {
    device: u64,
    inode: u64,
}

impl Beneath {
    /// Opens a directory that the user names; `dir` itself may be a symbolic link.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = retry_on_intr(|| rustix::fs::open(dir, flags, Mode::empty()))?;
        let follows = resolve(&top, Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY).is_ok();
        Ok(Self { dir: dir.to_owned(), top, follows })
    }

    /// Opens a directory without following links in it, as on a system that cannot confine them.
    #[cfg(test)]
    pub(crate) fn open_plain(dir: &Path) -> io::Result<Self> {
        Ok(Self { follows: false, ..Self::open(dir)? })
    }

    /// Whether symbolic links whose target is inside the directory are followed.
    pub(crate) fn follows(&self) -> bool {
        self.follows
    }

    /// Returns a path below the directory as the user would write it.
    pub(crate) fn shown(&self, below: &Path) -> PathBuf {
        if below.as_os_str().is_empty() { self.dir.clone() } else { self.dir.join(below) }
    }

    /// Opens a regular file; fails without blocking for anything else, such as a pipe that has replaced it.
    pub(crate) fn file(&self, below: &Path) -> io::Result<File> {
        regular(self.at(below, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?.into())
    }

    /// Opens a directory for listing; the empty path is the directory itself.
    pub(crate) fn list(&self, below: &Path) -> io::Result<(DirId, Dir)> {
        let fd = self.at(below, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let found = fstat(&fd)?;
        Ok((DirId { device: found.st_dev, inode: found.st_ino }, Dir::new(fd)?))
    }

    /// Returns the type of the file that a path leads to, without opening it.
    pub(crate) fn kind(&self, below: &Path) -> io::Result<FileType> {
        let fd = self.at(below, OFlags::PATH)?;
        Ok(FileType::from_raw_mode(fstat(&fd)?.st_mode))
    }

    /// Returns the target of a symbolic link; `None` if it is no longer a link.
    pub(crate) fn target(&self, below: &Path) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let link = self.at(below, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new()).ok()?;
        Some(std::ffi::OsString::from_vec(target.into_bytes()).into())
    }

    fn at(&self, below: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let opened =
            if self.follows { resolve(&self.top, below, flags) } else { descend(&self.top, below, flags) };
        Ok(opened?)
    }
}

/// Opens a path below a directory; the kernel rejects a path that leaves it.
#[cfg(target_os = "linux")]
fn resolve(top: &OwnedFd, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..MAX_RACES {
        opened = retry_on_intr(|| openat2(top, below, flags | OFlags::CLOEXEC, Mode::empty(), how));
        // A directory was renamed while the kernel resolved `..` of a link.
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
        std::thread::yield_now();
    }
    opened
}

#[cfg(not(target_os = "linux"))]
fn resolve(_: &OwnedFd, _: &Path, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// Opens a path below a directory, component by component, without following links.
fn descend(top: &OwnedFd, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = |from: &dyn AsFd, name: &Path, flags: OFlags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        retry_on_intr(|| openat(from.as_fd(), name, flags, Mode::empty()))
    };
    let (parents, name) = (below.parent().unwrap_or(Path::new("")), below.file_name());
    let mut at: Option<OwnedFd> = None;
    for parent in parents {
        let from: &dyn AsFd = at.as_ref().map_or(top as &dyn AsFd, |fd| fd as &dyn AsFd);
        at = Some(step(from, Path::new(parent), OFlags::RDONLY | OFlags::DIRECTORY)?);
    }
    let from: &dyn AsFd = at.as_ref().map_or(top as &dyn AsFd, |fd| fd as &dyn AsFd);
    step(from, name.map_or(Path::new("."), Path::new), flags)
}
