//! Filters of clients for members and events.

use regex::Regex;

use super::{
    Coalesced, MAX_FILTER_BYTES, MAX_FILTERS,
    coalesce::event_kind,
    message::{MembersFiltered, status_text},
};
use crate::{
    core::{Event, Member, compile_whole, readable},
    wire::Text,
};

/// Error of parsing an event filter or a member filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The list names an unknown kind of event.
    #[error("Invalid event filter")]
    Event,
    /// This regular expression, or its beginning, is invalid or has more than
    /// [`MAX_FILTER_BYTES`](super::MAX_FILTER_BYTES) bytes.
    #[error("Failed to compile regex: {0:?}")]
    Regex(Text),
    /// There are more than [`MAX_FILTERS`] event kinds or tags.
    #[error("too many filters: {MAX_FILTERS} are allowed")]
    TooMany,
}

/// Regular expressions for members' names, statuses and tags; each must match the whole name, status or value.
#[derive(Debug)]
pub struct MemberFilter {
    name: Option<Regex>,
    status: Option<Regex>,
    tags: Vec<(Text, Regex)>,
}

impl MemberFilter {
    /// Compiles the filter of a client's request. An empty expression for name or status matches any.
    pub fn new(wanted: &MembersFiltered) -> Result<Self, FilterError> {
        if wanted.tags.len() > MAX_FILTERS {
            return Err(FilterError::TooMany);
        }
        let some = |expr: &Text| (!expr.is_empty()).then(|| whole(expr)).transpose();
        let tags = wanted.tags.iter().map(|(tag, expr)| Ok((tag.clone(), whole(expr)?)));
        Ok(Self {
            name: some(&wanted.name)?,
            status: some(&wanted.status)?,
            tags: tags.collect::<Result<_, _>>()?,
        })
    }

    /// Returns whether a member matches all expressions. A missing tag counts as empty.
    pub fn matches(&self, member: &Member) -> bool {
        let fits = |regex: &Option<Regex>, text: &[u8]| {
            regex.as_ref().is_none_or(|regex| regex.is_match(&readable(text)))
        };
        let tag = |name: &Text| readable(member.tags.get(name).map_or(b"", Text::as_bytes));
        fits(&self.name, &member.name)
            && fits(&self.status, status_text(member.status).as_bytes())
            && self.tags.iter().all(|(name, regex)| regex.is_match(&tag(name)))
    }
}

fn whole(expr: &Text) -> Result<Regex, FilterError> {
    let compiled = (expr.len() <= MAX_FILTER_BYTES).then(|| compile_whole(expr));
    let shown = || expr.get(..MAX_FILTER_BYTES).unwrap_or(expr);
    compiled.flatten().ok_or_else(|| FilterError::Regex(shown().into()))
}

/// Comma-separated list of event kinds: `member-join`, `member-leave`, `member-failed`, `member-update`,
/// `member-reap`, `user`, `user:NAME`, `query`, `query:NAME`, `*`. The empty text means all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter(Vec<(&'static str, Option<Text>)>);

impl EventFilter {
    const KINDS: [&'static str; 8] = [
        "member-join",
        "member-leave",
        "member-failed",
        "member-update",
        "member-reap",
        "user",
        "query",
        "*",
    ];

    /// Parses a comma-separated list of event kinds.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, FilterError> {
        let text = if text.as_ref().is_empty() { b"*" } else { text.as_ref() };
        let parts = || text.split(|byte| *byte == b',');
        if parts().count() > MAX_FILTERS {
            return Err(FilterError::TooMany);
        }
        let named = |part: &[u8]| Self::KINDS.into_iter().find(|kind| kind.as_bytes() == part);
        let kind = |part: &[u8]| match part.iter().position(|byte| *byte == b':') {
            Some(at) => {
                let kind = named(&part[..at]).filter(|kind| ["user", "query"].contains(kind));
                kind.map(|kind| (kind, Some(part[at + 1..].into())))
            }
            None => named(part).map(|kind| (kind, None)),
        };
        let all: Option<Vec<_>> = parts().map(kind).collect();
        all.map(Self).ok_or(FilterError::Event)
    }

    /// Returns the kinds of the list in the form of Serf's statistics: `user:deploy`, or `member-join:` without
    /// a name.
    pub fn kinds(&self) -> impl Iterator<Item = Text> {
        let listed = |(kind, name): &(&'static str, Option<Text>)| {
            Text::from([kind.as_bytes(), b":", name.as_deref().unwrap_or_default()].concat())
        };
        self.0.iter().map(listed)
    }

    /// Returns whether an event is of a listed kind. Events that are not reported to clients never match.
    pub fn matches(&self, event: &Event) -> bool {
        let name = match event {
            Event::UserEvent { name, .. } => Some(name),
            Event::Query(query) => Some(&query.name),
            _ => None,
        };
        let wanted = |wanted: &Option<Text>| {
            wanted.as_ref().is_none_or(|wanted| wanted.is_empty() || Some(wanted) == name)
        };
        let Some(kind) = event_kind(event) else { return false };
        self.0.iter().any(|(own, own_name)| *own == "*" || *own == kind && wanted(own_name))
    }

    /// Returns whether a record is of a listed kind; reports of lost records always match.
    pub fn takes(&self, record: &Coalesced) -> bool {
        match record {
            Coalesced::Members { kind, .. } => self.0.iter().any(|(own, _)| *own == "*" || own == kind),
            Coalesced::Event(event) => self.matches(event),
            Coalesced::Lagged { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Status;

    fn member(name: &str, status: Status, tags: &[(&str, &str)]) -> Member {
        Member {
            name: name.into(),
            addr: ([127, 0, 0, 1], 7946).into(),
            tags: tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            status,
            suspect: false,
            incarnation: 1,
            versions: [1, 5, 2, 2, 5, 5],
            rtt: None,
            answered: crate::core::Answered::Never,
        }
    }

    #[test]
    fn members_match_as_a_whole() {
        let web = member("web-1", Status::Alive, &[("role", "web")]);
        let matches = |name: &str, status: &str, tags: &[(&str, &str)]| {
            let tags = tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let wanted = MembersFiltered { name: name.into(), status: status.into(), tags };
            MemberFilter::new(&wanted).expect("a filter").matches(&web)
        };
        assert!(matches("", "", &[]) && matches("web-.", "alive", &[("role", "w.b")]));
        assert!(!matches("web", "", &[]) && !matches("", "aliv", &[]) && !matches("", "", &[("role", "eb")]));
        assert!(matches("", "left|alive", &[]) && !matches("", "left|ali", &[]));
        assert!(matches("", "", &[("zone", "")]) && !matches("", "", &[("zone", ".+")]));
        let refused = |expr: &str| {
            let wanted = MembersFiltered { name: expr.into(), ..Default::default() };
            MemberFilter::new(&wanted).expect_err("no filter")
        };
        assert!(matches(r"\Qweb-1\E", r"\141live", &[("role", r"\Qweb")]) && !matches(r"\Qweb-.\E", "", &[]));
        assert_eq!(refused("("), FilterError::Regex("(".into()));
        assert!(matches!(refused(&"x".repeat(MAX_FILTER_BYTES + 1)), FilterError::Regex(_)));
        assert!(matches!(refused("(((w{900}){900}){900})?"), FilterError::Regex(_)), "too much memory");
        let tags = (0..=MAX_FILTERS).map(|n| (n.to_string().into(), Text::default())).collect();
        let many = MemberFilter::new(&MembersFiltered { tags, ..Default::default() });
        assert!(matches!(many, Err(FilterError::TooMany)));
    }

    #[test]
    fn events_match_by_kind_and_name() {
        let left = Event::MemberLeft(member("a", Status::Left, &[]));
        let deploy =
            Event::UserEvent { ltime: 1, name: "deploy".into(), payload: Vec::new(), coalesce: true };
        let matches = |filter: &str, event: &Event| EventFilter::parse(filter).expect(filter).matches(event);
        for filter in ["", "*", "user", "user:deploy", "query,user", "user:x,user:deploy"] {
            assert!(matches(filter, &deploy), "{filter}");
        }
        for filter in ["user:x", "query", "query:deploy", "member-leave"] {
            assert!(!matches(filter, &deploy), "{filter}");
        }
        assert!(matches("member-leave", &left) && !matches("member-failed,user", &left));
        assert!(!matches("*", &Event::LeaveFinished));
        let gone = Coalesced::Members { kind: "member-leave", members: vec![member("a", Status::Left, &[])] };
        let takes =
            |filter: &str, record: &Coalesced| EventFilter::parse(filter).expect(filter).takes(record);
        assert!(takes("member-leave", &gone) && takes("", &gone) && !takes("member-failed,user", &gone));
        assert!(takes("user:deploy", &Coalesced::Event(deploy.clone())));
        let kinds = EventFilter::parse("member-join,user:deploy").expect("two").kinds().collect::<Vec<_>>();
        assert_eq!(kinds, ["member-join:", "user:deploy"]);
        for wrong in ["x", "user,", "member-leave:a", ","] {
            assert_eq!(EventFilter::parse(wrong), Err(FilterError::Event), "{wrong}");
        }
        assert_eq!(EventFilter::parse("user,".repeat(MAX_FILTERS)), Err(FilterError::TooMany));
    }
}
