//! Audit of the connected agent: when to ask the other agents, and how to judge what the connected one does
//! with facts that it lacked.
//!
//! This is a state machine without I/O. Times are durations since the client started; randomness is passed in
//! as numbers. It decides; the driver asks, hands over facts and switches agents.
//!
//! The connected agent *withholds* a fact if and only if it said that it holds the fact (or one that supersedes
//! it), and its stream then reports, at least the patience later, that nothing is left to send (a heartbeat
//! between two events) without having sent the fact. A heartbeat names the commit up to which everything was
//! sent. It proves nothing about a fact that the agent holds only since a later commit, however late the
//! heartbeat arrives, nor if it comes from another run of the agent at the same address. These agents are
//! therefore never accused: one that lags sends handed facts within moments; one that is frozen, or whose
//! stream is cut or congested, sends no heartbeat; one that was restarted has a new stream. An agent that
//! cannot accept what it is handed, or whose stream stays busy with other events, is *behind*: the client
//! switches to one that is not, without accusing it.

use kvgossip_api::CommitMark;
use kvgossip_grants::FactId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Delay before a heartbeat counts, so that events in the same packet are processed first.
const SETTLE: Duration = Duration::from_millis(250);
/// Multiple of the patience after which an agent with a busy stream counts as behind.
const BUSY_PATIENCES: u32 = 6;

/// Interval between questions to one agent (`interval`), and time that the connected agent has to send what it
/// was handed (`patience`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) interval: Duration,
    pub(crate) patience: Duration,
}

/// Action for the driver. The number is the agent's index in the client's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ask this agent which facts it holds.
    Ask(usize),
    /// Hand the facts with these ids to this agent, which is the connected one.
    Hand(usize, BTreeSet<FactId>),
    /// Leave this agent, which is the connected one, for this fault.
    Leave(usize, Fault),
}

/// Reason to leave the connected agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The agent said that it holds the fact with this id, and does not send it.
    Withheld(FactId),
    /// The agent lacks the fact with this id and does not accept it, or is too busy with other events to send
    /// it.
    Behind(FactId),
}

/// Sign of life from the connected agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The agent sent an event.
    Told,
    /// The agent sent a heartbeat: it has sent everything up to this commit. `None` counts as covering every
    /// commit.
    Idle(Option<CommitMark>),
}

/// Audit state of one agent: when the next question to it is due, and whether one is open.
#[derive(Clone, Copy, Debug, Default)]
struct EndpointState {
    due: Duration,
    is_asked: bool,
}

/// Fact handed to the connected agent.
#[derive(Clone, Copy, Debug)]
struct Handed {
    /// Time when the agent accepted or refused the fact, since the client started.
    since: Duration,
    /// Whether the agent said that it holds the fact.
    is_taken: bool,
    /// Commit by which the agent says that it holds the fact; `None` if it named none.
    commit: Option<CommitMark>,
    /// Time of the first heartbeat that came at least the patience after `since` and covers `commit`; `None` if
    /// there was none, or an event was sent after it.
    idle_at: Option<Duration>,
}

/// Connected agent, with the facts that were handed to it.
#[derive(Debug)]
struct First {
    place: usize,
    handed: BTreeMap<FactId, Handed>,
    /// Ids of the facts of the handover that is not answered yet; `None` if there is none.
    handing: Option<BTreeSet<FactId>>,
}

/// Audit state machine. See the [module](self).
#[derive(Debug)]
pub(crate) struct Audit {
    pace: Pace,
    places: Vec<EndpointState>,
    first: Option<First>,
}

impl Audit {
    /// Creates the audit of a client with this number of agents.
    pub(crate) fn new(places: usize, pace: Pace) -> Self {
        Self { pace, places: vec![EndpointState::default(); places], first: None }
    }

    /// Records that the agent at index `place` of the client's list is connected and in step. If it was not
    /// already, questions to all other agents are due now.
    pub(crate) fn in_step(&mut self, place: usize, now: Duration) {
        if self.first.as_ref().is_some_and(|first| first.place == place) {
            return;
        }
        self.first = Some(First { place, handed: BTreeMap::new(), handing: None });
        self.places.iter_mut().for_each(|place| place.due = now);
    }

    /// Records that the connected agent was lost or replaced.
    pub(crate) fn lost(&mut self) {
        self.first = None;
    }

    /// Records a sign of life from the connected agent.
    pub(crate) fn heard(&mut self, sign: Sign, now: Duration) {
        let Some(first) = &mut self.first else { return };
        for handed in first.handed.values_mut() {
            let is_told = match sign {
                Sign::Told => false,
                Sign::Idle(up_to) => up_to.zip(handed.commit).is_none_or(|(told, held)| told.covers(&held)),
            };
            let counts = is_told && now >= handed.since + self.pace.patience;
            handed.idle_at = counts.then(|| handed.idle_at.unwrap_or(now));
        }
    }

    /// Records the end of a question to the agent at index `place`, answered or not. `random` spreads the times
    /// of the next questions.
    pub(crate) fn answered(&mut self, place: usize, now: Duration, random: u8) {
        if let Some(place) = self.places.get_mut(place) {
            let pause = self.pace.interval / 2 + self.pace.interval / 2 * u32::from(random) / 255;
            (place.is_asked, place.due) = (false, now + pause);
        }
    }

    /// Records which facts of an `Order::Hand` are being handed over; the rest of its facts wait for the next
    /// order.
    pub(crate) fn handing(&mut self, place: usize, facts: BTreeSet<FactId>) {
        if let Some(first) = self.first.as_mut().filter(|first| first.place == place) {
            first.handing = Some(facts);
        }
    }

    /// Records the result of a handover: the facts that the agent says it holds, by `commit` at the latest. It
    /// is ignored if the agent is no longer connected.
    pub(crate) fn handed(
        &mut self,
        place: usize,
        taken: &BTreeSet<FactId>,
        commit: Option<CommitMark>,
        now: Duration,
    ) {
        let Some(first) = self.first.as_mut().filter(|first| first.place == place) else { return };
        for id in first.handing.take().unwrap_or_default() {
            first
                .handed
                .insert(id, Handed { since: now, is_taken: taken.contains(&id), commit, idle_at: None });
        }
    }

    /// Returns the next action, if any; call it until there is none. `lacked` are the facts that the connected
    /// agent has not sent.
    pub(crate) fn poll(&mut self, now: Duration, lacked: &BTreeSet<FactId>) -> Option<Order> {
        let first = self.first.as_mut()?;
        let mut places = self.places.iter_mut().enumerate();
        let due = |place: &EndpointState| !place.is_asked && place.due <= now;
        if let Some((number, place)) = places.find(|(number, place)| *number != first.place && due(place)) {
            place.is_asked = true;
            return Some(Order::Ask(number));
        }
        first.handed.retain(|id, _| lacked.contains(id));
        if first.handing.is_none() {
            let new: BTreeSet<FactId> =
                lacked.iter().filter(|id| !first.handed.contains_key(id)).copied().collect();
            if !new.is_empty() {
                first.handing = Some(new.clone());
                return Some(Order::Hand(first.place, new));
            }
        }
        let fault = first.fault(self.pace.patience, now)?;
        first.handed.clear();
        Some(Order::Leave(first.place, fault))
    }

    /// Time of the next poll if nothing happens before, since the client started; `None` if nothing is awaited.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        let first = self.first.as_ref()?;
        let others = self.places.iter().enumerate();
        let others = others.filter(|(number, place)| *number != first.place && !place.is_asked);
        let judged = first.handed.values().map(|handed| handed.judged_at(self.pace.patience));
        others.map(|(_, place)| place.due).chain(judged).min()
    }
}

impl Handed {
    /// Time at which the fact can be judged if the agent sends nothing more, since the client started.
    fn judged_at(&self, patience: Duration) -> Duration {
        match self.idle_at {
            _ if !self.is_taken => self.since + patience,
            Some(idle) => idle + SETTLE,
            None => self.since + patience * BUSY_PATIENCES,
        }
    }
}

impl First {
    fn fault(&self, patience: Duration, now: Duration) -> Option<Fault> {
        let judged = self.handed.iter().filter(|(_, handed)| handed.judged_at(patience) <= now);
        let faults = judged.map(|(id, handed)| match handed.is_taken && handed.idle_at.is_some() {
            true => Fault::Withheld(*id),
            false => Fault::Behind(*id),
        });
        // A proven fault takes precedence over an unproven one.
        faults.min_by_key(|fault| matches!(fault, Fault::Behind(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { interval: Duration::from_secs(24), patience: Duration::from_secs(5) };

    const IDLE: Sign = Sign::Idle(None);

    fn asked(audit: &mut Audit, now: Duration) -> Vec<usize> {
        let next = || audit.poll(now, &BTreeSet::new());
        std::iter::from_fn(next)
            .map(|order| match order {
                Order::Ask(place) => place,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn all_others_are_asked_at_the_start_after_a_failover_and_then_within_the_interval() {
        let (mut audit, start) = (Audit::new(3, PACE), Duration::from_secs(100));
        assert_eq!((asked(&mut audit, start), audit.next_at()), (vec![], None), "nobody is connected");
        audit.in_step(1, start);
        assert_eq!(asked(&mut audit, start), [0, 2]);
        // One agent answers; the other never does, and delays nobody.
        for random in [0, 100, 255] {
            audit.answered(0, start, random);
            let due = audit.next_at().expect("again");
            assert!(due >= start + PACE.interval / 2 && due <= start + PACE.interval, "{due:?}");
            assert_eq!(asked(&mut audit, due - Duration::from_millis(1)), [0; 0]);
            assert_eq!(asked(&mut audit, due), [0]);
        }
        audit.answered(0, start, 0);
        audit.answered(2, start, 0);
        // The same agent in step again, for a new interest, is not a failover.
        audit.in_step(1, start);
        assert_eq!(asked(&mut audit, start), [0; 0]);
        audit.in_step(2, start);
        assert_eq!(asked(&mut audit, start), [0, 1]);
        audit.lost();
        assert_eq!((asked(&mut audit, start + PACE.interval), audit.next_at()), (vec![], None));
    }

    #[test]
    fn a_sign_of_life_proves_something_the_patience_after_the_fact_was_taken() {
        let (id, second) = (FactId([1; 32]), Duration::from_secs(1));
        let lacked = BTreeSet::from([id]);
        let begin = |taken: bool| {
            let mut audit = Audit::new(1, PACE);
            audit.in_step(0, Duration::ZERO);
            assert_eq!(audit.poll(Duration::ZERO, &lacked), Some(Order::Hand(0, lacked.clone())));
            assert_eq!(audit.poll(Duration::ZERO, &lacked), None, "it is on its way");
            audit.handing(0, lacked.clone());
            audit.handed(0, &if taken { lacked.clone() } else { BTreeSet::new() }, None, Duration::ZERO);
            audit
        };
        let withheld = Some(Order::Leave(0, Fault::Withheld(id)));
        let behind = Some(Order::Leave(0, Fault::Behind(id)));

        let mut early = begin(true);
        early.heard(IDLE, second * 4);
        assert_eq!(early.poll(second * 20, &lacked), None, "it had time left");
        let mut proven = begin(true);
        proven.heard(IDLE, second * 6);
        assert_eq!(proven.poll(second * 6, &lacked), None, "what came with it is heard first");
        assert_eq!(proven.next_at(), Some(second * 6 + SETTLE));
        assert_eq!(proven.poll(second * 7, &lacked), withheld);
        let mut told = begin(true);
        told.heard(IDLE, second * 6);
        assert_eq!(told.poll(second * 7, &BTreeSet::new()), None);
        let mut busy = begin(true);
        busy.heard(IDLE, second * 6);
        busy.heard(Sign::Told, second * 6);
        assert_eq!(busy.poll(second * 29, &lacked), None);
        assert_eq!(busy.poll(second * 30, &lacked), behind);
        assert_eq!(
            busy.poll(second * 30, &lacked),
            Some(Order::Hand(0, lacked.clone())),
            "it is offered again"
        );
        let mut full = begin(false);
        full.heard(IDLE, second * 5);
        assert_eq!(full.poll(second * 5, &lacked), behind, "to refuse proves nothing");
        let mut again = begin(true);
        again.lost();
        again.in_step(0, second * 5);
        again.heard(IDLE, second * 6);
        assert_eq!(again.poll(second * 7, &BTreeSet::new()), None, "it may have lost it");
    }

    #[test]
    fn a_sign_of_life_from_before_the_fact_was_taken_proves_nothing_however_late_it_arrives() {
        let (id, second) = (FactId([1; 32]), Duration::from_secs(1));
        let lacked = BTreeSet::from([id]);
        let mark = |run, commit| CommitMark { run, commit };
        let judged = |sign| {
            let mut audit = Audit::new(1, PACE);
            audit.in_step(0, Duration::ZERO);
            audit.poll(Duration::ZERO, &lacked);
            audit.handing(0, lacked.clone());
            audit.handed(0, &lacked, Some(mark(7, 42)), Duration::ZERO);
            for after in 6..20 {
                audit.heard(sign, second * after);
            }
            (audit.poll(second * 20, &lacked), audit.poll(second * 30, &lacked))
        };
        let withheld = Some(Order::Leave(0, Fault::Withheld(id)));
        let behind = Some(Order::Leave(0, Fault::Behind(id)));
        for old in [mark(7, 41), mark(8, 43)] {
            assert_eq!(judged(Sign::Idle(Some(old))), (None, behind.clone()), "{old}");
        }
        for proof in [Some(mark(7, 42)), Some(mark(7, 43)), None] {
            assert_eq!(judged(Sign::Idle(proof)).0, withheld, "{proof:?}");
        }
    }
}
