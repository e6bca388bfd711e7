//! The list of admitted replica ids.

use kvgossip_grants::ReplicaId;
use std::collections::BTreeSet;

/// Maximum number of replica ids in one list.
pub const MAX_ALLOWED_PEERS: usize = 65_536;
/// Maximum length of an allow list's text in bytes: enough for [`MAX_ALLOWED_PEERS`] ids, each with a comment.
pub const MAX_ALLOW_LIST_LEN: usize = 16 << 20;

/// Error of [`AllowList::parse`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllowListError {
    /// The list's text is not UTF-8.
    #[error("the list of peers is not text in UTF-8")]
    NotText,
    /// The list's text is longer than [`MAX_ALLOW_LIST_LEN`] bytes.
    #[error("the list of peers is over {MAX_ALLOW_LIST_LEN} bytes")]
    TooLong,
    /// The list has more than [`MAX_ALLOWED_PEERS`] replica ids.
    #[error("line {line}: the list of peers has more than {MAX_ALLOWED_PEERS} ids")]
    TooMany {
        /// Line of the first replica id over the limit, counted from 1.
        line: usize,
    },
    /// A line is neither empty, nor a comment, nor a replica id.
    #[error(
        "line {line}: {text:?} is not a replica id (64 lower-case hexadecimal digits; # begins a comment)"
    )]
    NotAnId {
        /// Number of the invalid line, counted from 1.
        line: usize,
        /// Beginning of the invalid line's text, at most 80 characters.
        text: String,
    },
}

/// Set of replica ids that are admitted by name. Text form: one id per line, as 64 lower-case hexadecimal
/// digits; `#` starts a comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    ids: BTreeSet<ReplicaId>,
}

impl AllowList {
    /// Parses the text form of a list. One invalid line rejects the whole list, because a partial list would
    /// shut out replicas.
    pub fn parse(text: &[u8]) -> Result<Self, AllowListError> {
        if text.len() > MAX_ALLOW_LIST_LEN {
            return Err(AllowListError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| AllowListError::NotText)?;
        let mut ids = BTreeSet::new();
        for (index, full) in text.lines().enumerate() {
            let line = index + 1;
            let word = full.split('#').next().unwrap_or_default().trim();
            if word.is_empty() {
                continue;
            }
            let id = word
                .parse()
                .map_err(|_| AllowListError::NotAnId { line, text: word.chars().take(80).collect() })?;
            ids.insert(id);
            if ids.len() > MAX_ALLOWED_PEERS {
                return Err(AllowListError::TooMany { line });
            }
        }
        Ok(Self { ids })
    }

    /// Returns whether the replica is listed.
    pub fn contains(&self, id: &ReplicaId) -> bool {
        self.ids.contains(id)
    }

    /// Number of listed replicas.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl FromIterator<ReplicaId> for AllowList {
    fn from_iter<I: IntoIterator<Item = ReplicaId>>(ids: I) -> Self {
        Self { ids: ids.into_iter().collect() }
    }
}

impl Extend<ReplicaId> for AllowList {
    fn extend<I: IntoIterator<Item = ReplicaId>>(&mut self, ids: I) {
        self.ids.extend(ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ReplicaId {
        ReplicaId([byte; 32])
    }

    #[test]
    fn ids_comments_and_blank_lines() {
        let text = format!("# peers\n\n{}\r\n  {}\t# the second\n{}\n", id(1), id(2), id(1));
        let list = AllowList::parse(text.as_bytes()).unwrap();
        assert_eq!(list, [id(1), id(2)].into_iter().collect());
        assert!(list.contains(&id(1)) && !list.contains(&id(3)));
    }

    #[test]
    fn an_error_names_the_line() {
        for bad in ["zz", &id(1).to_string()[..63], &id(0xab).to_string().to_uppercase(), "a b"] {
            let error = AllowList::parse(format!("{}\n# fine\n{bad}\n", id(1)).as_bytes()).unwrap_err();
            assert!(matches!(&error, AllowListError::NotAnId { line: 3, text } if text == bad), "{error}");
            assert!(error.to_string().starts_with("line 3: "));
        }
    }

    #[test]
    fn the_number_of_ids_is_bounded() {
        use std::fmt::Write;
        let mut text = String::new();
        for n in 0..=MAX_ALLOWED_PEERS {
            writeln!(text, "{n:064x}").unwrap();
        }
        let line = MAX_ALLOWED_PEERS + 1;
        assert!(
            matches!(AllowList::parse(text.as_bytes()), Err(AllowListError::TooMany { line: l }) if l == line)
        );
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused() {
        assert!(matches!(AllowList::parse(b"\xff\xfe"), Err(AllowListError::NotText)));
        assert!(AllowList::parse(&vec![b'\n'; MAX_ALLOW_LIST_LEN]).unwrap().is_empty());
        let long = vec![b'\n'; MAX_ALLOW_LIST_LEN + 1];
        assert!(matches!(AllowList::parse(&long), Err(AllowListError::TooLong)));
    }
}
