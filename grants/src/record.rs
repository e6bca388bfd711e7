//! A whole fact as bytes: how facts lie in a store, in an export and in a session.
//!
//! ```text
//! head u8: kind (1 grant, 2 revocation, 3 floor, 4 entry) + 16 · signature length / 128 (2, 3 or 4)
//!   ‖ signature ‖ body ‖ value (entries that set)
//! ```
//!
//! A record says itself where it ends, so that records can stand one after the other: a body is read from its
//! front, and an entry's body has the length of the value.

use crate::codec::{Body, MAX_BODY_BYTES};
use crate::fact::{Entry, Floor, Grant, MAX_VALUE_BYTES, Op, Revocation, value_hash};
use crate::id::{ClusterId, FactId};
use crate::signed::{MAX_SIGNATURE_BYTES, Signed};
use crate::signing_key::{Signer, SigningKeyError};
use crate::verdict::Code;
use bytes::Bytes;

/// Bytes of a record beside body, signature and value.
pub const RECORD_HEAD_BYTES: usize = 1;
/// The largest fact as bytes.
pub const MAX_RECORD_BYTES: usize =
    RECORD_HEAD_BYTES + MAX_BODY_BYTES + MAX_SIGNATURE_BYTES + MAX_VALUE_BYTES;
/// Signatures come in steps of this many bytes.
const SIGNATURE_UNIT_BYTES: usize = 128;

/// A signed entry together with its value (empty for a delete).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFact {
    signed: Signed<Entry>,
    value: Bytes,
}

impl EntryFact {
    /// Joins an entry and its value; refuses a value that is not the signed one.
    pub fn new(signed: Signed<Entry>, value: Bytes) -> Result<Self, Code> {
        let fits = match signed.body().op {
            Op::Set { len, hash } => len as usize == value.len() && hash == value_hash(&value),
            Op::Delete => value.is_empty(),
        };
        if fits { Ok(Self { signed, value }) } else { Err(Code::ValueMismatch) }
    }

    /// Signs `entry`, whose operation must be that of `value`.
    pub fn sign(
        cluster: ClusterId,
        entry: Entry,
        value: Bytes,
        signer: &dyn Signer,
    ) -> Result<Self, SigningKeyError> {
        Ok(Self { signed: Signed::sign(cluster, entry, signer)?, value })
    }

    /// The signed body.
    pub fn signed(&self) -> &Signed<Entry> {
        &self.signed
    }

    /// The body.
    pub fn entry(&self) -> &Entry {
        self.signed.body()
    }

    /// The value; `None` for a delete.
    pub fn value(&self) -> Option<&Bytes> {
        match self.entry().op {
            Op::Set { .. } => Some(&self.value),
            Op::Delete => None,
        }
    }

    /// The entry's id.
    pub fn id(&self) -> FactId {
        self.signed.id()
    }
}

/// A fact whose signature **may not have been verified yet**.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Authority given.
    Grant(Signed<Grant>),
    /// Authority taken back.
    Revocation(Signed<Revocation>),
    /// Old entries ended by root.
    Floor(Signed<Floor>),
    /// A key's value or tombstone.
    Entry(EntryFact),
}

impl Fact {
    /// The fact's id.
    pub fn id(&self) -> FactId {
        match self {
            Self::Grant(fact) => fact.id(),
            Self::Revocation(fact) => fact.id(),
            Self::Floor(fact) => fact.id(),
            Self::Entry(fact) => fact.id(),
        }
    }

    /// `grant`, `revocation`, `floor` or `entry`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Revocation(_) => "revocation",
            Self::Floor(_) => "floor",
            Self::Entry(_) => "entry",
        }
    }

    /// Whether it is anything but an entry.
    pub const fn is_authority(&self) -> bool {
        !matches!(self, Self::Entry(_))
    }

    /// The whole fact as bytes.
    pub fn to_record(&self) -> Vec<u8> {
        match self {
            Self::Grant(fact) => write(1, fact, &[]),
            Self::Revocation(fact) => write(2, fact, &[]),
            Self::Floor(fact) => write(3, fact, &[]),
            Self::Entry(fact) => write(4, &fact.signed, &fact.value),
        }
    }

    /// Bytes of body, signature and value together: what a fact weighs without any framing.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Grant(fact) => fact.bytes().len() + fact.signature().len(),
            Self::Revocation(fact) => fact.bytes().len() + fact.signature().len(),
            Self::Floor(fact) => fact.bytes().len() + fact.signature().len(),
            Self::Entry(fact) => fact.signed.bytes().len() + fact.signed.signature().len() + fact.value.len(),
        }
    }

    /// Reads [`Fact::to_record`] bytes. Signatures stay unchecked; everything else that a fact must keep by
    /// itself is checked.
    pub fn from_record(cluster: ClusterId, record: &[u8]) -> Result<Self, Code> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(Code::TooLarge);
        }
        let mut rest = record;
        let fact = Self::take_record(cluster, &mut rest)?;
        if rest.is_empty() { Ok(fact) } else { Err(Code::Malformed) }
    }

    /// The same for the first of several records; takes it off `records`. Where an unreadable record ends cannot
    /// be known: then all are taken off.
    pub fn take_record(cluster: ClusterId, records: &mut &[u8]) -> Result<Self, Code> {
        let (fact, rest) = read(cluster, std::mem::take(records)).ok_or(Code::Malformed)?;
        *records = rest;
        fact
    }
}

/// Reads a record and gives what follows it. The fact is an error if the value is not the signed one.
fn read(cluster: ClusterId, record: &[u8]) -> Option<(Result<Fact, Code>, &[u8])> {
    let (&head, rest) = record.split_first()?;
    let (signature, rest) = rest.split_at_checked(usize::from(head >> 4) * SIGNATURE_UNIT_BYTES)?;
    match head & 0xf {
        1 => authority(cluster, rest, signature, Fact::Grant),
        2 => authority(cluster, rest, signature, Fact::Revocation),
        3 => authority(cluster, rest, signature, Fact::Floor),
        4 => {
            let (signed, rest) = Signed::<Entry>::parse_front(cluster, rest, signature)?;
            let len = match signed.body().op {
                Op::Set { len, .. } => usize::try_from(len).ok()?,
                Op::Delete => 0,
            };
            let (value, rest) = rest.split_at_checked(len)?;
            Some((EntryFact::new(signed, Bytes::copy_from_slice(value)).map(Fact::Entry), rest))
        }
        _ => None,
    }
}

fn authority<'a, B: Body>(
    cluster: ClusterId,
    bytes: &'a [u8],
    signature: &[u8],
    wrap: impl FnOnce(Signed<B>) -> Fact,
) -> Option<(Result<Fact, Code>, &'a [u8])> {
    let (signed, rest) = Signed::parse_front(cluster, bytes, signature)?;
    Some((Ok(wrap(signed)), rest))
}

fn write<B: Body>(kind: u8, signed: &Signed<B>, value: &[u8]) -> Vec<u8> {
    let (body, signature) = (signed.bytes(), signed.signature());
    let mut record = Vec::with_capacity(RECORD_HEAD_BYTES + body.len() + signature.len() + value.len());
    // At most 4 units: keys have at most 4096 bits.
    record.push((signature.len() / SIGNATURE_UNIT_BYTES) as u8 * 16 + kind);
    record.extend_from_slice(signature);
    record.extend_from_slice(body);
    record.extend_from_slice(value);
    record
}
