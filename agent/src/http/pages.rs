//! Lists in pages: what they take, how far one request goes, and where the next one goes on.

use super::error::Refusal;
use super::kv::query_pairs;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use kvgossip_api::{DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS};
use kvgossip_engine::{Frontier, View};
use kvgossip_grants::{Authority, Digest, FactId, Filter, Key};
use std::sync::{Arc, Mutex, PoisonError};

/// What every list takes: what it is of, where to go on, and how many rows.
pub(super) struct Page {
    pub(super) filter: Filter,
    pub(super) after: Option<String>,
    pub(super) limit: usize,
    pub(super) kind: Option<String>,
}

impl Page {
    /// Reads the parameters of a query; `takes` names those that the route has.
    pub(super) fn parse(query: &RawQuery, takes: &[&str]) -> Result<Self, Refusal> {
        let (mut globs, mut after, mut limit, mut kind) = (Vec::new(), None, DEFAULT_PAGE_ROWS, None);
        for (name, value) in query_pairs(query)? {
            match name.as_str() {
                unknown if !takes.contains(&unknown) => {
                    let message = format!("{name} is no parameter of this route");
                    return Err(Refusal::bad_request("http.query", message));
                }
                "match" => globs.push(value),
                "after" => after = Some(value),
                "kind" => kind = Some(value),
                _ => {
                    let asked: usize = value.parse().map_err(|_| {
                        Refusal::bad_request("http.query", format!("limit={value} is not a number"))
                    })?;
                    limit = asked.clamp(1, MAX_PAGE_ROWS);
                }
            }
        }
        let filter = Filter::parse(globs).map_err(|error| Refusal::bad_request("glob.malformed", error))?;
        Ok(Self { filter, after, limit, kind })
    }

    /// The keys that the page may speak of: those behind `after` that the filter includes. Looks at `examined` keys at
    /// most.
    pub(super) fn keys<'a>(&'a self, view: &'a View, examined: usize) -> Result<Keys<'a>, Refusal> {
        let after = self.after.as_deref().map(Key::parse).transpose()?;
        let prefixes = self.filter.literal_prefixes();
        let found = prefixes.into_iter().flat_map(move |prefix| view.keys(prefix, after.as_ref()));
        Ok(Keys { found: Box::new(found), filter: &self.filter, left: examined, last: None, cut: false })
    }
}

/// Keys of a page, one after the other.
pub(super) struct Keys<'a> {
    found: Box<dyn Iterator<Item = (Key, &'a Frontier)> + 'a>,
    filter: &'a Filter,
    left: usize,
    /// The last key that was looked at.
    last: Option<Key>,
    cut: bool,
}

impl Keys<'_> {
    /// Where the next request goes on if this one has looked at as many keys as it may.
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
            self.left -= 1;
            self.last = Some(key.clone());
            if self.filter.includes(&key) {
                return Some((key, frontier));
            }
        }
    }
}

/// A place in the list of authority facts: its depth, then its id. A fact never changes its place, so a list that is
/// read in pages while others come and go has each fact that stood all the time exactly once.
pub(super) type Place = (u8, FactId);

/// Authority facts in an order in which they can be taken in, sorted once for each state.
#[derive(Debug, Default)]
pub(super) struct AuthorityOrder(Mutex<Option<(Digest, Arc<Vec<Place>>)>>);

impl AuthorityOrder {
    pub(super) fn of(&self, view: &View) -> Arc<Vec<Place>> {
        let root = view.authority_root();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, places)) = kept.as_ref()
            && *of == root
        {
            return places.clone();
        }
        let places = Arc::new(sorted(view.authority()));
        *kept = Some((root, places.clone()));
        places
    }
}

fn sorted(authority: &Authority) -> Vec<Place> {
    let mut places: Vec<Place> =
        authority.fact_ids().map(|id| (authority.depth(&id).unwrap_or_default(), id)).collect();
    places.sort_unstable();
    places
}

/// The places behind `after`, as [`place_text`] writes them.
pub(super) fn places_after<'a>(places: &'a [Place], after: Option<&str>) -> Result<&'a [Place], Refusal> {
    let Some(after) = after else { return Ok(places) };
    let malformed = || {
        let message = format!("after={after} is not what an answer gave as next");
        Refusal::new(StatusCode::BAD_REQUEST, "http.query", &message)
    };
    let (depth, id) = after.split_once('-').ok_or_else(malformed)?;
    let place: Place = (depth.parse().map_err(|_| malformed())?, id.parse().map_err(|_| malformed())?);
    Ok(&places[places.partition_point(|other| *other <= place)..])
}

/// A place as a text, for `next`.
pub(super) fn place_text((depth, id): &Place) -> String {
    format!("{depth}-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_gone_still_tells_where_to_go_on() {
        let id = |byte: u8| kvgossip_grants::value_hash(&[byte]).to_string().parse::<FactId>();
        let mut places: Vec<Place> = (0..6).filter_map(|n: u8| Some((n / 3, id(n).ok()?))).collect();
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
