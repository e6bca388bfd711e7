//! Makes signed facts in one call each, with mock keys.

use bytes::Bytes;
use kvgossip_grants::{
    AuthorityBody, Body, By, ClusterId, EntityId, EntryDraft, EntryFact, Fact, Floor, Grant, GrantId, Key,
    KeyGlob, MockKey, PublicKey, Revocation, Signed, Signer, Timestamp,
};

/// The entities of a cluster with their keys; number 0 is root.
#[derive(Clone, Debug)]
pub struct Scribe {
    keys: Vec<MockKey>,
    nonce: u64,
}

/// Properties of a grant besides issuer, grantee and pattern.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether the grantee may issue grants under the grant.
    pub subgrant: bool,
    /// Start of the grant's window, in microseconds.
    pub issued_at: u64,
    /// End of the grant's window, in microseconds; `None`: no end.
    pub expires_at: Option<u64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { subgrant: true, issued_at: 0, expires_at: None }
    }
}

/// Makes the timestamp of `micros` microseconds since 1970, a small number in the simulator.
pub fn at(micros: u64) -> Timestamp {
    Timestamp::ZERO.saturating_add(micros)
}

impl Scribe {
    /// Creates a cluster with this many entities, including root.
    pub fn new(entities: usize) -> Self {
        Self { keys: (0..entities as u64).map(MockKey::new).collect(), nonce: 0 }
    }

    /// Returns root's public key.
    pub fn root(&self) -> &PublicKey {
        self.keys[0].public()
    }

    /// Returns the id of the cluster.
    pub fn cluster(&self) -> ClusterId {
        self.root().cluster()
    }

    /// Returns the signing key of the entity with the number `who`.
    pub fn key(&self, who: usize) -> &MockKey {
        &self.keys[who]
    }

    fn sign<B: AuthorityBody>(&self, who: usize, body: B) -> Signed<B> {
        match Signed::sign(self.cluster(), body, &self.keys[who]) {
            Ok(signed) => signed,
            Err(error) => panic!("mock keys always sign: {error}"),
        }
    }

    fn next_nonce(&mut self) -> [u8; 16] {
        self.nonce += 1;
        u128::from(self.nonce).to_le_bytes()
    }

    /// Signs a grant with a new nonce, so that it differs from every other one.
    pub fn grant(
        &mut self,
        by: usize,
        to: usize,
        pattern: &str,
        parent: Option<GrantId>,
        terms: Terms,
    ) -> Signed<Grant> {
        let nonce = self.next_nonce();
        let grant = Grant {
            issuer: self.keys[by].public().entity(),
            grantee: self.keys[to].public().clone(),
            pattern: glob(pattern),
            subgrant: terms.subgrant,
            parent,
            issued_at: at(terms.issued_at),
            expires_at: terms.expires_at.map(at),
            nonce,
        };
        self.sign(by, grant)
    }

    /// Signs a revocation of `grant` by the entity with the number `who`, in the role `by`.
    pub fn revoke(&self, grant: &Signed<Grant>, by: By, who: usize, revoked_at: u64) -> Fact {
        Fact::Revocation(self.sign(who, Revocation { grant: grant.clone(), by, revoked_at: at(revoked_at) }))
    }

    /// Signs a floor with a new nonce, as root.
    pub fn floor(&mut self, patterns: &[&str], before: u64) -> Fact {
        let nonce = self.next_nonce();
        let mut patterns: Vec<KeyGlob> = patterns.iter().map(|pattern| glob(pattern)).collect();
        patterns.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        patterns.dedup();
        Fact::Floor(self.sign(0, Floor { patterns, before: at(before), nonce }))
    }

    /// Signs the body of `fact` by the entity with the number `who` instead of the entity that the body names.
    pub fn forge(&self, fact: &Fact, who: usize) -> Fact {
        match fact {
            Fact::Grant(signed) => Fact::Grant(self.resign(signed, who)),
            Fact::Revocation(signed) => Fact::Revocation(self.resign(signed, who)),
            Fact::Floor(signed) => Fact::Floor(self.resign(signed, who)),
            Fact::Entry(entry) => {
                let value = entry.value().cloned().unwrap_or_default();
                match EntryFact::new(self.resign(entry.signed(), who), value) {
                    Ok(forged) => Fact::Entry(forged),
                    Err(code) => panic!("the value is the signed one: {code}"),
                }
            }
        }
    }

    /// Signs the body of `signed` by the entity with the number `who` instead of the entity that the body names.
    pub fn resign<B: Body>(&self, signed: &Signed<B>, who: usize) -> Signed<B> {
        let signature = self.keys[who].sign(&signed.preimage());
        let signature = signature.unwrap_or_default();
        match Signed::parse(self.cluster(), signed.bytes(), &signature) {
            Some(signed) => signed,
            None => panic!("canonical bytes stay canonical"),
        }
    }

    /// Returns the number of entities, including root.
    pub fn entities(&self) -> usize {
        self.keys.len()
    }

    /// Returns the number of the entity with this public key; `None` if it is not in the cluster.
    pub fn who(&self, key: &PublicKey) -> Option<usize> {
        self.keys.iter().position(|mine| mine.public() == key)
    }

    /// Returns the number of the entity with this id; `None` if it is not in the cluster.
    pub fn who_is(&self, id: EntityId) -> Option<usize> {
        self.keys.iter().position(|mine| mine.public().entity() == id)
    }

    /// Signs an entry that sets `key` to `value`, by the entity with the number `who`.
    pub fn set(&self, who: usize, key: &str, value: &[u8], time: u64, grant: Option<GrantId>) -> Fact {
        self.entry(who, key, Some(value), time, grant)
    }

    /// Signs an entry that deletes the value of `key`, by the entity with the number `who`.
    pub fn delete(&self, who: usize, key: &str, time: u64, grant: Option<GrantId>) -> Fact {
        self.entry(who, key, None, time, grant)
    }

    fn entry(&self, who: usize, key: &str, value: Option<&[u8]>, time: u64, grant: Option<GrantId>) -> Fact {
        let key = match Key::parse(key) {
            Ok(key) => key,
            Err(error) => panic!("{key}: {error}"),
        };
        let draft = EntryDraft { key, value: value.map(Bytes::copy_from_slice), timestamp: at(time), grant };
        match EntryFact::sign(self.cluster(), draft, &self.keys[who]) {
            Ok(fact) => Fact::Entry(fact),
            Err(error) => panic!("mock keys always sign: {error}"),
        }
    }
}

fn glob(text: &str) -> KeyGlob {
    match KeyGlob::parse(text) {
        Ok(glob) => glob,
        Err(error) => panic!("{text}: {error}"),
    }
}
