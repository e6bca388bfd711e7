//! Sessions between two replicas over a simulated connection.

use crate::carrier::Drive;
use crate::fault::{Tampering, tamper};
use crate::replica::SimReplica;
use bytes::Bytes;
use kvgossip_engine::declined::Declined;
use kvgossip_engine::session::{Config, Outcome, Role, Session, SessionError, Tally};
use kvgossip_grants::{Digest, Fact, FactId, PathPrefix, Verdict};
use std::collections::BTreeSet;

/// Maximum number of frames of a session; more than any in a simulation has.
const MAX_FRAMES: usize = 10_000_000;

/// Point at which the connection of a session breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// After this many frames of both sides together.
    AfterFrames(usize),
    /// After this many bytes of both sides together, including the length prefixes of frames. A frame that is cut does
    /// not arrive.
    AfterBytes(usize),
}

/// Parameters of a connection and the session on it.
#[derive(Clone, Debug)]
pub struct Link {
    /// Path prefix that limits the session.
    pub scope: PathPrefix,
    /// Seed of the session's salts.
    pub seed: u64,
    /// Point at which the connection breaks; `None`: it does not.
    pub cut: Option<Cut>,
    /// Whether the initiator takes facts, and whether the responder does.
    pub takes_facts: (bool, bool),
    /// Number of received facts that are merged in one batch.
    pub batch: usize,
    /// Damage to frames on their way between the sides.
    pub tampering: Vec<Tampering>,
    /// Facts that others offer to either side during the session.
    pub meanwhile: Vec<Meanwhile>,
    /// Set to run both sides through drivers, as in production; `batch` is then not used. `None`: without drivers.
    pub drive: Option<Drive>,
}

/// A fact that somebody else offers during a session.
#[derive(Clone, Debug)]
pub struct Meanwhile {
    /// Number of the frame, counted over both sides from 0, before which the fact is offered.
    pub at: usize,
    /// Whether the fact is offered to the initiator; otherwise to the responder.
    pub to_initiator: bool,
    /// The fact that is offered.
    pub fact: Fact,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            scope: PathPrefix::root(),
            seed: 0,
            cut: None,
            takes_facts: (true, true),
            batch: 100,
            tampering: Vec::new(),
            meanwhile: Vec::new(),
            drive: None,
        }
    }
}

impl Link {
    /// Whether nothing disturbs the session and both sides take facts.
    pub fn is_plain(&self) -> bool {
        let untouched = self.cut.is_none() && self.tampering.is_empty() && self.meanwhile.is_empty();
        untouched && self.takes_facts == (true, true)
    }
}

/// Result of a session at both sides.
#[derive(Debug)]
pub struct Ended {
    /// Outcome at the initiator; `None` if the session was cut or failed.
    pub outcome: Option<Outcome>,
    /// Outcome at the responder; `None` if the session was cut or failed.
    pub responder_outcome: Option<Outcome>,
    /// Counts of the session's work at the initiator.
    pub tally: Tally,
    /// Counts of the session's work at the responder.
    pub responder_tally: Tally,
    /// Number of frames that both sides sent.
    pub frames: usize,
    /// Root digest that the initiator compared in the last round, if the two sides still differ; else `None`.
    pub told: Option<Digest>,
    /// Error that ended either side; `None` if there was none.
    pub error: Option<SessionError>,
    /// Number of facts that arrived before the facts on which they depend: unjustified at first, merged in the end.
    /// Facts of one batch count too, as they are checked together.
    pub early: u64,
}

impl Ended {
    /// Returns the bytes in both directions beyond the bodies, signatures and values of the facts transferred.
    pub fn overhead(&self) -> u64 {
        self.tally.sent.overhead + self.tally.received.overhead
    }
}

struct Side<'a> {
    replica: &'a mut SimReplica,
    session: Session,
    unjustified: BTreeSet<FactId>,
    early: u64,
}

impl<'a> Side<'a> {
    fn new(replica: &'a mut SimReplica, mut session: Session) -> Self {
        session.decline(replica.declined().map(Declined::list).unwrap_or_default());
        Self { replica, session, unjustified: BTreeSet::new(), early: 0 }
    }

    /// Checks and merges everything that this side has received so far, then makes its next frame.
    fn step(&mut self, batch: usize) -> Result<Option<Bytes>, SessionError> {
        self.judge(batch)?;
        let reader = self.replica.reader();
        let frame = self.session.poll_frame(self.replica.view(), reader.as_ref())?;
        if frame.is_none() && self.session.outstanding() > 0 {
            return self.step(batch);
        }
        Ok(frame)
    }

    fn judge(&mut self, batch: usize) -> Result<(), SessionError> {
        loop {
            let mut tickets = Vec::new();
            let mut facts = Vec::new();
            while tickets.len() < batch {
                let Some((ticket, fact)) = self.session.poll_offer() else { break };
                let id = fact.id();
                let kept = self.replica.declined().is_some().then(|| fact.clone());
                match self.replica.check(fact) {
                    Ok(verified) => {
                        tickets.push((ticket, id));
                        facts.push(verified);
                    }
                    Err(verdict) => {
                        if matches!(verdict, Verdict::Unjustified(_)) {
                            self.unjustified.insert(id);
                        }
                        kept.iter().for_each(|fact| self.replica.put_aside(fact, verdict));
                        self.session.handle_verdict(ticket, verdict)?;
                    }
                }
            }
            if facts.is_empty() {
                return Ok(());
            }
            for ((ticket, id), verdict) in tickets.into_iter().zip(self.replica.apply(facts)) {
                self.early += u64::from(verdict == Verdict::Merged && self.unjustified.remove(&id));
                self.session.handle_verdict(ticket, verdict)?;
            }
        }
    }
}

/// Returns the length of a frame with its varint length prefix, in bytes.
pub(crate) fn framed_len(len: usize) -> usize {
    len + (usize::BITS - (len | 1).leading_zeros()).div_ceil(7) as usize
}

/// Runs one session between `a`, which begins it, and `b`, over the connection `link`.
pub fn sync(a: &mut SimReplica, b: &mut SimReplica, link: &Link) -> Ended {
    let config = |role, nonce: u64, takes_facts| Config {
        role,
        scope: link.scope.clone(),
        nonce: nonce.to_le_bytes(),
        takes_facts,
        newcomer: None,
    };
    let one = Session::new(config(Role::Initiator, link.seed, link.takes_facts.0), a.view());
    let two = Session::new(config(Role::Responder, !link.seed, link.takes_facts.1), b.view());
    let mut sides = [Side::new(a, one), Side::new(b, two)];
    let mut frames = 0;
    let error = run(&mut sides, link, &mut frames).err();
    let [one, two] = sides;
    Ended {
        outcome: one.session.outcome().filter(|_| one.session.is_finished()),
        responder_outcome: two.session.outcome().filter(|_| two.session.is_finished()),
        tally: one.session.tally(),
        responder_tally: two.session.tally(),
        frames,
        told: one.session.told_root(),
        error,
        early: one.early + two.early,
    }
}

fn run(sides: &mut [Side<'_>; 2], link: &Link, frames: &mut usize) -> Result<(), SessionError> {
    let mut bytes = 0;
    loop {
        let mut idle = true;
        for from in [0, 1] {
            while let Some(frame) = sides[from].step(link.batch)? {
                idle = false;
                bytes += framed_len(frame.len());
                let is_cut = match link.cut {
                    Some(Cut::AfterFrames(limit)) => *frames >= limit,
                    Some(Cut::AfterBytes(limit)) => bytes > limit,
                    None => false,
                };
                if is_cut {
                    sides[0].judge(link.batch)?;
                    return sides[1].judge(link.batch);
                }
                for it in link.meanwhile.iter().filter(|it| it.at == *frames) {
                    sides[usize::from(!it.to_initiator)].replica.offer(it.fact.clone());
                }
                *frames += 1;
                assert!(*frames < MAX_FRAMES, "a session without end");
                let to = &mut sides[1 - from];
                for frame in tamper(frame, *frames - 1, &link.tampering) {
                    to.session.handle_frame(frame, to.replica.view())?;
                }
            }
        }
        if idle {
            return Ok(());
        }
    }
}
