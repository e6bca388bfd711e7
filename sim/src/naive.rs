//! An independent implementation of the meaning of signed facts: the definitions of the design, applied literally to
//! plain sets, without any of the code under test. It is slow and only serves for comparison.
//!
//! ```text
//! live(A)    = least set L ⊆ grants of A: no revocation of g in A, depth(g) ≤ 16, and
//!              (g.parent = None and g.issuer = root, or p = g.parent ∈ L with p.subgrant and p.grantee = g.issuer)
//! valid(e)   = not floored, and (signer = root, or g = e.grant ∈ L, g.grantee = e.signer, reach(g, e.key), and
//!              issued_at ≤ e.timestamp ≤ expires_at for each grant of the chain)
//! N(A ∪ E)   = live(A) ∪ the least (by, id) of the revocations of each grant that would be live but for them
//!              ∪ floors with the greatest (before, id) for one of their patterns
//!              ∪ valid entries that no valid entry dominates
//! ```
//!
//! The definitions apply to *sound* facts: well-formed, and signed by the entity that they name
//! ([`Cluster::is_sound`]).

use kvgossip_grants::{
    Body, By, ClusterId, EntityId, Entry, EntryFact, EntryId, Fact, FactId, Floor, Grant, GrantId, Key,
    MAX_AHEAD_MICROS, MAX_DEPTH, MockVerifier, PublicKey, Revocation, Signed, Timestamp, Verifier,
};
use std::collections::{BTreeMap, BTreeSet};

/// A set of facts, by their ids.
pub type Facts = BTreeMap<FactId, Fact>;

/// Maximum lead of an entry's timestamp over a replica's clock, in microseconds: two minutes.
const AHEAD_MICROS: u64 = 120_000_000;

/// The cluster's id, its root, and the public keys of its entities.
#[derive(Clone, Debug)]
pub struct Cluster {
    id: ClusterId,
    root: EntityId,
    keys: BTreeMap<EntityId, PublicKey>,
}

/// A verdict on an offered fact, without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The fact is not acceptable.
    Refused,
    /// The entry's timestamp is too far ahead of the replica's clock.
    NotYet,
    /// The chain that the fact cites is not live at the replica.
    Unjustified,
    /// The fact is acceptable, and the normal form does not change.
    Moot,
    /// The fact is acceptable, and the normal form changes.
    Merged,
}

impl Cluster {
    /// Creates the cluster of `root` whose entities have the public keys `entities`.
    pub fn new<'a>(root: &PublicKey, entities: impl IntoIterator<Item = &'a PublicKey>) -> Self {
        let keys = entities.into_iter().map(|key| (key.entity(), key.clone())).collect();
        Self { id: root.cluster(), root: root.entity(), keys }
    }

    /// Whether the fact keeps the rules of its body and is signed by the entity that it names.
    pub fn is_sound(&self, fact: &Fact) -> bool {
        self.is_well_formed(fact) && self.is_authentic(fact)
    }

    /// Whether a grant has no parent exactly if its issuer is root, and an entry cites no grant exactly if its signer
    /// is root. Other rules of bodies need no check here, since facts that break them are never decoded.
    fn is_well_formed(&self, fact: &Fact) -> bool {
        let grant = |grant: &Grant| grant.parent.is_none() == (grant.issuer == self.root);
        match fact {
            Fact::Grant(signed) => grant(signed.body()),
            Fact::Revocation(signed) => grant(signed.body().grant.body()),
            Fact::Floor(_) => true,
            Fact::Entry(entry) => entry.entry().grant.is_none() == (entry.entry().signer == self.root),
        }
    }

    fn is_authentic(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Grant(grant) => self.signed_by(grant, grant.body().issuer),
            Fact::Revocation(revocation) => {
                let grant = &revocation.body().grant;
                let signer = match revocation.body().by {
                    By::Root => self.root,
                    By::Issuer => grant.body().issuer,
                    By::Grantee => grant.body().grantee.entity(),
                };
                self.signed_by(grant, grant.body().issuer) && self.signed_by(revocation, signer)
            }
            Fact::Floor(floor) => self.signed_by(floor, self.root),
            Fact::Entry(entry) => self.signed_by(entry.signed(), entry.entry().signer),
        }
    }

    fn signed_by<B: Body>(&self, signed: &Signed<B>, who: EntityId) -> bool {
        let holds = |key| {
            signed.cluster() == self.id && MockVerifier.verify(key, &signed.preimage(), signed.signature())
        };
        self.keys.get(&who).is_some_and(holds)
    }

    /// Returns the normal form of a set of sound facts.
    pub fn normal_form(&self, facts: &Facts) -> Facts {
        let law = Law::new(self.root, facts);
        let ids: BTreeSet<FactId> = law.authority().chain(law.entries().map(FactId::from)).collect();
        facts.iter().filter(|(id, _)| ids.contains(id)).map(|(id, fact)| (*id, fact.clone())).collect()
    }

    /// Returns the required answer to offering `fact` at the time `now` to a replica that has taken in the facts
    /// `taken`.
    pub fn answer(&self, taken: &Facts, fact: &Fact, now: Timestamp) -> Answer {
        let law = Law::new(self.root, taken);
        if matches!(fact, Fact::Entry(entry) if entry.entry().timestamp > now.saturating_add(AHEAD_MICROS)) {
            return Answer::NotYet;
        }
        // That root cites no grant, and everybody else does, is checked before the chain.
        if !self.is_well_formed(fact) {
            return Answer::Refused;
        }
        let cited = match fact {
            Fact::Grant(grant) => grant.body().parent,
            Fact::Revocation(revocation) => revocation.body().grant.body().parent,
            Fact::Floor(_) => None,
            Fact::Entry(entry) => entry.entry().grant,
        };
        if cited.is_some_and(|grant| !law.live.contains(&grant)) {
            return Answer::Unjustified;
        }
        let fits = match fact {
            Fact::Grant(grant) => law.is_linked(grant.body(), &law.live),
            Fact::Revocation(revocation) => law.is_linked(revocation.body().grant.body(), &law.live),
            Fact::Floor(_) => true,
            Fact::Entry(entry) => law.is_justified(entry.entry()),
        };
        if !fits || !self.is_authentic(fact) {
            return Answer::Refused;
        }
        let mut after = taken.clone();
        after.insert(fact.id(), fact.clone());
        let is_moot = self.normal_form(taken).keys().eq(self.normal_form(&after).keys());
        if is_moot { Answer::Moot } else { Answer::Merged }
    }

    /// Returns the definitions applied to a set of facts.
    pub fn law<'a>(&self, facts: &'a Facts) -> Law<'a> {
        Law::new(self.root, facts)
    }
}

/// The definitions applied to one set of sound facts.
#[derive(Debug)]
pub struct Law<'a> {
    root: EntityId,
    facts: &'a Facts,
    live: BTreeSet<GrantId>,
}

impl<'a> Law<'a> {
    fn new(root: EntityId, facts: &'a Facts) -> Self {
        let mut law = Self { root, facts, live: BTreeSet::new() };
        law.live = law.least_fixed_point();
        law
    }

    fn grants(&self) -> impl Iterator<Item = &'a Signed<Grant>> {
        self.facts.values().filter_map(|fact| if let Fact::Grant(grant) = fact { Some(grant) } else { None })
    }

    fn revocations(&self) -> impl Iterator<Item = &'a Signed<Revocation>> {
        self.facts.values().filter_map(|fact| if let Fact::Revocation(it) = fact { Some(it) } else { None })
    }

    fn floors(&self) -> impl Iterator<Item = &'a Signed<Floor>> {
        self.facts.values().filter_map(|fact| if let Fact::Floor(floor) = fact { Some(floor) } else { None })
    }

    fn all_entries(&self) -> impl Iterator<Item = &'a EntryFact> {
        self.facts.values().filter_map(|fact| if let Fact::Entry(entry) = fact { Some(entry) } else { None })
    }

    fn grant(&self, id: &GrantId) -> Option<&'a Grant> {
        if let Some(Fact::Grant(grant)) = self.facts.get(&FactId::from(*id)) {
            Some(grant.body())
        } else {
            None
        }
    }

    /// Returns the live grants: those whose whole chain is live.
    pub fn live(&self) -> &BTreeSet<GrantId> {
        &self.live
    }

    fn least_fixed_point(&self) -> BTreeSet<GrantId> {
        let revoked: BTreeSet<GrantId> = self.revocations().map(|it| it.body().grant.id()).collect();
        let mut live = BTreeSet::new();
        loop {
            let more: Vec<GrantId> = self
                .grants()
                .filter(|grant| !live.contains(&grant.id()) && !revoked.contains(&grant.id()))
                .filter(|grant| self.is_linked(grant.body(), &live))
                .map(Signed::id)
                .collect();
            if more.is_empty() {
                return live;
            }
            live.extend(more);
        }
    }

    /// Whether `grant` may be live over the live grants `live`, apart from not being revoked.
    fn is_linked(&self, grant: &Grant, live: &BTreeSet<GrantId>) -> bool {
        let Some(parent_id) = grant.parent else { return grant.issuer == self.root };
        let Some(parent) = self.grant(&parent_id).filter(|_| live.contains(&parent_id)) else { return false };
        parent.subgrant
            && parent.grantee.entity() == grant.issuer
            && self.depth(grant) <= usize::from(MAX_DEPTH)
    }

    /// Returns the number of grants in the chain from root's grant down to this grant.
    pub fn depth_of(&self, id: GrantId) -> usize {
        self.chain(id).len()
    }

    fn depth(&self, grant: &Grant) -> usize {
        match grant.parent.and_then(|parent| self.grant(&parent)) {
            None => 1,
            Some(parent) => 1 + self.depth(parent),
        }
    }

    /// Returns the grant with this id and all grants above it.
    fn chain(&self, id: GrantId) -> Vec<(GrantId, &'a Grant)> {
        let link = |id: GrantId| self.grant(&id).map(|grant| (id, grant));
        std::iter::successors(link(id), |(_, grant)| grant.parent.and_then(link)).collect()
    }

    fn is_floored(&self, entry: &Entry) -> bool {
        self.floors().any(|floor| {
            let floor = floor.body();
            entry.timestamp < floor.before && floor.patterns.iter().any(|pattern| pattern.matches(&entry.key))
        })
    }

    /// Whether root signed the entry, or it cites a live chain that reaches the key at that time.
    fn is_justified(&self, entry: &Entry) -> bool {
        let Some(id) = entry.grant else { return entry.signer == self.root };
        let Some(grant) = self.grant(&id).filter(|_| self.live.contains(&id)) else { return false };
        grant.grantee.entity() == entry.signer && self.carries(id, &entry.key, entry.timestamp)
    }

    /// Whether all patterns of the grant's chain match `key`, and all its windows contain `time`.
    fn carries(&self, id: GrantId, key: &Key, time: Timestamp) -> bool {
        let chain = self.chain(id);
        chain.iter().all(|(_, grant)| grant.pattern.matches(key))
            && chain.iter().all(|(_, grant)| grant.issued_at <= time)
            && chain.iter().all(|(_, grant)| grant.expires_at.is_none_or(|end| time <= end))
    }

    fn is_valid(&self, entry: &Entry) -> bool {
        !self.is_floored(entry) && self.is_justified(entry)
    }

    fn dominates(&self, b: &EntryFact, a: &EntryFact) -> bool {
        let (above, below) = (b.entry(), a.entry());
        let outranks = || match (above.grant, below.grant) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(above), Some(below)) => self.chain(below).iter().any(|(id, _)| *id == above),
        };
        above.key == below.key && is_newer(b, a) && outranks()
    }

    fn authority(&self) -> impl Iterator<Item = FactId> {
        let mut kept: BTreeSet<FactId> = self.live.iter().map(|id| FactId::from(*id)).collect();
        let mut best: BTreeMap<GrantId, (By, FactId)> = BTreeMap::new();
        for revocation in self.revocations().filter(|it| self.is_linked(it.body().grant.body(), &self.live)) {
            let rank = (revocation.body().by, revocation.id());
            let best = best.entry(revocation.body().grant.id()).or_insert(rank);
            *best = rank.min(*best);
        }
        kept.extend(best.into_values().map(|(_, id)| id));
        for floor in self.floors() {
            let rank = (floor.body().before, floor.id());
            let is_greatest = |pattern| {
                let mut rivals = self.floors().filter(|rival| rival.body().patterns.contains(pattern));
                rivals.all(|rival| (rival.body().before, rival.id()) <= rank)
            };
            if floor.body().patterns.iter().any(is_greatest) {
                kept.insert(floor.id());
            }
        }
        kept.into_iter()
    }

    /// Returns the frontier of each key.
    pub fn frontiers(&self) -> BTreeMap<&'a Key, Vec<&'a EntryFact>> {
        let mut valid: BTreeMap<&Key, Vec<&EntryFact>> = BTreeMap::new();
        for entry in self.all_entries().filter(|entry| self.is_valid(entry.entry())) {
            valid.entry(&entry.entry().key).or_default().push(entry);
        }
        for entries in valid.values_mut() {
            let all = entries.clone();
            entries.retain(|a| !all.iter().any(|b| self.dominates(b, a)));
        }
        valid
    }

    fn entries(&self) -> impl Iterator<Item = EntryId> {
        self.frontiers().into_values().flatten().map(EntryFact::id)
    }

    /// Returns the id of the newest entry of each key's frontier, masked or not.
    pub fn newest(&self) -> BTreeMap<Key, EntryId> {
        let newest =
            |entries: Vec<&EntryFact>| entries.into_iter().max_by_key(|entry| age(entry)).map(EntryFact::id);
        self.frontiers().into_iter().filter_map(|(key, them)| Some((key.clone(), newest(them)?))).collect()
    }

    /// Returns the id of the entry of each key that a reader sees at `now`, without deletes.
    pub fn values(&self, now: Timestamp) -> BTreeMap<Key, EntryId> {
        let mut values = BTreeMap::new();
        for (key, entries) in self.frontiers() {
            let visible = entries.into_iter().filter(|entry| !self.is_masked(entry, now));
            if let Some(newest) = visible.max_by_key(|entry| age(entry)).filter(|it| it.value().is_some()) {
                values.insert(key.clone(), newest.id());
            }
        }
        values
    }

    /// Whether a grant of the entry's chain has expired.
    pub fn is_masked(&self, entry: &EntryFact, now: Timestamp) -> bool {
        let chain = entry.entry().grant.map(|id| self.chain(id)).unwrap_or_default();
        chain.iter().any(|(_, grant)| grant.expires_at.is_some_and(|end| end < now))
    }

    /// Returns the earliest `expires_at` of a live grant that is not before `now`; `None` if there is none.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.live.iter().filter_map(|id| self.grant(id)?.expires_at);
        ends.filter(|end| *end >= now).min()
    }

    /// Returns the greatest `before` of the floors with a pattern that matches `key`; `None` if no floor matches.
    pub fn floor_of(&self, key: &Key) -> Option<Timestamp> {
        let names = |floor: &&Signed<Floor>| floor.body().patterns.iter().any(|pattern| pattern.matches(key));
        self.floors().filter(names).map(|floor| floor.body().before).max()
    }

    /// Whether a live chain to the entity `who` allows writing `key` at the time `time`.
    ///
    /// A writer whose clock is behind the issuer's by no more than the maximum lead of an entry uses the start of the
    /// chain as its timestamp.
    pub fn may_write(&self, who: EntityId, key: &Key, time: Timestamp) -> bool {
        let stamp = |id: GrantId| {
            let begins = self.chain(id).iter().map(|(_, grant)| grant.issued_at).max();
            begins
                .filter(|begins| *begins <= time.saturating_add(MAX_AHEAD_MICROS))
                .map_or(time, |at| at.max(time))
        };
        self.held_by(who).into_iter().any(|id| self.carries(id, key, stamp(id)))
    }

    /// Returns the timestamp for a new entry: max(now, newest known entry of the key + 1 µs, each issued_at of the
    /// chain, floors on the key).
    pub fn stamp(&self, key: &Key, grant: Option<&GrantId>, now: Timestamp) -> Timestamp {
        let chain = grant.map(|id| self.chain(*id)).unwrap_or_default();
        let newest = self.frontiers().remove(key).unwrap_or_default();
        let after_newest = newest.iter().map(|entry| entry.entry().timestamp.saturating_add(1));
        let issued = chain.iter().map(|(_, grant)| grant.issued_at);
        after_newest.chain(issued).chain(self.floor_of(key)).chain([now]).max().unwrap_or(now)
    }

    /// Returns the ids of the live grants whose grantee is the entity `who`.
    pub fn held_by(&self, who: EntityId) -> BTreeSet<GrantId> {
        let holds = |id: &&GrantId| self.grant(id).is_some_and(|grant| grant.grantee.entity() == who);
        self.live.iter().filter(holds).copied().collect()
    }
}

fn age(entry: &EntryFact) -> (Timestamp, EntryId) {
    (entry.entry().timestamp, entry.id())
}

fn is_newer(b: &EntryFact, a: &EntryFact) -> bool {
    age(b) > age(a)
}
