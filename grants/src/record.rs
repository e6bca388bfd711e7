//! A whole fact as bytes: how facts lie in a store, in an export and in a session.
//!
//! ```text
//! kind u8 (1 grant, 2 revocation, 3 floor, 4 entry) ‖ varint body length ‖ body
//!   ‖ signature length / 128 (u8: 2, 3 or 4) ‖ signature ‖ value (entries that set; to the end)
//! ```

use crate::codec::{Body, MAX_BODY_BYTES};
use crate::fact::{Entry, Floor, Grant, MAX_VALUE_BYTES, Op, Revocation, value_hash};
use crate::id::{ClusterId, FactId};
use crate::signed::{MAX_SIGNATURE_BYTES, Signed};
use crate::signing_key::{Signer, SigningKeyError};
use crate::verdict::Code;
use bytes::Bytes;

/// The largest fact as bytes.
pub const MAX_RECORD_BYTES: usize = 8 + MAX_BODY_BYTES + MAX_SIGNATURE_BYTES + MAX_VALUE_BYTES;

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
        let parts = split(record).ok_or(Code::Malformed)?;
        if parts.value.len() > MAX_VALUE_BYTES {
            return Err(Code::TooLarge);
        }
        let fact = match parts.kind {
            1 => Self::Grant(parts.read(cluster)?),
            2 => Self::Revocation(parts.read(cluster)?),
            3 => Self::Floor(parts.read(cluster)?),
            4 => Self::Entry(EntryFact::new(parts.read(cluster)?, Bytes::copy_from_slice(parts.value))?),
            _ => return Err(Code::Malformed),
        };
        if fact.is_authority() && !parts.value.is_empty() { Err(Code::Malformed) } else { Ok(fact) }
    }
}

/// Bytes of body, signature and value in a record, without reading them.
pub fn record_payload_len(record: &[u8]) -> Option<usize> {
    split(record).map(|parts| parts.body.len() + parts.signature.len() + parts.value.len())
}

fn write<B: Body>(kind: u8, signed: &Signed<B>, value: &[u8]) -> Vec<u8> {
    let (body, signature) = (signed.bytes(), signed.signature());
    let mut record = Vec::with_capacity(8 + body.len() + signature.len() + value.len());
    record.push(kind);
    let mut rest = body.len();
    while rest >= 0x80 {
        record.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    record.push(rest as u8);
    record.extend_from_slice(body);
    record.push((signature.len() / 128) as u8);
    record.extend_from_slice(signature);
    record.extend_from_slice(value);
    record
}

struct Parts<'a> {
    kind: u8,
    body: &'a [u8],
    signature: &'a [u8],
    value: &'a [u8],
}

impl Parts<'_> {
    fn read<B: Body>(&self, cluster: ClusterId) -> Result<Signed<B>, Code> {
        Signed::parse(cluster, self.body, self.signature).ok_or(Code::Malformed)
    }
}

fn split(record: &[u8]) -> Option<Parts<'_>> {
    let (&kind, rest) = record.split_first()?;
    let (body_len, rest) = read_varint(rest)?;
    if body_len > MAX_BODY_BYTES {
        return None;
    }
    let (body, rest) = rest.split_at_checked(body_len)?;
    let (&units, rest) = rest.split_first()?;
    let (signature, value) = rest.split_at_checked(usize::from(units) * 128)?;
    Some(Parts { kind, body, signature, value })
}

/// At most three bytes, and the shortest spelling only.
fn read_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (index, &byte) in bytes.iter().enumerate().take(3) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let shortest = index == 0 || byte != 0;
            return shortest.then_some((value, &bytes[index + 1..]));
        }
    }
    None
}
