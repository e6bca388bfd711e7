//! Clusters with delegation: chains of grants up to the maximum depth, with grants and entries at each level, and the
//! required result of a fresh replica's first session with such a cluster.

use crate::carrier::{Drive, DriveFlaw, HostKind};
use crate::dice::Dice;
use crate::drive::{Driven, drive};
use crate::judge::check_state;
use crate::pair::Link;
use crate::replica::SimReplica;
use crate::scribe::{Scribe, Terms, at};
use crate::subject::Complaint;
use crate::world::{NOW, World};
use kvgossip_engine::session::Outcome;
use kvgossip_grants::{By, Fact, GrantId};

/// Number of entities of a world of chains, including root.
const ENTITIES: usize = 6;

/// Makes a world with chains of `depth` grants.
pub fn chains(seed: u64, depth: usize) -> World {
    let mut dice = Dice::new(seed, 21);
    let mut maker = Maker { scribe: Scribe::new(ENTITIES), keys: Vec::new(), facts: Vec::new() };
    for chain in 0..dice.within(1, 3) {
        maker.chain(chain, depth, &mut dice);
    }
    World::of(seed, maker.scribe, &maker.keys, maker.facts)
}

struct Maker {
    scribe: Scribe,
    keys: Vec<String>,
    facts: Vec<Fact>,
}

impl Maker {
    fn chain(&mut self, chain: usize, depth: usize, dice: &mut Dice) {
        let (mut holder, mut parent) = (0, None);
        for level in 1..=depth {
            // Some grants end the chain here, and some of those are revoked.
            for _ in 0..dice.within(0, 2) {
                let grantee = dice.within(1, ENTITIES - 1);
                let leaf = self.scribe.grant(holder, grantee, "/**", parent, Terms::default());
                self.entries(chain, level, grantee, leaf.id(), dice);
                if dice.chance(30) {
                    self.facts.push(self.scribe.revoke(&leaf, By::Root, 0, NOW));
                }
                self.facts.push(Fact::Grant(leaf));
            }
            let grantee = dice.within(1, ENTITIES - 1);
            let grant = self.scribe.grant(holder, grantee, "/**", parent, Terms::default());
            self.entries(chain, level, grantee, grant.id(), dice);
            (holder, parent) = (grantee, Some(grant.id()));
            self.facts.push(Fact::Grant(grant));
        }
        if dice.chance(20) {
            let floor = self.scribe.floor(&["/nothing/**"], 100);
            self.facts.push(floor);
        }
    }

    fn entries(&mut self, chain: usize, level: usize, who: usize, grant: GrantId, dice: &mut Dice) {
        for number in 0..dice.within(1, 3) {
            // Some keys are written at every level.
            let key = if dice.chance(80) {
                format!("/c{chain}/l{level}/{number}")
            } else {
                format!("/shared/{number}")
            };
            let time = 1_000 + dice.within(0, 50) as u64;
            self.facts.push(self.scribe.set(who, &key, b"value", time, Some(grant)));
            if !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
    }
}

/// Runs one driven session between a fresh replica and one that holds everything. It must transfer everything exactly
/// once, in one session and one round, and nothing in vain.
///
/// # Errors
/// The first violation.
pub fn fresh(seed: u64, depth: usize, flaw: Option<DriveFlaw>) -> Result<Driven, Complaint> {
    let world = chains(seed, depth);
    let replica = || SimReplica::new(world.root.clone(), at(NOW)).with_journal();
    let (mut full, mut fresh) = (replica(), replica());
    for fact in parents_first(&world.facts) {
        let verdict = full.offer(fact.clone());
        if !verdict.is_taken_in() && !fact.is_authority() {
            // It cites a grant that was revoked.
            continue;
        }
        if !verdict.is_taken_in() {
            return Err(Complaint::Answer(format!("{verdict:?} to {}", world.describe(&fact))));
        }
    }
    let link = Link { seed, ..Link::default() };
    let how = Drive { flaw, ..Drive::random(seed) };
    let fresh_begins = Dice::new(seed, 22).chance(50);
    let driven = if fresh_begins {
        drive(&mut fresh, &mut full, &link, &how)
    } else {
        drive(&mut full, &mut fresh, &link, &how)
    };
    let complain = |what: &str| Err(Complaint::Session(format!("depth {depth}: {what}: {how:?} {driven:?}")));
    let ended = &driven.ended;
    if driven.stalled.is_some() {
        return complain("a side waits for what does not come");
    }
    if ended.error.is_some() {
        return complain("it failed");
    }
    if (ended.outcome, ended.responder_outcome) != (Some(Outcome::Equal), Some(Outcome::Equal)) {
        return complain("it did not end equal");
    }
    let (ours, judged) =
        if fresh_begins { (ended.tally, driven.judged.0) } else { (ended.responder_tally, driven.judged.1) };
    if ours.rounds != 1 || ended.tally.waste + ended.responder_tally.waste > 0 {
        return complain("it took more than one round, or moved something in vain");
    }
    if how.host == HostKind::InOrder && judged != ours.merged {
        return complain("a fact was judged more than once");
    }
    if fresh.view().root() != full.view().root() {
        return Err(Complaint::Unequal("after one session".into()));
    }
    check_state(&world, &fresh)?;
    Ok(driven)
}

/// Sorts facts so that authority facts come before entries, and each grant after its parent: grants keep the order in
/// which they were made.
fn parents_first(facts: &[Fact]) -> impl Iterator<Item = Fact> {
    let rank = |fact: &Fact| match fact {
        Fact::Grant(_) => 0,
        Fact::Entry(_) => 1,
        _ => 2,
    };
    let mut facts = facts.to_vec();
    facts.sort_by_key(rank);
    facts.into_iter()
}
