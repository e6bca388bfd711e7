//! Two replicas whose sessions are run by the driver that production runs: facts go to the host in batches, several
//! at once, answers come back in any order and late, bytes wait for the wire, and the state moves on between the
//! moment when a batch is checked and the moment when it is merged.

use crate::carrier::{Carrier, Drive};
use crate::dice::Dice;
use crate::fault::tamper;
use crate::pair::{Cut, Ended, Link, framed_len};
use crate::replica::SimReplica;
use bytes::Bytes;
use kvgossip_engine::session::{Action, Config, Outcome, Role, Session, SessionError, Wait};
use std::collections::VecDeque;

/// More steps than any driven session of a simulation has.
const MAX_STEPS: usize = 10_000_000;

/// How one side ended.
#[derive(Clone, Debug)]
enum End {
    Finished(Outcome),
    Failed(SessionError),
    /// The wire was cut, and it was told.
    Cut,
    /// It waits for what does not come.
    Stalled(Wait),
}

/// A side with what is on its way to it.
struct Side<'a> {
    replica: &'a mut SimReplica,
    carrier: Carrier,
    arriving: VecDeque<Bytes>,
    end: Option<End>,
}

impl Side<'_> {
    /// Does one thing; gives the frames that go over the wire now, or `None` if there is nothing to do.
    fn step(&mut self, peer_is_gone: bool, dice: &mut Dice) -> Result<Option<Vec<Bytes>>, SessionError> {
        let wait = match self.carrier.advance(self.replica)? {
            None => return Ok(Some(Vec::new())),
            Some(Action::Finished(outcome)) => {
                self.end = Some(End::Finished(outcome));
                return Ok(Some(Vec::new()));
            }
            Some(Action::Wait(wait)) => wait,
            Some(Action::Judge { .. } | Action::Fill) => return Ok(Some(Vec::new())),
        };
        let can_answer = wait.for_jobs && self.carrier.running() > 0;
        let can_flush = wait.for_flush && self.carrier.queued() > 0;
        let can_read = wait.for_peer && !self.arriving.is_empty();
        let possible: Vec<u8> = [(0, can_answer), (1, can_flush), (2, can_read)]
            .into_iter()
            .filter_map(|(what, can)| can.then_some(what))
            .collect();
        let is_last = wait.for_peer && peer_is_gone && self.arriving.is_empty();
        if is_last && (possible.is_empty() || dice.chance(30)) {
            self.carrier.end_of_stream()?;
        }
        if possible.is_empty() {
            return Ok(None);
        }
        match dice.pick(&possible) {
            0 => {
                let number = dice.within(0, self.carrier.running() - 1);
                self.carrier.answer(number, self.replica)?;
            }
            1 => {
                let count = dice.within(1, self.carrier.queued());
                return Ok(Some((0..count).filter_map(|_| self.carrier.send()).collect()));
            }
            _ => {
                // Those that are here already come along, as long as the driver takes them.
                let mut count = dice.within(1, self.arriving.len());
                while count > 0 && self.carrier.may_read() {
                    let Some(frame) = self.arriving.pop_front() else { break };
                    self.carrier.receive(frame, self.replica)?;
                    count -= 1;
                }
            }
        }
        Ok(Some(Vec::new()))
    }
}

/// How a driven session went.
#[derive(Debug)]
pub struct Driven {
    /// How the session went.
    pub ended: Ended,
    /// Facts that the two hosts were handed, those that they were handed again included.
    pub judged: (u64, u64),
    /// What a side waits for that does not come; `None` if both ended.
    pub stalled: Option<Wait>,
}

/// Runs one session from `a` to `b` through drivers.
pub fn drive(a: &mut SimReplica, b: &mut SimReplica, link: &Link, drive: &Drive) -> Driven {
    let mut dice = Dice::new(drive.seed, 12);
    let session = |role, nonce: u64, takes_facts, replica: &SimReplica| {
        let config = Config {
            role,
            scope: link.scope.clone(),
            nonce: nonce.to_le_bytes(),
            takes_facts,
            newcomer: None,
        };
        Carrier::new(Session::new(config, replica.view()), drive)
    };
    let one = session(Role::Initiator, link.seed, link.takes_facts.0, a);
    let two = session(Role::Responder, !link.seed, link.takes_facts.1, b);
    let side = |replica, carrier| Side { replica, carrier, arriving: VecDeque::new(), end: None };
    let mut sides = [side(a, one), side(b, two)];
    let frames = run(&mut sides, link, &mut dice);
    let [one, two] = sides;
    let outcome = |end: &Option<End>| match end {
        Some(End::Finished(outcome)) => Some(*outcome),
        _ => None,
    };
    let error = |end: &Option<End>| match end {
        Some(End::Failed(error)) => Some(error.clone()),
        _ => None,
    };
    let stalled = |end: &Option<End>| match end {
        Some(End::Stalled(wait)) => Some(*wait),
        _ => None,
    };
    Driven {
        judged: (one.carrier.judged(), two.carrier.judged()),
        stalled: stalled(&one.end).or(stalled(&two.end)),
        ended: Ended {
            outcome: outcome(&one.end),
            responder_outcome: outcome(&two.end),
            tally: one.carrier.session().tally(),
            responder_tally: two.carrier.session().tally(),
            frames,
            told: one.carrier.session().told_root(),
            error: error(&one.end).or(error(&two.end)),
            early: 0,
        },
    }
}

/// Lets both sides go on in any order until both have ended or wait for what does not come; gives the frames of both.
fn run(sides: &mut [Side<'_>; 2], link: &Link, dice: &mut Dice) -> usize {
    let (mut frames, mut bytes, mut cut) = (0, 0, false);
    for _ in 0..MAX_STEPS {
        let mut idle = true;
        let first = dice.within(0, 1);
        for from in [first, 1 - first] {
            if sides[from].end.is_some() {
                continue;
            }
            let peer_is_gone = cut || sides[1 - from].end.is_some();
            let sent = match sides[from].step(peer_is_gone, dice) {
                Ok(None) => continue,
                Ok(Some(sent)) => sent,
                Err(SessionError::Protocol(_)) if cut => {
                    sides[from].end = Some(End::Cut);
                    idle = false;
                    continue;
                }
                Err(error) => {
                    // Its stream is reset: what it sent may not arrive any more, and nothing arrives at it.
                    sides[from].end = Some(End::Failed(error));
                    idle = false;
                    continue;
                }
            };
            idle = false;
            for frame in sent {
                bytes += framed_len(frame.len());
                cut |= match link.cut {
                    Some(Cut::AfterFrames(limit)) => frames >= limit,
                    Some(Cut::AfterBytes(limit)) => bytes > limit,
                    None => false,
                };
                if cut {
                    break;
                }
                for it in link.meanwhile.iter().filter(|it| it.at == frames) {
                    sides[usize::from(!it.to_initiator)].replica.offer(it.fact.clone());
                }
                sides[1 - from].arriving.extend(tamper(frame, frames, &link.tampering));
                frames += 1;
            }
        }
        if idle {
            break;
        }
    }
    for side in sides.iter_mut().filter(|side| side.end.is_none()) {
        // Polling changes nothing: all that could be done was.
        side.end = match side.carrier.advance(side.replica) {
            Ok(Some(Action::Wait(wait))) => Some(End::Stalled(wait)),
            Ok(_) => Some(End::Stalled(Wait::default())),
            Err(error) => Some(End::Failed(error)),
        };
    }
    frames
}
