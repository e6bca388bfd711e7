//! The layouts of `docs/protocol.md` written down a second time, as literally as possible, and signatures checked
//! without the library that made them.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_grants::{By, ClusterId, Entry, Grant, Op, Revocation};
use rsa::pkcs8::DecodePublicKey;

pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    *blake3::hash(&parts.concat()).as_bytes()
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let bits = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value == 0 { bits } else { bits | 0x80 });
        if value == 0 {
            return out;
        }
    }
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn option(value: Option<Vec<u8>>) -> Vec<u8> {
    value.map_or(vec![0], |value| [vec![1], value].concat())
}

pub(crate) fn grant_by_hand(grant: &Grant) -> Vec<u8> {
    [
        vec![2],
        grant.issuer.0.to_vec(),
        bytes(grant.grantee.spki_der()),
        bytes(grant.pattern.as_str().as_bytes()),
        vec![u8::from(grant.subgrant)],
        option(grant.parent.map(|id| id.0.to_vec())),
        varint(grant.issued_at.as_micros()),
        option(grant.expires_at.map(|time| varint(time.as_micros()))),
        grant.nonce.to_vec(),
    ]
    .concat()
}

pub(crate) fn revocation_by_hand(revocation: &Revocation) -> Vec<u8> {
    let by = match revocation.by {
        By::Root => 0,
        By::Issuer => 1,
        By::Grantee => 2,
    };
    [
        vec![2],
        bytes(&grant_by_hand(revocation.grant.body())),
        bytes(revocation.grant.signature()),
        vec![by],
        varint(revocation.revoked_at.as_micros()),
    ]
    .concat()
}

pub(crate) fn floor_by_hand<'a>(
    patterns: impl ExactSizeIterator<Item = &'a str>,
    before: u64,
    nonce: &[u8; 16],
) -> Vec<u8> {
    let count = varint(patterns.len() as u64);
    let patterns: Vec<u8> = patterns.flat_map(|pattern| bytes(pattern.as_bytes())).collect();
    [vec![2], count, patterns, varint(before), nonce.to_vec()].concat()
}

pub(crate) fn entry_by_hand(entry: &Entry) -> Vec<u8> {
    let op = match entry.op {
        Op::Set { len, hash } => [vec![0], varint(len.into()), hash.0.to_vec()].concat(),
        Op::Delete => vec![1],
    };
    [
        vec![2],
        bytes(entry.key.as_str().as_bytes()),
        varint(entry.timestamp.as_micros()),
        op,
        entry.signer.0.to_vec(),
        option(entry.grant.map(|id| id.0.to_vec())),
    ]
    .concat()
}

pub(crate) fn tag(name: &str) -> Vec<u8> {
    let mut tag = format!("kvgossip/{name}").into_bytes();
    tag.resize(16, 0);
    tag
}

pub(crate) fn preimage_by_hand(kind: &str, cluster: &ClusterId, body: &[u8]) -> Vec<u8> {
    [&tag(kind), &cluster.0[..], body].concat()
}

pub(crate) fn record_by_hand(kind: u8, body: &[u8], signature: &[u8], value: &[u8]) -> Vec<u8> {
    [&[(signature.len() / 128) as u8 * 16 + kind], signature, body, value].concat()
}

/// The one encoding of a public key.
pub(crate) fn spki(bits: usize, modulus: &[u8]) -> Vec<u8> {
    let (all, string, key, number) = match bits {
        2048 => (0x0122, 0x010f, 0x010a, 0x0101),
        3072 => (0x01a2, 0x018f, 0x018a, 0x0181),
        4096 => (0x0222, 0x020f, 0x020a, 0x0201),
        other => panic!("{other}"),
    };
    let long = |tag: u8, len: u16| [vec![tag, 0x82], len.to_be_bytes().to_vec()].concat();
    [
        long(0x30, all),
        vec![0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00],
        long(0x03, string),
        vec![0x00],
        long(0x30, key),
        long(0x02, number),
        vec![0x00],
        modulus.to_vec(),
        vec![0x02, 0x03, 0x01, 0x00, 0x01],
    ]
    .concat()
}

/// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2.2), with the `rsa` crate and the DigestInfo spelled out.
pub(crate) fn signature_holds(spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    const DIGEST_INFO: [u8; 19] = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
        0x04, 0x20,
    ];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
    let info = [&DIGEST_INFO, digest.as_ref()].concat();
    let key = rsa::RsaPublicKey::from_public_key_der(spki).unwrap();
    key.verify(rsa::Pkcs1v15Sign::new_unprefixed(), &info, signature).is_ok()
}
