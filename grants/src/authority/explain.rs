//! Why an entity may or may not write a key: the accepting chain, or the first link that fails.

use super::{Authority, LiveGrant, begins_later};
use crate::fact::{By, Grant, Revocation};
use crate::glob::KeyGlob;
use crate::id::{EntityId, FactId, GrantId};
use crate::key::Key;
use crate::signed::Signed;
use crate::time::Timestamp;
use crate::verdict::Code;
use std::cmp::Reverse;

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
    /// No chain does. Those that cover the key and are not good at that time come first, the one that got furthest before
    /// the others. Empty: no grant to the entity is known.
    Rejected(Vec<Rejected>),
}

impl Authority {
    /// The time that a new entry of a key gets: now, or later where something would supersede it that is known here: the
    /// `newest` entry, the grant that it cites, or a floor.
    pub fn stamp(
        &self,
        key: &Key,
        cited: Option<&GrantId>,
        newest: Option<Timestamp>,
        now: Timestamp,
    ) -> Timestamp {
        let after_newest = newest.map(|time| time.saturating_add(1));
        let issued = cited.and_then(|id| self.grant(id)).map(|grant| grant.valid_from());
        [after_newest, issued, self.floor_of(key)].into_iter().flatten().fold(now, Timestamp::max)
    }

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
        let live = self.grants_of(entity).filter_map(|grant| Failing::of_live(grant, key, now));
        let revoked = self.revocations().filter_map(|revocation| {
            let is_theirs = revocation.body().grant.body().grantee.entity() == entity;
            is_theirs.then(|| self.failing_revoked(revocation, key, now))
        });
        let best = best(live.chain(revoked), MAX_REJECTED);
        Explanation::Rejected(best.iter().map(|failing| self.rejected(failing)).collect())
    }

    /// The grant that `entity` best cites to write `key` at `now`: one under which an entry stamped by that clock, or by a
    /// [few moments](LiveGrant::first_stamp) more, is taken in.
    pub fn grant_for(&self, key: &Key, entity: EntityId, now: Timestamp) -> Option<&LiveGrant> {
        let fits = |grant: &&LiveGrant| grant.reaches(key) && grant.first_stamp(now).is_some();
        let rank = |grant: &&LiveGrant| {
            let lasting = std::cmp::Reverse(grant.valid_until().unwrap_or(Timestamp::MAX));
            (lasting, grant.depth(), grant.id())
        };
        self.grants_of(entity).map(AsRef::as_ref).filter(fits).min_by_key(rank)
    }

    /// Why a chain that ended with a revoked grant does not carry the key.
    fn failing_revoked<'a>(
        &'a self,
        revocation: &'a Signed<Revocation>,
        key: &Key,
        now: Timestamp,
    ) -> Failing<'a> {
        let grant = &revocation.body().grant;
        let parent = grant.body().parent.and_then(|id| self.grant(&id));
        let above = parent.map_or(0, |parent| usize::from(parent.depth()));
        let begins = grant.body().issued_at.max(parent.map_or(Timestamp::ZERO, |parent| parent.valid_from()));
        let own = || fault(grant.body(), key, now, stamp(begins, now)).map(|code| (above, code));
        let fault = parent.and_then(|parent| first_fault(parent, key, now)).or_else(own);
        let (failing, code) = fault.unwrap_or((above, Code::GrantRevoked));
        let covers = grant.body().pattern.matches(key) && parent.is_none_or(|parent| parent.reaches(key));
        Failing { covers, failing, code, id: grant.id(), end: End::Revoked(revocation) }
    }

    /// The whole of a chain, for people.
    fn rejected(&self, failing: &Failing<'_>) -> Rejected {
        let Failing { failing, code, ref end, .. } = *failing;
        match end {
            End::Live(grant) => Rejected { chain: links(grant), failing, code, revocation: None },
            End::Revoked(revocation) => {
                let (body, grant) = (revocation.body(), &revocation.body().grant);
                let parent = grant.body().parent.and_then(|id| self.grant(&id));
                let mut chain = parent.map(|parent| links(parent)).unwrap_or_default();
                chain.push(link(grant.id(), grant.body()));
                let revocation = (code == Code::GrantRevoked).then(|| (revocation.id(), body.by));
                Rejected { chain, failing, code, revocation }
            }
        }
    }
}

/// A chain that does not carry the key, before it is written out: an entity may have very many.
struct Failing<'a> {
    /// Whether every pattern of the chain matches the key: then it is the one that its holder means.
    covers: bool,
    failing: usize,
    code: Code,
    /// The grant at its end; of equally promising ones the smaller comes first.
    id: GrantId,
    end: End<'a>,
}

/// The grant at the end of a chain.
enum End<'a> {
    Live(&'a LiveGrant),
    Revoked(&'a Signed<Revocation>),
}

impl<'a> Failing<'a> {
    fn of_live(grant: &'a LiveGrant, key: &Key, now: Timestamp) -> Option<Self> {
        let (failing, code) = first_fault(grant, key, now)?;
        Some(Self { covers: grant.reaches(key), failing, code, id: grant.id(), end: End::Live(grant) })
    }

    /// The most promising chain has the least: one that covers the key before any that does not, however far that gets.
    fn rank(&self) -> (Reverse<(bool, usize, bool)>, GrantId) {
        (Reverse((self.covers, self.failing, self.code != Code::GrantRevoked)), self.id)
    }
}

/// The best `most` of any number, in order; never more than twice as many are held.
fn best<'a>(all: impl Iterator<Item = Failing<'a>>, most: usize) -> Vec<Failing<'a>> {
    let mut kept: Vec<Failing<'a>> = Vec::new();
    let shorten = |kept: &mut Vec<Failing<'a>>| {
        kept.sort_by_key(Failing::rank);
        kept.truncate(most);
    };
    for failing in all {
        kept.push(failing);
        if kept.len() >= 2 * most {
            shorten(&mut kept);
        }
    }
    shorten(&mut kept);
    kept
}

/// The first link of a live chain, counted from root's, that does not carry the key at a time.
fn first_fault(grant: &LiveGrant, key: &Key, now: Timestamp) -> Option<(usize, Code)> {
    let stamp = stamp(grant.valid_from(), now);
    let faults = grant.chain().filter_map(|link| Some((link.depth(), fault(link.body(), key, now, stamp)?)));
    // From the grant up: the last one found is the nearest to root.
    faults.last().map(|(depth, code)| (usize::from(depth).saturating_sub(1), code))
}

/// What a writer whose clock says `now` stamps at least under a chain that begins at `begins`.
fn stamp(begins: Timestamp, now: Timestamp) -> Timestamp {
    if begins_later(begins, now) { now } else { now.max(begins) }
}

/// Why a grant does not carry the key at a time, revocations aside.
fn fault(grant: &Grant, key: &Key, now: Timestamp, stamp: Timestamp) -> Option<Code> {
    if !grant.pattern.matches(key) {
        Some(Code::OutOfReach)
    } else if grant.expires_at.is_some_and(|expiry| expiry < stamp) {
        Some(Code::GrantExpired)
    } else if begins_later(grant.issued_at, now) {
        Some(Code::GrantNotYet)
    } else {
        None
    }
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
