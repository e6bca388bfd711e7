//! The authority set of a cluster, always in normal form: live grants, revocations that are not superseded, and floors
//! that are not superseded.
//!
//! [`Authority::check`] checks a fact by everything but its signatures, [`Unverified::verify`] verifies the signatures,
//! and [`Authority::merge`] takes in a verified grant, revocation or floor. The three steps are separate so that
//! signatures can be verified elsewhere, in parallel and in any order.

#[cfg(test)]
mod bounds_tests;
mod check;
mod explain;
mod merge;
mod plan;
#[cfg(test)]
mod plan_tests;
#[cfg(feature = "own-store")]
mod stored;
#[cfg(test)]
mod tests;

pub(crate) use check::early_until;
pub use check::{MAX_AHEAD_MICROS, Unverified, Verified};
pub use explain::{Explanation, Link, MAX_REJECTED, Rejected};
pub use merge::AuthorityChange;
pub use plan::{MAX_COMBINATIONS, MAX_PARENTS, MAX_SINGLE_PARENTS, ParentPlan, PlanError};
#[cfg(feature = "own-store")]
pub use stored::StoredError;

use crate::fact::{Floor, Grant, Revocation};
use crate::glob::KeyGlob;
use crate::id::{ClusterId, EntityId, FactId, GrantId};
use crate::key::Key;
use crate::public_key::PublicKey;
use crate::record::Fact;
use crate::signed::Signed;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A grant whose whole chain up to root is in the authority set.
#[derive(Debug)]
pub struct LiveGrant {
    fact: Signed<Grant>,
    parent: Option<Arc<LiveGrant>>,
    depth: u8,
    valid_from: Timestamp,
    valid_until: Option<Timestamp>,
}

impl LiveGrant {
    /// Returns the id of this grant.
    pub fn id(&self) -> GrantId {
        self.fact.id()
    }

    /// Returns the grant's body with its signature.
    pub fn fact(&self) -> &Signed<Grant> {
        &self.fact
    }

    /// Returns the grant's body, without its signature.
    pub fn body(&self) -> &Grant {
        self.fact.body()
    }

    /// Returns the parent grant; `None` for grants that root issued.
    pub fn parent(&self) -> Option<&Arc<LiveGrant>> {
        self.parent.as_ref()
    }

    /// Returns the number of grants in the chain, this one included: 1 for root's own grants, at most
    /// [`MAX_DEPTH`](crate::MAX_DEPTH).
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Returns the start of the chain's common window: the latest `issued_at` of its grants.
    pub fn valid_from(&self) -> Timestamp {
        self.valid_from
    }

    /// Returns the end of the chain's common window: the earliest `expires_at` of its grants; `None` if none of them
    /// expires.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// Iterates over the grants of the chain, from this grant up to the one that root issued.
    pub fn chain(&self) -> impl Iterator<Item = &LiveGrant> {
        std::iter::successors(Some(self), |grant| grant.parent.as_deref())
    }

    /// Whether every pattern of the chain matches `key`.
    pub fn reaches(&self, key: &Key) -> bool {
        self.chain().all(|grant| grant.body().pattern.matches(key))
    }

    /// Whether `time` lies within the window of every grant of the chain.
    pub fn covers_time(&self, time: Timestamp) -> bool {
        self.valid_from <= time && self.valid_until.is_none_or(|until| time <= until)
    }

    /// Returns the earliest timestamp that a writer with local time `now` may use under the grant: `now`, or the start
    /// of the chain if that is at most [`MAX_AHEAD_MICROS`] later (the writer's clock may be behind the issuer's).
    /// `None` if the chain has ended, or begins more than [`MAX_AHEAD_MICROS`] after `now`.
    pub fn first_stamp(&self, now: Timestamp) -> Option<Timestamp> {
        let stamp = now.max(self.valid_from);
        (!self.begins_later(now) && self.covers_time(stamp)).then_some(stamp)
    }

    /// Whether the chain begins more than [`MAX_AHEAD_MICROS`] after `now`, so that an entry with its first timestamp
    /// would be early.
    pub fn begins_later(&self, now: Timestamp) -> bool {
        begins_later(self.valid_from, now)
    }

    /// Whether `ancestor` is the id of this grant or of a grant above it.
    pub fn descends_from(&self, ancestor: &GrantId) -> bool {
        self.chain().any(|grant| grant.id() == *ancestor)
    }
}

/// Whether `issued_at`, the start of a window, is more than [`MAX_AHEAD_MICROS`] after `now`, so that a writer with
/// this local time does not use the grant yet.
fn begins_later(issued_at: Timestamp, now: Timestamp) -> bool {
    issued_at > now.saturating_add(MAX_AHEAD_MICROS)
}

/// The children of one live grant: grants issued directly under it, whether live or revoked.
#[derive(Clone, Debug, Default)]
struct Below {
    grants: BTreeSet<GrantId>,
    /// Ids of its children that were revoked.
    revoked: BTreeSet<GrantId>,
}

/// The authority set of one cluster in normal form. A clone copies the indexes, not the facts.
#[derive(Clone, Debug)]
pub struct Authority {
    cluster: ClusterId,
    root: PublicKey,
    grants: BTreeMap<GrantId, Arc<LiveGrant>>,
    below: BTreeMap<GrantId, Below>,
    by_grantee: BTreeMap<EntityId, BTreeSet<GrantId>>,
    expiries: BTreeSet<(Timestamp, GrantId)>,
    /// Revocations in force by the id of the grant that they revoke.
    revocations: BTreeMap<GrantId, Arc<Signed<Revocation>>>,
    revocation_ids: BTreeMap<FactId, GrantId>,
    floors: BTreeMap<FactId, Arc<Signed<Floor>>>,
    /// For each pattern that a floor names: the greatest (before, id) among the floors that name it.
    highest: BTreeMap<KeyGlob, (Timestamp, FactId)>,
    /// Greatest `before` of all floors: most entries are later and need no search.
    highest_of_all: Timestamp,
}

impl Authority {
    /// Creates the authority set of the cluster whose root has the key `root`, without any fact.
    pub fn new(root: PublicKey) -> Self {
        Self {
            cluster: root.cluster(),
            root,
            grants: BTreeMap::new(),
            below: BTreeMap::new(),
            by_grantee: BTreeMap::new(),
            expiries: BTreeSet::new(),
            revocations: BTreeMap::new(),
            revocation_ids: BTreeMap::new(),
            floors: BTreeMap::new(),
            highest: BTreeMap::new(),
            highest_of_all: Timestamp::ZERO,
        }
    }

    /// Returns the id of the cluster that the set belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the public key of the cluster's root.
    pub fn root(&self) -> &PublicKey {
        &self.root
    }

    /// Returns the number of facts: live grants, revocations and floors.
    pub fn len(&self) -> usize {
        self.grants.len() + self.revocations.len() + self.floors.len()
    }

    /// Whether the set has no grant, revocation or floor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the grant with this id; `None` if it is not live.
    pub fn grant(&self, id: &GrantId) -> Option<&Arc<LiveGrant>> {
        self.grants.get(id)
    }

    /// Iterates over all live grants in the order of ids.
    pub fn grants(&self) -> impl Iterator<Item = &Arc<LiveGrant>> {
        self.grants.values()
    }

    /// Iterates over the live grants whose grantee is `entity`, in the order of ids.
    pub fn grants_of(&self, entity: EntityId) -> impl Iterator<Item = &Arc<LiveGrant>> {
        self.by_grantee.get(&entity).into_iter().flatten().filter_map(|id| self.grants.get(id))
    }

    /// Returns the revocation of the grant with this id, whether or not the grant itself was ever seen here; `None` if
    /// no revocation of it is in the set.
    pub fn revocation(&self, grant: &GrantId) -> Option<&Arc<Signed<Revocation>>> {
        self.revocations.get(grant)
    }

    /// Iterates over all revocations in the order of the revoked grants' ids.
    pub fn revocations(&self) -> impl Iterator<Item = &Arc<Signed<Revocation>>> {
        self.revocations.values()
    }

    /// Iterates over all floors in the order of ids.
    pub fn floors(&self) -> impl Iterator<Item = &Arc<Signed<Floor>>> {
        self.floors.values()
    }

    /// Whether the set contains the grant, revocation or floor with this id.
    pub fn contains(&self, id: &FactId) -> bool {
        self.grants.contains_key(&GrantId(id.0))
            || self.revocation_ids.contains_key(id)
            || self.floors.contains_key(id)
    }

    /// Returns the grant, revocation or floor with this id; `None` if the set does not contain it.
    pub fn fact(&self, id: &FactId) -> Option<Fact> {
        if let Some(grant) = self.grants.get(&GrantId(id.0)) {
            return Some(Fact::Grant(grant.fact.clone()));
        }
        if let Some(grant) = self.revocation_ids.get(id) {
            return self.revocations.get(grant).map(|fact| Fact::Revocation(fact.as_ref().clone()));
        }
        self.floors.get(id).map(|floor| Fact::Floor(floor.as_ref().clone()))
    }

    /// Iterates over the ids of all grants, revocations and floors in ascending order.
    pub fn fact_ids(&self) -> impl Iterator<Item = FactId> {
        let grants = self.grants.keys().map(|id| FactId::from(*id));
        let others = self.revocation_ids.keys().chain(self.floors.keys()).copied();
        grants.chain(others).collect::<BTreeSet<FactId>>().into_iter()
    }

    /// Returns the position of a fact in an order in which facts can be merged: 0 for floors, the depth of a grant, and
    /// the depth of the revoked grant for a revocation.
    pub fn depth(&self, id: &FactId) -> Option<u8> {
        if let Some(grant) = self.grants.get(&GrantId(id.0)) {
            return Some(grant.depth);
        }
        if let Some(revoked) = self.revocation_ids.get(id) {
            let parent = self.revocations.get(revoked)?.body().grant.body().parent;
            return Some(1 + parent.and_then(|id| self.grants.get(&id)).map_or(0, |grant| grant.depth));
        }
        self.floors.contains_key(id).then_some(0)
    }

    /// Whether a floor ends entries of `key` with the timestamp `time`.
    pub fn is_floored(&self, key: &Key, time: Timestamp) -> bool {
        time < self.highest_of_all && self.floor_of(key).is_some_and(|before| time < before)
    }

    /// Returns the greatest `before` among the floors with a pattern that matches `key`; `None` if no floor matches.
    pub fn floor_of(&self, key: &Key) -> Option<Timestamp> {
        self.highest.iter().filter(|(pattern, _)| pattern.matches(key)).map(|(_, (before, _))| *before).max()
    }

    /// Whether an entry under `grant` (`None`: root's) is masked at `now`, because a grant of its chain has expired or
    /// ended.
    pub fn is_masked(&self, grant: Option<&GrantId>, now: Timestamp) -> bool {
        grant.is_some_and(|id| {
            self.grants.get(id).is_none_or(|grant| grant.valid_until.is_some_and(|until| until < now))
        })
    }

    /// Returns the earliest `expires_at` of a live grant that is not before `now`; `None` if there is none. What
    /// readers see may change just after that time.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let first = (now, GrantId([0; 32]));
        self.expiries.range(first..).next().map(|(time, _)| *time)
    }

    /// Iterates over the live grants whose own `expires_at` lies in `from..to`, soonest first. Entries that cite these
    /// grants, or grants below them, may become masked in that time.
    pub fn expiring(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = GrantId> {
        let none = GrantId([0; 32]);
        self.expiries.range((from, none)..(to.max(from), none)).map(|(_, id)| *id)
    }
}
