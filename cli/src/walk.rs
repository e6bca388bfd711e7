//! The files of a directory, and the keys that they become.

use crate::codes;
use crate::error::{Failure, Result};
use kvgossip_grants::{Code, Key, MAX_VALUE_BYTES, PathPrefix, spell};
use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most files of one directory tree.
pub(crate) const MAX_FILES: usize = 1_000_000;

/// A file that can become an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) key: Key,
}

/// Something that cannot, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) path: PathBuf,
    pub(crate) code: String,
    pub(crate) why: String,
}

impl LeftOut {
    pub(crate) fn new(path: &Path, code: &str, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), code: code.to_owned(), why: why.into() }
    }

    fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::new(path, codes::FILE_READ, format!("cannot be read: {error}"))
    }
}

/// Every file under `dir`, by key. No symbolic link is followed.
///
/// # Errors
/// When `dir` itself cannot be read, or holds more than [`MAX_FILES`].
pub(crate) fn walk(dir: &Path, under: &PathPrefix) -> Result<(Vec<Found>, Vec<LeftOut>)> {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    let top = if under.is_root() { String::new() } else { under.to_string() };
    let mut open = vec![(dir.to_owned(), top)];
    while let Some((path, prefix)) = open.pop() {
        let listed = fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<DirEntry>>>);
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) if path == dir => {
                let text = format!("cannot read the directory {}: {error}", dir.display());
                return Err(Failure::new(codes::FILE_READ, text));
            }
            Err(error) => {
                left_out.push(LeftOut::unreadable(&path, &error));
                continue;
            }
        };
        for entry in listed {
            let path = entry.path();
            let spelled = format!("{prefix}/{}", spell(entry.file_name().as_bytes()));
            match (entry.file_type(), Key::parse(&spelled)) {
                (Err(error), _) => left_out.push(LeftOut::unreadable(&path, &error)),
                (Ok(kind), _) if kind.is_symlink() => {
                    let why = "a symbolic link, which is not followed: put the file itself in its place";
                    left_out.push(LeftOut::new(&path, codes::FILE_KIND, why));
                }
                (Ok(kind), _) if !kind.is_dir() && !kind.is_file() => {
                    left_out.push(LeftOut::new(&path, codes::FILE_KIND, "neither a file nor a directory"));
                }
                (Ok(_), Err(error)) => {
                    let why = format!("{spelled} is no key: {}", error.kind());
                    left_out.push(LeftOut::new(&path, codes::FILE_NAME, why));
                }
                (Ok(kind), Ok(_)) if kind.is_dir() => open.push((path, spelled)),
                (Ok(_), Ok(key)) => found.push(Found { path, key }),
            }
            if found.len() + left_out.len() > MAX_FILES {
                let text = format!(
                    "{} holds more than {MAX_FILES} files; take its parts in one by one",
                    dir.display()
                );
                return Err(Failure::new(codes::FILE_READ, text));
            }
        }
    }
    found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    left_out.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok((found, left_out))
}

/// Reads a file that fits into a value.
pub(crate) fn read_value(path: &Path) -> Result<Vec<u8>, LeftOut> {
    let mut value = Vec::new();
    let limit = MAX_VALUE_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut value));
    read.map_err(|error| LeftOut::unreadable(path, &error))?;
    if value.len() > MAX_VALUE_BYTES {
        let why = "more than 1 MiB, the largest value: split it, or store it elsewhere";
        return Err(LeftOut::new(path, Code::TooLarge.as_str(), why));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    fn keys(dir: &Path, under: &str) -> (Vec<String>, Vec<(String, String)>) {
        let (found, left_out) = walk(dir, &under.parse().unwrap()).unwrap();
        let name = |out: &LeftOut| out.path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
        (
            found.iter().map(|file| file.key.to_string()).collect(),
            left_out.iter().map(|out| (name(out), out.code.clone())).collect(),
        )
    }

    #[test]
    fn names_become_keys_and_what_cannot_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub dir")).unwrap();
        for name in ["plain", "100%", "%20", "sub dir/ä", ".hidden", "-"] {
            fs::write(at(name), name).unwrap();
        }
        fs::write(dir.path().join(OsStr::from_bytes(b"\xff")), "").unwrap();
        symlink("plain", at("link")).unwrap();
        symlink("missing", at("broken")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::write(at(&" ".repeat(86)), "").unwrap();
        let (found, left_out) = keys(dir.path(), "/a");
        assert_eq!(
            found,
            ["/a/%2520", "/a/%FF", "/a/-", "/a/.hidden", "/a/100%25", "/a/plain", "/a/sub%20dir/%C3%A4"]
        );
        let long = " ".repeat(86);
        let expected = [
            (long.as_str(), codes::FILE_NAME),
            ("broken", codes::FILE_KIND),
            ("link", codes::FILE_KIND),
            ("socket", codes::FILE_KIND),
        ];
        assert_eq!(left_out, expected.map(|(name, code)| (name.to_owned(), code.to_owned())));
        assert_eq!(keys(dir.path(), "/").0[0], "/%2520");
        assert_eq!(walk(&at("missing"), &"/".parse().unwrap()).unwrap_err().code(), codes::FILE_READ);
    }

    #[test]
    fn a_directory_too_deep_for_keys_is_named_once() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join(vec!["d"; 40].join("/"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f"), "").unwrap();
        let (found, left_out) = keys(dir.path(), "/a/b");
        assert_eq!(found, [""; 0]);
        assert_eq!(left_out, [(vec!["d"; 31].join("/"), codes::FILE_NAME.to_owned())]);
    }

    #[test]
    fn a_value_may_have_a_mebibyte_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, vec![0; MAX_VALUE_BYTES]).unwrap();
        assert_eq!(read_value(&path).unwrap().len(), MAX_VALUE_BYTES);
        fs::write(&path, vec![0; MAX_VALUE_BYTES + 1]).unwrap();
        assert_eq!(read_value(&path).unwrap_err().code, "fact.too_large");
        assert_eq!(read_value(dir.path()).unwrap_err().code, codes::FILE_READ);
    }
}
