//! Records: the encoding of a whole fact in stores, exports and sessions.
//!
//! ```text
//! head u8: kind (1 grant, 2 revocation, 3 floor, 4 entry) + 16 · signature length / 128 (2, 3 or 4)
//!   ‖ signature ‖ body ‖ value (entries that set)
//! ```
//!
//! A record is self-delimiting, so that records can be concatenated: a body is decoded from its front, and the body of
//! an entry contains the length of the value.

use crate::body::Body;
use crate::codec::{MAX_BODY_BYTES, has_oversized_value};
use crate::fact::{Entry, Floor, Grant, MAX_VALUE_BYTES, Op, Revocation, value_hash};
use crate::id::{ClusterId, EntryId, FactId, GrantId};
use crate::key::Key;
use crate::public_key::FORMAT_VERSION;
use crate::signed::{MAX_SIGNATURE_BYTES, SignError, Signed};
use crate::signing_key::Signer;
use crate::time::Timestamp;
use crate::verdict::Code;
use bytes::{Buf, Bytes};
use std::ops::RangeInclusive;

/// Size of the head of a record, in bytes.
pub const RECORD_HEAD_BYTES: usize = 1;
/// Maximum size of a record, in bytes: head, longest signature, longest body and longest value.
pub const MAX_RECORD_BYTES: usize =
    RECORD_HEAD_BYTES + MAX_BODY_BYTES + MAX_SIGNATURE_BYTES + MAX_VALUE_BYTES;
/// Kind of a record, in the low four bits of its head: 1 is a grant, 2 a revocation, 3 a floor, 4 an entry.
const GRANT: u8 = 1;
const REVOCATION: u8 = 2;
const FLOOR: u8 = 3;
const ENTRY: u8 = 4;
/// Unit of the signature length in the head, in bytes.
const SIGNATURE_UNIT_BYTES: usize = 128;
/// Range of the lengths of signatures, in bytes: those of RSA keys of 2048 to 4096 bits.
const SIGNATURE_BYTES: RangeInclusive<usize> = 256..=MAX_SIGNATURE_BYTES;

/// The writer's part of an [`Entry`]. Its operation and signer are filled in at signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryDraft {
    /// Key whose value the entry sets or deletes.
    pub key: Key,
    /// New value of the key; `None` deletes the key's value.
    pub value: Option<Bytes>,
    /// Time of writing by the writer's clock.
    pub timestamp: Timestamp,
    /// Id of the grant that allows the write; `None` exactly if root signs.
    pub grant: Option<GrantId>,
}

/// A signed entry together with its value (empty for a delete).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFact {
    signed: Signed<Entry>,
    value: Bytes,
    /// The whole record. `signed` and `value` are slices of it, so that a fact is not copied between peer and store.
    record: Bytes,
}

impl EntryFact {
    /// Joins a signed entry with its value. [`Code::ValueMismatch`] if the length or the hash of `value` differs from
    /// the signed one.
    pub fn new(signed: Signed<Entry>, value: Bytes) -> Result<Self, Code> {
        let record = write(ENTRY, &signed, &value);
        Self::of_parts(signed, value, record)
    }

    /// Signs an entry for `cluster`. The operation is derived from the value and the signer from the key, so that
    /// neither can differ from what is signed.
    ///
    /// # Errors
    /// The value is longer than [`MAX_VALUE_BYTES`], or the signing operation fails.
    pub fn sign(cluster: ClusterId, draft: EntryDraft, signer: &dyn Signer) -> Result<Self, SignError> {
        let EntryDraft { key, value, timestamp, grant } = draft;
        let op = value.as_deref().map_or(Op::Delete, Op::set);
        let entry = Entry { key, timestamp, op, signer: signer.public().entity(), grant };
        let signed = Signed::sign_body(cluster, entry, signer)?;
        let value = value.unwrap_or_default();
        let record = write(ENTRY, &signed, &value);
        Ok(Self { signed, value, record })
    }

    fn of_parts(signed: Signed<Entry>, value: Bytes, record: Bytes) -> Result<Self, Code> {
        let fits = match signed.body().op {
            Op::Set { len, hash } => len as usize == value.len() && hash == value_hash(&value),
            Op::Delete => value.is_empty(),
        };
        if fits { Ok(Self { signed, value, record }) } else { Err(Code::ValueMismatch) }
    }

    /// Returns the signed body of the entry, without the value.
    pub fn signed(&self) -> &Signed<Entry> {
        &self.signed
    }

    /// Returns the body of the entry, without signature and value.
    pub fn entry(&self) -> &Entry {
        self.signed.body()
    }

    /// Returns the value that the entry sets; `None` for a delete.
    pub fn value(&self) -> Option<&Bytes> {
        match self.entry().op {
            Op::Set { .. } => Some(&self.value),
            Op::Delete => None,
        }
    }

    /// Returns the id of the entry.
    pub fn id(&self) -> EntryId {
        self.signed.id()
    }

    /// Returns the whole record: head, signature, body and value.
    pub fn record(&self) -> &Bytes {
        &self.record
    }
}

/// An entry without its value is sent as its *front*: the record up to the value. The front proves the entry as well as
/// the whole record does, since the signature covers the body, which contains the value's length and hash.
impl Signed<Entry> {
    /// Returns the front of the entry's record: everything before the value.
    pub fn to_front(&self) -> Bytes {
        write(ENTRY, self, &[])
    }

    /// Decodes the bytes of [`Signed::to_front`]. Does not verify the signature.
    pub fn from_front(cluster: ClusterId, front: &[u8]) -> Result<Self, Code> {
        let signed = Self::of_record(cluster, front)?;
        let len = RECORD_HEAD_BYTES + signed.signature_and_body().len();
        if len == front.len() { Ok(signed) } else { Err(Code::Malformed) }
    }

    /// Decodes the entry at the front of `record`, ignoring what follows it. Verifies neither the signature nor the
    /// value.
    pub fn of_record(cluster: ClusterId, record: &[u8]) -> Result<Self, Code> {
        let (head, rest) =
            record.split_first().filter(|(head, _)| **head & 0xf == ENTRY).ok_or(Code::Malformed)?;
        // Limited, so that the value is not copied.
        let front = rest.get(..MAX_SIGNATURE_BYTES + MAX_BODY_BYTES).unwrap_or(rest);
        let signature_len = usize::from(*head >> 4) * SIGNATURE_UNIT_BYTES;
        let signed = Self::parse_front(cluster, &Bytes::copy_from_slice(front), signature_len);
        signed.map(Self::into_owned).ok_or(Code::Malformed)
    }
}

/// A fact whose signature **may not have been verified yet**.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A grant, which gives an entity authority over keys.
    Grant(Signed<Grant>),
    /// A revocation, which ends a grant and everything below it.
    Revocation(Signed<Revocation>),
    /// A floor, by which root ends old entries of matching keys.
    Floor(Signed<Floor>),
    /// An entry, which sets or deletes the value of a key.
    Entry(EntryFact),
}

impl Fact {
    /// Returns the id of the fact, of whatever kind.
    pub fn id(&self) -> FactId {
        match self {
            Self::Grant(fact) => fact.id().into(),
            Self::Revocation(fact) => fact.id(),
            Self::Floor(fact) => fact.id(),
            Self::Entry(fact) => fact.id().into(),
        }
    }

    /// Returns the cluster that the fact was read or signed for.
    pub fn cluster(&self) -> ClusterId {
        match self {
            Self::Grant(fact) => fact.cluster(),
            Self::Revocation(fact) => fact.cluster(),
            Self::Floor(fact) => fact.cluster(),
            Self::Entry(fact) => fact.signed().cluster(),
        }
    }

    /// Returns the name of the fact's kind: `grant`, `revocation`, `floor` or `entry`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Revocation(_) => "revocation",
            Self::Floor(_) => "floor",
            Self::Entry(_) => "entry",
        }
    }

    /// Whether the fact is a grant, revocation or floor.
    pub const fn is_authority(&self) -> bool {
        !matches!(self, Self::Entry(_))
    }

    /// Returns the record of the fact, the bytes by which it is stored and sent.
    pub fn to_record(&self) -> Bytes {
        match self {
            Self::Grant(fact) => write(GRANT, fact, &[]),
            Self::Revocation(fact) => write(REVOCATION, fact, &[]),
            Self::Floor(fact) => write(FLOOR, fact, &[]),
            Self::Entry(fact) => fact.record().clone(),
        }
    }

    /// Returns the total length of body, signature and value in bytes, without framing.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Grant(fact) => fact.signature_and_body().len(),
            Self::Revocation(fact) => fact.signature_and_body().len(),
            Self::Floor(fact) => fact.signature_and_body().len(),
            Self::Entry(fact) => fact.record.len() - RECORD_HEAD_BYTES,
        }
    }

    /// Decodes the bytes of [`Fact::to_record`]. Checks all rules that do not depend on other facts, but verifies no
    /// signature.
    pub fn from_record(cluster: ClusterId, record: &[u8]) -> Result<Self, Code> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(Code::TooLarge);
        }
        let mut rest = Bytes::copy_from_slice(record);
        let fact = Self::take_record(cluster, &mut rest)?;
        if rest.is_empty() { Ok(fact) } else { Err(Code::Malformed) }
    }

    /// Decodes the first record of `records` and removes it from `records`. If it cannot be decoded, its end is unknown
    /// and all of `records` is removed.
    ///
    /// An entry shares the memory of `records` and keeps all of it allocated; any other fact, which may be kept for
    /// long, is copied.
    pub fn take_record(cluster: ClusterId, records: &mut Bytes) -> Result<Self, Code> {
        let (fact, len) = read(cluster, records).ok_or_else(|| {
            let code = unreadable(records);
            records.clear();
            code
        })?;
        records.advance(len);
        fact
    }
}

/// Returns the reason why a record cannot be decoded. Another version and a value that is too long are distinguished
/// from malformed bytes.
fn unreadable(record: &[u8]) -> Code {
    let Some((head, rest)) = record.split_first() else { return Code::Malformed };
    let (kind, signature_len) = (head & 0xf, usize::from(head >> 4) * SIGNATURE_UNIT_BYTES);
    let is_record = (GRANT..=ENTRY).contains(&kind) && SIGNATURE_BYTES.contains(&signature_len);
    let body = rest.get(signature_len..).filter(|_| is_record).unwrap_or_default();
    match body.first() {
        Some(&FORMAT_VERSION) if kind == ENTRY && has_oversized_value(body) => Code::TooLarge,
        None | Some(&0 | &FORMAT_VERSION) => Code::Malformed,
        Some(_) => Code::Version,
    }
}

/// Decodes the first record and returns it with its length. The fact is an error if the value does not match the signed
/// length and hash.
fn read(cluster: ClusterId, records: &Bytes) -> Option<(Result<Fact, Code>, usize)> {
    let head = *records.first()?;
    let signature_len = usize::from(head >> 4) * SIGNATURE_UNIT_BYTES;
    match head & 0xf {
        GRANT => authority(cluster, records, signature_len, Fact::Grant),
        REVOCATION => authority(cluster, records, signature_len, Fact::Revocation),
        FLOOR => authority(cluster, records, signature_len, Fact::Floor),
        ENTRY => {
            let rest = records.slice(RECORD_HEAD_BYTES..);
            let signed = Signed::<Entry>::parse_front(cluster, &rest, signature_len)?;
            let value_at = RECORD_HEAD_BYTES + signed.signature_and_body().len();
            let len = match signed.body().op {
                Op::Set { len, .. } => usize::try_from(len).ok()?,
                Op::Delete => 0,
            };
            let end = value_at.checked_add(len).filter(|end| *end <= records.len())?;
            let fact = EntryFact::of_parts(signed, records.slice(value_at..end), records.slice(..end));
            Some((fact.map(Fact::Entry), end))
        }
        _ => None,
    }
}

fn authority<B: Body>(
    cluster: ClusterId,
    records: &Bytes,
    signature_len: usize,
    wrap: impl FnOnce(Signed<B>) -> Fact,
) -> Option<(Result<Fact, Code>, usize)> {
    let rest = records.slice(RECORD_HEAD_BYTES..);
    let signed = Signed::parse_front(cluster, &rest, signature_len)?.into_owned();
    let len = RECORD_HEAD_BYTES + signed.signature_and_body().len();
    Some((Ok(wrap(signed)), len))
}

fn write<B: Body>(kind: u8, signed: &Signed<B>, value: &[u8]) -> Bytes {
    // At most 4 units, since keys have at most 4096 bits.
    let head = (signed.signature().len() / SIGNATURE_UNIT_BYTES) as u8 * 16 + kind;
    [&[head], &signed.signature_and_body()[..], value].concat().into()
}
