//! The judge of the merge laws: it runs random worlds and checks the laws below.
//!
//! # What is judged
//! A *world* is the set of all facts that were ever signed. `V` is the set of sound facts in it: well-formed, and
//! signed by the entity that they name. A replica *takes a fact in* when it merges it or finds it moot. A fact that it
//! finds unjustified or not yet due is not taken in: whoever holds it offers it again, until a pass over all of them
//! merges nothing. Let `T` be the set of all facts that a replica has taken in so far, from any source, and `N` the
//! normal form of [`naive`](crate::naive). Then:
//!
//! 1. **At any moment** the state of a replica is `N(T)`: the same facts byte for byte, the same digests, and for every
//!    reader at any time the entry that the definitions require. Nothing that `N` leaves out was needed.
//! 2. **An offer** gets the defined answer: `moot` exactly if `N(T ∪ f) = N(T)`, `merged` exactly if it differs,
//!    `unjustified` exactly if the cited chain is not in `live(T)`, and so on. `T` never contains an unsound fact.
//! 3. **When everything was offered** to a replica until a pass merges nothing, its state is `N(V)`, less the entries
//!    that are early by its clock. (A fact that was never taken in cites a chain that is not live in `T`, and hence not
//!    in `V` either: a fact that ends a grant is taken in wherever the grant above it is live.)
//! 4. **When facts are spread** over replicas in any way, with sessions between any two, complete or cut, of everything
//!    or of a path prefix, and with restarts between them, the result is the same: once every clock is past every
//!    timestamp, complete sessions along any line of all replicas, forth and back, and offering the remaining facts
//!    again, bring all replicas to `N(V)`, which is also `N` of all facts taken in anywhere.
//! 5. **Every session ends** within three rounds, and both sides agree on the outcome. It is `equal` exactly if both
//!    hold the same facts. Between honest replicas only early entries and a side that takes no facts prevent equality;
//!    without these, one round is enough. (Exception: a collision of two short hashes, once in a great many sessions;
//!    the next session has another salt.)
//! 6. **The change feed is consistent**: each change continues from the previous one, and together they give the newest
//!    entry of each key.
//!
//! Order, duplication, partition and clocks therefore do not affect the final state. They do affect `T`: which facts
//! below an ended grant, or which entries older than one that only some clocks accept, a replica ever receives. `N`
//! does not depend on that difference.

use crate::carrier::{Drive, DriveFlaw};
use crate::dice::Dice;
use crate::expected::Expected;
use crate::naive::Answer;
use crate::pair::{Cut, Link, Meanwhile};
use crate::report::{Failure, Stats};
use crate::scribe::at;
use crate::subject::{Complaint, Met, Subject};
use crate::world::{CLOCKS, LATE, World};
use kvgossip_grants::{Fact, Key, PathPrefix, Timestamp};
use std::collections::BTreeMap;

/// Of the runs with a single replica, one in this many is checked after each offer.
const WATCHED: u64 = 16;
/// Maximum number of facts of a world whose runs are checked after each offer, since evaluating the definitions for
/// each offer is slow.
const WATCHED_FACTS: usize = 100;
/// Percentage of runs in which facts are spread over several replicas.
const SPREAD_PERCENT: u32 = 30;
/// Maximum number of rounds of complete sessions and repeated offers until all replicas must be equal. Each link of a
/// chain may need one.
const MAX_SETTLING: usize = 24;

/// Judge of the runs of one world.
#[derive(Debug)]
pub struct Judge<'w> {
    world: &'w World,
    /// Required state of a replica after everything was offered to it, by the time of its clock.
    expected: BTreeMap<Timestamp, Expected>,
    drives: Drives,
}

/// Selects the sessions that run through drivers.
#[derive(Clone, Copy, Debug, Default)]
struct Drives {
    /// Whether all sessions run through drivers, and not only every second one.
    all: bool,
    flaw: Option<DriveFlaw>,
}

impl<'w> Judge<'w> {
    /// Creates the judge of `world` and computes the states that every run must reach.
    pub fn new(world: &'w World) -> Self {
        let clocks = CLOCKS.iter().chain([&LATE]).map(|clock| at(*clock));
        let expected = clocks.map(|clock| (clock, Expected::new(world, &world.sound_at(clock)))).collect();
        Self { world, expected, drives: Drives::default() }
    }

    /// Makes all sessions run through drivers, with `flaw` planted in their carriers; `None`: no fault.
    pub fn all_driven(mut self, flaw: Option<DriveFlaw>) -> Self {
        self.drives = Drives { all: true, flaw };
        self
    }

    /// Performs the run with the number `order`: all its random choices follow from that and the world's seed.
    pub fn run<S: Subject>(
        &self,
        order: u64,
        make: &dyn Fn(Timestamp) -> S,
        stats: &mut Stats,
    ) -> Result<(), Failure> {
        let mut dice = Dice::new(self.world.seed, order + 1);
        let spread = dice.chance(SPREAD_PERCENT);
        let mut run = Run { judge: self, world: self.world, dice, stats };
        run.stats.runs += 1;
        let watched = order.is_multiple_of(WATCHED) && self.world.facts.len() <= WATCHED_FACTS;
        let result = if spread { run.spread(make) } else { run.alone(make, watched) };
        result.map_err(|complaint| Failure { seed: self.world.seed, order, complaint })
    }

    fn check_all_offered<S: Subject>(&self, subject: &S) -> Result<(), Complaint> {
        match self.expected.get(&subject.clock()) {
            Some(expected) => expected.check(self.world, subject),
            None => Ok(()),
        }
    }
}

/// Checks law 1: the state is the normal form of the facts taken in, and only sound facts were taken in.
pub fn check_state<S: Subject>(world: &World, subject: &S) -> Result<(), Complaint> {
    if let Some(unsound) = subject.taken().values().find(|fact| !world.cluster.is_sound(fact)) {
        return Err(Complaint::Answer(format!("taken in: {}", world.describe(unsound))));
    }
    let expected = Expected::new(world, subject.taken());
    expected.check(world, subject)?;
    subject.audit(world, &expected.normal)
}

/// Replicas of a run, the facts that each could not take in yet, and the offers that are still to come.
struct Field<'w, S> {
    replicas: Vec<S>,
    left: Vec<Vec<&'w Fact>>,
    events: Vec<(usize, &'w Fact)>,
}

/// State of one run of a judge.
struct Run<'r, 'w> {
    judge: &'r Judge<'w>,
    world: &'w World,
    dice: Dice,
    stats: &'r mut Stats,
}

impl<'w> Run<'_, 'w> {
    /// Offers all facts of the world to one replica in random order.
    fn alone<S: Subject>(&mut self, make: &dyn Fn(Timestamp) -> S, watched: bool) -> Result<(), Complaint> {
        let mut subject = make(at(*self.dice.pick(&CLOCKS)));
        let mut facts: Vec<&Fact> = self.world.facts.iter().collect();
        for fact in &self.world.facts {
            if self.dice.chance(15) {
                facts.push(fact);
            }
        }
        self.dice.shuffle(&mut facts);
        let most = if watched { 1 } else { self.dice.within(1, 8) };
        let rest = self.offer_until_nothing_merges(&mut subject, facts, most, watched)?;
        self.judge.check_all_offered(&subject)?;
        if self.dice.chance(10) {
            self.restart(&mut subject)?;
        }
        subject.set_clock(at(LATE));
        self.offer_until_nothing_merges(&mut subject, rest, most, watched)?;
        self.judge.check_all_offered(&subject)?;
        if watched || self.dice.chance(5) {
            subject.audit(self.world, &self.judge.expected[&at(LATE)].normal)?;
        }
        Ok(())
    }

    /// Offers facts to a subject in batches of at most `most`. Returns the facts that were not taken in, and whether
    /// any was merged.
    fn offer<S: Subject>(
        &mut self,
        subject: &mut S,
        facts: Vec<&'w Fact>,
        most: usize,
        watched: bool,
    ) -> Result<(Vec<&'w Fact>, bool), Complaint> {
        let (mut rest, mut merged) = (Vec::new(), false);
        let mut queue = facts.as_slice();
        while !queue.is_empty() {
            let (batch, after) = queue.split_at(self.dice.within(1, most).min(queue.len()));
            queue = after;
            let batch: Vec<Fact> = batch.iter().map(|fact| (*fact).clone()).collect();
            let answers = if watched { self.watch(subject, &batch)? } else { subject.offer(&batch) };
            self.stats.offers += batch.len() as u64;
            for (fact, answer) in facts[facts.len() - after.len() - batch.len()..].iter().zip(answers) {
                merged |= answer == Answer::Merged;
                if matches!(answer, Answer::NotYet | Answer::Unjustified) {
                    rest.push(*fact);
                }
            }
        }
        Ok((rest, merged))
    }

    /// Offers a batch to a subject and compares its answers, and its state after the batch, with the laws.
    fn watch<S: Subject>(&mut self, subject: &mut S, batch: &[Fact]) -> Result<Vec<Answer>, Complaint> {
        let cluster = &self.world.cluster;
        let wanted: Vec<Answer> =
            batch.iter().map(|fact| cluster.answer(subject.taken(), fact, subject.clock())).collect();
        let found = subject.offer(batch);
        if found != wanted {
            let facts: Vec<String> = batch.iter().map(|fact| self.world.describe(fact)).collect();
            return Err(Complaint::Answer(format!("{found:?}, not {wanted:?}, to {facts:?}")));
        }
        check_state(self.world, subject)?;
        Ok(found)
    }

    fn offer_until_nothing_merges<S: Subject>(
        &mut self,
        subject: &mut S,
        mut facts: Vec<&'w Fact>,
        most: usize,
        watched: bool,
    ) -> Result<Vec<&'w Fact>, Complaint> {
        loop {
            let (rest, merged) = self.offer(subject, facts, most, watched)?;
            facts = rest;
            if !merged {
                return Ok(facts);
            }
            self.dice.shuffle(&mut facts);
        }
    }

    fn restart<S: Subject>(&mut self, subject: &mut S) -> Result<(), Complaint> {
        self.stats.restarts += 1;
        subject.restart()
    }

    /// Spreads all facts of the world over several replicas that have sessions now and then.
    fn spread<S: Subject>(&mut self, make: &dyn Fn(Timestamp) -> S) -> Result<(), Complaint> {
        self.stats.spread += 1;
        let mut field = self.field(make);
        let pause = self.dice.within(3, 30);
        while let Some((who, fact)) = field.events.pop() {
            let (rest, _) = self.offer(&mut field.replicas[who], vec![fact], 1, false)?;
            field.left[who].extend(rest);
            if field.events.len().is_multiple_of(pause) {
                self.meet_somehow(&mut field)?;
            }
        }
        (0..field.replicas.len()).try_for_each(|_| self.meet_somehow(&mut field))?;
        let Field { mut replicas, left, .. } = field;
        let looked_at = self.dice.within(0, replicas.len() - 1);
        check_state(self.world, &replicas[looked_at])?;
        replicas.iter_mut().for_each(|replica| replica.set_clock(at(LATE)));
        self.settle(&mut replicas, left)?;
        replicas.iter().try_for_each(|replica| self.judge.check_all_offered(replica))?;
        if self.dice.chance(20) {
            let anywhere = replicas.iter().flat_map(|replica| replica.taken().clone()).collect();
            Expected::new(self.world, &anywhere).check(self.world, &replicas[looked_at])?;
        }
        replicas[looked_at].audit(self.world, &self.judge.expected[&at(LATE)].normal)
    }

    /// Makes several replicas and assigns each fact to one of them, some to two.
    fn field<S: Subject>(&mut self, make: &dyn Fn(Timestamp) -> S) -> Field<'w, S> {
        let count = self.dice.within(2, 5);
        let replicas = (0..count).map(|_| make(at(*self.dice.pick(&CLOCKS)))).collect();
        let mut events: Vec<(usize, &Fact)> = Vec::new();
        for fact in &self.world.facts {
            for _ in 0..if self.dice.chance(15) { 2 } else { 1 } {
                events.push((self.dice.within(0, count - 1), fact));
            }
        }
        self.dice.shuffle(&mut events);
        Field { replicas, left: vec![Vec::new(); count], events }
    }

    /// Runs a random session between two random replicas, sometimes with a restart.
    fn meet_somehow<S: Subject>(&mut self, field: &mut Field<'w, S>) -> Result<(), Complaint> {
        let last = field.replicas.len() - 1;
        let one = self.dice.within(0, last);
        if self.dice.chance(10) {
            self.restart(&mut field.replicas[one])?;
        }
        let two = (one + self.dice.within(1, last)) % field.replicas.len();
        let link = Link {
            scope: if self.dice.chance(30) { self.scope() } else { PathPrefix::root() },
            seed: self.dice.number(),
            cut: self.dice.chance(25).then(|| Cut::AfterFrames(self.dice.within(0, 14))),
            takes_facts: (!self.dice.chance(5), !self.dice.chance(5)),
            batch: self.dice.within(1, 20).saturating_sub(6).max(1),
            meanwhile: if self.dice.chance(20) { self.meanwhile(field, one, two) } else { Vec::new() },
            ..Link::default()
        };
        self.meet(&mut field.replicas, one, two, &link)?;
        if self.dice.chance(5) { check_state(self.world, &field.replicas[two]) } else { Ok(()) }
    }

    /// Draws facts that others offer to the replicas `one` and `two` during their session.
    fn meanwhile<S>(&mut self, field: &mut Field<'w, S>, one: usize, two: usize) -> Vec<Meanwhile> {
        let mut meanwhile = Vec::new();
        for _ in 0..self.dice.within(1, 6) {
            let Some((_, fact)) = field.events.pop() else { break };
            let to_initiator = self.dice.chance(50);
            // Whether it arrives before the session ends is not known, so its holder offers it again anyway.
            field.left[if to_initiator { one } else { two }].push(fact);
            meanwhile.push(Meanwhile { at: self.dice.within(0, 12), to_initiator, fact: fact.clone() });
        }
        meanwhile
    }

    /// Draws a random path prefix that limits a session.
    fn scope(&mut self) -> PathPrefix {
        let places: Vec<PathPrefix> = self.world.prefixes().into_iter().collect();
        self.dice.pick(&places).clone()
    }

    fn meet<S: Subject>(
        &mut self,
        replicas: &mut [S],
        one: usize,
        two: usize,
        link: &Link,
    ) -> Result<Met, Complaint> {
        let Ok([a, b]) = replicas.get_disjoint_mut([one, two]) else {
            return Err(Complaint::Session("a replica does not meet itself".into()));
        };
        let Drives { all, flaw } = self.judge.drives;
        let is_driven = all || link.seed.is_multiple_of(2);
        let drive = is_driven.then(|| Drive { flaw, ..Drive::random(link.seed) });
        let met = a.meet(b, &Link { drive, ..link.clone() })?;
        self.stats.met(&met);
        Ok(met)
    }

    /// Runs sessions along a line of all replicas, forth and back, and offers the remaining facts again, until nothing
    /// changes.
    fn settle<S: Subject>(
        &mut self,
        replicas: &mut [S],
        mut left: Vec<Vec<&'w Fact>>,
    ) -> Result<(), Complaint> {
        let by_prefix = self.dice.chance(25);
        let scopes = if by_prefix { self.top_prefixes() } else { vec![PathPrefix::root()] };
        for times in 1..=MAX_SETTLING {
            let mut merged = false;
            for (replica, left) in replicas.iter_mut().zip(&mut left) {
                let facts = std::mem::take(left);
                let (rest, changed) = self.offer(replica, facts, 4, false)?;
                merged |= changed;
                *left = rest;
            }
            if !merged && replicas.windows(2).all(|two| two[0].root() == two[1].root()) {
                self.stats.most_settling = self.stats.most_settling.max(times);
                return Ok(());
            }
            let mut line: Vec<usize> = (0..replicas.len()).collect();
            self.dice.shuffle(&mut line);
            let there: Vec<(usize, usize)> = line.windows(2).map(|two| (two[0], two[1])).collect();
            let back = there.iter().rev().skip(1).map(|(one, two)| (*two, *one));
            for (one, two) in there.iter().copied().chain(back) {
                for scope in &scopes {
                    let link = Link { scope: scope.clone(), seed: self.dice.number(), ..Link::default() };
                    let met = self.meet(replicas, one, two, &link)?;
                    if met.equal != Some(true) && !met.misled {
                        return Err(Complaint::Unequal(
                            "after a whole session, all clocks being late".into(),
                        ));
                    }
                }
            }
        }
        Err(Complaint::Unequal(format!("after {MAX_SETTLING} times of all meeting")))
    }

    /// Returns prefixes that together cover all keys.
    fn top_prefixes(&mut self) -> Vec<PathPrefix> {
        let top =
            |key: &Key| PathPrefix::parse(&format!("/{}", key.segments().next().unwrap_or_default())).ok();
        let mut tops: Vec<PathPrefix> = self.world.keys.iter().filter_map(top).collect();
        tops.sort();
        tops.dedup();
        self.dice.shuffle(&mut tops);
        tops
    }
}
