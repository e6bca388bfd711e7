//! Preconditions of a request on a key's entry: `If-Match` and `If-None-Match` (RFC 9110, section 13).

use kvgossip_grants::EntryId;
use std::fmt;

/// Maximum number of entity tags in the values of one header.
const MAX_TAGS: usize = 64;

/// The preconditions of a request. The entity tag of an entry is its id in quotes; an unset key has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The parsed values of an `If-Match` or `If-None-Match` header.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: matches any shown entry.
    Any,
    /// Any of these entity tags.
    These(Vec<Tag>),
}

/// An entity tag, which names an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    /// The entry with this id; `None`: the tag is not an entry id, so it matches nothing.
    entry: Option<EntryId>,
}

/// The precondition of a request that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// `If-Match`: the key shows none of the entries that the header names.
    Match,
    /// `If-None-Match`: the key shows an entry that the header names.
    NoneMatch,
}

/// The error for a header value that is not a list of entity tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entity tags stand in quotes with commas between them, {MAX_TAGS} at most, or a * stands alone")]
pub struct TagsError;

/// Returns the entity tag of an entry: its id in quotes.
pub fn entity_tag(entry: &EntryId) -> String {
    format!("\"{entry}\"")
}

impl Precondition {
    /// Returns the precondition that the key is unset: `If-None-Match: *`.
    pub fn unset() -> Self {
        Self { if_none_match: Some(Tags::Any), ..Self::default() }
    }

    /// Returns the precondition that the key shows this entry: `If-Match` with the entry's tag.
    pub fn shows(entry: EntryId) -> Self {
        let tag = Tag { is_weak: false, entry: Some(entry) };
        Self { if_match: Some(Tags::These(vec![tag])), ..Self::default() }
    }

    /// Parses the values of the `If-Match` and `If-None-Match` headers; each header may occur several times.
    ///
    /// # Errors
    /// When a value is neither a list of entity tags nor `*`.
    pub fn parse<'a>(
        if_match: impl Iterator<Item = &'a [u8]>,
        if_none_match: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, TagsError> {
        Ok(Self { if_match: Tags::parse(if_match)?, if_none_match: Tags::parse(if_none_match)? })
    }

    /// Whether there is no precondition, so that every state of the key is accepted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the preconditions against the shown entry, if any, in the order of RFC 9110, section 13.2.2.
    ///
    /// # Errors
    /// The first precondition that does not hold.
    pub fn check(&self, shown: Option<&EntryId>) -> Result<(), Unmet> {
        if self.if_match.as_ref().is_some_and(|tags| !tags.names(shown, Comparison::Strong)) {
            return Err(Unmet::Match);
        }
        if self.if_none_match.as_ref().is_some_and(|tags| tags.names(shown, Comparison::Weak)) {
            return Err(Unmet::NoneMatch);
        }
        Ok(())
    }
}

/// The comparison of entity tags: only under the weak one does a weak tag match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

impl Tags {
    fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<Self>, TagsError> {
        let (mut any, mut tags, mut values) = (false, Vec::new(), values.peekable());
        if values.peek().is_none() {
            return Ok(None);
        }
        for value in values {
            let mut rest = value.trim_ascii();
            while let Some(first) = rest.first() {
                match first {
                    // Empty list elements are ignored (RFC 9110, section 5.6.1).
                    b',' => rest = rest[1..].trim_ascii_start(),
                    b'*' => {
                        any = true;
                        rest = after_element(&rest[1..])?;
                    }
                    _ => {
                        let (tag, after) = Tag::take(rest)?;
                        tags.push(tag);
                        rest = after_element(after)?;
                    }
                }
                if tags.len() > MAX_TAGS || (any && !tags.is_empty()) {
                    return Err(TagsError);
                }
            }
        }
        match (any, tags.is_empty()) {
            (true, _) => Ok(Some(Self::Any)),
            (false, false) => Ok(Some(Self::These(tags))),
            (false, true) => Err(TagsError),
        }
    }

    fn names(&self, shown: Option<&EntryId>, comparison: Comparison) -> bool {
        let Some(shown) = shown else { return false };
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| {
                tag.entry.as_ref() == Some(shown) && (comparison == Comparison::Weak || !tag.is_weak)
            }),
        }
    }
}

/// Consumes the separator after a list element: a comma, or the end of the value.
fn after_element(rest: &[u8]) -> Result<&[u8], TagsError> {
    match rest.trim_ascii_start() {
        [] => Ok(&[]),
        [b',', rest @ ..] => Ok(rest.trim_ascii_start()),
        _ => Err(TagsError),
    }
}

impl Tag {
    /// Parses one tag at the start of a text; returns the rest of the text.
    fn take(text: &[u8]) -> Result<(Self, &[u8]), TagsError> {
        let weak = text.strip_prefix(b"W/");
        let opened = weak.unwrap_or(text).strip_prefix(b"\"").ok_or(TagsError)?;
        let end = opened.iter().position(|byte| *byte == b'"').ok_or(TagsError)?;
        let (opaque, rest) = (&opened[..end], &opened[end + 1..]);
        let is_tag_char = |byte: &u8| *byte == b'!' || (*byte >= b'#' && *byte != 0x7f);
        if !opaque.iter().all(is_tag_char) {
            return Err(TagsError);
        }
        let entry = std::str::from_utf8(opaque).ok().and_then(|text| text.parse().ok());
        Ok((Self { is_weak: weak.is_some(), entry }, rest))
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Match => "If-Match",
            Self::NoneMatch => "If-None-Match",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: EntryId = EntryId([7; 32]);
    const OTHER: EntryId = EntryId([8; 32]);

    fn parse(if_match: &[&str], if_none_match: &[&str]) -> Result<Precondition, TagsError> {
        let values = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let (if_match, if_none_match) = (values(if_match), values(if_none_match));
        Precondition::parse(if_match.iter().map(Vec::as_slice), if_none_match.iter().map(Vec::as_slice))
    }

    #[test]
    fn conditions_are_those_of_http() {
        let (shown, other) = (entity_tag(&SHOWN), entity_tag(&OTHER));
        let weak = format!("W/{shown}");
        let list = format!(" , {other} ,\t{shown},");
        // Columns: If-Match, If-None-Match, the result for a key that shows an entry, and for an unset key.
        let both = Some(Unmet::Match);
        let none = Some(Unmet::NoneMatch);
        for (if_match, if_none_match, with, without) in [
            (vec![], vec![], None, None),
            (vec!["*"], vec![], None, both),
            (vec![&shown[..]], vec![], None, both),
            (vec![&other], vec![], both, both),
            (vec![&weak], vec![], both, both),
            (vec![&list], vec![], None, both),
            (vec![&other, &shown], vec![], None, both),
            (vec!["\"\", \"of-another-server\""], vec![], both, both),
            (vec![], vec!["*"], none, None),
            (vec![], vec![&shown], none, None),
            (vec![], vec![&weak], none, None),
            (vec![], vec![&other], None, None),
            (vec![], vec![&list], none, None),
            (vec![&shown], vec![&shown], none, both),
            (vec![&other], vec!["*"], both, both),
        ] {
            let condition = parse(&if_match, &if_none_match).expect("well-formed");
            let case = format!("{if_match:?} {if_none_match:?}");
            assert_eq!(condition.check(Some(&SHOWN)).err(), with, "{case}");
            assert_eq!(condition.check(None).err(), without, "{case}");
            assert_eq!(condition.is_empty(), if_match.is_empty() && if_none_match.is_empty(), "{case}");
        }
        assert_eq!(Precondition::unset(), parse(&[], &["*"]).expect("well-formed"));
        assert_eq!(Precondition::shows(SHOWN), parse(&[&shown], &[]).expect("well-formed"));
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused_and_never_passed_over() {
        let bare = SHOWN.to_string();
        let many = vec!["\"a\""; MAX_TAGS + 1].join(",");
        for text in
            ["", " ", ",", "none", &bare, "\"", "\"a", "a\"", "\"a\" \"b\"", "*, \"a\"", "\"a\", *", "**"]
                .into_iter()
                .chain(["w/\"a\"", "W/a", "\"a b\"", &many])
        {
            assert_eq!(parse(&[text], &[]), Err(TagsError), "{text}");
            assert_eq!(parse(&[], &[text]), Err(TagsError), "{text}");
        }
        assert_eq!(parse(&["*", "\"a\""], &[]), Err(TagsError));
        assert!(parse(&[], &["*, *"]).is_ok(), "twice the same");
    }
}
