//! What to list, and from where on.

use form_urlencoded::Serializer;
use kvgossip_grants::{GlobError, KeyGlob};
use std::fmt;
use std::str::FromStr;

/// One glob of an ordered filter: the last that matches decides; a key that matches none is listed only if the
/// first excludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Keys that match are listed.
    Include(KeyGlob),
    /// Spelled with a `!` in front: keys that match are not listed.
    Exclude(KeyGlob),
}

/// Why a text is not a [`Filter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {}", glob.kind())]
pub struct FilterError {
    /// Where the fault is, the `!` included: 1 is the first character.
    pub column: usize,
    /// What the glob's fault is.
    pub glob: GlobError,
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (glob, shift) = text.strip_prefix('!').map_or((text, 0), |glob| (glob, 1));
        let parsed = KeyGlob::parse(glob);
        let glob = parsed.map_err(|glob| FilterError { column: glob.column() + shift, glob })?;
        Ok(if shift == 1 { Self::Exclude(glob) } else { Self::Include(glob) })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Include(glob) => write!(f, "{glob}"),
            Self::Exclude(glob) => write!(f, "!{glob}"),
        }
    }
}

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct KeysQuery {
    /// All keys if there is none.
    pub filters: Vec<Filter>,
    /// At most so many rows; `None` leaves it to the agent.
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub after: Option<String>,
}

impl KeysQuery {
    pub(crate) fn to_query(&self) -> String {
        let mut query = Serializer::new(String::new());
        for filter in &self.filters {
            query.append_pair("match", &filter.to_string());
        }
        append_page(&mut query, self.limit, self.after.as_deref());
        query.finish()
    }
}

/// Which kind of fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// Grants, revocations and floors.
    Authority,
    /// Entries.
    Entries,
}

/// Which facts to list.
#[derive(Clone, Debug)]
pub struct FactsQuery {
    /// Which kind.
    pub kind: FactKind,
    /// For entries: of which keys; of all if there is none.
    pub filters: Vec<Filter>,
    /// At most so many rows; `None` leaves it to the agent.
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub after: Option<String>,
}

impl FactsQuery {
    pub(crate) fn to_query(&self) -> String {
        let mut query = Serializer::new(String::new());
        let kind = match self.kind {
            FactKind::Authority => "authority",
            FactKind::Entries => "entries",
        };
        query.append_pair("kind", kind);
        for filter in &self.filters {
            query.append_pair("match", &filter.to_string());
        }
        append_page(&mut query, self.limit, self.after.as_deref());
        query.finish()
    }
}

fn append_page(query: &mut Serializer<'_, String>, limit: Option<usize>, after: Option<&str>) {
    if let Some(limit) = limit {
        query.append_pair("limit", &limit.to_string());
    }
    if let Some(after) = after {
        query.append_pair("after", after);
    }
}

/// `name=value`, encoded.
pub(crate) fn pair(name: &str, value: &str) -> String {
    Serializer::new(String::new()).append_pair(name, value).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_of_globs_are_encoded() {
        let filters = vec!["/a+b/%20*".parse().unwrap(), "!/a=b,c/?".parse().unwrap()];
        let query = KeysQuery { filters, limit: Some(5), after: Some("/k".into()) }.to_query();
        assert_eq!(query, "match=%2Fa%2Bb%2F%2520*&match=%21%2Fa%3Db%2Cc%2F%3F&limit=5&after=%2Fk");
    }

    #[test]
    fn a_filters_column_counts_its_mark() {
        assert_eq!("!/a/[b]".parse::<Filter>().unwrap_err().column, 5);
        assert_eq!("/a/[b]".parse::<Filter>().unwrap_err().column, 4);
        assert_eq!("!!/a".parse::<Filter>().unwrap_err().column, 2);
    }
}
