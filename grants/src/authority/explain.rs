//! Why an entity may or may not write a key: the accepting chain, or the first link that fails.

use super::{Authority, LiveGrant};
use crate::fact::{By, Grant};
use crate::glob::KeyGlob;
use crate::id::{EntityId, FactId, GrantId};
use crate::key::Key;
use crate::time::Timestamp;
use crate::verdict::Code;

/// How many failing chains an explanation lists at most; the most promising first.
pub const MAX_REJECTED: usize = 64;

/// One grant of a chain, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The grant.
    pub grant: GrantId,
    /// Who gave it.
    pub issuer: EntityId,
    /// Who received it.
    pub grantee: EntityId,
    /// Its pattern.
    pub pattern: KeyGlob,
    /// Whether it may be passed on.
    pub subgrant: bool,
    /// From when on it holds.
    pub issued_at: Timestamp,
    /// Until when it holds.
    pub expires_at: Option<Timestamp>,
}

/// A chain that ends at the entity and does not carry the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// From root's grant down to the entity's.
    pub chain: Vec<Link>,
    /// Index of the first link that fails.
    pub failing: usize,
    /// Why it fails.
    pub code: Code,
    /// The revocation, where that is why.
    pub revocation: Option<(FactId, By)>,
}

/// Whether `entity` may write `key` at a time, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// The entity is root and needs no grant.
    Root,
    /// This chain, from root's grant down, carries the key. Its last grant is the one to cite.
    Accepted(Vec<Link>),
    /// No chain does; the one that got furthest comes first. Empty: no grant to the entity is known.
    Rejected(Vec<Rejected>),
}

impl Authority {
    /// Explains whether `entity` may write `key` at `now`.
    ///
    /// Among several chains that carry the key, the one that stays valid longest is chosen, then the shortest,
    /// then the one with the smallest id.
    pub fn explain(&self, key: &Key, entity: EntityId, now: Timestamp) -> Explanation {
        if entity == self.root().entity() {
            return Explanation::Root;
        }
        if let Some(grant) = self.grant_for(key, entity, now) {
            return Explanation::Accepted(links(grant));
        }
        let mut rejected: Vec<Rejected> = self
            .grants_of(entity)
            .filter_map(|grant| self.rejection(grant, key, now))
            .chain(self.revoked_chains(entity, key, now))
            .collect();
        rejected.sort_by_key(|chain| std::cmp::Reverse((chain.failing, chain.code != Code::GrantRevoked)));
        rejected.truncate(MAX_REJECTED);
        Explanation::Rejected(rejected)
    }

    /// The grant that `entity` best cites to write `key` at `now`.
    pub fn grant_for(&self, key: &Key, entity: EntityId, now: Timestamp) -> Option<&LiveGrant> {
        let fits = |grant: &&LiveGrant| grant.reaches(key) && grant.covers_time(now);
        let rank = |grant: &&LiveGrant| {
            let lasting = std::cmp::Reverse(grant.valid_until().unwrap_or(Timestamp::MAX));
            (lasting, grant.depth(), grant.id())
        };
        self.grants_of(entity).map(AsRef::as_ref).filter(fits).min_by_key(rank)
    }

    fn rejection(&self, grant: &LiveGrant, key: &Key, now: Timestamp) -> Option<Rejected> {
        let chain = links(grant);
        let (failing, code) = first_fault(&chain, key, now)?;
        Some(Rejected { chain, failing, code, revocation: None })
    }

    /// Chains that ended with a revoked grant to the entity.
    fn revoked_chains(&self, entity: EntityId, key: &Key, now: Timestamp) -> impl Iterator<Item = Rejected> {
        self.revocations().filter_map(move |revocation| {
            let (body, grant) = (revocation.body(), &revocation.body().grant);
            if grant.body().grantee.entity() != entity {
                return None;
            }
            let parent = grant.body().parent.and_then(|id| self.grant(&id));
            let mut chain = parent.map(|parent| links(parent)).unwrap_or_default();
            chain.push(link(grant.id(), grant.body()));
            if let Some((failing, code)) = first_fault(&chain, key, now) {
                return Some(Rejected { chain, failing, code, revocation: None });
            }
            let failing = chain.len() - 1;
            let revocation = Some((revocation.id(), body.by));
            Some(Rejected { chain, failing, code: Code::GrantRevoked, revocation })
        })
    }
}

/// The first link that does not carry the key at a time, revocations aside.
fn first_fault(chain: &[Link], key: &Key, now: Timestamp) -> Option<(usize, Code)> {
    let fault = |link: &Link| {
        if !link.pattern.matches(key) {
            Some(Code::OutOfReach)
        } else if link.expires_at.is_some_and(|expiry| expiry < now) {
            Some(Code::GrantExpired)
        } else if link.issued_at > now {
            Some(Code::OutsideWindow)
        } else {
            None
        }
    };
    chain.iter().enumerate().find_map(|(index, link)| Some((index, fault(link)?)))
}

fn links(grant: &LiveGrant) -> Vec<Link> {
    let mut links: Vec<Link> = grant.chain().map(|grant| link(grant.id(), grant.body())).collect();
    links.reverse();
    links
}

fn link(id: GrantId, grant: &Grant) -> Link {
    Link {
        grant: id,
        issuer: grant.issuer,
        grantee: grant.grantee.entity(),
        pattern: grant.pattern.clone(),
        subgrant: grant.subgrant,
        issued_at: grant.issued_at,
        expires_at: grant.expires_at,
    }
}
