//! Paged lists: their parameters, their limits, and the place where the next page starts.

use super::error::Refusal;
use super::query::{Given, Parameters, malformed};
use crate::authority_order::AuthorityPlace;
use crate::watch::STEPS_OF_A_KEY;
use kvgossip_api::{DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS};
use kvgossip_engine::{Frontier, View};
use kvgossip_grants::{EntryId, Filter, Key, Rank, Timestamp};

/// Number of bytes of listed keys, rows or records at which a page ends.
pub(super) const PAGE_BYTES: usize = 1 << 20;
/// Size assumed of a row beside its key or glob, in bytes: ids, times, names.
pub(super) const ROW_BYTES: usize = 256;
/// Maximum size of a page in base64 and JSON, in bytes, including one record that exceeds [`PAGE_BYTES`].
pub(super) const MAX_PAGE_BYTES: usize = 4 << 20;

/// Parameters of lists of keys: filter, start, and number of rows.
pub(super) struct Page {
    pub(super) filter: Filter,
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

/// Parameters of every list: start, and number of rows.
pub(super) struct Rows {
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

impl Parameters for Rows {
    fn take(given: &mut Given) -> Result<Self, Refusal> {
        let limit = given.once_as("limit", "a number of rows")?.unwrap_or(DEFAULT_PAGE_ROWS);
        if limit == 0 {
            return Err(malformed("limit=0 asks for nothing: a page has one row at least"));
        }
        if limit > MAX_PAGE_ROWS {
            let message = format!("limit={limit} is more than a page has: {MAX_PAGE_ROWS} rows at most");
            return Err(malformed(message));
        }
        Ok(Self { after: given.once("after")?, limit })
    }
}

impl Parameters for Page {
    fn take(given: &mut Given) -> Result<Self, Refusal> {
        let Rows { after, limit } = Rows::take(given)?;
        let filter = Filter::parse(given.all("match"));
        let filter = filter.map_err(|error| Refusal::new("glob.malformed", error))?;
        Ok(Self { filter, after, limit })
    }
}

impl Page {
    /// Returns the keys after the parameter `after` that the filter includes. Examines at most `examined` keys.
    pub(super) fn keys<'a>(&'a self, view: &'a View, examined: usize) -> Result<Keys<'a>, Refusal> {
        let after = self.after.as_deref().map(Key::parse).transpose()?;
        Ok(self.keys_after(view, after, examined))
    }

    /// Returns the keys after the argument `after` that the filter includes; `None`: from the first key. Examines at
    /// most `examined` keys.
    pub(super) fn keys_after<'a>(&'a self, view: &'a View, after: Option<Key>, examined: usize) -> Keys<'a> {
        let prefixes = self.filter.literal_prefixes();
        let found = prefixes.into_iter().flat_map(move |prefix| view.keys(prefix, after.as_ref()));
        Keys { found: Box::new(found), filter: &self.filter, left: examined, last: None, cut: false }
    }
}

/// Separator of key and rank in the text form of a place; no key contains it.
const PLACE_SEPARATOR: char = '!';

/// A place in the list of entries, which is ordered by key, within a key newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryPlace {
    /// Key at which the list continues: all keys before it are done.
    pub(super) key: Key,
    /// Rank of the last entry done of `key`, from which the list continues with older ones; `None`: all of its entries
    /// are done.
    pub(super) down_to: Option<Rank>,
}

impl EntryPlace {
    /// Parses a text that [`EntryPlace::text`] has formatted.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let Some((key, rank)) = text.split_once(PLACE_SEPARATOR) else {
            return Ok(Self { key: Key::parse(text)?, down_to: None });
        };
        let rank = rank.split_once('-').and_then(|(time, id)| {
            let time = Timestamp::from_micros(time.parse().ok()?).ok()?;
            Some((time, id.parse::<EntryId>().ok()?))
        });
        let malformed = || {
            let message = format!("after={text} is not what an answer gave as next");
            Refusal::new("http.query", message)
        };
        Ok(Self { key: Key::parse(key)?, down_to: Some(rank.ok_or_else(malformed)?) })
    }

    /// Formats the place as the `next` of a page, from which the following page continues.
    pub(super) fn text(&self) -> String {
        match &self.down_to {
            None => self.key.to_string(),
            Some((time, id)) => format!("{}{PLACE_SEPARATOR}{}-{id}", self.key, time.as_micros()),
        }
    }
}

/// An iterator over the keys of a page, with their frontiers.
pub(super) struct Keys<'a> {
    found: Box<dyn Iterator<Item = (Key, &'a Frontier)> + 'a>,
    filter: &'a Filter,
    left: usize,
    /// The last key examined, whether or not the filter includes it.
    last: Option<Key>,
    cut: bool,
}

impl Keys<'_> {
    /// Returns where the next page continues, if this one has examined its maximum number of keys; otherwise `None`.
    pub(super) fn resume(self) -> Option<String> {
        self.last.filter(|_| self.cut).map(|key| key.to_string())
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = (Key, &'a Frontier);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, frontier) = self.found.next()?;
            if self.left == 0 {
                self.cut = true;
                return None;
            }
            // A key that takes many glob comparisons counts as several.
            self.left = self.left.saturating_sub(1 + self.filter.most_steps(&key) / STEPS_OF_A_KEY);
            self.last = Some(key.clone());
            if self.filter.includes(&key) {
                return Some((key, frontier));
            }
        }
    }
}

/// Returns the places after `after`, which is a text by [`place_text`]; `None`: all places.
pub(super) fn places_after<'a>(
    places: &'a [AuthorityPlace],
    after: Option<&str>,
) -> Result<&'a [AuthorityPlace], Refusal> {
    let Some(after) = after else { return Ok(places) };
    let malformed = || {
        let message = format!("after={after} is not what an answer gave as next");
        Refusal::new("http.query", message)
    };
    let (depth, id) = after.split_once('-').ok_or_else(malformed)?;
    let place: AuthorityPlace =
        (depth.parse().map_err(|_| malformed())?, id.parse().map_err(|_| malformed())?);
    Ok(&places[places.partition_point(|other| *other <= place)..])
}

/// Formats a place as the `next` of a page of authority facts.
pub(super) fn place_text((depth, id): &AuthorityPlace) -> String {
    format!("{depth}-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::FactId;

    #[test]
    fn a_place_among_entries_reads_as_it_is_written() {
        let key = Key::parse("/a/b-1:2").expect("a key");
        let rank = (Timestamp::from_micros(7).expect("small"), EntryId([9; 32]));
        for down_to in [None, Some(rank)] {
            let place = EntryPlace { key: key.clone(), down_to };
            assert_eq!(EntryPlace::parse(&place.text()).expect("a place"), place);
        }
        for text in ["", "!", "/a!", "/a!7", "/a!7-9", "/a!x-00", "a!7-00"] {
            assert!(EntryPlace::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_that_is_gone_still_tells_where_to_go_on() {
        let id = |byte: u8| kvgossip_grants::value_hash(&[byte]).to_string().parse::<FactId>();
        let mut places: Vec<AuthorityPlace> = (0..6).filter_map(|n: u8| Some((n / 3, id(n).ok()?))).collect();
        places.sort_unstable();
        let gone = places.remove(2);
        let rest = places_after(&places, Some(&place_text(&gone))).expect("a place");
        assert_eq!(rest, &places[2..]);
        assert_eq!(places_after(&places, None).expect("all").len(), 5);
        for text in ["", "1", "x-1", "1-x", "300-00"] {
            assert!(places_after(&places, Some(text)).is_err(), "{text}");
        }
    }
}
