//! Merges verified grants, revocations and floors into the authority set, keeping the set in normal form.

use super::{Authority, Below, LiveGrant, Verified};
use crate::fact::{Floor, Grant, Revocation};
use crate::id::{FactId, GrantId};
use crate::record::Fact;
use crate::signed::Signed;
use crate::verdict::{Code, Verdict};
use std::sync::Arc;

/// Effect of merging one fact into the authority set.
#[derive(Clone, Debug)]
pub struct AuthorityChange {
    /// Verdict on the fact that was offered.
    pub verdict: Verdict,
    /// Ids of the facts that were removed from the set because the new fact ended or superseded them.
    pub dropped: Vec<FactId>,
    /// Ids of the grants that ended, which are also in `dropped`: every entry that cites one of them is no longer
    /// valid.
    pub dead: Vec<GrantId>,
}

impl AuthorityChange {
    fn only(verdict: Verdict) -> Self {
        Self { verdict, dropped: Vec::new(), dead: Vec::new() }
    }
}

impl Authority {
    /// Merges a verified grant, revocation or floor. An entry, or a fact that was verified for another cluster, is
    /// [`Verdict::Misused`] and changes nothing.
    pub fn merge(&mut self, fact: Verified) -> AuthorityChange {
        self.take(fact.into_fact())
    }

    /// Merges a fact whose signatures are known to be valid. Checks its cluster and its chain again.
    pub(super) fn take(&mut self, fact: Fact) -> AuthorityChange {
        if let Err(verdict) = self.check_cluster(fact.cluster()) {
            return AuthorityChange::only(verdict);
        }
        match fact {
            Fact::Grant(grant) => AuthorityChange::only(self.merge_grant(grant)),
            Fact::Revocation(revocation) => self.merge_revocation(revocation),
            Fact::Floor(floor) => self.merge_floor(floor),
            Fact::Entry(_) => AuthorityChange::only(Verdict::Misused(Code::NotAuthority)),
        }
    }

    fn merge_grant(&mut self, fact: Signed<Grant>) -> Verdict {
        let id = fact.id();
        // The chain is checked again, since it may have ended while the signature was being verified.
        let parent = match self.parent_of(fact.body()) {
            Ok(parent) => parent.cloned(),
            Err(verdict) => return verdict,
        };
        if self.revocations.contains_key(&id) {
            return Verdict::Moot(Code::GrantRevoked);
        }
        if self.grants.contains_key(&id) {
            return Verdict::Moot(Code::Known);
        }
        let live = LiveGrant::new(fact, parent);
        if let Some(parent) = live.body().parent {
            self.below.entry(parent).or_default().grants.insert(id);
        }
        self.by_grantee.entry(live.body().grantee.entity()).or_default().insert(id);
        if let Some(expiry) = live.body().expires_at {
            self.expiries.insert((expiry, id));
        }
        self.grants.insert(id, Arc::new(live));
        Verdict::Merged
    }

    fn merge_revocation(&mut self, fact: Signed<Revocation>) -> AuthorityChange {
        let (id, by) = (fact.id(), fact.body().by);
        let (revoked, parent) = (fact.body().grant.id(), fact.body().grant.body().parent);
        if let Err(verdict) = self.parent_of(fact.body().grant.body()) {
            return AuthorityChange::only(verdict);
        }
        let mut change = AuthorityChange::only(Verdict::Merged);
        if let Some(standing) = self.revocations.get(&revoked) {
            let rank = (standing.body().by, standing.id());
            if rank <= (by, id) {
                let known = rank.1 == id;
                let code = if known { Code::Known } else { Code::RevocationSuperseded };
                return AuthorityChange::only(Verdict::Moot(code));
            }
            self.revocation_ids.remove(&rank.1);
            change.dropped.push(rank.1);
        }
        self.end_grant(revoked, &mut change);
        if let Some(parent) = parent {
            self.below.entry(parent).or_default().revoked.insert(revoked);
        }
        self.revocation_ids.insert(id, revoked);
        self.revocations.insert(revoked, Arc::new(fact));
        change
    }

    /// Removes a grant with all grants below it and the revocations of such grants; those grants cannot become live
    /// again anyway. Adds the removed facts to `change`.
    fn end_grant(&mut self, id: GrantId, change: &mut AuthorityChange) {
        let mut ending = vec![id];
        while let Some(id) = ending.pop() {
            let Some(grant) = self.grants.remove(&id) else { continue };
            self.forget_grant(&grant);
            change.dropped.push(id.into());
            change.dead.push(id);
            let Below { grants, revoked } = self.below.remove(&id).unwrap_or_default();
            ending.extend(grants);
            for grant in revoked {
                if let Some(revocation) = self.revocations.remove(&grant) {
                    self.revocation_ids.remove(&revocation.id());
                    change.dropped.push(revocation.id());
                }
            }
        }
    }

    fn forget_grant(&mut self, grant: &LiveGrant) {
        let (id, body) = (grant.id(), grant.body());
        if let Some(expiry) = body.expires_at {
            self.expiries.remove(&(expiry, id));
        }
        let grantee = body.grantee.entity();
        if let Some(held) = self.by_grantee.get_mut(&grantee) {
            held.remove(&id);
            if held.is_empty() {
                self.by_grantee.remove(&grantee);
            }
        }
        if let Some(below) = body.parent.and_then(|parent| self.below.get_mut(&parent)) {
            below.grants.remove(&id);
        }
    }

    fn merge_floor(&mut self, fact: Signed<Floor>) -> AuthorityChange {
        let id = fact.id();
        if self.floors.contains_key(&id) {
            return AuthorityChange::only(Verdict::Moot(Code::Known));
        }
        if self.floor_is_superseded(&fact) {
            return AuthorityChange::only(Verdict::Moot(Code::FloorSuperseded));
        }
        let rank = (fact.body().before, id);
        let mut change = AuthorityChange::only(Verdict::Merged);
        let mut superseded = Vec::new();
        for pattern in &fact.body().patterns {
            let highest = self.highest.entry(pattern.clone()).or_insert(rank);
            if *highest < rank {
                superseded.push(highest.1);
                *highest = rank;
            }
        }
        self.highest_of_all = self.highest_of_all.max(rank.0);
        self.floors.insert(id, Arc::new(fact));
        for old in superseded {
            // A floor is kept whole as long as it is the highest of at least one of its patterns.
            let stands = self.floors.get(&old).is_some_and(|floor| {
                let names = |pattern| self.highest.get(pattern).is_some_and(|highest| highest.1 == old);
                floor.body().patterns.iter().any(names)
            });
            if !stands && self.floors.remove(&old).is_some() {
                change.dropped.push(old);
            }
        }
        change
    }
}

impl LiveGrant {
    fn new(fact: Signed<Grant>, parent: Option<Arc<LiveGrant>>) -> Self {
        let (issued, expires) = (fact.body().issued_at, fact.body().expires_at);
        let above = parent.as_deref();
        let valid_from = above.map_or(issued, |parent| parent.valid_from.max(issued));
        let valid_until = [expires, above.and_then(|parent| parent.valid_until)].into_iter().flatten().min();
        let depth = above.map_or(1, |parent| parent.depth + 1);
        Self { fact, parent, depth, valid_from, valid_until }
    }
}
