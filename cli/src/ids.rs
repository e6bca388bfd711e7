//! Ids as people write them: whole, or abbreviated to eight digits or more.

use crate::codes;
use crate::error::{Failure, Result};
use crate::output::short;
use crate::text::TextFault;
use std::collections::BTreeSet;

/// Minimum number of digits of an abbreviated id.
pub(crate) const MIN_DIGITS: usize = 8;
/// Maximum number of ids that match an abbreviated one and are listed in the error.
const MAX_LISTED: usize = 8;

/// An id or its first digits, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdPrefix(String);

/// Parses an id or its first digits, at least [`MIN_DIGITS`].
pub(crate) fn id_prefix(text: &str) -> Result<IdPrefix, TextFault> {
    let fault = |reason: &str| TextFault::whole(codes::ID_MALFORMED, "an id", reason, text);
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Err(fault("an id has only the digits 0-9 and a-f"))
    } else if !(MIN_DIGITS..=64).contains(&text.len()) {
        Err(fault("write 8 to 64 digits of the id"))
    } else {
        Ok(IdPrefix(text.to_ascii_lowercase()))
    }
}

impl IdPrefix {
    /// Returns the digits of the id as written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the one id of `ids` that starts with these digits.
    pub(crate) fn find<'a>(&self, what: &str, ids: impl Iterator<Item = &'a str>) -> Result<&'a str> {
        let found: BTreeSet<&str> = ids.filter(|id| id.starts_with(&self.0)).collect();
        match (found.first(), found.len()) {
            (Some(id), 1) => Ok(id),
            (None, _) => {
                let text = format!("no known {what} has an id that begins with {}", self.0);
                Err(Failure::new(codes::ID_UNKNOWN, text))
            }
            (_, many) => {
                let whats = what.strip_suffix('y').map_or(format!("{what}s"), |stem| format!("{stem}ies"));
                let text = format!("{many} {whats} have ids that begin with {}; write more digits", self.0);
                let failure = Failure::new(codes::ID_AMBIGUOUS, text);
                Err(found
                    .iter()
                    .take(MAX_LISTED)
                    .fold(failure, |failure, id| failure.note(format!("  {id}"))))
            }
        }
    }
}

impl std::fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(short(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_must_be_known_and_unique() {
        let ids = ["aabbccdd00", "aabbccdd01", "11223344ff"];
        let find = |text: &str| {
            id_prefix(text).unwrap().find("grant", ids.into_iter()).map_err(|f| f.code().to_owned())
        };
        assert_eq!(find("11223344"), Ok("11223344ff"));
        assert_eq!(find("AABBCCDD01"), Ok("aabbccdd01"));
        assert_eq!(find("aabbccdd"), Err(codes::ID_AMBIGUOUS.to_owned()));
        assert_eq!(find("00000000"), Err(codes::ID_UNKNOWN.to_owned()));
        // An id that occurs twice is one id.
        let twice = id_prefix("11223344").unwrap();
        assert_eq!(twice.find("entity", ["11223344ff", "11223344ff"].into_iter()).unwrap(), "11223344ff");
    }

    #[test]
    fn short_and_foreign_ids_are_refused() {
        for text in ["", "aabbccd", "aabbccdg", "/a/b/c/d", &"a".repeat(65)] {
            assert!(id_prefix(text).is_err(), "{text}");
        }
    }
}
