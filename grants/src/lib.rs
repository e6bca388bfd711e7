//! Keys, key globs, signed facts and the grant verifier of kvgossip.

mod id;
mod time;

pub use id::{ClusterId, Digest, EntityId, EntryId, FactId, GrantId, ParseIdError};
pub use time::{TimeOutOfRange, Timestamp};
