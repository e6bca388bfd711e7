//! Two replicas whose sessions run through the production driver: facts go to the host in several concurrent batches,
//! answers are late and in any order, frames wait to be sent, and the state changes between the check and the merge of
//! a batch.

use crate::carrier::{Carrier, Drive};
use crate::dice::Dice;
use crate::fault::tamper;
use crate::pair::{Cut, Ended, Link, framed_len};
use crate::replica::SimReplica;
use bytes::Bytes;
use kvgossip_engine::session::{Action, Config, Outcome, Role, Session, SessionError, Wait};
use std::collections::VecDeque;

/// Maximum number of steps of a driven session; more than any in a simulation has.
const MAX_STEPS: usize = 10_000_000;

/// How one side of a driven session ended.
#[derive(Clone, Debug)]
enum End {
    Finished(Outcome),
    Failed(SessionError),
    /// The connection was cut, and the side was informed of it.
    Cut,
    /// The side waits for something that never comes: this.
    Stalled(Wait),
}

/// One side of a driven session, with the frames on their way to it.
struct Side<'a> {
    replica: &'a mut SimReplica,
    carrier: Carrier,
    arriving: VecDeque<Bytes>,
    end: Option<End>,
}

impl Side<'_> {
    /// Performs one action and returns the frames sent by it, or `None` if there is nothing to do.
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
                // Frames that have arrived are passed on together, as long as the driver accepts them.
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

/// Result of a driven session.
#[derive(Debug)]
pub struct Driven {
    /// Result of the session itself, at both sides.
    pub ended: Ended,
    /// Number of facts handed to the hosts of `a` and of `b`; repeated ones count again.
    pub judged: (u64, u64),
    /// The event that a side waits for in vain; `None` if both sides ended.
    pub stalled: Option<Wait>,
}

/// Runs one session between `a`, which begins it, and `b`, each side through a driver.
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

/// Runs both sides in random order until both have ended or wait in vain. Returns the number of frames that both sides
/// sent.
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
                    // Its stream is reset: frames it sent may not arrive any more, and none arrive at it.
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
        // Polling changes nothing, since no action is left.
        side.end = match side.carrier.advance(side.replica) {
            Ok(Some(Action::Wait(wait))) => Some(End::Stalled(wait)),
            Ok(_) => Some(End::Stalled(Wait::default())),
            Err(error) => Some(End::Failed(error)),
        };
    }
    frames
}
