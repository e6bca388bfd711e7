//! Explains whether an entity may write a key: by the accepting chain, or by the first failing link of each chain.

use super::{Authority, LiveGrant, begins_later};
use crate::fact::{By, Grant, Revocation};
use crate::glob::KeyGlob;
use crate::id::{EntityId, FactId, GrantId};
use crate::key::Key;
use crate::signed::Signed;
use crate::time::Timestamp;
use crate::verdict::Code;
use std::cmp::Reverse;

/// Maximum number of failing chains in an explanation. The most promising ones are kept.
pub const MAX_REJECTED: usize = 64;

/// One grant of a chain, with the properties that an explanation shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Id of the grant.
    pub grant: GrantId,
    /// Id of the entity that issued the grant.
    pub issuer: EntityId,
    /// Id of the entity that received the grant.
    pub grantee: EntityId,
    /// Pattern of the keys that the grant covers.
    pub pattern: KeyGlob,
    /// Whether the grantee may issue grants under this grant.
    pub subgrant: bool,
    /// Start of the grant's own window.
    pub issued_at: Timestamp,
    /// End of the grant's own window; `None`: no end.
    pub expires_at: Option<Timestamp>,
}

/// A chain of grants that ends at the asking entity but does not allow it to write the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Links in order, from the grant that root issued down to the grant that the entity holds.
    pub chain: Vec<Link>,
    /// Index in `chain` of the first failing link, counted from root's grant as 0.
    pub failing: usize,
    /// Reason why that link fails.
    pub code: Code,
    /// Id of the revocation and role of its signer, if `code` is [`Code::GrantRevoked`]; else `None`.
    pub revocation: Option<(FactId, By)>,
}

/// Answer of [`Authority::explain`]: whether an entity may write a key, and by which chains or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// The entity is root and needs no grant.
    Root,
    /// This chain, from root's grant down, allows the write. Its last grant is the one to cite.
    Accepted(Vec<Link>),
    /// No chain allows the write. Chains that cover the key but are not valid at that time come first; among equals,
    /// the chain that fails furthest from root comes first. Empty if no grant to the entity is known.
    Rejected(Vec<Rejected>),
}

impl Authority {
    /// Returns the timestamp for a new entry of a key: `now`, or the earliest later time that is after the `newest`
    /// known entry of the key, not before the start of the cited grant's chain, and not below a floor on the key.
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
    /// Among several chains that allow the write, the one that stays valid longest is chosen, then the shortest, then
    /// the one with the smallest id.
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

    /// Returns the best grant for `entity` to cite for writing `key` at `now`; `None` if no grant allows it. An entry
    /// stamped with `now`, or with the chain's [first timestamp](LiveGrant::first_stamp) if that is up to two minutes
    /// later, is accepted under it.
    pub fn grant_for(&self, key: &Key, entity: EntityId, now: Timestamp) -> Option<&LiveGrant> {
        let fits = |grant: &&LiveGrant| grant.reaches(key) && grant.first_stamp(now).is_some();
        let rank = |grant: &&LiveGrant| {
            let lasting = std::cmp::Reverse(grant.valid_until().unwrap_or(Timestamp::MAX));
            (lasting, grant.depth(), grant.id())
        };
        self.grants_of(entity).map(AsRef::as_ref).filter(fits).min_by_key(rank)
    }

    /// Describes why a chain whose last grant was revoked does not allow writing `key`.
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

    /// Expands a failing chain into its links for display.
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

/// A failing chain in compact form, without its links, since an entity may have very many failing chains.
struct Failing<'a> {
    /// Whether every pattern of the chain matches the key: then the holder most likely means this chain.
    covers: bool,
    failing: usize,
    code: Code,
    /// Id of the last grant of the chain; breaks ties in the order of chains, smaller first.
    id: GrantId,
    end: End<'a>,
}

/// The last grant of a failing chain: live, or revoked and known only from its revocation.
enum End<'a> {
    Live(&'a LiveGrant),
    Revoked(&'a Signed<Revocation>),
}

impl<'a> Failing<'a> {
    fn of_live(grant: &'a LiveGrant, key: &Key, now: Timestamp) -> Option<Self> {
        let (failing, code) = first_fault(grant, key, now)?;
        Some(Self { covers: grant.reaches(key), failing, code, id: grant.id(), end: End::Live(grant) })
    }

    /// Sort key of a failing chain; the smallest is the most promising chain. A chain that covers the key comes before
    /// any that does not, even if the latter fails further from root.
    fn rank(&self) -> (Reverse<(bool, usize, bool)>, GrantId) {
        (Reverse((self.covers, self.failing, self.code != Code::GrantRevoked)), self.id)
    }
}

/// Returns the `most` most promising chains, the most promising first. Holds at most twice as many in memory.
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

/// Returns the first link of a live chain, from root down, that does not allow writing `key` at `now`: its index,
/// counted from root's grant as 0, and its fault. `None` if all links allow it.
fn first_fault(grant: &LiveGrant, key: &Key, now: Timestamp) -> Option<(usize, Code)> {
    let stamp = stamp(grant.valid_from(), now);
    let faults = grant.chain().filter_map(|link| Some((link.depth(), fault(link.body(), key, now, stamp)?)));
    // The chain is iterated from the grant up, so the last fault found is the nearest to root.
    faults.last().map(|(depth, code)| (usize::from(depth).saturating_sub(1), code))
}

/// Returns the earliest timestamp that a writer with local time `now` uses under a chain whose window begins at
/// `begins`: `begins` if it is ahead of `now` by at most two minutes, else `now`.
fn stamp(begins: Timestamp, now: Timestamp) -> Timestamp {
    if begins_later(begins, now) { now } else { now.max(begins) }
}

/// Returns why a single grant does not allow writing `key` with the timestamp `stamp` at `now`, revocations aside;
/// `None` if it does.
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
