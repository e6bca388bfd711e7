//! What one watcher wants to hear of.

use kvgossip_api::{HeldRow, MAX_WATCH_FILTERS, MAX_WATCH_KEYS, WatchForm, WatchRequest};
use kvgossip_grants::{Digest, Filter, FilterError, Key, KeyError, MAX_HELD_BUCKETS};
use std::time::Duration;

/// A request that was read.
#[derive(Clone, Debug)]
pub struct Interest {
    /// These keys, in ascending order and each once.
    pub keys: Box<[Key]>,
    /// And keys that one of these includes.
    pub filters: Box<[Filter]>,
    /// What events carry.
    pub form: WatchForm,
    /// Whether authority facts are told.
    pub authority: bool,
    /// What the watcher has.
    pub have: Option<Have>,
    /// How long the stream may be silent.
    pub heartbeat: Duration,
}

/// What a watcher has, as digests.
#[derive(Clone, Debug)]
pub struct Have {
    /// Over authority facts.
    pub authority: Digest,
    /// Over entries.
    pub buckets: Box<[Digest]>,
}

/// Why a request is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterestError {
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Neither keys nor filters nor authority.
    #[error("nothing is asked for: give key=KEY or match=GLOB")]
    Nothing,
    /// Too much.
    #[error("a watch takes at most {MAX_WATCH_KEYS} keys and {MAX_WATCH_FILTERS} filters: use several")]
    TooMuch,
    /// `have` is not digests.
    #[error("have: 1 to {MAX_HELD_BUCKETS} digests of 64 hexadecimal digits")]
    Have,
}

impl InterestError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Key(_) => "key.malformed",
            Self::Filter(_) => "glob.malformed",
            Self::Nothing | Self::Have => "http.query",
            Self::TooMuch => "watch.too_much",
        }
    }
}

impl Interest {
    /// Reads a request.
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
        Ok(Self {
            keys: keys.into(),
            filters: filters.into(),
            form: request.form,
            authority: request.authority,
            have: request.have.as_ref().map(Have::parse).transpose()?,
            heartbeat: heartbeat.clamp(super::MIN_HEARTBEAT, super::MAX_HEARTBEAT),
        })
    }

    /// Whether the watcher asked for this very key.
    pub(super) fn names(&self, key: &Key) -> bool {
        self.keys.binary_search(key).is_ok()
    }

    /// Whether the watcher wants to hear of a key.
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
        request.heartbeat_ms = Some(1);
        let interest = Interest::parse(&request).expect("well-formed");
        assert_eq!(interest.keys.len(), 2);
        assert_eq!(interest.heartbeat, super::super::MIN_HEARTBEAT);
        let includes = |key: &str| interest.includes(&Key::parse(key).expect("a key"));
        assert!(includes("/a") && includes("/x/z") && !includes("/x/y") && !includes("/c"));

        request.have = Some(HeldRow { authority: "0".repeat(64), buckets: Vec::new() });
        assert!(matches!(Interest::parse(&request), Err(InterestError::Have)));
        request.keys = vec!["/a".into(); MAX_WATCH_KEYS + 1];
        assert!(matches!(Interest::parse(&request), Err(InterestError::TooMuch)));
    }
}
