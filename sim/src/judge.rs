//! The judge of the merge laws.
//!
//! # What is judged
//! A *world* is every fact that was ever signed. `V` are the sound ones among them: well-formed, and signed by
//! whom they name. A replica *takes a fact in* when it merges it or finds it moot. What it finds unjustified or
//! not yet due it has not taken in: whoever holds it offers it again, until a pass over all of them merges
//! nothing. Let `T` be all that a replica took in so far, from wherever. Then, `N` being the normal form of
//! [`naive`](crate::naive):
//!
//! 1. **At any moment** the state of a replica is `N(T)`: the same facts, byte for byte, the same digests, and
//!    every reader at any time sees what the definitions say. Nothing that `N` leaves out was needed.
//! 2. **An offer** is answered as the table says: `moot` exactly if `N(T ∪ f) = N(T)`, `merged` exactly if it
//!    differs; `unjustified` exactly if the cited chain is not in `live(T)`; and so on. `T` never has an unsound
//!    fact.
//! 3. **When everything was offered** to a replica until a pass merges nothing, its state is `N(V)`, less
//!    entries that its clock takes to be from the future. (What was never taken in cites a chain that is not
//!    live in `T`, hence not in `V` either: what ends a grant is taken in wherever the grant above it lives.)
//! 4. **When facts are spread** over replicas in any way, sessions between any two, whole or cut, of everything
//!    or of a path prefix, with restarts between them, lead to the same: once every clock has passed every
//!    timestamp, whole sessions along any line of all replicas, there and back, with what is left offered again,
//!    make all of them `N(V)`, which is also `N` of all that was taken in anywhere.
//! 5. **Every session ends**, in at most three rounds, and both sides agree on how. It ends `equal` exactly if
//!    both hold the same; between honest replicas nothing keeps them apart but entries from the future and a
//!    side that takes nothing. Where there is nothing of that kind, one round is enough. (All of this but for two
//!    short hashes that are alike, once in a great many sessions: the next session has another salt.)
//! 6. **The change feed adds up**: each change starts at what the one before left, and together they give the
//!    newest entry of each key.
//!
//! Order, duplication, partition and clocks therefore do not matter to what replicas come to. They do matter to
//! `T`: which facts below an ended grant, or which entries older than one that only some clocks accept, a
//! replica ever hears of. `N` does not see that difference.

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

/// One in so many runs to a single replica is watched offer by offer.
const WATCHED: u64 = 16;
/// Worlds with more facts are not watched: the definitions take their time over each offer.
const WATCHED_FACTS: usize = 100;
/// Three in ten runs are of several replicas.
const SPREAD_PERCENT: u32 = 30;
/// Rounds of whole sessions and renewed offers until all must be equal. Each link of a chain may need one.
const MAX_SETTLING: usize = 24;

/// Judges runs of one world.
#[derive(Debug)]
pub struct Judge<'w> {
    world: &'w World,
    /// What a replica comes to by its clock, when everything was offered to it.
    expected: BTreeMap<Timestamp, Expected>,
    drives: Drives,
}

/// Which sessions run through drivers.
#[derive(Clone, Copy, Debug, Default)]
struct Drives {
    /// All of them, not every other one.
    all: bool,
    flaw: Option<DriveFlaw>,
}

impl<'w> Judge<'w> {
    /// Works out what every run has to come to.
    pub fn new(world: &'w World) -> Self {
        let clocks = CLOCKS.iter().chain([&LATE]).map(|clock| at(*clock));
        let expected = clocks.map(|clock| (clock, Expected::new(world, &world.sound_at(clock)))).collect();
        Self { world, expected, drives: Drives::default() }
    }

    /// Runs all sessions through drivers, with a planted bug or none.
    pub fn all_driven(mut self, flaw: Option<DriveFlaw>) -> Self {
        self.drives = Drives { all: true, flaw };
        self
    }

    /// Makes the run with this number.
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

/// Law 1: the state is the normal form of what was taken in, and only what is sound was taken in.
pub fn check_state<S: Subject>(world: &World, subject: &S) -> Result<(), Complaint> {
    if let Some(unsound) = subject.taken().values().find(|fact| !world.cluster.is_sound(fact)) {
        return Err(Complaint::Answer(format!("taken in: {}", world.describe(unsound))));
    }
    let expected = Expected::new(world, subject.taken());
    expected.check(world, subject)?;
    subject.audit(world, &expected.normal)
}

/// Replicas, what each could not take in yet, and what is still to come to whom.
struct Field<'w, S> {
    replicas: Vec<S>,
    left: Vec<Vec<&'w Fact>>,
    events: Vec<(usize, &'w Fact)>,
}

/// One run under way.
struct Run<'r, 'w> {
    judge: &'r Judge<'w>,
    world: &'w World,
    dice: Dice,
    stats: &'r mut Stats,
}

impl<'w> Run<'_, 'w> {
    /// Everything, in any order, to one replica.
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

    /// Offers in batches of up to `most`, and gives back what was not taken in.
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

    /// Compares the answer and the state after it with what the law says.
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

    /// Everything, spread over several replicas that meet now and then.
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

    /// Several replicas, and each fact for one of them, some for two.
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

    /// A session of any kind between any two, or a restart.
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

    /// Facts that come from elsewhere during a session.
    fn meanwhile<S>(&mut self, field: &mut Field<'w, S>, one: usize, two: usize) -> Vec<Meanwhile> {
        let mut meanwhile = Vec::new();
        for _ in 0..self.dice.within(1, 6) {
            let Some((_, fact)) = field.events.pop() else { break };
            let to_initiator = self.dice.chance(50);
            // Whether it arrives before the session ends is not known; whoever holds it offers it again anyway.
            field.left[if to_initiator { one } else { two }].push(fact);
            meanwhile.push(Meanwhile { at: self.dice.within(0, 12), to_initiator, fact: fact.clone() });
        }
        meanwhile
    }

    /// Any place above a key.
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

    /// Lets all meet along a line, there and back, and offers again what is left, until nothing changes.
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

    /// Prefixes that cover all keys.
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
