//! Parameters of list requests.

use form_urlencoded::Serializer;
use kvgossip_api::MAX_PAGE_ROWS;
use kvgossip_grants::FilterRule;

/// Parameters for listing keys.
#[derive(Clone, Debug, Default)]
pub struct KeysQuery {
    /// Ordered filter of keys, at most `MAX_FILTER_GLOBS` (64) rules; empty for all keys.
    pub filter: Vec<FilterRule>,
    /// Maximum number of rows of the page, at most `MAX_PAGE_ROWS` (10,000); `None` uses the agent's default.
    pub limit: Option<usize>,
    /// Position to continue from: `next` of the previous page.
    pub after: Option<String>,
}

impl KeysQuery {
    pub(crate) fn to_query(&self) -> String {
        let mut query = Serializer::new(String::new());
        for rule in &self.filter {
            query.append_pair("match", &rule.to_string());
        }
        append_page(&mut query, self.limit, self.after.as_deref());
        query.finish()
    }
}

/// Kind of facts that one request lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// Grants, revocations and floors.
    Authority,
    /// Entries.
    Entries,
}

/// Parameters for listing facts.
#[derive(Clone, Debug)]
pub struct FactsQuery {
    /// Kind of facts to list.
    pub kind: FactKind,
    /// Ordered filter of the keys whose entries are listed; empty for all keys.
    pub filter: Vec<FilterRule>,
    /// Maximum number of rows of the page, at most `MAX_PAGE_ROWS` (10,000); `None` uses the agent's default.
    pub limit: Option<usize>,
    /// Position to continue from: `next` of the previous page.
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
        for rule in &self.filter {
            query.append_pair("match", &rule.to_string());
        }
        append_page(&mut query, self.limit, self.after.as_deref());
        query.finish()
    }
}

fn append_page(query: &mut Serializer<'_, String>, limit: Option<usize>, after: Option<&str>) {
    if let Some(limit) = limit {
        // A page has no more rows; for more, request the next page.
        query.append_pair("limit", &limit.min(MAX_PAGE_ROWS).to_string());
    }
    if let Some(after) = after {
        query.append_pair("after", after);
    }
}

/// Encodes `name=value` for a query string.
pub(crate) fn pair(name: &str, value: &str) -> String {
    Serializer::new(String::new()).append_pair(name, value).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_of_globs_are_encoded() {
        let rule = |excludes, glob: &str| FilterRule { excludes, glob: glob.parse().unwrap() };
        let filter = vec![rule(false, "/a+b/%20*"), rule(true, "/a=b,c/?")];
        let query = KeysQuery { filter, limit: Some(5), after: Some("/k".into()) }.to_query();
        assert_eq!(query, "match=%2Fa%2Bb%2F%2520*&match=%21%2Fa%3Db%2Cc%2F%3F&limit=5&after=%2Fk");
    }
}
