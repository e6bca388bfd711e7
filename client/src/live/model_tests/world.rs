//! Agents as engine replicas, with the facts that they hold.

use super::teller::{front, json, record, row};
use bytes::Bytes;

use kvgossip_engine::{Cause, MemoryStorage, Replica, Storage};
use kvgossip_grants::{
    By, EntryDraft, EntryFact, EntryId, Fact, FactId, Floor, Grant, GrantId, Key, KeyGlob, MockKey,
    MockVerifier, Revocation, Signed, Signer, Timestamp,
};

pub(super) const KEYS: usize = 5;
pub(super) const AGENTS: usize = 3;

pub(super) fn key(number: usize) -> Key {
    format!("/k/{number}").parse().expect("a key")
}

/// Replica with its store, and all facts given to it.
pub(super) struct Agent {
    pub(super) replica: Replica,
    pub(super) storage: MemoryStorage,
    log: Vec<Fact>,
    /// Facts whose id has one of these bits in its first byte are left out.
    pub(super) omits: u8,
    /// Number of the agent's present run.
    pub(super) epoch: u64,
    /// Changes caused by each fact of this run.
    pub(super) history: Vec<Step>,
}

/// An authority fact, and the keys that changed with the cause.
pub(super) type Step = (Option<FactId>, Vec<(Key, Cause)>);

impl Agent {
    fn new(root: &MockKey, epoch: u64) -> Self {
        Self {
            replica: Replica::new(root.public().clone()),
            storage: MemoryStorage::new(),
            log: Vec::new(),
            omits: 0,
            epoch,
            history: Vec::new(),
        }
    }

    /// Takes in a fact. Returns the keys that changed, or `None` if nothing did.
    pub(super) fn take(&mut self, fact: &Fact, now: Timestamp) -> Option<Vec<(Key, Cause)>> {
        if fact.id().0[0] & self.omits != 0 {
            return None;
        }
        let checked = self.replica.view().check(fact.clone(), now).ok()?;
        let verified = checked.verify(&MockVerifier).ok()?;
        let reader = self.storage.reader();
        let applied = self.replica.apply(vec![verified], reader.as_ref()).expect("memory works");
        self.storage.commit(&applied.batch?).expect("memory works");
        self.log.push(fact.clone());
        Some(applied.changes.into_iter().map(|change| (change.key, change.cause)).collect())
    }

    pub(super) fn ids(&self, key: &Key) -> Vec<EntryId> {
        self.replica.view().frontier(key).into_iter().flat_map(|frontier| frontier.ids()).collect()
    }

    /// Returns a live entry with its value.
    pub(super) fn entry(&self, key: &Key, id: &EntryId) -> Option<EntryFact> {
        let stands = self.replica.view().frontier(key).is_some_and(|frontier| frontier.contains(id));
        let record = self.storage.reader().entry(key, id).expect("memory works").filter(|_| stands)?;
        match Fact::from_record(self.replica.view().authority().cluster(), &record).expect("a fact") {
            Fact::Entry(fact) => Some(fact),
            _ => None,
        }
    }
}

pub(super) struct World {
    random: u64,
    pub(super) now: Timestamp,
    people: Vec<MockKey>,
    pub(super) agents: Vec<Agent>,
    grants: Vec<Signed<Grant>>,
    /// Replica with everything that the client was sent and still covers.
    oracle: Agent,
    told: Vec<Fact>,
    /// Changes not yet delivered to streams, by agent.
    pub(super) news: Vec<(usize, Step)>,
    pub(super) lost_agent: Option<usize>,
    epochs: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let people: Vec<_> = (0..4).map(MockKey::new).collect();
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: Timestamp::ZERO.saturating_add(1_000_000_000),
            agents: (0..AGENTS).map(|number| Agent::new(&people[0], number as u64)).collect(),
            oracle: Agent::new(&people[0], 0),
            people,
            grants: Vec::new(),
            told: Vec::new(),
            news: Vec::new(),
            lost_agent: None,
            epochs: AGENTS as u64,
        }
    }

    pub(super) fn root(&self) -> &MockKey {
        &self.people[0]
    }

    /// Returns a random number below `sides`.
    pub(super) fn dice(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn sign<B: kvgossip_grants::AuthorityBody>(&self, body: B, by: usize) -> Signed<B> {
        Signed::sign(self.root().public().cluster(), body, &self.people[by]).expect("a mock signature")
    }

    pub(super) fn give(&mut self, agent: usize, fact: &Fact) {
        let now = self.now;
        if let Some(keys) = self.agents[agent].take(fact, now) {
            let step = (fact.is_authority().then(|| fact.id()), keys);
            self.agents[agent].history.push(step.clone());
            self.news.push((agent, step));
        }
    }

    /// Creates a fact and puts it at some agent.
    pub(super) fn write(&mut self) {
        let agent = self.dice(AGENTS);
        self.now = self.now.saturating_add(1 + self.dice(3) as u64);
        let fact = match self.dice(20) {
            0..=4 => self.make_grant(),
            5 | 6 => match self.grants.is_empty() {
                true => return,
                false => {
                    let pick = self.dice(self.grants.len());
                    let revocation =
                        Revocation { grant: self.grants[pick].clone(), by: By::Root, revoked_at: self.now };
                    Fact::Revocation(self.sign(revocation, 0))
                }
            },
            7 => {
                let pattern: KeyGlob =
                    if self.dice(2) == 0 { "/k/*" } else { "/k/1" }.parse().expect("a glob");
                let before = self.now.saturating_sub(self.dice(40) as u64);
                let nonce = [self.dice(250) as u8; 16];
                Fact::Floor(self.sign(Floor { patterns: vec![pattern], before, nonce }, 0))
            }
            _ => self.make_entry(agent),
        };
        self.give(agent, &fact);
    }

    fn make_grant(&mut self) -> Fact {
        let parent = if self.grants.is_empty() || self.dice(2) == 0 {
            None
        } else {
            Some(self.dice(self.grants.len()))
        };
        let parent = parent.map(|pick| self.grants[pick].clone());
        let by = parent.as_ref().map_or(0, |parent| self.person(&parent.body().grantee.entity()));
        let grantee = 1 + self.dice(3);
        let expires_at = (self.dice(2) == 0).then(|| self.now.saturating_add(10 + self.dice(60) as u64));
        let grant = Grant {
            issuer: self.people[by].public().entity(),
            grantee: self.people[grantee].public().clone(),
            pattern: if self.dice(3) == 0 { "/k/1" } else { "/k/**" }.parse().expect("a glob"),
            subgrant: true,
            parent: parent.map(|parent| parent.id()),
            issued_at: self.now,
            expires_at,
            nonce: [self.dice(250) as u8; 16],
        };
        let grant = self.sign(grant, by);
        self.grants.push(grant.clone());
        Fact::Grant(grant)
    }

    fn person(&self, entity: &kvgossip_grants::EntityId) -> usize {
        self.people.iter().position(|person| person.public().entity() == *entity).expect("somebody")
    }

    fn make_entry(&mut self, agent: usize) -> Fact {
        let live: Vec<GrantId> =
            self.agents[agent].replica.view().authority().grants().map(|grant| grant.id()).collect();
        let cited =
            if live.is_empty() || self.dice(8) == 0 { None } else { Some(live[self.dice(live.len())]) };
        let by = cited.and_then(|id| self.grants.iter().find(|grant| grant.id() == id).cloned());
        let by = by.map_or(0, |grant| self.person(&grant.body().grantee.entity()));
        let key = key(self.dice(KEYS));
        self.entry(key, by, cited)
    }

    fn entry(&mut self, key: Key, by: usize, grant: Option<GrantId>) -> Fact {
        let timestamp = self.now.saturating_sub(self.dice(10) as u64);
        self.entry_at(timestamp, key, by, grant)
    }

    fn entry_at(&mut self, timestamp: Timestamp, key: Key, by: usize, grant: Option<GrantId>) -> Fact {
        let value = Bytes::from(self.dice(1000).to_string());
        let draft = EntryDraft { key, value: (self.dice(5) > 0).then_some(value), timestamp, grant };
        let signed = EntryFact::sign(self.root().public().cluster(), draft, &self.people[by]);
        Fact::Entry(signed.expect("a mock signature"))
    }

    /// Returns a replica with everything that these agents hold and the client was sent.
    pub(super) fn truth(&self, agents: &[usize]) -> Agent {
        let mut truth = Agent::new(&self.people[0], 0);
        // A fact that lacked its chain the first time finds it later.
        for _ in 0..4 {
            let held = agents.iter().flat_map(|agent| &self.agents[*agent].log);
            held.chain(&self.told).for_each(|fact| drop(truth.take(fact, self.now)));
        }
        truth
    }

    /// Copies everything that one agent holds to another.
    pub(super) fn gossip(&mut self) {
        let (from, to) = (self.dice(AGENTS), self.dice(AGENTS));
        self.copy(from, to);
    }

    pub(super) fn gossip_all(&mut self) {
        // Facts that agents lost and the client still knows come back to them eventually.
        for fact in self.told.clone() {
            self.give(0, &fact);
        }
        for from in 0..AGENTS {
            (0..AGENTS).filter(|to| *to != from).for_each(|to| self.copy(from, to));
        }
    }

    fn copy(&mut self, from: usize, to: usize) {
        let log = self.agents[from].log.clone();
        // A fact that lacked its chain the first time finds it the second time.
        for fact in log.iter().chain(&log) {
            self.give(to, fact);
        }
    }

    /// Restarts an agent with a store that lost its last facts.
    pub(super) fn lag(&mut self) {
        let agent = self.dice(AGENTS);
        let log = self.agents[agent].log.clone();
        let kept = log.len() - self.dice(log.len().min(6) + 1);
        self.epochs += 1;
        let mut again = Agent::new(&self.people[0], self.epochs);
        again.omits = self.agents[agent].omits;
        for fact in &log[..kept] {
            again.take(fact, self.now);
        }
        self.agents[agent] = again;
        self.news.retain(|(other, ..)| *other != agent);
        self.lost_agent = Some(agent);
    }

    pub(super) fn pass_time(&mut self) {
        self.now = self.now.saturating_add(1 + self.dice(40) as u64);
    }

    /// Creates an entry of `key` that must not be accepted: under another's grant, without a grant, or with a
    /// broken signature.
    pub(super) fn forgery(&mut self, key: &Key) -> String {
        // No floor covers it, because an entry that is over is not checked further.
        let (liar, now) = (3, self.now.saturating_add(1));
        let fact = match self.dice(3) {
            0 => self.entry_at(now, key.clone(), liar, None),
            1 => match self.grants.iter().find(|grant| {
                let live = self.oracle.replica.view().authority().grant(&grant.id()).is_some();
                live && grant.body().grantee != *self.people[liar].public()
            }) {
                Some(grant) => {
                    let cited = grant.id();
                    self.entry_at(now, key.clone(), liar, Some(cited))
                }
                None => self.entry_at(now, key.clone(), liar, None),
            },
            _ => {
                // Signed by root and far newer than all others, but the signature is of something else.
                let value = Bytes::from_static(b"forged");
                let draft = EntryDraft {
                    key: key.clone(),
                    value: Some(value.clone()),
                    timestamp: self.now.saturating_add(1000),
                    grant: None,
                };
                let cluster = self.root().public().cluster();
                let good = EntryFact::sign(cluster, draft, &self.people[0]).expect("a mock signature");
                let bad = Signed::parse(cluster, good.signed().bytes(), &[7; 256]).expect("well-formed");
                Fact::Entry(EntryFact::new(bad, value).expect("its value"))
            }
        };
        let Fact::Entry(entry) = &fact else { unreachable!("an entry") };
        let mut row = row(key, Some(entry.id()));
        row.entries = vec![entry.id().to_string()];
        if self.dice(2) == 0 {
            row.fronts_b64 = vec![front(entry)];
        } else {
            row.records_b64 = vec![record(&fact)];
        }
        json(&row)
    }

    pub(super) fn tell_oracle(&mut self, fact: Fact) {
        self.told.push(fact.clone());
        let now = self.now;
        if self.oracle.take(&fact, now).is_some() && fact.is_authority() {
            self.offer_again();
        }
    }

    /// Offers facts again that may have had to wait for their grant.
    fn offer_again(&mut self) {
        let now = self.now;
        for fact in self.told.clone() {
            self.oracle.take(&fact, now);
        }
    }

    /// Forgets entries of keys that the client does not cover any more.
    pub(super) fn forget(&mut self, covered: &dyn Fn(&Key) -> bool) {
        self.told.retain(|fact| match fact {
            Fact::Entry(entry) => covered(&entry.entry().key),
            _ => true,
        });
        self.oracle = Agent::new(&self.people[0], 0);
        for _ in 0..4 {
            self.offer_again();
        }
    }

    pub(super) fn oracle_shown(&self, key: &Key) -> Option<EntryId> {
        self.oracle.replica.view().shown(key, self.now).map(|entry| entry.id)
    }

    pub(super) fn oracle_newest(&self, key: &Key) -> Option<EntryId> {
        self.oracle.replica.view().frontier(key)?.shown(self.now).map(|entry| entry.meta.id)
    }

    pub(super) fn oracle_ids(&self, key: &Key) -> Vec<EntryId> {
        self.oracle.ids(key)
    }

    pub(super) fn agent_ids(&self, agent: usize, key: &Key) -> Vec<EntryId> {
        self.agents[agent].ids(key)
    }

    /// Returns whether an entry is revoked, floored or expired by the facts sent.
    pub(super) fn is_dead(&self, key: &Key, id: &EntryId) -> bool {
        let authority = self.oracle.replica.view().authority();
        self.told.iter().any(|fact| match fact {
            Fact::Entry(entry) if entry.id() == *id => {
                authority.is_floored(key, entry.entry().timestamp)
                    || authority.entry_grant(entry.signed()).is_err()
                    || authority.is_masked(entry.entry().grant.as_ref(), self.now)
            }
            _ => false,
        })
    }
}
