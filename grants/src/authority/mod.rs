//! The authority set of a cluster, always in normal form: live grants, the revocations that stand, and floors.
//!
//! [`Authority::check`] judges a fact by everything but its signature, [`Unverified::verify`] checks the
//! signature, [`Authority::merge`] takes a verified grant, revocation or floor in. The three are apart so that
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

/// A grant whose whole chain to root stands.
#[derive(Debug)]
pub struct LiveGrant {
    fact: Signed<Grant>,
    parent: Option<Arc<LiveGrant>>,
    depth: u8,
    valid_from: Timestamp,
    valid_until: Option<Timestamp>,
}

impl LiveGrant {
    /// The grant's id.
    pub fn id(&self) -> GrantId {
        self.fact.id()
    }

    /// The signed grant.
    pub fn fact(&self) -> &Signed<Grant> {
        &self.fact
    }

    /// What it says.
    pub fn body(&self) -> &Grant {
        self.fact.body()
    }

    /// The grant it stems from; `None` for root's own.
    pub fn parent(&self) -> Option<&Arc<LiveGrant>> {
        self.parent.as_ref()
    }

    /// 1 for root's own grants, else the parent's plus 1.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// The latest `issued_at` of the chain.
    pub fn valid_from(&self) -> Timestamp {
        self.valid_from
    }

    /// The earliest `expires_at` of the chain.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// From this grant up to root's.
    pub fn chain(&self) -> impl Iterator<Item = &LiveGrant> {
        std::iter::successors(Some(self), |grant| grant.parent.as_deref())
    }

    /// Whether every pattern of the chain matches.
    pub fn reaches(&self, key: &Key) -> bool {
        self.chain().all(|grant| grant.body().pattern.matches(key))
    }

    /// Whether entries of this time lie within the times of every grant of the chain.
    pub fn covers_time(&self, time: Timestamp) -> bool {
        self.valid_from <= time && self.valid_until.is_none_or(|until| time <= until)
    }

    /// The earliest time that a writer whose clock says `now` may stamp under the grant: `now`, or the beginning of the
    /// chain where that clock is behind the one which issued it by no more than [`MAX_AHEAD_MICROS`]. `None` if the chain
    /// has ended, or begins later.
    pub fn first_stamp(&self, now: Timestamp) -> Option<Timestamp> {
        let stamp = now.max(self.valid_from);
        (!self.begins_later(now) && self.covers_time(stamp)).then_some(stamp)
    }

    /// Whether the chain begins so long after `now` that an entry of its first moment would be early.
    pub fn begins_later(&self, now: Timestamp) -> bool {
        begins_later(self.valid_from, now)
    }

    /// Whether `ancestor` is this grant or stands above it.
    pub fn descends_from(&self, ancestor: &GrantId) -> bool {
        self.chain().any(|grant| grant.id() == *ancestor)
    }
}

/// Whether a grant issued at `issued_at` begins so long after `now` that nobody who says so writes under it.
fn begins_later(issued_at: Timestamp, now: Timestamp) -> bool {
    issued_at > now.saturating_add(MAX_AHEAD_MICROS)
}

/// What hangs below a grant, live or revoked.
#[derive(Clone, Debug, Default)]
struct Below {
    grants: BTreeSet<GrantId>,
    /// Revoked grants whose parent this is.
    revoked: BTreeSet<GrantId>,
}

/// The authority of one cluster in normal form. Cloning copies the indexes, not the facts.
#[derive(Clone, Debug)]
pub struct Authority {
    cluster: ClusterId,
    root: PublicKey,
    grants: BTreeMap<GrantId, Arc<LiveGrant>>,
    below: BTreeMap<GrantId, Below>,
    by_grantee: BTreeMap<EntityId, BTreeSet<GrantId>>,
    expiries: BTreeSet<(Timestamp, GrantId)>,
    /// By the revoked grant's id: the revocation that stands.
    revocations: BTreeMap<GrantId, Arc<Signed<Revocation>>>,
    revocation_ids: BTreeMap<FactId, GrantId>,
    floors: BTreeMap<FactId, Arc<Signed<Floor>>>,
    /// The greatest (before, id) among floors that name the pattern.
    highest: BTreeMap<KeyGlob, (Timestamp, FactId)>,
    /// The greatest `before` of all: spares most entries the search.
    highest_of_all: Timestamp,
}

impl Authority {
    /// The authority of the cluster that `root` is the root of, without any grant.
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

    /// The cluster's id.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Root's public key.
    pub fn root(&self) -> &PublicKey {
        &self.root
    }

    /// How many facts stand.
    pub fn len(&self) -> usize {
        self.grants.len() + self.revocations.len() + self.floors.len()
    }

    /// Whether no fact stands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A live grant.
    pub fn grant(&self, id: &GrantId) -> Option<&Arc<LiveGrant>> {
        self.grants.get(id)
    }

    /// All live grants by id.
    pub fn grants(&self) -> impl Iterator<Item = &Arc<LiveGrant>> {
        self.grants.values()
    }

    /// Live grants held by `entity`, by id.
    pub fn grants_of(&self, entity: EntityId) -> impl Iterator<Item = &Arc<LiveGrant>> {
        self.by_grantee.get(&entity).into_iter().flatten().filter_map(|id| self.grants.get(id))
    }

    /// The revocation that stands for a grant, known or not.
    pub fn revocation(&self, grant: &GrantId) -> Option<&Arc<Signed<Revocation>>> {
        self.revocations.get(grant)
    }

    /// All revocations that stand, by the id of the revoked grant.
    pub fn revocations(&self) -> impl Iterator<Item = &Arc<Signed<Revocation>>> {
        self.revocations.values()
    }

    /// All floors that stand, by id.
    pub fn floors(&self) -> impl Iterator<Item = &Arc<Signed<Floor>>> {
        self.floors.values()
    }

    /// Whether a grant, revocation or floor stands.
    pub fn contains(&self, id: &FactId) -> bool {
        self.grants.contains_key(&GrantId(id.0)) || self.revocation_ids.contains_key(id) || self.floors.contains_key(id)
    }

    /// Any authority fact by its id.
    pub fn fact(&self, id: &FactId) -> Option<Fact> {
        if let Some(grant) = self.grants.get(&GrantId(id.0)) {
            return Some(Fact::Grant(grant.fact.clone()));
        }
        if let Some(grant) = self.revocation_ids.get(id) {
            return self.revocations.get(grant).map(|fact| Fact::Revocation(fact.as_ref().clone()));
        }
        self.floors.get(id).map(|floor| Fact::Floor(floor.as_ref().clone()))
    }

    /// Ids of all facts, in ascending order.
    pub fn fact_ids(&self) -> impl Iterator<Item = FactId> {
        let grants = self.grants.keys().map(|id| FactId::from(*id));
        let others = self.revocation_ids.keys().chain(self.floors.keys()).copied();
        grants.chain(others).collect::<BTreeSet<FactId>>().into_iter()
    }

    /// Where a fact stands in the order in which facts can be taken in: floors at 0, a grant at its depth, a
    /// revocation at its grant's.
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

    /// Whether some floor ends entries of `key` written at `time`.
    pub fn is_floored(&self, key: &Key, time: Timestamp) -> bool {
        time < self.highest_of_all && self.floor_of(key).is_some_and(|before| time < before)
    }

    /// The greatest `before` among floors with a pattern that matches `key`.
    pub fn floor_of(&self, key: &Key) -> Option<Timestamp> {
        self.highest.iter().filter(|(pattern, _)| pattern.matches(key)).map(|(_, (before, _))| *before).max()
    }

    /// Whether something written under `grant` (`None`: by root) is masked at `now`, because a grant of its
    /// chain has expired or ended.
    pub fn is_masked(&self, grant: Option<&GrantId>, now: Timestamp) -> bool {
        grant.is_some_and(|id| {
            self.grants.get(id).is_none_or(|grant| grant.valid_until.is_some_and(|until| until < now))
        })
    }

    /// The first `expires_at` of a live grant that is not past at `now`. What is read changes just after it.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let first = (now, GrantId([0; 32]));
        self.expiries.range(first..).next().map(|(time, _)| *time)
    }

    /// Live grants whose own `expires_at` lies in `from..to`, soonest first: what may become masked meanwhile
    /// stands under these and below them.
    pub fn expiring(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = GrantId> {
        let none = GrantId([0; 32]);
        self.expiries.range((from, none)..(to.max(from), none)).map(|(_, id)| *id)
    }
}
