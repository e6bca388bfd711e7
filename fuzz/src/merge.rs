//! Fuzz target that compares merging with the definitions: facts made from the input's bytes are offered in any order
//! to real replicas, whose answers and states must be those that [`naive`](kvgossip_sim::naive) requires.
//!
//! The input is a sequence of operations (u8 ‖ operands): some make a fact, some act on one of two replicas.

use crate::Seed;
use crate::input::Input;
use kvgossip_grants::{By, Fact, Grant, Key, Signed, Signer, Timestamp};
use kvgossip_sim::naive::{Cluster, Facts};
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::subject::answer;
use kvgossip_sim::world::{NOW, SECOND};
use kvgossip_sim::{Link, Scribe, SimReplica, World, check_state, sync};

const ENTITIES: usize = 5;
/// Maximum numbers of facts and of operations of an input.
const MAX_FACTS: usize = 24;
const MAX_OPERATIONS: usize = 120;
const KEYS: [&str; 5] = ["/a", "/a/x", "/a/y", "/b/x", "/%20/x"];
const PATTERNS: [&str; 8] = ["/**", "/a/**", "/**/x", "/*", "/a/*", "/b/**", "/a/x", "/?/x"];
/// Timestamps in seconds; the last two are ahead of all clocks: one just within the allowed lead, one beyond it.
const TIMES: [u64; 8] = [1_000, 1_001, 1_002, 1_010, 1_020, 1_030, 10_120, 10_121];
const VALUES: [&[u8]; 3] = [b"", b"one", b"two"];

/// Runs one input: see the [module documentation](self).
pub fn run(data: &[u8]) {
    let mut machine = Machine::new();
    let mut input = Input::new(data);
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        machine.step(&mut input);
    }
    machine.finish();
}

/// Two replicas and all facts that were made.
struct Machine {
    world: World,
    grants: Vec<Signed<Grant>>,
    replicas: [SimReplica; 2],
}

impl Machine {
    fn new() -> Self {
        let scribe = Scribe::new(ENTITIES);
        let publics: Vec<_> = (0..ENTITIES).map(|who| scribe.key(who).public()).collect();
        let cluster = Cluster::new(scribe.root(), publics);
        let root = scribe.root().clone();
        let keys = KEYS.iter().filter_map(|key| Key::parse(key).ok()).collect();
        let replicas = [0, 1].map(|_| SimReplica::new(root.clone(), at(NOW)).with_journal());
        let world = World { seed: 0, cluster, root, facts: Vec::new(), keys, scribe };
        Self { world, grants: Vec::new(), replicas }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let operation = input.byte() % 16;
        if operation < 8 && self.world.facts.len() < MAX_FACTS {
            let fact = match operation {
                0..=2 => self.grant(input),
                3..=5 => self.entry(input),
                6 => self.revocation(input),
                _ => self.floor(input),
            };
            let offers = input.byte();
            self.world.facts.extend(fact.clone());
            for side in [0, 1] {
                if let Some(fact) = fact.as_ref().filter(|_| offers >> side & 1 == 0) {
                    self.offer(side, fact);
                }
            }
            return;
        }
        let side = usize::from(operation & 1);
        match operation {
            8..=11 if !self.world.facts.is_empty() => {
                let fact = self.world.facts[input.below(self.world.facts.len())].clone();
                self.offer(side, &fact);
            }
            12 | 13 => self.restart(side),
            14 => self.meet(input),
            _ if !self.world.facts.is_empty() => {
                let fact = &self.world.facts[input.below(self.world.facts.len())];
                let forged = self.world.scribe.forge(fact, input.below(ENTITIES));
                self.world.facts.push(forged.clone());
                self.offer(side, &forged);
            }
            _ => {}
        }
    }

    fn grant(&mut self, input: &mut Input<'_>) -> Option<Fact> {
        let parent = self.cited(input);
        let issuer = match &parent {
            None => 0,
            Some(parent) => self.world.scribe.who(&parent.body().grantee)?,
        };
        let flags = input.byte();
        let grantee = input.below(ENTITIES);
        let terms = Terms {
            subgrant: flags & 1 == 0,
            issued_at: if flags & 6 == 6 { input.pick(&TIMES) * SECOND } else { 0 },
            expires_at: (flags & 24 == 24).then(|| input.pick(&TIMES) * SECOND),
        };
        let pattern = input.pick(&PATTERNS);
        let parent = parent.map(|parent| parent.id());
        let grant = self.world.scribe.grant(issuer, grantee, pattern, parent, terms);
        self.grants.push(grant.clone());
        Some(Fact::Grant(grant))
    }

    /// Selects one of the grants made so far, or none; the byte 0 selects the newest.
    fn cited(&self, input: &mut Input<'_>) -> Option<Signed<Grant>> {
        let back = input.below(self.grants.len() + 1);
        self.grants.iter().rev().nth(back).cloned()
    }

    fn entry(&self, input: &mut Input<'_>) -> Option<Fact> {
        let grant = self.cited(input);
        let who = match &grant {
            None => 0,
            Some(grant) => self.world.scribe.who(&grant.body().grantee)?,
        };
        let (key, time) = (input.pick(&KEYS), input.pick(&TIMES) * SECOND);
        let grant = grant.map(|grant| grant.id());
        Some(match input.below(VALUES.len() + 1) {
            0 => self.world.scribe.delete(who, key, time, grant),
            value => self.world.scribe.set(who, key, VALUES[value - 1], time, grant),
        })
    }

    fn revocation(&self, input: &mut Input<'_>) -> Option<Fact> {
        let grant = self.cited(input)?;
        let (issuer, grantee) = (self.world.scribe.who_is(grant.body().issuer)?, &grant.body().grantee);
        let (by, who) = match input.byte() % 3 {
            1 if grant.body().parent.is_some() => (By::Issuer, issuer),
            2 => (By::Grantee, self.world.scribe.who(grantee)?),
            _ => (By::Root, 0),
        };
        Some(self.world.scribe.revoke(&grant, by, who, u64::from(input.byte())))
    }

    fn floor(&mut self, input: &mut Input<'_>) -> Option<Fact> {
        let patterns: Vec<&str> = (0..=input.below(3)).map(|_| input.pick(&PATTERNS)).collect();
        let before = input.pick(&TIMES) * SECOND;
        Some(self.world.scribe.floor(&patterns, before))
    }

    fn offer(&mut self, side: usize, fact: &Fact) {
        let replica = &mut self.replicas[side];
        let empty = Facts::new();
        let wanted = self.world.cluster.answer(replica.taken().unwrap_or(&empty), fact, replica.now);
        let verdict = replica.offer(fact.clone());
        assert_eq!(answer(verdict), wanted, "{verdict:?}: {}\n{}", self.world.describe(fact), self.world);
    }

    fn restart(&mut self, side: usize) {
        let replica = &mut self.replicas[side];
        let before = replica.view().root();
        replica.restart().unwrap_or_else(|error| panic!("{error}\n{}", self.world));
        assert_eq!(replica.view().root(), before, "{}", self.world);
    }

    fn meet(&mut self, input: &mut Input<'_>) {
        let seed = u64::from(input.byte());
        let [a, b] = &mut self.replicas;
        let ended = sync(a, b, &Link { seed, batch: 1 + input.below(8), ..Link::default() });
        assert!(ended.error.is_none(), "{:?}\n{}", ended.error, self.world);
        assert_eq!(ended.outcome, ended.responder_outcome);
    }

    /// Checks that each state is the normal form of the facts taken in and, after all facts were offered until nothing
    /// merges, that of all sound facts.
    fn finish(mut self) {
        self.check();
        for replica in &mut self.replicas {
            let mut merged = true;
            while std::mem::take(&mut merged) {
                for fact in &self.world.facts {
                    merged |= replica.offer(fact.clone()) == kvgossip_grants::Verdict::Merged;
                }
            }
        }
        self.check();
        let all = self.world.cluster.normal_form(&self.world.sound_at(Timestamp::ZERO.saturating_add(NOW)));
        for replica in &self.replicas {
            let stored: Facts = replica.facts().into_iter().map(|fact| (fact.id(), fact)).collect();
            assert_eq!(stored, all, "{}", self.world);
        }
    }

    fn check(&self) {
        for replica in &self.replicas {
            if let Err(complaint) = check_state(&self.world, replica) {
                panic!("{complaint}\n{}", self.world);
            }
        }
    }
}

/// Returns inputs with every operation: chains that end in each way, floors, contests of a key, restarts and sessions.
pub fn seeds() -> Vec<Seed> {
    // Operands of grants: parent, flags, grantee, pattern; of entries: grant, key, time, value. Then the replicas to
    // which the fact is offered.
    let top = [0, 0, 0, 1, 0, 0];
    let below = [0, 0, 0, 2, 1, 0];
    let set = |grant: u8, key: u8, time: u8, value: u8| [3, grant, key, time, value, 0];
    let revoke = |grant: u8, by: u8| [6, grant, by, 9, 0];
    let floor = [7, 1, 0, 1, 4, 0];
    let named = |name: &str, parts: &[&[u8]]| (name.to_owned(), parts.concat());
    vec![
        named("root_writes", &[&set(0, 0, 1, 1), &set(0, 0, 2, 0), &set(0, 0, 1, 2)]),
        named("a_grant_and_its_entries", &[&top, &set(0, 1, 1, 1), &set(0, 1, 2, 2), &set(0, 2, 1, 0)]),
        named(
            "contest",
            &[&top, &below, &set(0, 1, 3, 1), &set(1, 1, 2, 2), &set(2, 1, 1, 1), &set(2, 1, 5, 2)],
        ),
        named("revoked_by_root", &[&top, &below, &set(0, 1, 1, 1), &revoke(1, 0), &set(0, 1, 2, 1)]),
        named("revoked_by_each", &[&top, &below, &revoke(0, 2), &revoke(0, 1), &revoke(0, 0)]),
        named("revoked_unseen", &[&[0, 0, 0, 1, 0, 3], &revoke(0, 0), &[8, 0], &set(0, 1, 1, 1)]),
        named("child_before_parent", &[&[0, 0, 0, 1, 0, 3], &below, &[8, 1], &[9, 1], &[8, 0], &[8, 1]]),
        named(
            "floors",
            &[&top, &set(0, 1, 1, 1), &set(0, 1, 5, 2), &floor, &[7, 0, 0, 3, 0], &set(0, 1, 0, 1)],
        ),
        named("expiry", &[&[0, 0, 24, 1, 4, 0, 0], &set(0, 1, 3, 1), &set(0, 1, 5, 1), &set(1, 1, 2, 2)]),
        named("no_subgrant", &[&[0, 0, 1, 1, 0, 0], &below, &set(0, 1, 1, 1)]),
        named("from_the_future", &[&top, &set(0, 1, 6, 1), &set(0, 1, 7, 1)]),
        named("forged", &[&top, &[15, 0, 2], &set(0, 1, 1, 1), &[15, 2, 3]]),
        named("restarts", &[&top, &set(0, 1, 1, 1), &[12], &floor, &[13], &revoke(0, 0), &[12]]),
        named(
            "sessions",
            &[&top, &[3, 0, 1, 1, 1, 1], &[3, 0, 1, 2, 2, 2], &[14, 1, 3], &revoke(0, 0), &[14, 2, 1]],
        ),
        named(
            "apart",
            &[
                &[0, 0, 0, 1, 0, 2],
                &[0, 0, 0, 2, 1, 2],
                &[3, 0, 1, 1, 1, 2],
                &[6, 1, 0, 9, 1],
                &[7, 0, 0, 4, 1],
                &[14, 7, 0],
                &[8, 0],
                &[14, 7, 7],
            ],
        ),
    ]
}
