//! Agents that run, everything that was ever made, and a replica that has all of it.

use bytes::Bytes;
use kvgossip_agent::{Agent, now};
use kvgossip_engine::{MemoryStorage, Replica, Storage};
use kvgossip_grants::{
    By, EntryDraft, EntryFact, EntryId, Fact, Floor, Grant, GrantId, Key, Revocation, RsaVerifier, Signed,
    Signer, SigningKey, Timestamp,
};
use kvgossip_testkit::agents::{cluster, config, grant, identity, root, sign, start};
use kvgossip_testkit::clients::tap::Tap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

pub const KEYS: usize = 6;
pub const AGENTS: usize = 3;
/// More than anything takes.
pub const LEASE_US: u64 = 120_000_000;

pub fn key(number: usize) -> Key {
    format!("/k/{number}").parse().expect("a key")
}

/// The client's clock: at least the system's, and it never goes back.
#[derive(Clone, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn now(&self) -> Timestamp {
        now().saturating_add(self.0.load(Ordering::SeqCst))
    }

    pub fn advance(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

/// An entry that was made, and since when it is dead, in facts that were made.
#[derive(Clone, Debug)]
pub struct Made {
    pub key: Key,
    pub timestamp: Timestamp,
    pub grant: Option<GrantId>,
    pub is_delete: bool,
    pub dead_from: Option<usize>,
    /// When its chain expires.
    pub until: Option<Timestamp>,
}

impl Made {
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.dead_from.is_some() || self.until.is_some_and(|until| until < now)
    }
}

/// What was made up to now.
#[derive(Default)]
pub struct Record {
    pub facts: usize,
    pub entries: BTreeMap<EntryId, Made>,
    /// Grants that ended, and since when.
    pub dead: BTreeMap<GrantId, usize>,
    /// When chains expire.
    pub until: BTreeMap<GrantId, Timestamp>,
    pub floors: BTreeSet<kvgossip_grants::FactId>,
}

pub type Shared = Arc<Mutex<Record>>;

pub struct Place {
    agent: Agent,
    number: usize,
    pub tap: Tap,
    /// What it holds, by the order in which all was made.
    given: BTreeSet<usize>,
}

pub struct World {
    random: u64,
    pub clock: Clock,
    pub agents: Vec<Place>,
    facts: Vec<Fact>,
    grants: Vec<(Signed<Grant>, usize)>,
    people: Vec<SigningKey>,
    oracle: Replica,
    storage: MemoryStorage,
    pub record: Shared,
    pub restarts: usize,
}

impl World {
    pub async fn new(seed: u64) -> Self {
        let mut agents = Vec::new();
        for number in 0..AGENTS {
            let agent = start(config(number)).await;
            let tap = Tap::to(agent.http_address().expect("TCP")).await;
            agents.push(Place { agent, number, tap, given: BTreeSet::new() });
        }
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            clock: Clock::default(),
            agents,
            facts: Vec::new(),
            grants: Vec::new(),
            people: vec![identity(0), identity(1), identity(2)],
            oracle: Replica::new(root().public().clone()),
            storage: MemoryStorage::new(),
            record: Shared::default(),
            restarts: 0,
        }
    }

    /// A number below `sides`.
    pub fn dice(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no panic")
    }

    /// Something is made and put at some agent.
    pub async fn write(&mut self) {
        let fact = match self.dice(40) {
            0..5 => self.make_grant(),
            5..8 => match self.make_revocation() {
                Some(fact) => fact,
                None => return,
            },
            8 => self.make_floor(),
            _ => self.make_entry(),
        };
        let number = self.publish(fact);
        let place = self.dice(AGENTS);
        self.give(place, &[number]).await;
    }

    fn publish(&mut self, fact: Fact) -> usize {
        self.note(&fact);
        self.facts.push(fact);
        self.facts.len() - 1
    }

    /// Sets the first key under a grant that lasts for [`LEASE_US`] by the client's clock; all agents hear of it.
    pub async fn lease(&mut self) -> EntryId {
        let (owner, tenant) = (&self.people[0], &self.people[1]);
        let mut body = grant(tenant.public(), "/k/**", owner, None).body().clone();
        body.expires_at = Some(self.clock.now().saturating_add(LEASE_US));
        let grant = sign(body, owner);
        let value = Some(Bytes::from_static(b"lent"));
        let draft = EntryDraft { key: key(0), value, timestamp: now(), grant: Some(grant.id()) };
        let entry = EntryFact::sign(cluster(), draft, tenant).expect("a signature");
        let id = entry.id();
        self.grants.push((grant.clone(), 1));
        self.publish(Fact::Grant(grant));
        self.publish(Fact::Entry(entry));
        self.peace().await;
        id
    }

    fn make_grant(&mut self) -> Fact {
        let above: Vec<_> =
            self.grants.iter().filter(|(_, to)| *to == 1).map(|(grant, _)| grant.id()).collect();
        let parent =
            if above.is_empty() || self.dice(2) == 0 { None } else { Some(above[self.dice(above.len())]) };
        let (by, to) = if parent.is_some() { (1, 2) } else { (0, 1 + self.dice(2)) };
        let mut body = grant(self.people[to].public(), "/k/**", &self.people[by], parent).body().clone();
        // Soon, by the client's clock.
        let ends = self.dice(3) == 0;
        let left = 500_000 + self.dice(4_000_000) as u64;
        body.expires_at = ends.then(|| self.clock.now().saturating_add(left));
        let grant = sign(body, &self.people[by]);
        self.grants.push((grant.clone(), to));
        Fact::Grant(grant)
    }

    fn make_revocation(&mut self) -> Option<Fact> {
        let live: Vec<_> =
            self.oracle.view().authority().grants().map(|grant| grant.fact().clone()).collect();
        if live.is_empty() {
            return None;
        }
        let grant = live[self.dice(live.len())].clone();
        Some(Fact::Revocation(sign(Revocation { grant, by: By::Root, revoked_at: now() }, root())))
    }

    fn make_floor(&mut self) -> Fact {
        let pattern = if self.dice(3) == 0 { "/k/*".into() } else { format!("/k/{}", self.dice(KEYS)) };
        let before = now().saturating_sub(self.dice(40_000) as u64);
        let nonce = [self.dice(250) as u8; 16];
        Fact::Floor(sign(Floor { patterns: vec![pattern.parse().expect("a glob")], before, nonce }, root()))
    }

    fn make_entry(&mut self) -> Fact {
        let live: Vec<_> = self.oracle.view().authority().grants().cloned().collect();
        let fits = |until: Option<Timestamp>| until.is_none_or(|until| until > now().saturating_add(1000));
        let live: Vec<_> = live.into_iter().filter(|grant| fits(grant.valid_until())).collect();
        let cited = if live.is_empty() || self.dice(4) == 0 {
            None
        } else {
            Some(live[self.dice(live.len())].clone())
        };
        let by = cited.as_ref().map_or(0, |grant| {
            let grantee = grant.body().grantee.entity();
            self.people.iter().position(|person| person.public().entity() == grantee).expect("somebody")
        });
        let earliest = cited.as_ref().map_or(Timestamp::ZERO, |grant| grant.valid_from());
        // Some are late.
        let timestamp = now().saturating_sub(self.dice(3) as u64 * 20_000).max(earliest);
        let value = Bytes::from(self.facts.len().to_string());
        let value = (self.dice(6) > 0).then_some(value);
        let key = key(self.dice(KEYS));
        let draft = EntryDraft { key, value, timestamp, grant: cited.map(|grant| grant.id()) };
        Fact::Entry(EntryFact::sign(cluster(), draft, &self.people[by]).expect("a signature"))
    }

    /// Tells the replica that has everything, and notes what died.
    fn note(&mut self, fact: &Fact) {
        let at = self.facts.len();
        if let Fact::Entry(entry) = fact {
            let body = entry.entry();
            let grant = body.grant.and_then(|id| self.oracle.view().authority().grant(&id).cloned());
            let made = Made {
                key: body.key.clone(),
                timestamp: body.timestamp,
                grant: body.grant,
                is_delete: entry.value().is_none(),
                dead_from: None,
                until: grant.and_then(|grant| grant.valid_until()),
            };
            self.record().entries.insert(entry.id(), made);
        }
        if let Ok(checked) = self.oracle.view().check(fact.clone(), now()) {
            let verified = checked.verify(&RsaVerifier).expect("a good signature");
            let reader = self.storage.reader();
            let applied = self.oracle.apply(vec![verified], reader.as_ref()).expect("memory works");
            if let Some(batch) = applied.batch {
                self.storage.commit(&batch).expect("memory works");
            }
        }
        let authority = self.oracle.view().authority();
        let mut record = self.record.lock().expect("no panic");
        record.facts = at + 1;
        if let Fact::Floor(floor) = fact {
            record.floors.insert(floor.id());
        }
        for (grant, _) in &self.grants {
            let Some(live) = authority.grant(&grant.id()) else {
                record.dead.entry(grant.id()).or_insert(at);
                continue;
            };
            if let Some(until) = live.valid_until() {
                record.until.insert(grant.id(), until);
            }
        }
        for made in record.entries.values_mut().filter(|made| made.dead_from.is_none()) {
            let ended = made.grant.is_some_and(|grant| authority.grant(&grant).is_none());
            if ended || authority.is_floored(&made.key, made.timestamp) {
                made.dead_from = Some(at);
            }
        }
    }

    /// Offers facts to an agent, in the order in which they were made.
    async fn give(&mut self, place: usize, numbers: &[usize]) {
        let place = &mut self.agents[place];
        let new: Vec<usize> =
            numbers.iter().copied().filter(|number| !place.given.contains(number)).collect();
        let facts: Vec<_> = new.iter().map(|number| Ok(self.facts[*number].clone())).collect();
        if facts.is_empty() {
            return;
        }
        let verdicts = place.agent.put_facts(&facts).await.expect("the store works");
        // What lacks its chain is offered again another time.
        let unjustified = |verdict| matches!(verdict, kvgossip_grants::Verdict::Unjustified(_));
        place
            .given
            .extend(new.iter().zip(verdicts).filter(|(_, v)| !unjustified(*v)).map(|(number, _)| *number));
    }

    /// One agent learns what another has.
    pub async fn gossip(&mut self) {
        let (from, to) = (self.dice(AGENTS), self.dice(AGENTS));
        let all: Vec<usize> = self.agents[from].given.iter().copied().collect();
        self.give(to, &all).await;
    }

    pub fn cut(&mut self) {
        let place = self.dice(AGENTS);
        self.agents[place].tap.cut();
    }

    /// All connections break, and one agent alone can be reached: perhaps the same as before.
    pub fn flicker(&mut self) {
        let place = self.dice(AGENTS);
        self.agents.iter().for_each(|agent| agent.tap.cut());
        self.agents[place].mend();
    }

    pub fn mend(&mut self) {
        let place = self.dice(AGENTS);
        self.agents[place].mend();
    }

    /// An agent begins anew, with a store that may lack its last facts.
    pub async fn restart(&mut self) {
        let place = self.dice(AGENTS);
        self.restarts += 1;
        let keep = self.agents[place].given.len().saturating_sub(self.dice(10));
        let kept: Vec<usize> = self.agents[place].given.iter().copied().take(keep).collect();
        let again = start(config(self.agents[place].number)).await;
        let old = std::mem::replace(&mut self.agents[place].agent, again);
        old.stop().await;
        self.agents[place].given.clear();
        self.give(place, &kept).await;
        self.agents[place].mend();
    }

    /// Everybody has everything and can be reached.
    pub async fn peace(&mut self) {
        let all: Vec<usize> = (0..self.facts.len()).collect();
        for place in 0..AGENTS {
            self.give(place, &all).await;
            self.agents[place].mend();
        }
    }

    /// The entry that a replica with all facts shows, by the client's clock.
    pub fn shown(&self, number: usize) -> Option<EntryId> {
        self.oracle.view().shown(&key(number), self.clock.now()).map(|entry| entry.id)
    }

    pub async fn end(self) {
        for place in self.agents {
            place.agent.stop().await;
        }
    }
}

impl Place {
    fn mend(&self) {
        self.tap.mend(self.agent.http_address().expect("TCP"));
    }
}
