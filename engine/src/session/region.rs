//! Sets of facts that can be named without knowing the facts.

use crate::tree::after_prefix;
use std::ops::Bound;

/// Stands between key and id in the name of an entry. It is below every byte of a key: so the entries of a key stand
/// before those of every longer one.
const SEPARATOR: u8 = 0;

/// A run of names, from here to there.
pub(super) type Span = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// All facts whose names begin with these bytes.
///
/// The *name* of an authority fact is its id in hexadecimal; that of an entry is its key, a zero byte, and its id in
/// hexadecimal. Disjoint regions are in the order of their facts when their bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region(pub(super) Vec<u8>);

/// Regions that are not the parts of another one: one begins like the one before it, or is not greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotParts;

impl Region {
    /// Everything.
    pub(super) const fn all() -> Self {
        Self(Vec::new())
    }

    /// All entries of a key.
    pub(super) fn of_key(key: &[u8]) -> Self {
        Self::in_key(key, b"")
    }

    /// The entries of a key whose ids begin with some digits.
    pub(super) fn in_key(key: &[u8], digits: &[u8]) -> Self {
        Self([key, &[SEPARATOR], digits].concat())
    }

    /// What all names begin with.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key that all entries of the region have, and the digits that their ids begin with.
    pub(super) fn key(&self) -> Option<(&[u8], &[u8])> {
        split_name(&self.0)
    }

    /// Where the region starts and ends.
    pub(super) fn span(&self) -> Span {
        (Bound::Included(self.0.clone()), after_prefix(&self.0).map_or(Bound::Unbounded, Bound::Excluded))
    }

    /// The runs of names of this region that lie in none of `parts`, which may be a peer's.
    ///
    /// # Errors
    /// If the parts are not disjoint regions inside this one, in ascending order.
    pub(super) fn gaps<'a>(
        &'a self,
        parts: impl IntoIterator<Item = &'a Self>,
    ) -> Result<Vec<Span>, NotParts> {
        let mut gaps = Vec::new();
        let mut before: Option<&Self> = None;
        let (start, end) = self.span();
        let mut start = Some(start);
        for part in parts {
            let is_inside = part.0.starts_with(&self.0);
            let is_after = before.is_none_or(|before| part.0 > before.0 && !part.0.starts_with(&before.0));
            if !is_inside || !is_after {
                return Err(NotParts);
            }
            gaps.extend(start.map(|start| (start, Bound::Excluded(part.0.clone()))));
            start = after_prefix(&part.0).map(Bound::Included);
            before = Some(part);
        }
        gaps.extend(start.map(|start| (start, end)));
        gaps.retain(|span| !is_empty(span));
        Ok(gaps)
    }
}

/// The key in front of the first separator, and what follows that.
pub(super) fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = name.iter().position(|byte| *byte == SEPARATOR)?;
    Some((&name[..at], &name[at + 1..]))
}

/// The keys whose entries may lie in a run of names.
pub(super) fn keys_of((start, end): &Span) -> Span {
    let key = |name: &Vec<u8>| split_name(name).map(|(key, _)| key.to_vec());
    let start = match start {
        Bound::Included(name) | Bound::Excluded(name) => {
            Bound::Included(key(name).unwrap_or_else(|| name.clone()))
        }
        Bound::Unbounded => Bound::Unbounded,
    };
    let end = match end {
        // Without a separator, the end is before all names that begin with it.
        Bound::Included(name) | Bound::Excluded(name) => {
            key(name).map_or_else(|| Bound::Excluded(name.clone()), Bound::Included)
        }
        Bound::Unbounded => Bound::Unbounded,
    };
    (start, end)
}

/// Where the ids of a key start and end that lie in a run of names, as it meets the key at all.
pub(super) fn ids_of(key: &[u8], (start, end): &Span) -> Span {
    let ids = |bound: &Bound<Vec<u8>>| {
        let ids =
            |name: &Vec<u8>| split_name(name).filter(|(other, _)| *other == key).map(|(_, ids)| ids.to_vec());
        match bound {
            Bound::Included(name) => ids(name).map_or(Bound::Unbounded, Bound::Included),
            Bound::Excluded(name) => ids(name).map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded => Bound::Unbounded,
        }
    };
    (ids(start), ids(end))
}

fn is_empty(span: &Span) -> bool {
    matches!(span, (Bound::Included(start), Bound::Excluded(end)) if start >= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(text: &str) -> Region {
        Region(text.into())
    }

    fn is_cut(whole: &str, parts: &[&str]) -> bool {
        let parts: Vec<Region> = parts.iter().map(|part| region(part)).collect();
        region(whole).gaps(&parts).is_ok()
    }

    #[test]
    fn parts_are_inside_ascending_and_disjoint() {
        assert!(is_cut("/a", &[]));
        assert!(is_cut("/a", &["/a"]));
        assert!(is_cut("/a", &["/a\0", "/a/", "/ab"]));
        assert!(is_cut("/a\0", &["/a\x000", "/a\x001f", "/a\x00f"]));
        assert!(!is_cut("/a", &["/"]));
        assert!(!is_cut("/a", &["/a\0", "/b"]));
        assert!(!is_cut("/a\0", &["/a\x000", "/ab"]), "another key");
        assert!(!is_cut("/a", &["/ab", "/aa"]));
        assert!(!is_cut("/a", &["/ab", "/ab"]));
        assert!(!is_cut("/a", &["/a\0", "/a\x000"]), "a key and a part of it");
    }

    #[test]
    fn gaps_are_what_lies_between() {
        let (included, excluded) =
            (|text: &str| Bound::Included(text.into()), |text: &str| Bound::Excluded(text.into()));
        let parts = [region("/a\0"), region("/a/"), region("/a\u{7f}")];
        let gaps = region("/a").gaps(&parts).expect("parts");
        // `0` follows the slash. What begins with `/a` and less than a zero byte is nothing but `/a`.
        assert_eq!(
            gaps,
            [
                (included("/a"), excluded("/a\0")),
                (included("/a\x01"), excluded("/a/")),
                (included("/a0"), excluded("/a\u{7f}")),
                (Bound::Included(b"/a\x80".to_vec()), excluded("/b")),
            ]
        );
        let all = [Region(vec![0xff])];
        assert_eq!(Region::all().gaps(&all), Ok(vec![(included(""), Bound::Excluded(vec![0xff]))]));
        assert_eq!(region("/a").gaps(&[region("/a")]), Ok(vec![]));
    }

    #[test]
    fn a_run_of_names_meets_keys_and_ids() {
        let span = |start: &str, end: &str| (Bound::Included(start.into()), Bound::Excluded(end.into()));
        let inclusive = |start: &str, end: &str| (Bound::Included(start.into()), Bound::Included(end.into()));
        assert_eq!(keys_of(&span("/a", "/b")), span("/a", "/b"));
        assert_eq!(keys_of(&span("/a\x001", "/b\x002")), inclusive("/a", "/b"));
        let (a, b) = (span("/a\x001", "/b\x002"), span("/a", "/b"));
        assert_eq!(ids_of(b"/a", &a), (Bound::Included(b"1".to_vec()), Bound::Unbounded));
        assert_eq!(ids_of(b"/b", &a), (Bound::Unbounded, Bound::Excluded(b"2".to_vec())));
        assert_eq!(ids_of(b"/a", &b), (Bound::Unbounded, Bound::Unbounded));
    }
}
