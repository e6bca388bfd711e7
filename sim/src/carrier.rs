//! Runs a session driver without sockets and tasks: with a list of jobs, a queue of frames, and a random generator.

use crate::dice::Dice;
use crate::replica::SimReplica;
use bytes::Bytes;
use kvgossip_engine::session::{Action, Driver, DriverLimits, JobId, Session, SessionError, Wait};
use kvgossip_engine::{InternalError, Judging, Pass};
use kvgossip_grants::{Fact, MockVerifier, Verdict, Verified};
use std::collections::VecDeque;

/// Parameters of a driven session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Seed of all random choices of the driven session.
    pub seed: u64,
    /// Limits that the drivers of both sides use.
    pub limits: DriverLimits,
    /// How the hosts of both sides check batches.
    pub host: HostKind,
    /// Fault planted in the carriers of both sides; `None`: no fault.
    pub flaw: Option<DriveFlaw>,
}

/// How a host checks the facts of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// As agents do: a fact that depends on a grant of the batch is checked after that grant.
    InOrder,
    /// All facts at once: a fact that depends on a grant of the batch is unjustified at first.
    AtOnce,
}

/// A planted fault of a carrier, which shows that the simulation would notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveFlaw {
    /// Waits after filling the send queue, without asking the driver for the next action.
    WaitsAfterFill,
    /// Omits one verdict of a batch.
    ForgetsVerdict,
    /// Loses the result of a job, so that the driver never gets its verdicts.
    LosesAnswer,
    /// Does not report to the driver that the peer's stream has ended.
    EndNotTold,
}

impl DriveFlaw {
    /// All faults that can be planted in a carrier.
    pub const ALL: [Self; 4] =
        [Self::WaitsAfterFill, Self::ForgetsVerdict, Self::LosesAnswer, Self::EndNotTold];
}

impl Drive {
    /// Draws a driven session with small random limits, so that small worlds reach them.
    pub fn random(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 11);
        let small = |dice: &mut Dice| {
            let bits = dice.within(0, 6);
            dice.within(1, 1 << bits)
        };
        let mut limits = DriverLimits {
            batch_facts: small(&mut dice),
            judged_facts: small(&mut dice),
            ..DriverLimits::default()
        };
        if dice.chance(50) {
            limits.batch_bytes = 100 * small(&mut dice);
            limits.judged_bytes = 100 * small(&mut dice);
        }
        if dice.chance(70) {
            limits.write_ahead = 20 * small(&mut dice);
        }
        let host = *dice.pick(&[HostKind::InOrder, HostKind::AtOnce]);
        Self { seed, limits, host, flaw: None }
    }
}

/// A batch at the host that is checked but not merged yet.
struct Running {
    job: JobId,
    verdicts: Vec<Option<Verdict>>,
    verified: Vec<(usize, Verified)>,
}

/// One side of a driven session: a driver and its environment.
pub struct Carrier {
    driver: Driver,
    host: HostKind,
    flaw: Option<DriveFlaw>,
    running: Vec<Running>,
    /// Frames of the driver that wait to be sent to the peer, the oldest first.
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// Number of facts handed to the host; repeated ones count again.
    judged: u64,
    /// Whether the carrier's last action was to fill the send queue.
    filled: bool,
}

impl Carrier {
    /// Creates the carrier of a session.
    pub fn new(session: Session, drive: &Drive) -> Self {
        Self {
            driver: Driver::with_limits(session, drive.limits),
            host: drive.host,
            flaw: drive.flaw,
            running: Vec::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            judged: 0,
            filled: false,
        }
    }

    /// Returns the session that the driver runs.
    pub fn session(&self) -> &Session {
        self.driver.session()
    }

    /// Returns the number of facts handed to the host; repeated ones count again.
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// Performs one action that needs no waiting, and returns `None`. If there is no such action, returns what the
    /// driver waits for, or how it ended.
    pub fn advance(&mut self, replica: &SimReplica) -> Result<Option<Action>, SessionError> {
        if self.flaw == Some(DriveFlaw::WaitsAfterFill) && std::mem::take(&mut self.filled) {
            return self.wait_after_fill().map(Some);
        }
        match self.driver.poll(self.out_bytes)? {
            Action::Judge { job, facts } => {
                self.judged += facts.len() as u64;
                self.running.push(check(replica, job, facts, self.host));
            }
            Action::Fill => {
                let reader = replica.reader();
                let frames = self.driver.fill(replica.view(), reader.as_ref(), self.out_bytes)?;
                self.out_bytes += frames.iter().map(Bytes::len).sum::<usize>();
                self.out.extend(frames);
                self.filled = true;
            }
            action => return Ok(Some(action)),
        }
        Ok(None)
    }

    /// Reproduces a former fault of transport's driver: it checked for jobs only before it filled the queue.
    fn wait_after_fill(&mut self) -> Result<Action, SessionError> {
        let session = self.driver.session();
        if session.is_finished() && self.out.is_empty() {
            return self.driver.poll(0);
        }
        let wait = Wait {
            for_peer: self.driver.may_read(),
            for_jobs: !self.running.is_empty(),
            for_flush: !self.out.is_empty(),
        };
        let nothing = InternalError::Session("it waits for nothing");
        if wait == Wait::default() { Err(nothing.into()) } else { Ok(Action::Wait(wait)) }
    }

    /// Returns the number of jobs that the host has not answered yet.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Merges the facts of the running job with index `number` and passes its verdicts to the driver.
    pub fn answer(&mut self, number: usize, replica: &mut SimReplica) -> Result<(), SessionError> {
        let Running { job, verdicts, verified } = self.running.remove(number);
        let (places, verified): (Vec<usize>, Vec<Verified>) = verified.into_iter().unzip();
        let mut verdicts: Vec<Verdict> =
            verdicts.into_iter().map(|verdict| verdict.unwrap_or(Verdict::Merged)).collect();
        for (place, verdict) in places.into_iter().zip(replica.apply(verified)) {
            verdicts[place] = verdict;
        }
        match self.flaw {
            Some(DriveFlaw::LosesAnswer) if self.judged > 3 => return Ok(()),
            Some(DriveFlaw::ForgetsVerdict) if verdicts.len() > 1 => drop(verdicts.pop()),
            _ => {}
        }
        self.driver.handle_judged(job, verdicts)
    }

    /// Passes a frame of the peer to the driver.
    pub fn receive(&mut self, frame: Bytes, replica: &SimReplica) -> Result<(), SessionError> {
        self.driver.handle_frame(frame, replica.view())
    }

    /// Returns the number of frames that wait to be sent to the peer.
    pub fn queued(&self) -> usize {
        self.out.len()
    }

    /// Whether the driver accepts a further frame of the peer now.
    pub fn may_read(&self) -> bool {
        self.driver.may_read()
    }

    /// Takes the next frame to send to the peer; `None` if no frame waits.
    pub fn send(&mut self) -> Option<Bytes> {
        let frame = self.out.pop_front()?;
        self.out_bytes -= frame.len();
        Some(frame)
    }

    /// Reports to the driver that the peer's stream has ended.
    pub fn end_of_stream(&mut self) -> Result<(), SessionError> {
        if self.flaw == Some(DriveFlaw::EndNotTold) { Ok(()) } else { self.driver.handle_end_of_stream() }
    }
}

/// Checks a batch against the present state of the replica.
fn check(replica: &SimReplica, job: JobId, facts: Vec<Fact>, host: HostKind) -> Running {
    match host {
        HostKind::AtOnce => {
            let (mut verdicts, mut verified) = (vec![None; facts.len()], Vec::new());
            for (place, fact) in facts.into_iter().enumerate() {
                match replica.check(fact) {
                    Ok(good) => verified.push((place, good)),
                    Err(verdict) => verdicts[place] = Some(verdict),
                }
            }
            Running { job, verdicts, verified }
        }
        HostKind::InOrder => {
            let mut judging = Judging::new(replica.view(), facts);
            while let Some(Pass { authority, facts }) = judging.next_pass() {
                for (place, fact) in facts {
                    let checked = authority.check(fact, replica.now);
                    judging.handle(place, checked.and_then(|fact| fact.verify(&MockVerifier)));
                }
            }
            let done = judging.finish();
            Running { job, verdicts: done.verdicts, verified: done.verified }
        }
    }
}
