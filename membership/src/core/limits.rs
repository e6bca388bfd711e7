//! Maximum sizes of user events, queries and responses.

use super::ConfigError;

/// Default maximum size of an event in bytes, for its name and payload as well as its encoding; Serf's default.
pub const USER_EVENT_LIMIT: usize = 512;
/// Default maximum size of an encoded query in bytes; Serf's default.
pub const QUERY_LIMIT: usize = 1024;
/// Default maximum size of an encoded response in bytes; Serf's default.
pub const RESPONSE_LIMIT: usize = 1024;
/// Largest value to which each of the three limits can be set, in bytes: the largest event that Serf's agents
/// accept, 9 KiB. Members reject longer messages.
pub const MAX_LIMIT: usize = 9 * 1024;

/// Smallest allowed limit for events, in bytes; a smaller one would let nothing through, because the encoding
/// alone takes 30.
const LEAST_USER_EVENT: usize = 64;
/// Smallest allowed limit for queries, in bytes: agents' own queries for roots, keys and names take as much.
const LEAST_QUERY: usize = QUERY_LIMIT;
/// Smallest allowed limit for responses, in bytes: members' own responses take as much.
const LEAST_RESPONSE: usize = 512;

/// Maximum sizes of user events, queries and responses, in bytes. All members of a cluster should use equal
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of a user event in bytes, for its name and payload together as well as for the encoded
    /// message.
    pub user_event: usize,
    /// Maximum size of an encoded query, in bytes.
    pub query: usize,
    /// Maximum size of an encoded response to a query, in bytes.
    pub response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { user_event: USER_EVENT_LIMIT, query: QUERY_LIMIT, response: RESPONSE_LIMIT }
    }
}

impl Limits {
    /// Rejects limits with which messages could not be sent, or nothing useful would fit.
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
