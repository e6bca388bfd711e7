//! Ordered filters over keys: a list of including and excluding globs, of which the last match decides.

use crate::glob::{GlobError, KeyGlob, Split};
use crate::key::Key;
use std::fmt;
use std::sync::Arc;

/// Maximum number of globs in one filter.
pub const MAX_FILTER_GLOBS: usize = 64;

/// Reason why a list of texts is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// One of the texts is not a glob, apart from a leading `!`.
    #[error("filter {position}, {error}")]
    Glob {
        /// Position of the text in the list, counted from 1.
        position: usize,
        /// Fault of the glob; its column does not count a leading `!`.
        #[source]
        error: GlobError,
    },
    /// The list has more than [`MAX_FILTER_GLOBS`] globs.
    #[error("a filter has at most {MAX_FILTER_GLOBS} globs: use fewer or wider ones")]
    TooMany,
}

/// A filter over keys: globs in order, each with a leading `!` if it excludes. The last glob that matches a key
/// decides. A key that no glob matches is included only if the first glob excludes. A filter without globs includes
/// every key.
#[derive(Clone)]
pub struct Filter(Arc<Inner>);

struct Inner {
    /// Rules in order, each matched on its own: an automaton of all of them would take a thousand times the memory of
    /// their text (docs/decisions/0024-what-clients-hold.md).
    rules: Box<[FilterRule]>,
}

/// One glob of a filter, and whether it includes or excludes keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// Whether the filter excludes the keys that the glob matches (leading `!`), instead of including them.
    pub excludes: bool,
    /// Pattern of the keys that this rule applies to.
    pub glob: KeyGlob,
}

impl Filter {
    /// Parses globs in order, such as `/my/**` and `!/my/tmp/**`.
    ///
    /// # Errors
    /// The first text that is not a glob, or [`FilterError::TooMany`] above [`MAX_FILTER_GLOBS`].
    pub fn parse<I>(texts: I) -> Result<Self, FilterError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut rules = Vec::new();
        for text in texts {
            let text = text.as_ref();
            if rules.len() == MAX_FILTER_GLOBS {
                return Err(FilterError::TooMany);
            }
            let (excludes, pattern) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
            let glob = KeyGlob::parse(pattern)
                .map_err(|error| FilterError::Glob { position: rules.len() + 1, error })?;
            rules.push(FilterRule { excludes, glob });
        }
        Ok(Self(Arc::new(Inner { rules: rules.into() })))
    }

    /// Returns the filter that includes every key.
    pub fn everything() -> Self {
        Self(Arc::new(Inner { rules: Box::default() }))
    }

    /// Whether the filter includes `key`.
    pub fn includes(&self, key: &Key) -> bool {
        let split = Split::of(key);
        let deciding = self.0.rules.iter().rev().find(|rule| rule.glob.matches_split(&split));
        deciding.map_or(self.includes_the_rest(), |rule| !rule.excludes)
    }

    /// Whether keys that no glob matches are included.
    fn includes_the_rest(&self) -> bool {
        self.0.rules.first().is_none_or(|first| first.excludes)
    }

    /// Returns the rules in the order in which they were given; the last that matches a key decides.
    pub fn rules(&self) -> &[FilterRule] {
        &self.0.rules
    }

    /// Returns the memory of the filter in bytes: at most a few hundred for each glob. Clones share that memory.
    pub fn held_bytes(&self) -> usize {
        let rules = self.0.rules.iter();
        let globs: usize = rules.map(|rule| size_of::<FilterRule>() + rule.glob.held_bytes()).sum();
        size_of::<Inner>() + globs
    }

    /// Returns an upper bound of the byte comparisons that [`Filter::includes`] makes for `key`.
    pub fn most_steps(&self, key: &Key) -> usize {
        let globs = self.0.rules.iter().filter(|rule| !rule.glob.is_literal());
        let pattern_bytes: usize = globs.map(|rule| rule.glob.as_str().len()).sum();
        2 * pattern_bytes * key.as_str().len()
    }

    /// Returns byte strings such that each included key begins with one of them. They are in ascending order and none
    /// is a prefix of another, so that scanning them in order visits each key at most once, in key order.
    pub fn literal_prefixes(&self) -> Vec<&str> {
        if self.includes_the_rest() {
            return vec!["/"];
        }
        let including = self.0.rules.iter().filter(|rule| !rule.excludes);
        let mut prefixes: Vec<&str> = including.map(|rule| rule.glob.literal_prefix()).collect();
        prefixes.sort_unstable();
        // After sorting, strings that begin with a given string follow it without others between them.
        prefixes.dedup_by(|later, earlier| later.starts_with(*earlier));
        prefixes
    }
}

impl fmt::Display for FilterRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.excludes { "!" } else { "" }, self.glob)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.rules.iter().map(FilterRule::to_string)).finish()
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.0.rules == other.0.rules
    }
}

impl Eq for Filter {}

impl Default for Filter {
    fn default() -> Self {
        Self::everything()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(texts: &[&str]) -> Filter {
        Filter::parse(texts).unwrap()
    }

    fn includes(texts: &[&str], key: &str) -> bool {
        filter(texts).includes(&Key::parse(key).unwrap())
    }

    #[test]
    fn the_last_match_decides() {
        let texts = &["/my/**", "!/my/tmp/**", "/my/tmp/keep"];
        assert!(includes(texts, "/my/a"));
        assert!(!includes(texts, "/my/tmp/a"));
        assert!(includes(texts, "/my/tmp/keep"));
        assert!(!includes(texts, "/other"));
        assert!(!includes(&["/a", "!/**"], "/a"));
    }

    #[test]
    fn the_first_glob_decides_about_the_rest() {
        assert!(includes(&[], "/a"));
        assert!(includes(&["!/b"], "/a"));
        assert!(!includes(&["!/b"], "/b"));
        assert!(!includes(&["/b"], "/a"));
        assert!(!includes(&["/b", "!/c"], "/a"));
        assert_eq!(Filter::everything(), filter(&[]));
    }

    #[test]
    fn literal_prefixes_cover_what_is_included_once() {
        assert_eq!(filter(&[]).literal_prefixes(), ["/"]);
        assert_eq!(filter(&["!/a", "/b"]).literal_prefixes(), ["/"]);
        assert_eq!(
            filter(&["/b/x", "/a/b*", "/a/**", "!/c", "/b/**/x", "/b"]).literal_prefixes(),
            ["/a/", "/b"]
        );
        assert_eq!(filter(&["/a-", "/a/b", "/a"]).literal_prefixes(), ["/a"]);
    }

    #[test]
    fn a_filter_takes_no_more_than_a_few_times_its_text() {
        let wild = format!("/**/{}", "?".repeat(crate::glob::MAX_GLOB_BYTES - 4));
        let many_segments = format!("{}/**", "/?".repeat(crate::key::MAX_SEGMENTS - 1));
        for text in [wild, many_segments] {
            let filter = Filter::parse(vec![text; MAX_FILTER_GLOBS]).unwrap();
            let held = filter.held_bytes();
            assert!(held > MAX_FILTER_GLOBS * 128 && held < MAX_FILTER_GLOBS * 640, "{held}");
        }
    }

    #[test]
    fn refusals_name_the_text() {
        let error = Filter::parse(["/a", "!/b/**c"]).unwrap_err();
        assert!(error.to_string().starts_with("filter 2, column 4: "), "{error}");
        assert!(Filter::parse(["!!/a"]).is_err());
        assert!(Filter::parse(vec!["/a"; MAX_FILTER_GLOBS]).is_ok());
        assert_eq!(Filter::parse(vec!["/a"; MAX_FILTER_GLOBS + 1]), Err(FilterError::TooMany));
    }
}
