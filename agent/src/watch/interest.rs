//! The keys, filters and options of one watcher.

use kvgossip_api::{HeldRow, MAX_WATCH_FILTERS, MAX_WATCH_KEYS, WatchForm, WatchRequest};
use kvgossip_grants::{Digest, Filter, FilterError, Key, KeyError, MAX_HELD_BUCKETS};
use std::time::Duration;

/// Memory in bytes that a key or a filter's prefix takes beside its text: its handles, and its place in the index.
const INDEXED_BYTES: usize = 192;

/// A parsed and checked watch request.
#[derive(Clone, Debug)]
pub struct Interest {
    /// Keys to watch, in ascending order, each once.
    pub keys: Box<[Key]>,
    /// Filters; all keys that at least one of them includes are watched as well.
    pub filters: Box<[Filter]>,
    /// Contents of events: values, or signed records.
    pub form: WatchForm,
    /// Whether the watcher receives grants, revocations and floors.
    pub authority: bool,
    /// Digests of the facts that the watcher already holds; `None`: it sent none.
    pub have: Option<Have>,
    /// Maximum silence of the stream before a heartbeat.
    pub heartbeat: Duration,
    /// Size of the globs of all filters, in bytes.
    globs_bytes: usize,
}

/// Digests of the facts that a watcher already holds, as it sent them.
#[derive(Clone, Debug)]
pub struct Have {
    /// Digest of the grants, revocations and floors.
    pub authority: Digest,
    /// Digests of the entries, one per bucket of keys, at most [`MAX_HELD_BUCKETS`].
    pub buckets: Box<[Digest]>,
}

/// Reason why a watch request is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterestError {
    /// A key of the request is invalid.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A filter of the request is invalid.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The request asks for nothing: no keys, no filters, no authority facts.
    #[error("nothing is asked for: give key=KEY or match=GLOB")]
    Nothing,
    /// The request exceeds the limit on keys, filters, globs or total memory.
    #[error(
        "a watch takes at most {MAX_WATCH_KEYS} keys and {MAX_WATCH_FILTERS} filters, {} KiB of globs, and {} MiB in all: \
         use several",
        super::MAX_GLOBS_BYTES >> 10,
        super::MAX_INTEREST_BYTES >> 20
    )]
    TooMuch,
    /// `have` is not a list of 1 to [`MAX_HELD_BUCKETS`] valid digests.
    #[error("have: 1 to {MAX_HELD_BUCKETS} digests of 64 hexadecimal digits")]
    Have,
    /// `heartbeat_ms` is below its minimum or above its maximum.
    #[error(
        "heartbeat_ms: {} to {} milliseconds",
        super::MIN_HEARTBEAT.as_millis(),
        super::MAX_HEARTBEAT.as_millis()
    )]
    Heartbeat,
}

impl InterestError {
    /// Returns the stable error code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Key(_) => "key.malformed",
            Self::Filter(_) => "glob.malformed",
            Self::Nothing | Self::Have | Self::Heartbeat => "http.query",
            Self::TooMuch => "watch.too_much",
        }
    }
}

impl Interest {
    /// Parses and checks a request.
    pub fn parse(request: &WatchRequest) -> Result<Self, InterestError> {
        if request.keys.len() > MAX_WATCH_KEYS || request.filters.len() > MAX_WATCH_FILTERS {
            return Err(InterestError::TooMuch);
        }
        if request.keys.is_empty() && request.filters.is_empty() && !request.authority {
            return Err(InterestError::Nothing);
        }
        let mut keys = request.keys.iter().map(|key| Key::parse(key)).collect::<Result<Vec<_>, _>>()?;
        keys.sort_unstable();
        keys.dedup();
        let filters = request.filters.iter().map(Filter::parse).collect::<Result<Vec<_>, _>>()?;
        let heartbeat = request.heartbeat_ms.map_or(super::HEARTBEAT, Duration::from_millis);
        if !(super::MIN_HEARTBEAT..=super::MAX_HEARTBEAT).contains(&heartbeat) {
            return Err(InterestError::Heartbeat);
        }
        let rules = filters.iter().flat_map(Filter::rules);
        let globs_bytes = rules.map(|rule| rule.glob.as_str().len()).sum();
        let interest = Self {
            keys: keys.into(),
            filters: filters.into(),
            form: request.form,
            authority: request.authority,
            have: request.have.as_ref().map(Have::parse).transpose()?,
            heartbeat,
            globs_bytes,
        };
        if globs_bytes > super::MAX_GLOBS_BYTES || interest.held_bytes() > super::MAX_INTEREST_BYTES {
            return Err(InterestError::TooMuch);
        }
        Ok(interest)
    }

    /// Returns the bytes of memory that the watcher's keys, filters and digests take, including the index.
    pub fn held_bytes(&self) -> usize {
        let keys = self.keys.iter().map(|key| key.as_bytes().len() + INDEXED_BYTES);
        let filters = self.filters.iter().map(|filter| {
            let prefixes = filter.literal_prefixes().into_iter().map(|prefix| prefix.len() + INDEXED_BYTES);
            filter.held_bytes() + prefixes.sum::<usize>()
        });
        let have = self.have.as_ref().map_or(0, |have| size_of_val(&*have.buckets));
        keys.sum::<usize>() + filters.sum::<usize>() + have
    }

    /// Returns the cost of [`Interest::includes`] for a key, in units of one examined key.
    pub(super) fn looks(&self, key: &Key) -> usize {
        1 + 2 * self.globs_bytes * key.as_bytes().len() / super::STEPS_OF_A_KEY
    }

    /// Whether the request names this key itself, rather than by a filter.
    pub(super) fn names(&self, key: &Key) -> bool {
        self.keys.binary_search(key).is_ok()
    }

    /// Whether the watcher watches a key, by its name or by a filter.
    pub(super) fn includes(&self, key: &Key) -> bool {
        self.names(key) || self.filters.iter().any(|filter| filter.includes(key))
    }
}

impl Have {
    fn parse(row: &HeldRow) -> Result<Self, InterestError> {
        if row.buckets.is_empty() || row.buckets.len() > MAX_HELD_BUCKETS {
            return Err(InterestError::Have);
        }
        let digest = |text: &String| text.parse::<Digest>().map_err(|_| InterestError::Have);
        let buckets = row.buckets.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { authority: digest(&row.authority)?, buckets: buckets.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_bounded() {
        let mut request = WatchRequest::default();
        assert!(matches!(Interest::parse(&request), Err(InterestError::Nothing)));
        request.keys = vec!["/b".into(), "/a".into(), "/b".into()];
        request.filters = vec![vec!["/x/**".into(), "!/x/y".into()]];
        for outside in [0, 99, 60_001, u64::MAX] {
            request.heartbeat_ms = Some(outside);
            assert!(matches!(Interest::parse(&request), Err(InterestError::Heartbeat)), "{outside}");
        }
        request.heartbeat_ms = Some(100);
        let interest = Interest::parse(&request).expect("well-formed");
        assert_eq!(interest.keys.len(), 2);
        assert_eq!(interest.heartbeat, super::super::MIN_HEARTBEAT);
        let includes = |key: &str| interest.includes(&Key::parse(key).expect("a key"));
        assert!(includes("/a") && includes("/x/z") && !includes("/x/y") && !includes("/c"));

        let most = super::super::MAX_GLOBS_BYTES / kvgossip_grants::MAX_GLOB_BYTES;
        let long = format!("/**/{}", "?".repeat(kvgossip_grants::MAX_GLOB_BYTES - 4));
        request.filters = vec![vec![long.clone(); 64]; most / 64];
        let interest = Interest::parse(&request).expect("so many globs are taken");
        assert!((most * 300..most * 600).contains(&interest.held_bytes()), "{}", interest.held_bytes());
        request.filters.push(vec![long]);
        assert!(matches!(Interest::parse(&request), Err(InterestError::TooMuch)));
        request.filters.clear();
        let key =
            |number: usize| format!("/{}/{}/{}/{number}", "k".repeat(250), "k".repeat(250), "k".repeat(250));
        request.keys = (0..MAX_WATCH_KEYS / 2).map(key).collect();
        assert!(Interest::parse(&request).is_ok());
        request.keys = (0..MAX_WATCH_KEYS).map(key).collect();
        assert!(matches!(Interest::parse(&request), Err(InterestError::TooMuch)));

        request.have = Some(HeldRow { authority: "0".repeat(64), buckets: Vec::new() });
        request.keys = vec!["/a".into()];
        assert!(matches!(Interest::parse(&request), Err(InterestError::Have)));
        request.keys = vec!["/a".into(); MAX_WATCH_KEYS + 1];
        assert!(matches!(Interest::parse(&request), Err(InterestError::TooMuch)));
    }
}
