//! What to list, and from where on.

use form_urlencoded::Serializer;
use kvgossip_api::MAX_PAGE_ROWS;
use kvgossip_grants::FilterRule;

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct KeysQuery {
    /// In order; all keys if there is none. At most `MAX_FILTER_GLOBS`.
    pub filter: Vec<FilterRule>,
    /// At most so many rows; `None` leaves it to the agent.
    pub limit: Option<usize>,
    /// `next` of the page before.
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
    /// For entries: of which keys, in order; of all if there is none.
    pub filter: Vec<FilterRule>,
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
        for rule in &self.filter {
            query.append_pair("match", &rule.to_string());
        }
        append_page(&mut query, self.limit, self.after.as_deref());
        query.finish()
    }
}

fn append_page(query: &mut Serializer<'_, String>, limit: Option<usize>, after: Option<&str>) {
    if let Some(limit) = limit {
        // A page has no more, whoever wants more asks again.
        query.append_pair("limit", &limit.min(MAX_PAGE_ROWS).to_string());
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
        let rule = |excludes, glob: &str| FilterRule { excludes, glob: glob.parse().unwrap() };
        let filter = vec![rule(false, "/a+b/%20*"), rule(true, "/a=b,c/?")];
        let query = KeysQuery { filter, limit: Some(5), after: Some("/k".into()) }.to_query();
        assert_eq!(query, "match=%2Fa%2Bb%2F%2520*&match=%21%2Fa%3Db%2Cc%2F%3F&limit=5&after=%2Fk");
    }
}
