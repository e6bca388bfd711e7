//! Random histories, in virtual time, of a client and three agents that omit facts and lag. The client must
//! show in time what an honest agent knows, never accuse an honest agent, and leave one that withholds.

use super::super::audit::{Audit, Fault, Order, Pace, Sign};
use super::super::core::Core;
use super::super::interests::What;
use super::super::others::Answer;
use super::super::streams::Way;
use super::super::telling::Reaction;
use super::super::{DEFAULT_AUDIT_INTERVAL, DEFAULT_AUDIT_PATIENCE};
use super::teller::Stream;
use super::world::{self, AGENTS, KEYS, World};
use kvgossip_grants::{Authority, Fact, FactId, MockVerifier, Signer, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

const HISTORIES: u64 = 200;
/// Each round begins with news and ends quietly.
const ROUNDS: usize = 5;
const STEP: Duration = Duration::from_millis(250);
/// Interval between heartbeats of idle agents.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Maximum number of steps that an answer takes, or a stream pauses.
const MAX_DELAY: usize = 8;
/// Time after which the client must show what an honest agent knows.
const TRUTH: Duration = Duration::from_secs(30);
/// Time after which a withholding agent must have been left, once no stream pauses.
const LEFT: Duration = Duration::from_secs(40);
/// Id of the first interest that comes and goes.
const FURTHER: u64 = 10;
/// An agent that is always available and never lies.
const HONEST: usize = 2;

/// Fault planted into the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The client asks no other agent.
    NoAudit,
    /// The client accuses an agent that lags before handing it anything.
    Hasty,
}

/// Message in transit.
enum Coming {
    Answer(usize),
    Handed(Vec<(Fact, bool)>),
}

struct Run {
    bug: Bug,
    world: World,
    core: Core,
    audit: Audit,
    now: Duration,
    stream: Option<Stream>,
    streams: u64,
    further: BTreeSet<u64>,
    /// Messages in transit, by time of arrival.
    coming: Vec<(Duration, Coming)>,
    silent_until: Duration,
    /// Whether streams pause from time to time.
    pauses: bool,
    alive_at: Duration,
    liars: BTreeSet<usize>,
    /// Agents that refuse facts for a legitimate reason.
    full: BTreeSet<usize>,
    blamed: BTreeSet<usize>,
    accused: usize,
    handed: usize,
}

impl Run {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut world = World::new(seed);
        let (mut liars, mut full) = (BTreeSet::new(), BTreeSet::new());
        for agent in 0..HONEST {
            match world.dice(4) {
                0 | 1 => {
                    world.agents[agent].omits = 1 << world.dice(8) | 1 << world.dice(8);
                    liars.insert(agent);
                }
                2 => drop(full.insert(agent)),
                _ => {}
            }
        }
        let core =
            Core::new(Authority::new(world.root().public().clone()), Box::new(MockVerifier), world.now);
        let pace = Pace { interval: DEFAULT_AUDIT_INTERVAL, patience: DEFAULT_AUDIT_PATIENCE };
        let mut run = Self {
            bug,
            world,
            core,
            audit: Audit::new(AGENTS, pace),
            now: Duration::ZERO,
            stream: None,
            streams: 0,
            further: BTreeSet::new(),
            coming: Vec::new(),
            silent_until: Duration::ZERO,
            pauses: true,
            alive_at: Duration::ZERO,
            liars,
            full,
            blamed: BTreeSet::new(),
            accused: 0,
            handed: 0,
        };
        run.core.add(1, What::Matching(super::filter()));
        run.core.add(2, What::Key(world::key(0)));
        run.connect(0, Way::Anew);
        run
    }

    fn connect(&mut self, agent: usize, way: Way) {
        self.streams += 1;
        let request = self.core.open(self.streams, &agent.to_string(), way);
        self.core.opened(self.streams);
        self.lose_first();
        self.stream = Some(self.world.open(agent, self.streams, &request));
        self.alive_at = self.now;
    }

    /// Adds an interest, for which another stream of the same agent replaces the present one.
    fn want_more(&mut self) {
        let number = self.world.dice(KEYS);
        let id = FURTHER + u64::try_from(number).expect("small");
        if self.further.remove(&id) {
            return self.core.remove(id);
        }
        self.core.add(id, What::Key(world::key(number)));
        self.further.insert(id);
        let Some(old) = self.stream.take() else { return };
        self.streams += 1;
        let request = self.core.open(self.streams, &old.agent.to_string(), Way::Beside);
        self.core.opened(self.streams);
        // The model reads one stream at a time.
        self.core.closed(old.id);
        self.stream = Some(self.world.open(old.agent, self.streams, &request));
        self.alive_at = self.now;
    }

    fn lose_first(&mut self) {
        self.audit.lost();
        self.coming.retain(|(_, coming)| matches!(coming, Coming::Answer(_)));
    }

    fn delay(&mut self) -> Duration {
        self.now + STEP * u32::try_from(self.world.dice(MAX_DELAY)).expect("small")
    }

    /// Creates news for some agents.
    fn news(&mut self) {
        for _ in 0..1 + self.world.dice(12) {
            match self.world.dice(8) {
                0 => self.world.gossip(),
                1 => self.world.lag(),
                2 => self.world.pass_time(),
                _ => self.world.write(),
            }
            if let Some(lost) = self.world.lost_agent.take()
                && let Some(agent) = self.stream.as_ref().map(|stream| stream.agent)
                && agent == lost
            {
                // The agent was restarted with an older store.
                self.core.disconnected();
                self.connect(agent, Way::Anew);
            }
            self.world.feed_stream(self.stream.as_mut());
        }
        self.core.tick(self.world.now);
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += STEP;
        self.core.set_now(self.world.now);
        if self.world.dice(100) == 0 {
            self.want_more();
        }
        self.hear();
        self.fetch();
        let now = self.now;
        while let Some(at) = self.coming.iter().position(|(due, _)| *due <= now) {
            match self.coming.swap_remove(at).1 {
                Coming::Answer(agent) => self.answer(agent),
                Coming::Handed(facts) => self.arrive(&facts),
            }
        }
        loop {
            let lacked = self.core.lacked();
            if self.bug == Bug::Hasty
                && let Some(agent) = self.stream.as_ref().map(|stream| stream.agent)
                && let Some(id) = lacked.first()
            {
                self.accuse(agent, *id)?;
                continue;
            }
            match self.audit.poll(now, &lacked) {
                None => return Ok(()),
                Some(Order::Ask(agent)) if self.bug == Bug::NoAudit => self.audit.answered(agent, now, 128),
                Some(Order::Ask(agent)) => {
                    let due = self.delay();
                    self.coming.push((due, Coming::Answer(agent)));
                }
                Some(Order::Hand(agent, ids)) => {
                    let facts = self.core.facts_to_hand(&ids);
                    let asked = facts.iter().filter(|(_, asked)| *asked).map(|(fact, _)| fact.id());
                    self.audit.handing(agent, asked.collect());
                    let due = self.delay();
                    self.coming.push((due, Coming::Handed(facts)));
                }
                Some(Order::Leave(agent, Fault::Withheld(id))) => self.accuse(agent, id)?,
                Some(Order::Leave(agent, Fault::Behind(_))) => {
                    self.core.drop_lacked();
                    self.leave(agent);
                }
            }
        }
    }

    fn accuse(&mut self, agent: usize, id: FactId) -> Result<(), String> {
        self.core.report_withheld(&agent.to_string(), id);
        self.accused += 1;
        if !self.liars.contains(&agent) {
            return Err(format!("{agent} is accused of {id} and withheld nothing"));
        }
        self.leave(agent);
        Ok(())
    }

    fn leave(&mut self, agent: usize) {
        self.blamed.insert(agent);
        if let Some(better) = (0..AGENTS).find(|other| !self.blamed.contains(other)) {
            self.connect(better, Way::Over);
        }
    }

    /// Processes what the connected agent's stream brings, unless it pauses.
    fn hear(&mut self) {
        if self.now < self.silent_until {
            return;
        }
        let Some(mut stream) = self.stream.take() else { return };
        if self.pauses && self.world.dice(40) == 0 {
            self.silent_until = self.now + STEP * 60;
        }
        for _ in 0..1 + self.world.dice(6) {
            let Some((cursor, name, data)) = self.world.next_event(&mut stream) else { break };
            self.audit.heard(Sign::Told, self.now);
            self.alive_at = self.now;
            match self.core.hear(stream.id, cursor.as_deref(), name, &data).expect("well-formed") {
                Reaction::Continue => {}
                Reaction::Synced => self.audit.in_step(stream.agent, self.now),
                Reaction::Reopen => {
                    self.core.disconnected();
                    return self.connect(stream.agent, Way::Anew);
                }
            }
        }
        if stream.is_drained() && self.now >= self.alive_at + HEARTBEAT {
            self.audit.heard(Sign::Idle(None), self.now);
            self.alive_at = self.now;
        }
        self.stream = Some(stream);
    }

    /// Requests missing values from the agents in turn, as the driver does.
    fn fetch(&mut self) {
        while let Some((key, id)) = self.core.next_valueless() {
            let first = self.stream.as_ref().map_or(0, |stream| stream.agent);
            let agents = (0..AGENTS).map(|turn| (first + turn) % AGENTS);
            let mut given =
                agents.filter_map(|agent| Some((agent, self.world.agents[agent].entry(&key, &id)?)));
            if let Some((agent, fact)) = given.next() {
                self.core.hear_value(&agent.to_string(), &key, id, fact);
            }
        }
    }

    /// Delivers another agent's complete answer.
    fn answer(&mut self, agent: usize) {
        let (request, mut question) = self.core.question(&agent.to_string());
        self.streams += 1;
        let mut stream = self.world.open(agent, self.streams, &request);
        while let Some((_, name, data)) = self.world.next_event(&mut stream) {
            if self.core.hear_other(&mut question, name, &data).expect("well-formed") == Answer::Whole {
                break;
            }
        }
        let random = self.world.dice(256);
        self.audit.answered(agent, self.now, u8::try_from(random).expect("a byte"));
    }

    /// Delivers facts to the connected agent, and its response.
    fn arrive(&mut self, facts: &[(Fact, bool)]) {
        let Some(agent) = self.stream.as_ref().map(|stream| stream.agent) else { return };
        let mut taken = BTreeSet::new();
        for (fact, asked) in facts.iter().filter(|_| !self.full.contains(&agent)) {
            let checked = self.world.agents[agent].replica.view().check(fact.clone(), self.world.now);
            self.world.give(agent, fact);
            let holds = checked.err().is_none_or(|verdict| verdict.is_taken_in());
            // A liar claims to hold everything.
            if *asked && (holds || self.liars.contains(&agent)) {
                taken.insert(fact.id());
            }
        }
        self.world.feed_stream(self.stream.as_mut());
        self.handed += taken.len();
        self.audit.handed(agent, &taken, None, self.now);
    }

    /// Checks that the client shows what a replica with all facts of the honest agents would.
    fn check_truth(&self, agents: &[usize]) -> Result<(), String> {
        let truth = self.world.truth(agents);
        for key in (0..KEYS).map(world::key) {
            let shows = truth.replica.view().shown(&key, self.world.now).map(|entry| entry.id);
            let shown = self.core.entry(&key).map(|entry| entry.id);
            if shows != shown {
                return Err(format!("{key} shows {shown:?}, and not {shows:?}"));
            }
        }
        Ok(())
    }

    /// Checks that the connected agent has sent what is shown, unless there is no better agent.
    fn check_left(&mut self) -> Result<(), String> {
        let Some(agent) = self.stream.as_ref().map(|stream| stream.agent) else { return Ok(()) };
        let has_better = (0..AGENTS).any(|other| !self.blamed.contains(&other));
        let lacked = self.core.lacked();
        if lacked.is_empty() || !has_better {
            return Ok(());
        }
        Err(format!("{agent} lacks {lacked:?}, and is still asked"))
    }

    fn round(&mut self) -> Result<(), String> {
        self.news();
        let began = self.now;
        while self.now < began + TRUTH {
            self.step()?;
        }
        self.check_truth(&[HONEST])?;
        // From here on no stream pauses. All other agents are asked once more, what they know is handed over,
        // and an agent that withholds it sends a heartbeat.
        (self.pauses, self.silent_until) = (false, self.now);
        let began = self.now;
        while self.now < began + LEFT {
            self.step()?;
        }
        self.pauses = true;
        self.check_left()
    }
}

/// Returns the number of accusations and of facts handed over.
fn run(seed: u64, bug: Bug) -> Result<(usize, usize), String> {
    let mut run = Run::new(seed, bug);
    for _ in 0..ROUNDS {
        run.round()?;
        // Old accusations are forgiven.
        run.blamed.clear();
    }
    Ok((run.accused, run.handed))
}

#[test]
fn what_an_honest_agent_knows_shows_in_time_and_only_who_withholds_is_accused() {
    let first = std::env::var("KVGOSSIP_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..HISTORIES, |seed| seed..seed + 1);
    let (all, mut accused, mut handed) = (seeds.end - seeds.start == HISTORIES, 0, 0);
    for seed in seeds {
        // Printed when the test fails; KVGOSSIP_SEED runs that history again.
        println!("seed {seed}");
        let (more_accused, more_handed) = run(seed, Bug::None).expect("nothing is wrong");
        (accused, handed) = (accused + more_accused, handed + more_handed);
    }
    println!("{accused} accusations, {handed} facts handed over");
    assert!(!all || accused > 50 && handed > 200, "{accused} accusations, {handed} facts handed over");
}

#[test]
fn the_model_finds_a_client_that_asks_nobody_else_and_one_that_accuses_whoever_lags() {
    for bug in [Bug::NoAudit, Bug::Hasty] {
        let found = (0..HISTORIES).find_map(|seed| Some((seed, run(seed, bug).err()?)));
        println!("{bug:?}: {found:?}");
        assert!(found.is_some(), "{bug:?} is not found");
    }
}

#[test]
fn time_is_what_the_world_says() {
    // A history without news is quiet: nobody is accused, and nothing is handed over.
    let mut quiet = Run::new(1, Bug::None);
    for _ in 0..1000 {
        quiet.step().expect("nothing is wrong");
    }
    assert_eq!((quiet.accused, quiet.handed, quiet.world.now > Timestamp::ZERO), (0, 0, true));
}
