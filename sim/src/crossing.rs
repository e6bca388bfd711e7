//! Many sessions at once: each replica takes part in several, frames are delayed arbitrarily, and facts are checked,
//! verified and merged at different times while the state changes.

use crate::dice::Dice;
use crate::pair::{Ended, Link};
use crate::replica::SimReplica;
use bytes::Bytes;
use kvgossip_engine::session::{Config, Role, Session, SessionError, Ticket};
use kvgossip_grants::Verified;
use std::collections::VecDeque;

/// Maximum number of steps of one call of [`cross`]; more than all its sessions need together.
const MAX_STEPS: usize = 10_000_000;

/// One side of one session.
struct End {
    replica: usize,
    session: Session,
    /// Frames on their way to this side.
    arriving: VecDeque<Bytes>,
    /// Facts that this side received and verified but has not merged yet.
    verified: Vec<(Ticket, Verified)>,
    batch: usize,
}

impl End {
    fn new(role: Role, replica: usize, link: &Link, replicas: &[SimReplica]) -> Self {
        let initiates = role == Role::Initiator;
        let nonce = if initiates { link.seed } else { !link.seed }.to_le_bytes();
        let takes_facts = if initiates { link.takes_facts.0 } else { link.takes_facts.1 };
        let config = Config { role, scope: link.scope.clone(), nonce, takes_facts, newcomer: None };
        let session = Session::new(config, replicas[replica].view());
        Self { replica, session, arriving: VecDeque::new(), verified: Vec::new(), batch: link.batch.max(1) }
    }

    /// Performs one of this side's possible actions. Returns the frame to send to the other side, if the action made
    /// one; `None` if it made none or there is nothing to do.
    fn step(
        &mut self,
        replicas: &mut [SimReplica],
        dice: &mut Dice,
    ) -> Result<Option<Option<Bytes>>, SessionError> {
        let replica = &mut replicas[self.replica];
        if self.verified.len() >= self.batch || (!self.verified.is_empty() && dice.chance(30)) {
            self.merge(replica)?;
            return Ok(Some(None));
        }
        if let Some((ticket, fact)) = self.session.poll_offer() {
            match replica.check(fact) {
                Ok(verified) => self.verified.push((ticket, verified)),
                Err(verdict) => self.session.handle_verdict(ticket, verdict)?,
            }
            return Ok(Some(None));
        }
        if self.session.is_waiting_for_peer()
            && let Some(frame) = self.arriving.pop_front()
        {
            self.session.handle_frame(frame, replica.view())?;
            return Ok(Some(None));
        }
        let reader = replica.reader();
        if let Some(frame) = self.session.poll_frame(replica.view(), reader.as_ref())? {
            return Ok(Some(Some(frame)));
        }
        // Polling ends the turn and may offer facts again.
        if !self.verified.is_empty() {
            self.merge(replica)?;
            return Ok(Some(None));
        }
        let can_receive = self.session.is_waiting_for_peer() && !self.arriving.is_empty();
        Ok((can_receive || self.session.outstanding() > 0).then_some(None))
    }

    fn merge(&mut self, replica: &mut SimReplica) -> Result<(), SessionError> {
        let (tickets, facts): (Vec<Ticket>, Vec<Verified>) = self.verified.drain(..).unzip();
        let verdicts = replica.apply(facts);
        tickets
            .into_iter()
            .zip(verdicts)
            .try_for_each(|(ticket, verdict)| self.session.handle_verdict(ticket, verdict))
    }
}

struct Wire {
    ends: [End; 2],
    frames: usize,
    error: Option<SessionError>,
    idle: bool,
}

impl Wire {
    fn step(&mut self, replicas: &mut [SimReplica], dice: &mut Dice) {
        let first = dice.within(0, 1);
        for side in [first, 1 - first] {
            match self.ends[side].step(replicas, dice) {
                Ok(Some(frame)) => {
                    self.frames += usize::from(frame.is_some());
                    self.ends[1 - side].arriving.extend(frame);
                    return;
                }
                Ok(None) => {}
                Err(error) => self.error = Some(error),
            }
        }
        self.idle = true;
    }

    fn end(self) -> Ended {
        let [one, two] = self.ends;
        Ended {
            outcome: one.session.outcome().filter(|_| one.session.is_finished()),
            responder_outcome: two.session.outcome().filter(|_| two.session.is_finished()),
            tally: one.session.tally(),
            responder_tally: two.session.tally(),
            frames: self.frames,
            told: one.session.told_root(),
            error: self.error,
            early: 0,
        }
    }
}

/// Opens a session for each pair (index of the initiator, index of the responder) and runs all of them to their end,
/// one step at a time in random order. Ignores the cuts, tampering and concurrent facts of the links.
pub fn cross(replicas: &mut [SimReplica], sessions: &[(usize, usize, Link)], dice: &mut Dice) -> Vec<Ended> {
    let open = |(one, two, link): &(usize, usize, Link)| {
        let ends = [
            End::new(Role::Initiator, *one, link, replicas),
            End::new(Role::Responder, *two, link, replicas),
        ];
        Wire { ends, frames: 0, error: None, idle: false }
    };
    let mut wires: Vec<Wire> = sessions.iter().map(open).collect();
    for _ in 0..MAX_STEPS {
        let running: Vec<usize> =
            (0..wires.len()).filter(|at| !wires[*at].idle && wires[*at].error.is_none()).collect();
        if running.is_empty() {
            break;
        }
        wires[*dice.pick(&running)].step(replicas, dice);
    }
    wires.into_iter().map(Wire::end).collect()
}
