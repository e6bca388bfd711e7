//! The loop around a session, as a state machine without I/O: it gathers received facts into batches, keeps several
//! with the host at once, takes the verdicts in any order, and bounds what waits.
//!
//! Whoever carries it out has a socket, tasks and a store, and decides nothing:
//!
//! ```text
//! loop {
//!     match driver.poll(bytes that wait for the socket)? {
//!         Judge { job, facts } => start judging them, elsewhere
//!         Fill                 => queue the frames of driver.fill(view, reader)?
//!         Wait(wait)           => wait until one of these happens, and hand it in:
//!             for_peer  a frame:              driver.handle_frame(frame, view)?
//!                       the stream's end:     driver.handle_end_of_stream()?
//!             for_jobs  a job's verdicts:     driver.handle_judged(job, verdicts)?
//!             for_flush the socket took bytes
//!         Finished(outcome)    => end the stream
//!     }
//! }
//! ```
//!
//! [`Driver::poll`] says [`Action::Wait`] only when there is nothing else to do, so a carrier that asks again after
//! everything it did cannot wait while facts or frames are due.

use super::course::internal;
use super::{Outcome, Session, SessionError, Ticket};
use crate::judging::stands_on;
use crate::storage::Reader;
use crate::view::View;
use bytes::Bytes;
use kvgossip_grants::{Fact, GrantId, Timestamp, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Facts that are handed to the host together.
pub const JUDGE_BATCH: usize = 512;
/// A batch for the host is closed when its facts have this many bytes.
pub const JUDGE_BATCH_BYTES: usize = 1 << 20;
/// Facts of one peer that may wait for their verdicts at once; beyond that nothing is read from the peer.
pub const MAX_JUDGED_FACTS: usize = 4_096;
/// Bytes of facts of one peer that may wait for their verdicts at once.
pub const MAX_JUDGED_BYTES: usize = 8 << 20;
/// Bytes of frames that may wait for the socket before the next frame is made.
pub const WRITE_AHEAD: usize = 256 << 10;

/// What bounds a driver. Replicas use [`DriverLimits::default`]; a simulation of small worlds needs smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverLimits {
    /// See [`JUDGE_BATCH`]; 0 is taken as 1.
    pub batch_facts: usize,
    /// See [`JUDGE_BATCH_BYTES`].
    pub batch_bytes: usize,
    /// See [`MAX_JUDGED_FACTS`]; 0 is taken as 1.
    pub judged_facts: usize,
    /// See [`MAX_JUDGED_BYTES`]; 0 is taken as 1.
    pub judged_bytes: usize,
    /// See [`WRITE_AHEAD`]; 0 is taken as 1.
    pub write_ahead: usize,
}

impl Default for DriverLimits {
    fn default() -> Self {
        Self {
            batch_facts: JUDGE_BATCH,
            batch_bytes: JUDGE_BATCH_BYTES,
            judged_facts: MAX_JUDGED_FACTS,
            judged_bytes: MAX_JUDGED_BYTES,
            write_ahead: WRITE_AHEAD,
        }
    }
}

/// Names a batch of facts that is with the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u64);

/// What a driver wants done next.
#[derive(Debug)]
#[must_use]
pub enum Action {
    /// Judge these facts, verify and merge them, as if one after the other, and make them durable; then call
    /// [`Driver::handle_judged`] with one verdict for each, in their order. Several jobs run at once.
    Judge {
        /// Names the batch.
        job: JobId,
        /// The facts.
        facts: Vec<Fact>,
    },
    /// Call [`Driver::fill`], where a disk may be read, and queue the frames it gives.
    Fill,
    /// Wait until one of these happens.
    Wait(Wait),
    /// The session is over, and everything was sent.
    Finished(Outcome),
}

/// What a driver waits for; never for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// A frame of the peer, or the end of its stream.
    pub for_peer: bool,
    /// The verdicts of a job.
    pub for_jobs: bool,
    /// That bytes leave the queue for the socket.
    pub for_flush: bool,
}

/// Received facts that wait for company.
#[derive(Debug, Default)]
struct Gathered {
    job: Job,
    facts: Vec<Fact>,
    bytes: usize,
}

/// A batch, while it is gathered and while it is with the host.
#[derive(Debug, Default)]
struct Job {
    tickets: Vec<Ticket>,
    /// The grants of the batch: what stands on one of them goes into this batch, or waits for its verdicts.
    grants: BTreeSet<GrantId>,
}

/// Drives one side of a session.
#[derive(Debug)]
pub struct Driver {
    session: Session,
    limits: DriverLimits,
    gathered: Gathered,
    jobs: BTreeMap<JobId, Job>,
    next_job: u64,
    /// The peer's first frame has been taken.
    greeted: bool,
}

impl Driver {
    /// A driver of a session that has not sent or taken anything yet.
    pub fn new(session: Session) -> Self {
        Self::with_limits(session, DriverLimits::default())
    }

    /// The same with other limits.
    pub fn with_limits(session: Session, limits: DriverLimits) -> Self {
        let limits = DriverLimits {
            batch_facts: limits.batch_facts.max(1),
            batch_bytes: limits.batch_bytes,
            judged_facts: limits.judged_facts.max(1),
            judged_bytes: limits.judged_bytes.max(1),
            write_ahead: limits.write_ahead.max(1),
        };
        let (gathered, jobs) = (Gathered::default(), BTreeMap::new());
        Self { session, limits, gathered, jobs, next_job: 0, greeted: false }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether the peer's hello is still to come. It makes a responder compute digests that nobody has asked for since
    /// the last batch: take it where computing for long is allowed.
    pub fn awaits_hello(&self) -> bool {
        !self.greeted
    }

    /// Tells the session what this side's clock says; see [`Session::tell_time`].
    pub fn tell_time(&mut self, now: Timestamp) {
        self.session.tell_time(now);
    }

    /// Whether a frame of the peer would be taken now.
    pub fn may_read(&self) -> bool {
        self.session.is_waiting_for_peer()
            && self.session.outstanding() < self.limits.judged_facts
            && self.session.outstanding_bytes() < self.limits.judged_bytes as u64
    }

    /// What to do next. `queued` is how many bytes of frames wait for the socket.
    ///
    /// # Errors
    /// [`SessionError::Internal`] where nothing is left that the session could go on with, though it has not ended.
    pub fn poll(&mut self, queued: usize) -> Result<Action, SessionError> {
        if let Some(action) = self.next_batch() {
            return Ok(action);
        }
        if self.session.has_to_send() && queued < self.limits.write_ahead {
            return Ok(Action::Fill);
        }
        if self.session.is_finished() && queued == 0 {
            let outcome = self.session.outcome();
            return outcome.map(Action::Finished).ok_or_else(|| internal("it ended without an outcome"));
        }
        let wait = Wait { for_peer: self.may_read(), for_jobs: !self.jobs.is_empty(), for_flush: queued > 0 };
        debug_assert!(wait != Wait::default(), "a session waits for nothing: {self:?}");
        if wait == Wait::default() { Err(internal("it waits for nothing")) } else { Ok(Action::Wait(wait)) }
    }

    /// A batch for the host, if one is due. While the host has others and more may join, a batch waits until it is
    /// full: every batch costs the host a commit with its flush.
    fn next_batch(&mut self) -> Option<Action> {
        let held_up = self.gather();
        let more_may_join = held_up || self.session.is_waiting_for_peer();
        if self.gathered.facts.is_empty()
            || (more_may_join && !self.jobs.is_empty() && !self.gathered.is_full(&self.limits))
        {
            return None;
        }
        let Gathered { job: batch, facts, .. } = std::mem::take(&mut self.gathered);
        let job = JobId(self.next_job);
        self.next_job += 1;
        self.jobs.insert(job, batch);
        Some(Action::Judge { job, facts })
    }

    /// Moves received facts into the batch. True if the next one stands on a grant that is with the host: it would be
    /// judged before the grant is known, and in vain.
    fn gather(&mut self) -> bool {
        while !self.gathered.is_full(&self.limits) {
            let Some(next) = self.session.peek_offer() else { return false };
            if stands_on(next).is_some_and(|grant| self.jobs.values().any(|job| job.grants.contains(&grant)))
            {
                return true;
            }
            let Some((ticket, fact)) = self.session.poll_offer() else { return false };
            if let Fact::Grant(grant) = &fact {
                self.gathered.job.grants.insert(grant.id());
            }
            self.gathered.bytes += fact.payload_len();
            self.gathered.job.tickets.push(ticket);
            self.gathered.facts.push(fact);
        }
        false
    }

    /// The next frames to queue, up to the write-ahead. Reads facts from the store: call it where blocking is allowed.
    ///
    /// # Errors
    /// When the peer's flight makes no sense, or the store fails.
    pub fn fill(
        &mut self,
        view: &View,
        reader: &dyn Reader,
        mut queued: usize,
    ) -> Result<Vec<Bytes>, SessionError> {
        let mut frames = Vec::new();
        while queued < self.limits.write_ahead {
            let Some(frame) = self.session.poll_frame(view, reader)? else { break };
            queued += frame.len();
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Takes a frame of the peer.
    ///
    /// # Errors
    /// When the session cannot go on.
    pub fn handle_frame(&mut self, frame: Bytes, view: &View) -> Result<(), SessionError> {
        self.greeted = true;
        self.session.handle_frame(frame, view)
    }

    /// Takes the verdicts of a job, one for each of its facts, in their order.
    ///
    /// # Errors
    /// When the answer belongs to no job, or does not fit it; or when the peer sent too much that can never be
    /// accepted.
    pub fn handle_judged(&mut self, job: JobId, verdicts: Vec<Verdict>) -> Result<(), SessionError> {
        let Job { tickets, .. } = self.jobs.remove(&job).ok_or_else(|| internal("an answer to no job"))?;
        if verdicts.len() != tickets.len() {
            return Err(internal("a job was answered in part"));
        }
        tickets
            .into_iter()
            .zip(verdicts)
            .try_for_each(|(ticket, verdict)| self.session.handle_verdict(ticket, verdict))
    }

    /// The peer has ended its direction of the stream.
    ///
    /// # Errors
    /// When the session was not over.
    pub fn handle_end_of_stream(&self) -> Result<(), SessionError> {
        if self.session.is_finished() {
            return Ok(());
        }
        Err(SessionError::Protocol("the stream ended before the session"))
    }
}

impl Gathered {
    fn is_full(&self, limits: &DriverLimits) -> bool {
        self.facts.len() >= limits.batch_facts || self.bytes >= limits.batch_bytes.max(1)
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
