//! Canonical bytes of fact bodies: a version byte, then postcard.
//!
//! Decoding refuses bytes that differ from the encoding of the decoded body, so that a fact has one encoding and one
//! id. A body is self-delimiting. Every length is checked against the input before anything is allocated.

use crate::body::{AuthorityBody, Body, ShapeError, sealed::Sealed};
use crate::fact::{By, Entry, Floor, Grant, MAX_FLOOR_PATTERNS, MAX_VALUE_BYTES, Op, Revocation};
use crate::glob::KeyGlob;
use crate::id::{ClusterId, Digest, EntityId, EntryId, FactId, GrantId};
use crate::key::Key;
use crate::public_key::{FORMAT_VERSION, PublicKey};
use crate::signed::Signed;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Maximum size of a body, in bytes: a floor with 64 patterns of 256 bytes fits.
pub const MAX_BODY_BYTES: usize = 20 * 1024;

/// Initial capacity of an encoding, in bytes: enough for most entries. Each decoded body is encoded again.
const USUAL_BODY_BYTES: usize = 256;

impl Sealed for Grant {}
impl Sealed for Revocation {}
impl Sealed for Floor {}
impl Sealed for Entry {}

impl AuthorityBody for Grant {}
impl AuthorityBody for Revocation {}
impl AuthorityBody for Floor {}

#[derive(Serialize, Deserialize)]
struct GrantFields<'a> {
    issuer: EntityId,
    grantee: &'a [u8],
    pattern: &'a str,
    subgrant: bool,
    parent: Option<GrantId>,
    issued_at: Timestamp,
    expires_at: Option<Timestamp>,
    nonce: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct RevocationFields<'a> {
    grant_body: &'a [u8],
    grant_signature: &'a [u8],
    by: ByField,
    revoked_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
enum ByField {
    Root,
    Issuer,
    Grantee,
}

#[derive(Serialize, Deserialize)]
struct EntryFields<'a> {
    key: &'a str,
    timestamp: Timestamp,
    op: OpField,
    signer: EntityId,
    grant: Option<GrantId>,
}

#[derive(Serialize, Deserialize)]
enum OpField {
    Set { len: u32, hash: Digest },
    Delete,
}

#[derive(Serialize)]
struct FloorFields<'a> {
    patterns: Vec<&'a str>,
    before: Timestamp,
    nonce: [u8; 16],
}

fn write<T: Serialize>(fields: &T) -> Vec<u8> {
    // Serialising plain data into a growing vector cannot fail; an empty body would not decode.
    let mut bytes = Vec::with_capacity(USUAL_BODY_BYTES);
    bytes.push(FORMAT_VERSION);
    postcard::to_extend(fields, bytes).unwrap_or_default()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    let (version, fields) = bytes.split_first()?;
    if *version != FORMAT_VERSION {
        return None;
    }
    postcard::take_from_bytes(fields).ok()
}

/// Last step of every decoder: checks that the bytes before `rest` are at most [`MAX_BODY_BYTES`], equal the encoding
/// of `body`, and that the body keeps the rules of its kind.
fn canonical<'a, B: Body>(
    cluster: ClusterId,
    body: B,
    rest: &'a [u8],
    bytes: &[u8],
) -> Option<(B, &'a [u8])> {
    body.check_rules(cluster).ok()?;
    let read = bytes.get(..bytes.len() - rest.len())?;
    (read.len() <= MAX_BODY_BYTES && body.encode() == read).then_some((body, rest))
}

impl Body for Grant {
    const TAG: [u8; 16] = *b"kvgossip/grant\0\0";
    type Id = GrantId;

    fn encode(&self) -> Vec<u8> {
        write(&GrantFields {
            issuer: self.issuer,
            grantee: self.grantee.spki_der(),
            pattern: self.pattern.as_str(),
            subgrant: self.subgrant,
            parent: self.parent,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            nonce: self.nonce,
        })
    }

    fn check_rules(&self, _cluster: ClusterId) -> Result<(), ShapeError> {
        Ok(())
    }

    fn decode_front(cluster: ClusterId, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (fields, rest) = read::<GrantFields>(bytes)?;
        let grant = Self {
            issuer: fields.issuer,
            grantee: PublicKey::from_spki_der(fields.grantee).ok()?,
            pattern: KeyGlob::parse(fields.pattern).ok()?,
            subgrant: fields.subgrant,
            parent: fields.parent,
            issued_at: fields.issued_at,
            expires_at: fields.expires_at,
            nonce: fields.nonce,
        };
        canonical(cluster, grant, rest, bytes)
    }
}

impl Body for Revocation {
    const TAG: [u8; 16] = *b"kvgossip/revoke\0";
    type Id = FactId;

    fn encode(&self) -> Vec<u8> {
        write(&RevocationFields {
            grant_body: self.grant.bytes(),
            grant_signature: self.grant.signature(),
            by: match self.by {
                By::Root => ByField::Root,
                By::Issuer => ByField::Issuer,
                By::Grantee => ByField::Grantee,
            },
            revoked_at: self.revoked_at,
        })
    }

    fn check_rules(&self, cluster: ClusterId) -> Result<(), ShapeError> {
        self.check(cluster)
    }

    fn decode_front(cluster: ClusterId, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (fields, rest) = read::<RevocationFields>(bytes)?;
        let revocation = Self {
            grant: Signed::parse(cluster, fields.grant_body, fields.grant_signature)?,
            by: match fields.by {
                ByField::Root => By::Root,
                ByField::Issuer => By::Issuer,
                ByField::Grantee => By::Grantee,
            },
            revoked_at: fields.revoked_at,
        };
        canonical(cluster, revocation, rest, bytes)
    }
}

impl Body for Entry {
    const TAG: [u8; 16] = *b"kvgossip/entry\0\0";
    type Id = EntryId;

    fn encode(&self) -> Vec<u8> {
        write(&EntryFields {
            key: self.key.as_str(),
            timestamp: self.timestamp,
            op: match self.op {
                Op::Set { len, hash } => OpField::Set { len, hash },
                Op::Delete => OpField::Delete,
            },
            signer: self.signer,
            grant: self.grant,
        })
    }

    fn check_rules(&self, _cluster: ClusterId) -> Result<(), ShapeError> {
        self.check()
    }

    fn decode_front(cluster: ClusterId, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (fields, rest) = read::<EntryFields>(bytes)?;
        let entry = Self {
            key: Key::parse(fields.key).ok()?,
            timestamp: fields.timestamp,
            op: match fields.op {
                OpField::Set { len, hash } => Op::Set { len, hash },
                OpField::Delete => Op::Delete,
            },
            signer: fields.signer,
            grant: fields.grant,
        };
        canonical(cluster, entry, rest, bytes)
    }
}

/// Whether `bytes` begin with the fields of an entry whose value is longer than [`MAX_VALUE_BYTES`].
pub(crate) fn has_oversized_value(bytes: &[u8]) -> bool {
    let fields = read::<EntryFields>(bytes);
    matches!(fields, Some((EntryFields { op: OpField::Set { len, .. }, .. }, _)) if len as usize > MAX_VALUE_BYTES)
}

impl Body for Floor {
    const TAG: [u8; 16] = *b"kvgossip/floor\0\0";
    type Id = FactId;

    fn encode(&self) -> Vec<u8> {
        write(&FloorFields {
            patterns: self.patterns.iter().map(KeyGlob::as_str).collect(),
            before: self.before,
            nonce: self.nonce,
        })
    }

    fn check_rules(&self, _cluster: ClusterId) -> Result<(), ShapeError> {
        self.check()
    }

    fn decode_front(cluster: ClusterId, bytes: &[u8]) -> Option<(Self, &[u8])> {
        // The list is decoded element by element, so that its length is checked before anything is allocated for it.
        let (count, mut rest) = read::<u64>(bytes)?;
        if count == 0 || count > MAX_FLOOR_PATTERNS as u64 {
            return None;
        }
        let mut patterns = Vec::new();
        for _ in 0..count {
            let (pattern, after) = postcard::take_from_bytes::<&str>(rest).ok()?;
            patterns.push(KeyGlob::parse(pattern).ok()?);
            rest = after;
        }
        let ((before, nonce), rest) = postcard::take_from_bytes(rest).ok()?;
        let floor = Self { patterns, before, nonce };
        canonical(cluster, floor, rest, bytes)
    }
}
