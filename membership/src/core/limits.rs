//! How long a member's user events, queries and answers may be.

use super::ConfigError;

/// Longest name and payload of an event together, and longest encoded event, in bytes, unless told otherwise: Serf's default.
pub const USER_EVENT_LIMIT: usize = 512;
/// Longest query, encoded, in bytes, unless told otherwise: Serf's default.
pub const QUERY_LIMIT: usize = 1024;
/// Longest answer, encoded, in bytes, unless told otherwise: Serf's default.
pub const RESPONSE_LIMIT: usize = 1024;
/// What each of them can be set to at most, in bytes. It is the most that Serf's agents take of an event, 9 KiB, and members
/// refuse longer messages.
pub const MAX_LIMIT: usize = 9 * 1024;

/// A shorter limit would let no event through: 30 bytes are those of its encoding.
const LEAST_USER_EVENT: usize = 64;
/// Agents ask each other for their roots, and queries for keys and names are as long.
const LEAST_QUERY: usize = QUERY_LIMIT;
/// Members' own answers are as long.
const LEAST_RESPONSE: usize = 512;

/// How long a member's user events, queries and answers may be, in bytes. All members should have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A user event: its name and payload, and also the message that carries them.
    pub user_event: usize,
    /// A query, encoded.
    pub query: usize,
    /// An answer to a query, encoded.
    pub response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { user_event: USER_EVENT_LIMIT, query: QUERY_LIMIT, response: RESPONSE_LIMIT }
    }
}

impl Limits {
    /// Refuses what cannot travel, or would let nothing through.
    pub fn check(&self) -> Result<(), ConfigError> {
        let all = [
            ("user event", self.user_event, LEAST_USER_EVENT),
            ("query", self.query, LEAST_QUERY),
            ("query response", self.response, LEAST_RESPONSE),
        ];
        match all.into_iter().find(|(_, limit, least)| !(*least..=MAX_LIMIT).contains(limit)) {
            Some((what, limit, least)) => Err(ConfigError::Limit { what, limit, least, most: MAX_LIMIT }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_bounds() {
        assert_eq!(Limits::default().check(), Ok(()));
        let most = Limits { user_event: MAX_LIMIT, query: MAX_LIMIT, response: MAX_LIMIT };
        assert_eq!(most.check(), Ok(()));
        let least = Limits { user_event: 64, query: 1024, response: 512 };
        assert_eq!(least.check(), Ok(()));
        for (wrong, named) in [
            (
                Limits { user_event: MAX_LIMIT + 1, ..most },
                "the user event size limit is 9217 bytes; 64 to 9216",
            ),
            (Limits { query: MAX_LIMIT + 1, ..most }, "the query size limit is 9217 bytes; 1024 to 9216"),
            (
                Limits { response: MAX_LIMIT + 1, ..most },
                "the query response size limit is 9217 bytes; 512 to 9216",
            ),
            (Limits { user_event: 63, ..least }, "64 to 9216"),
            (Limits { query: 1023, ..least }, "1024 to 9216"),
            (Limits { response: 511, ..least }, "512 to 9216"),
        ] {
            let refused = wrong.check().expect_err(named).to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
