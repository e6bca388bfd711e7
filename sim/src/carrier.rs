//! What carries a driver out without sockets and tasks: a list of jobs, a queue for the wire, and dice.

use crate::dice::Dice;
use crate::replica::SimReplica;
use bytes::Bytes;
use kvgossip_engine::session::{Action, Driver, DriverLimits, JobId, Session, SessionError, Wait};
use kvgossip_engine::{InternalError, Judging, Pass};
use kvgossip_grants::{Fact, MockVerifier, Verdict, Verified};
use std::collections::VecDeque;

/// How a session is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// What bounds the two drivers.
    pub limits: DriverLimits,
    /// How the hosts judge.
    pub host: HostKind,
    /// What the carriers do wrong.
    pub flaw: Option<DriveFlaw>,
}

/// How a host judges a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// As agents do: what stands on a grant of the batch comes after it.
    InOrder,
    /// All at one moment: what stands on a grant of the same batch is unjustified at first.
    AtOnce,
}

/// What a carrier does wrong: planted, to show that the simulation would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveFlaw {
    /// Waits after it has filled the queue, without asking what there is to do now.
    WaitsAfterFill,
    /// Leaves a verdict out.
    ForgetsVerdict,
    /// Loses the answer of a job.
    LosesAnswer,
    /// Does not tell that the peer's stream has ended.
    EndNotTold,
}

impl DriveFlaw {
    /// Every one.
    pub const ALL: [Self; 4] =
        [Self::WaitsAfterFill, Self::ForgetsVerdict, Self::LosesAnswer, Self::EndNotTold];
}

impl Drive {
    /// A driven session with small random bounds, so that small worlds meet them.
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

/// A batch that is with the host: checked already, not merged yet.
struct Running {
    job: JobId,
    verdicts: Vec<Option<Verdict>>,
    verified: Vec<(usize, Verified)>,
}

/// One side of a driven session: a driver, and what carries it out.
pub struct Carrier {
    driver: Driver,
    host: HostKind,
    flaw: Option<DriveFlaw>,
    running: Vec<Running>,
    /// Frames that wait for the wire.
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// How many facts the host was handed.
    judged: u64,
    /// It filled the queue just now.
    filled: bool,
}

impl Carrier {
    /// Carries out a session.
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

    /// The session.
    pub fn session(&self) -> &Session {
        self.driver.session()
    }

    /// How many facts the host was handed, those that were handed to it again included.
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// Does one thing that needs no waiting; says what the driver waits for, or how it ended, where there is none.
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

    /// What the driver of transport did once: it had looked whether anything was to be judged before it filled.
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

    /// How many jobs run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Merges the facts of a running job and hands its verdicts in.
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

    /// Takes a frame of the peer.
    pub fn receive(&mut self, frame: Bytes, replica: &SimReplica) -> Result<(), SessionError> {
        self.driver.handle_frame(frame, replica.view())
    }

    /// How many frames wait for the wire.
    pub fn queued(&self) -> usize {
        self.out.len()
    }

    /// Whether a frame would be taken.
    pub fn may_read(&self) -> bool {
        self.driver.may_read()
    }

    /// The next frame for the wire.
    pub fn send(&mut self) -> Option<Bytes> {
        let frame = self.out.pop_front()?;
        self.out_bytes -= frame.len();
        Some(frame)
    }

    /// Tells that the peer's stream has ended.
    pub fn end_of_stream(&mut self) -> Result<(), SessionError> {
        if self.flaw == Some(DriveFlaw::EndNotTold) { Ok(()) } else { self.driver.handle_end_of_stream() }
    }
}

/// Judges a batch against the state of this moment.
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
