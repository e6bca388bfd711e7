//! The file of a member's tags: a JSON object of texts, as with Serf's `-tags-file`. JSON is UTF-8, so names and
//! values are stored in displayable form; tags that Serf's tools set with other bytes survive the round trip.

use super::keyring::write_private;
use super::tags::is_reserved;
use crate::files::read_regular;
use kvgossip_membership::{Tags, Text};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Maximum size of a tags file, in bytes. A member's tags take at most 512 bytes in total.
const MAX_LEN: usize = 16 * 1024;

/// The error of reading a tags file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagsFileError {
    /// The tags file cannot be read.
    #[error("the tags in {} cannot be read: {error}", path.display())]
    Read {
        /// Path of the tags file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The tags file is not a JSON object of texts.
    #[error("{} does not hold a JSON object of texts: {error}", path.display())]
    Malformed {
        /// Path of the tags file.
        path: PathBuf,
        /// The error of the JSON parser.
        error: serde_json::Error,
    },
}

/// Reads a tags file. A missing file means no tags.
pub fn read_tags(path: &Path) -> Result<Tags, TagsFileError> {
    let bytes = match read_regular(path, MAX_LEN) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tags::new()),
        Err(error) => return Err(TagsFileError::Read { path: path.to_owned(), error }),
    };
    let shown: BTreeMap<String, String> = serde_json::from_slice(&bytes)
        .map_err(|error| TagsFileError::Malformed { path: path.to_owned(), error })?;
    Ok(shown.iter().map(|(name, value)| (Text::from_shown(name), Text::from_shown(value))).collect())
}

/// Writes a tags file atomically, without the tags that the agent sets itself.
pub(super) fn write_tags(path: &Path, mut tags: Tags) -> io::Result<()> {
    tags.retain(|name, _| !is_reserved(name));
    let shown: BTreeMap<String, String> =
        tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut text = serde_json::to_string_pretty(&shown)?;
    text.push('\n');
    write_private(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_says_what_is_wrong() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tags.json");
        assert_eq!(read_tags(&path).expect("none yet"), Tags::new());
        let tags = |pairs: &[(&str, &str)]| -> Tags {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        write_tags(&path, tags(&[("role", "web"), ("kvg_id", "00"), ("kvgossip", "2")])).expect("written");
        assert_eq!(read_tags(&path).expect("read"), tags(&[("role", "web")]));
        let odd = Tags::from([(vec![0xe9].into(), b"a\n\\x41\xff"[..].into())]);
        write_tags(&path, odd.clone()).expect("written");
        assert_eq!(read_tags(&path).expect("read"), odd, "no byte is lost");
        for bad in ["", "[]", "{\"role\": 1}", "{\"role\""] {
            std::fs::write(&path, bad).expect("written");
            assert!(matches!(read_tags(&path), Err(TagsFileError::Malformed { .. })), "{bad}");
        }
        assert!(matches!(read_tags(dir.path()), Err(TagsFileError::Read { .. })));
    }
}
