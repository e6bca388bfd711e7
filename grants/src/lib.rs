//! Keys, key globs, signed facts and the grant verifier of kvgossip.
//!
//! This crate defines what the data means. It does no I/O, has no clock (times are passed in) and draws no random
//! numbers (key generation takes a random source as a parameter). Start with [`Authority`]: it judges facts and
//! explains its verdicts.

/// Runs the examples of the README as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod authority;
mod body;
mod codec;
mod fact;
mod filter;
mod frontier;
mod glob;
mod held;
mod id;
mod inclusion;
mod key;
#[cfg(feature = "mock")]
mod mock;
mod public_key;
mod record;
mod signed;
mod signing_key;
mod time;
pub mod varint;
mod verdict;
mod verifier;

#[cfg(feature = "own-store")]
pub use authority::StoredError;
pub use authority::{
    Authority, AuthorityChange, Explanation, Link, LiveGrant, MAX_AHEAD_MICROS, MAX_COMBINATIONS,
    MAX_PARENTS, MAX_REJECTED, MAX_SINGLE_PARENTS, ParentPlan, PlanError, Rejected, Unverified, Verified,
};
pub use body::{AuthorityBody, Body, ShapeError};
pub use codec::MAX_BODY_BYTES;
pub use fact::{
    By, Entry, Floor, Grant, MAX_DEPTH, MAX_FLOOR_PATTERNS, MAX_VALUE_BYTES, Op, Revocation, value_hash,
};
pub use filter::{Filter, FilterError, FilterRule, MAX_FILTER_GLOBS};
pub use frontier::{ById, EntryMeta, Frontier, MAX_FRONTIER_LIST, NewestFirst, Offer, Rank, StandingEntry};
pub use glob::{GlobError, GlobErrorKind, KeyGlob, MAX_GLOB_BYTES, MAX_WILDCARDS};
pub use held::{HeldDigests, MAX_HELD_BUCKETS, held_authority};
pub use id::{ClusterId, Digest, EntityId, EntryId, FactId, GrantId, ParseIdError, ReplicaId};
pub use inclusion::{INCLUSION_BUDGET, INCLUSION_WORK_PER_NODE, Inclusion, included, included_with_budget};
pub use key::{
    Key, KeyError, KeyErrorKind, MAX_KEY_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS, PathPrefix, spell,
};
#[cfg(feature = "mock")]
pub use mock::{MockKey, MockVerifier};
pub use public_key::{FORMAT_VERSION, KEY_BITS, MAX_SPKI_BYTES, PUBLIC_EXPONENT, PublicKey, PublicKeyError};
pub use record::{EntryDraft, EntryFact, Fact, MAX_RECORD_BYTES, RECORD_HEAD_BYTES};
pub use signed::{MAX_SIGNATURE_BYTES, SignError, Signed};
pub use signing_key::{Signer, SigningKey, SigningKeyError};
pub use time::{TimeOutOfRange, Timestamp};
pub use verdict::{Code, Verdict};
pub use verifier::{RsaVerifier, Verifier};
