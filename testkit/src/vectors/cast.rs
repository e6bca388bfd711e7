//! The four entities of the test vectors, and the facts that they sign.

use super::key;
use bytes::Bytes;
use kvgossip_grants::{
    AuthorityBody, By, ClusterId, EntryDraft, EntryFact, Fact, Floor, Grant, GrantId, Key, KeyGlob,
    Revocation, Signed, Signer, SigningKey, Timestamp,
};

/// 2026-01-01T00:00:00Z, in microseconds.
pub const JANUARY: u64 = 1_767_225_600_000_000;
/// An hour in microseconds.
pub const HOUR: u64 = 3_600_000_000;

/// Converts microseconds to a timestamp.
pub fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

/// Returns 16 bytes that count up from `first`.
pub fn nonce(first: u8) -> [u8; 16] {
    std::array::from_fn(|at| first + at as u8)
}

/// The entities of the vectors.
pub struct Cast {
    /// Root of the cluster.
    pub root: SigningKey,
    /// Grantee of a grant of root.
    pub ops: SigningKey,
    /// Grantee of a grant of `ops`.
    pub web: SigningKey,
    /// Grantee of a grant of root for other keys.
    pub guest: SigningKey,
}

impl Cast {
    /// Loads the entities' keys from the fixtures.
    #[expect(clippy::new_without_default, reason = "it reads files")]
    pub fn new() -> Self {
        Self { root: key("root"), ops: key("ops"), web: key("web"), guest: key("guest") }
    }

    /// Returns the cluster of `root`.
    pub fn cluster(&self) -> ClusterId {
        self.root.public().cluster()
    }

    fn sign<B: AuthorityBody>(&self, by: &SigningKey, body: B) -> Signed<B> {
        Signed::sign(self.cluster(), body, by).unwrap()
    }

    /// Returns a grant of root, without subgrants or expiry unless `change` sets them.
    pub fn grant(
        &self,
        by: &SigningKey,
        to: &SigningKey,
        pattern: &str,
        change: impl FnOnce(&mut Grant),
    ) -> Signed<Grant> {
        let mut grant = Grant {
            issuer: by.public().entity(),
            grantee: to.public().clone(),
            pattern: KeyGlob::parse(pattern).unwrap(),
            subgrant: false,
            parent: None,
            issued_at: at(JANUARY),
            expires_at: None,
            nonce: nonce(0),
        };
        change(&mut grant);
        self.sign(by, grant)
    }

    fn revocation(&self, grant: &Signed<Grant>, by: By, signer: &SigningKey) -> Fact {
        let body = Revocation { grant: grant.clone(), by, revoked_at: at(JANUARY + HOUR) };
        Fact::Revocation(self.sign(signer, body))
    }

    fn floor(&self, patterns: &[&str], before: u64) -> Fact {
        let patterns = patterns.iter().map(|pattern| KeyGlob::parse(pattern).unwrap()).collect();
        Fact::Floor(self.sign(&self.root, Floor { patterns, before: at(before), nonce: nonce(0x30) }))
    }

    /// Returns an entry that sets `key` or deletes it.
    pub fn entry(
        &self,
        by: &SigningKey,
        grant: Option<GrantId>,
        key: &str,
        micros: u64,
        value: Option<&[u8]>,
    ) -> Fact {
        let (key, value) = (Key::parse(key).unwrap(), value.map(Bytes::copy_from_slice));
        let draft = EntryDraft { key, value, timestamp: at(micros), grant };
        Fact::Entry(EntryFact::sign(self.cluster(), draft, by).unwrap())
    }
}

/// A fact with its name in the vectors and its signer.
pub type Named<'a> = (&'static str, &'a SigningKey, Fact);

/// Returns the facts, in an order in which they can be offered.
pub fn facts(cast: &Cast) -> Vec<Named<'_>> {
    let Cast { root, ops, web, guest } = cast;
    let to_ops = cast.grant(root, ops, "/app/**", |grant| grant.subgrant = true);
    let to_web = cast.grant(ops, web, "/app/web/**", |grant| {
        grant.parent = Some(to_ops.id());
        grant.expires_at = Some(at(JANUARY + 24 * HOUR));
        grant.nonce = nonce(0x10);
    });
    let to_guest = cast.grant(root, guest, "/tmp/*/guest-?", |grant| grant.nonce = nonce(0x20));
    let (hour, title) = (JANUARY + HOUR, "/app/web/title");
    let by_web = |micros, value| cast.entry(web, Some(to_web.id()), title, micros, value);
    let by_guest = |key, micros| cast.entry(guest, Some(to_guest.id()), key, micros, Some(&[0, 0xff]));
    vec![
        ("grant-to-ops", root, Fact::Grant(to_ops.clone())),
        ("grant-to-web", ops, Fact::Grant(to_web.clone())),
        ("grant-to-guest", root, Fact::Grant(to_guest.clone())),
        ("entry-set", web, by_web(hour, Some(b"hello\n"))),
        ("entry-delete", web, by_web(hour + 1, None)),
        ("entry-of-root", root, cast.entry(root, None, "/a%20b/motd", 0, Some(b""))),
        ("entry-of-guest", guest, by_guest("/tmp/x/guest-1", hour)),
        ("entry-below-floor", guest, by_guest("/tmp/y/guest-2", hour - 1)),
        ("floor", root, cast.floor(&["/**/cache", "/tmp/**"], hour)),
        ("revocation-by-grantee", web, cast.revocation(&to_web, By::Grantee, web)),
        ("revocation-by-issuer", ops, cast.revocation(&to_web, By::Issuer, ops)),
        ("revocation-by-root", root, cast.revocation(&to_web, By::Root, root)),
        ("revocation-of-guest", guest, cast.revocation(&to_guest, By::Grantee, guest)),
        ("revocation-of-ops", root, cast.revocation(&to_ops, By::Root, root)),
    ]
}

/// Returns a copy of the fact with this name.
pub fn fact(facts: &[Named<'_>], name: &str) -> Fact {
    let found = facts.iter().find(|(known, ..)| *known == name);
    found.unwrap_or_else(|| panic!("no fact is called {name}")).2.clone()
}
