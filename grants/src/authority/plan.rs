//! Finds the parent grants under which an issuer can grant a pattern.

use super::{Authority, LiveGrant};
use crate::fact::MAX_DEPTH;
use crate::glob::KeyGlob;
use crate::id::{EntityId, GrantId};
use crate::inclusion::{Inclusion, included};
use crate::key::Key;
use crate::time::Timestamp;
use crate::verdict::Code;
use std::sync::Arc;

/// Maximum number of combinations of patterns, one pattern from the chain of each parent, that a plan over a union of
/// parents examines; with more, nothing is proven.
pub const MAX_COMBINATIONS: usize = 256;
/// Maximum number of parents in the union that a plan examines.
pub const MAX_PARENTS: usize = 32;

/// Maximum number of parents of which a plan examines whether one alone covers the pattern; with more, nothing is
/// proven.
pub const MAX_SINGLE_PARENTS: usize = 256;

/// The parent grants under which an issuer can grant a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentPlan {
    /// The issuer is root, which issues grants without a parent.
    Root,
    /// Issue one grant under each of these parents, all with the wanted pattern. A single parent if one covers the
    /// pattern.
    Parents(Vec<GrantId>),
}

/// Reason why an issuer cannot grant a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The pattern matches a key that the issuer's own grants do not reach.
    #[error("the key {counterexample} matches the pattern, but no grant of the issuer's reaches it")]
    OutOfReach {
        /// A key that matches the pattern and that no grant of the issuer reaches.
        counterexample: Key,
    },
    /// The issuer holds no grant under which it can issue now; the code says why: none known, expired, not valid yet,
    /// chain too deep, or subgrants not allowed.
    #[error("{}", .0.help())]
    NoGrant(Code),
    /// The issuer's grants were not proven to cover the pattern: the search exhausted its budget, or there were more
    /// than [`MAX_COMBINATIONS`] combinations, [`MAX_PARENTS`] parents or [`MAX_SINGLE_PARENTS`] single parents to
    /// examine.
    #[error("not proven that the issuer's grants cover the pattern: split the grant into simpler patterns")]
    NotProven,
}

impl PlanError {
    /// Returns the stable code of the error, such as `grant.not_proven`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OutOfReach { .. } => "grant.out_of_reach",
            Self::NoGrant(code) => code.as_str(),
            Self::NotProven => "grant.not_proven",
        }
    }
}

impl Authority {
    /// Finds the parents under which `issuer` can grant `pattern` at `now`: one parent if one covers the pattern (the
    /// longest-lasting of these), else a set whose union covers the pattern and from which no parent can be left out.
    pub fn plan_grant(
        &self,
        issuer: EntityId,
        pattern: &KeyGlob,
        now: Timestamp,
    ) -> Result<ParentPlan, PlanError> {
        if issuer == self.root().entity() {
            return Ok(ParentPlan::Root);
        }
        let parents = self.possible_parents(issuer, now)?;
        // A parent that covers the pattern reaches each of its keys: testing one key cheaply excludes most others.
        let witness = witness(pattern);
        let mut singles =
            parents.iter().filter(|parent| witness.as_ref().is_none_or(|key| parent.reaches(key)));
        let mut tried = singles.by_ref().take(MAX_SINGLE_PARENTS);
        if let Some(parent) = tried.find(|parent| covers(&[parent], pattern) == Inclusion::Included) {
            return Ok(ParentPlan::Parents(vec![parent.id()]));
        }
        if singles.next().is_some() {
            return Err(PlanError::NotProven);
        }
        let mut chosen: Vec<&Arc<LiveGrant>> = parents.iter().take(MAX_PARENTS).copied().collect();
        match covers(&chosen, pattern) {
            Inclusion::Included => {}
            Inclusion::NotIncluded { counterexample } => {
                let mut left_out = parents.iter().skip(MAX_PARENTS);
                let reached = left_out.any(|parent| parent.reaches(&counterexample));
                let error =
                    if reached { PlanError::NotProven } else { PlanError::OutOfReach { counterexample } };
                return Err(error);
            }
            Inclusion::NotProven { .. } => return Err(PlanError::NotProven),
        }
        for index in (0..chosen.len()).rev() {
            let mut fewer = chosen.clone();
            fewer.remove(index);
            if covers(&fewer, pattern) == Inclusion::Included {
                chosen = fewer;
            }
        }
        Ok(ParentPlan::Parents(chosen.iter().map(|parent| parent.id()).collect()))
    }

    /// Returns the issuer's grants under which it can issue at `now`, the longest-lasting first and, among equals,
    /// those nearest to root first.
    fn possible_parents(&self, issuer: EntityId, now: Timestamp) -> Result<Vec<&Arc<LiveGrant>>, PlanError> {
        let held: Vec<_> = self.grants_of(issuer).collect();
        let current: Vec<_> = held.iter().filter(|grant| grant.first_stamp(now).is_some()).copied().collect();
        let mut usable: Vec<_> = current
            .iter()
            .filter(|grant| grant.body().subgrant && grant.depth() < MAX_DEPTH)
            .copied()
            .collect();
        if usable.is_empty() {
            let code = if held.is_empty() {
                Code::GrantUnknown
            } else if current.is_empty() && held.iter().any(|grant| grant.begins_later(now)) {
                Code::GrantNotYet
            } else if current.is_empty() {
                Code::GrantExpired
            } else if current.iter().any(|grant| grant.body().subgrant) {
                Code::TooDeep
            } else {
                Code::NoSubgrant
            };
            return Err(PlanError::NoGrant(code));
        }
        usable.sort_by_cached_key(|grant| {
            let lasting = std::cmp::Reverse(grant.valid_until().unwrap_or(Timestamp::MAX));
            (lasting, grant.depth(), grant.id())
        });
        Ok(usable)
    }
}

/// Returns a key that the pattern matches, as a cheap test of possible parents; `None` if the search gives up.
fn witness(pattern: &KeyGlob) -> Option<Key> {
    match included(pattern, &[]) {
        Inclusion::NotIncluded { counterexample } => Some(counterexample),
        _ => None,
    }
}

/// Decides whether the union of the parents' reaches covers the pattern.
///
/// A parent reaches the *intersection* of its chain's patterns, but [`included`] decides about unions. A union of
/// intersections covers the pattern exactly if every choice of one pattern from each chain does.
fn covers(parents: &[&Arc<LiveGrant>], pattern: &KeyGlob) -> Inclusion {
    let chains: Vec<Vec<KeyGlob>> = parents.iter().map(|parent| narrowest(parent)).collect();
    let combinations = chains.iter().try_fold(1usize, |all, chain| all.checked_mul(chain.len()));
    if combinations.is_none_or(|count| count > MAX_COMBINATIONS) {
        return Inclusion::NotProven { explored: 0 };
    }
    let mut unproven = None;
    for combination in 0..combinations.unwrap_or(0) {
        let mut rest = combination;
        let mut union = Vec::with_capacity(chains.len());
        for chain in &chains {
            union.push(chain[rest % chain.len()].clone());
            rest /= chain.len();
        }
        match included(pattern, &union) {
            Inclusion::Included => {}
            outside @ Inclusion::NotIncluded { .. } => return outside,
            open @ Inclusion::NotProven { .. } => unproven = Some(open),
        }
    }
    unproven.unwrap_or(Inclusion::Included)
}

/// Returns the patterns of a grant's chain without those that include another pattern of the chain; usually one
/// remains.
fn narrowest(grant: &LiveGrant) -> Vec<KeyGlob> {
    let mut patterns: Vec<KeyGlob> = Vec::new();
    for link in grant.chain() {
        let pattern = &link.body().pattern;
        let within = |inner: &KeyGlob| included(inner, std::slice::from_ref(pattern)) == Inclusion::Included;
        if !patterns.iter().any(within) {
            patterns.push(pattern.clone());
        }
    }
    patterns
}
