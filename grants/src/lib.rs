//! Keys, key globs, signed facts and the grant verifier of kvgossip.

mod glob;
mod id;
mod key;
mod time;

pub use glob::{GlobError, GlobErrorKind, KeyGlob, MAX_GLOB_BYTES, MAX_WILDCARDS};
pub use id::{ClusterId, Digest, EntityId, EntryId, FactId, GrantId, ParseIdError};
pub use key::{Key, KeyError, KeyErrorKind, MAX_KEY_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS, PathPrefix};
pub use time::{TimeOutOfRange, Timestamp};
