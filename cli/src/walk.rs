//! The files of a directory, and the keys that they map to.

use crate::beneath::{Beneath, DirId};
use crate::codes;
use crate::error::{Failure, Result};
use kvgossip_agent::files::read_whole;
use kvgossip_grants::{Code, Key, MAX_VALUE_BYTES, PathPrefix, spell};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Maximum number of names in a directory tree: files, directories and links, each counted as often as links lead to
/// it.
pub(crate) const MAX_NAMES: usize = 1_000_000;
/// Prefix of names that are ignored. A mounted Kubernetes volume keeps its versions under such names, and no key of a
/// ConfigMap or a Secret may start with it.
const MACHINERY: &[u8] = b"..";
const TO_DO: &str = "put the file itself in its place";

/// A file that can become an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Path of the file, relative to the walked directory.
    pub(crate) below: PathBuf,
    pub(crate) key: Key,
}

/// A file that cannot become an entry, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) path: PathBuf,
    pub(crate) code: String,
    pub(crate) why: String,
}

impl LeftOut {
    pub(crate) fn new(path: PathBuf, code: &str, why: impl Into<String>) -> Self {
        Self { path, code: code.to_owned(), why: why.into() }
    }

    fn unreadable(path: PathBuf, error: &io::Error) -> Self {
        let link =
            |how: &str| (codes::FILE_KIND, format!("a symbolic link in its place or above {how}: {TO_DO}"));
        let (code, why) = match error.kind() {
            io::ErrorKind::InvalidInput => (codes::FILE_KIND, error.to_string()),
            _ if leads_outside(error) => link("leads outside of the directory"),
            _ if is(error, Errno::LOOP) => link("is not followed"),
            _ => (codes::FILE_READ, format!("cannot be read: {error}")),
        };
        Self::new(path, code, why)
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

fn leads_outside(error: &io::Error) -> bool {
    is(error, Errno::XDEV)
}

/// The result of a walk.
#[derive(Debug)]
pub(crate) struct Walked {
    /// The open directory through which its files are read.
    pub(crate) tree: Beneath,
    /// Files that can become entries, ordered by key.
    pub(crate) found: Vec<Found>,
    /// Files that cannot become entries, ordered by path.
    pub(crate) left_out: Vec<LeftOut>,
    /// Number of ignored names, which start with `..`.
    pub(crate) passed_over: usize,
}

/// Finds every file under `dir`. Follows symbolic links that stay inside it; ignores names that start with `..`.
///
/// # Errors
/// When `dir` itself cannot be read, or holds more than `most` names.
pub(crate) fn walk(dir: &Path, under: &PathPrefix, most: usize) -> Result<Walked> {
    let unreadable = |error: &io::Error| {
        Failure::new(codes::FILE_READ, format!("cannot read the directory {}: {error}", dir.display()))
    };
    let tree = Beneath::open(dir).map_err(|error| unreadable(&error))?;
    let mut walked = Walked { tree, found: Vec::new(), left_out: Vec::new(), passed_over: 0 };
    let prefix = if under.is_root() { String::new() } else { under.to_string() };
    let mut open = vec![PendingDir { below: PathBuf::new(), spelled: prefix, above: None }];
    let mut seen = 0;
    while let Some(place) = open.pop() {
        match walked.list(&place, &mut open, most.saturating_sub(seen)) {
            Ok(names) => seen += names,
            Err(error) if place.above.is_none() => return Err(unreadable(&error)),
            Err(error) => {
                walked.left_out.push(LeftOut::unreadable(walked.tree.shown(&place.below), &error));
            }
        }
        if seen > most {
            let text =
                format!("{} holds more than {most} files; take its parts in one by one", dir.display());
            return Err(Failure::new(codes::FILE_READ, text));
        }
    }
    walked.found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    walked.left_out.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(walked)
}

/// A directory that remains to be listed.
struct PendingDir {
    below: PathBuf,
    /// Key prefix of the files in the directory.
    spelled: String,
    /// Directories on the path to this one; `None` for the top.
    above: Option<Rc<Above>>,
}

struct Above {
    id: DirId,
    above: Option<Rc<Above>>,
}

impl PendingDir {
    fn is_below(&self, id: DirId) -> bool {
        let mut above = self.above.as_deref();
        while let Some(directory) = above {
            if directory.id == id {
                return true;
            }
            above = directory.above.as_deref();
        }
        false
    }
}

impl Walked {
    /// Lists one directory; returns the number of names seen: `most` plus one if there are too many.
    fn list(&mut self, place: &PendingDir, open: &mut Vec<PendingDir>, most: usize) -> io::Result<usize> {
        let (id, listed) = self.tree.list(&place.below)?;
        if place.is_below(id) {
            let why =
                format!("a symbolic link to a directory that it lies in, which is taken in already: {TO_DO}");
            self.left_out.push(LeftOut::new(self.tree.shown(&place.below), codes::FILE_KIND, why));
            return Ok(0);
        }
        let above = Rc::new(Above { id, above: place.above.clone() });
        let mut names = 0;
        for entry in listed {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            names += 1;
            if names > most {
                break;
            }
            if name.starts_with(MACHINERY) {
                self.passed_over += 1;
                continue;
            }
            let below = place.below.join(std::ffi::OsStr::from_bytes(name));
            let spelled = format!("{}/{}", place.spelled, spell(name));
            match (self.kind(&below, entry.file_type()), Key::parse(&spelled)) {
                (Err(left_out), _) => self.left_out.push(left_out),
                (Ok(_), Err(error)) => {
                    let why = format!("{spelled} is no key: {}", error.kind());
                    self.left_out.push(LeftOut::new(self.tree.shown(&below), codes::FILE_NAME, why));
                }
                (Ok(Kind::Directory), Ok(_)) => {
                    open.push(PendingDir { below, spelled, above: Some(above.clone()) })
                }
                (Ok(Kind::File), Ok(key)) => self.found.push(Found { below, key }),
            }
        }
        Ok(names)
    }

    /// Returns the kind of file that a name leads to, through links; or why it is left out.
    fn kind(&self, below: &Path, listed: FileType) -> Result<Kind, LeftOut> {
        let at = || self.tree.shown(below);
        let is_link = match listed {
            FileType::Symlink => true,
            // Some file systems do not report the type.
            FileType::Unknown => self.tree.target(below).is_some(),
            _ => false,
        };
        let kind = match listed {
            FileType::Symlink | FileType::Unknown if is_link && !self.tree.follows() => {
                let why = format!("a symbolic link, which this system cannot follow safely: {TO_DO}");
                return Err(LeftOut::new(at(), codes::FILE_KIND, why));
            }
            FileType::Symlink | FileType::Unknown => self.tree.kind(below),
            listed => Ok(listed),
        };
        match kind {
            Ok(FileType::RegularFile) => Ok(Kind::File),
            Ok(FileType::Directory) => Ok(Kind::Directory),
            Ok(_) => Err(LeftOut::new(at(), codes::FILE_KIND, "neither a file nor a directory")),
            Err(error) if is_link => Err(self.refused_link(below, &error)),
            Err(error) => Err(LeftOut::unreadable(at(), &error)),
        }
    }

    fn refused_link(&self, below: &Path, error: &io::Error) -> LeftOut {
        let target = self.tree.target(below).unwrap_or_default();
        let how = match error.kind() {
            _ if leads_outside(error) && target.is_absolute() => {
                "which is an absolute path: links are followed inside the directory alone".to_owned()
            }
            _ if leads_outside(error) => "outside of the directory, and is not followed".to_owned(),
            io::ErrorKind::NotFound => "where nothing is".to_owned(),
            _ if is(error, Errno::LOOP) => "which leads round in a circle".to_owned(),
            _ => format!("which cannot be read: {error}"),
        };
        let why = format!("a symbolic link to {}, {how}: {TO_DO}", target.display());
        LeftOut::new(self.tree.shown(below), codes::FILE_KIND, why)
    }
}

enum Kind {
    File,
    Directory,
}

/// Reads a file that fits into a value. It is opened again, so that a file that replaced it meanwhile is read only if
/// it is a regular file inside the directory.
pub(crate) fn read_value(tree: &Beneath, below: &Path) -> Result<Vec<u8>, LeftOut> {
    let read = tree.file(below).and_then(|file| read_whole(file, MAX_VALUE_BYTES));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            let why = "more than 1 MiB, the largest value: split it, or store it elsewhere";
            LeftOut::new(tree.shown(below), Code::TooLarge.as_str(), why)
        }
        _ => LeftOut::unreadable(tree.shown(below), &error),
    })
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
