//! One key with an entry under each of many grants, all of which hang below one.

#![allow(dead_code, reason = "every user has its own part")]
#![allow(clippy::unwrap_used, reason = "for tests and examples, which fail by panicking")]

use bytes::Bytes;
use kvgossip_engine::{Applied, Replica, Storage};
use kvgossip_grants::{
    AuthorityBody, By, EntryDraft, EntryFact, Fact, Grant, GrantId, Key, KeyGlob, MockKey, MockVerifier,
    PublicKey, Revocation, Signed, Signer, Timestamp, Verdict,
};

/// Facts in a batch when a replica is filled.
const FILL: usize = 1_000;

pub(crate) struct Many {
    root: MockKey,
    holder: MockKey,
    parent: Signed<Grant>,
    children: Vec<Signed<Grant>>,
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

impl Many {
    pub(crate) fn new() -> Self {
        Self::numbered(0)
    }

    /// With another parent for each number.
    pub(crate) fn numbered(number: u64) -> Self {
        let (root, holder) = (MockKey::new(0), MockKey::new(1));
        let parent = grant(&root, &holder, None, u64::MAX - number);
        Self { root, holder, parent, children: Vec::new() }
    }

    pub(crate) fn root_key(&self) -> PublicKey {
        self.root.public().clone()
    }

    pub(crate) fn key(&self) -> Key {
        Key::parse("/teams/many").unwrap()
    }

    pub(crate) fn now() -> Timestamp {
        Timestamp::MAX
    }

    pub(crate) fn parent_id(&self) -> GrantId {
        self.parent.id()
    }

    pub(crate) fn parent(&self) -> Fact {
        Fact::Grant(self.parent.clone())
    }

    /// Makes one more grant below the parent.
    pub(crate) fn child(&mut self) -> Fact {
        let child = grant(&self.holder, &self.holder, Some(self.parent.id()), self.children.len() as u64);
        self.children.push(child.clone());
        Fact::Grant(child)
    }

    /// Sets the key under one of the grants.
    pub(crate) fn entry(&self, child: usize, time: u64, value: &[u8]) -> Fact {
        set(&self.holder, self.key(), Some(self.children[child].id()), time, value, &self.root)
    }

    pub(crate) fn entry_of_root(&self, time: u64, value: &[u8]) -> Fact {
        set(&self.root, self.key(), None, time, value, &self.root)
    }

    pub(crate) fn revoke_parent(&self) -> Fact {
        self.revoke(&self.parent, By::Root, &self.root)
    }

    pub(crate) fn revoke_child(&self, child: usize) -> Fact {
        self.revoke(&self.children[child], By::Issuer, &self.holder)
    }

    fn revoke(&self, grant: &Signed<Grant>, by: By, signer: &MockKey) -> Fact {
        let body = Revocation { grant: grant.clone(), by, revoked_at: at(0) };
        Fact::Revocation(sign(&self.root, body, signer))
    }

    /// Takes facts in as one batch.
    pub(crate) fn apply(&self, replica: &mut Replica, storage: &dyn Storage, facts: Vec<Fact>) -> Applied {
        let check = |fact| replica.view().check(fact, Timestamp::MAX).unwrap().verify(&MockVerifier).unwrap();
        let verified = facts.into_iter().map(check).collect();
        let applied = replica.apply(verified, &*storage.reader()).unwrap();
        assert!(applied.verdicts.iter().all(|verdict| *verdict == Verdict::Merged));
        applied
    }

    /// Puts an entry under each of `entries` grants.
    pub(crate) fn fill(&mut self, replica: &mut Replica, storage: &mut dyn Storage, entries: usize) {
        let mut take = |this: &Self, facts| {
            let batch = this.apply(replica, storage, facts).batch.unwrap();
            storage.commit(&batch).unwrap();
        };
        take(self, vec![self.parent()]);
        for from in (0..entries).step_by(FILL) {
            let grants = (from..entries.min(from + FILL)).map(|_| self.child()).collect();
            take(self, grants);
            let entries = (from..entries.min(from + FILL)).map(|child| {
                // Many of one time, in no order.
                self.entry(child, 1_000 + child as u64 * 7_919 % 5_000, &child.to_le_bytes())
            });
            let entries = entries.collect();
            take(self, entries);
        }
    }
}

fn sign<B: AuthorityBody>(root: &MockKey, body: B, signer: &MockKey) -> Signed<B> {
    Signed::sign(root.public().cluster(), body, signer).unwrap()
}

fn grant(issuer: &MockKey, holder: &MockKey, parent: Option<GrantId>, number: u64) -> Signed<Grant> {
    let root = MockKey::new(0);
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    let grant = Grant {
        issuer: issuer.public().entity(),
        grantee: holder.public().clone(),
        pattern: KeyGlob::parse("/teams/*").unwrap(),
        subgrant: true,
        parent,
        issued_at: Timestamp::ZERO,
        expires_at: None,
        nonce,
    };
    sign(&root, grant, issuer)
}

fn set(signer: &MockKey, key: Key, grant: Option<GrantId>, time: u64, value: &[u8], root: &MockKey) -> Fact {
    let value = Some(Bytes::copy_from_slice(value));
    let draft = EntryDraft { key, value, timestamp: at(time), grant };
    Fact::Entry(EntryFact::sign(root.public().cluster(), draft, signer).unwrap())
}
