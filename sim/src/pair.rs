//! Two replicas and the wire between them.

use crate::carrier::Drive;
use crate::fault::{Tampering, tamper};
use crate::replica::SimReplica;
use bytes::Bytes;
use kvgossip_engine::declined::Declined;
use kvgossip_engine::session::{Config, Outcome, Role, Session, SessionError, Tally};
use kvgossip_grants::{Digest, Fact, FactId, PathPrefix, Verdict};
use std::collections::BTreeSet;

/// More frames than any session of a simulation has.
const MAX_FRAMES: usize = 10_000_000;

/// Where the wire breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// After this many frames of both sides together.
    AfterFrames(usize),
    /// After this many bytes of both sides together, lengths in front of the frames included. A frame that is cut
    /// does not arrive.
    AfterBytes(usize),
}

/// How two replicas are connected.
#[derive(Clone, Debug)]
pub struct Link {
    /// Confines the session.
    pub scope: PathPrefix,
    /// Makes the salts differ.
    pub seed: u64,
    /// Breaks the wire.
    pub cut: Option<Cut>,
    /// Whether the initiator, and the responder, take facts in.
    pub takes_facts: (bool, bool),
    /// How many received facts are merged in one batch.
    pub batch: usize,
    /// What happens to the frames underway.
    pub tampering: Vec<Tampering>,
    /// What is offered to either side by others, while the session is under way.
    pub meanwhile: Vec<Meanwhile>,
    /// Runs both sides through drivers, as in production; the batches are then the drivers'.
    pub drive: Option<Drive>,
}

/// A fact that comes from elsewhere during a session.
#[derive(Clone, Debug)]
pub struct Meanwhile {
    /// Before so many frames of both sides together.
    pub at: usize,
    /// Whether the initiator is offered it, or the responder.
    pub to_initiator: bool,
    /// The fact.
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
    /// Whether the session runs as between two honest replicas that nobody disturbs.
    pub fn is_plain(&self) -> bool {
        let untouched = self.cut.is_none() && self.tampering.is_empty() && self.meanwhile.is_empty();
        untouched && self.takes_facts == (true, true)
    }
}

/// How a session went, as the initiator and the responder saw it.
#[derive(Debug)]
pub struct Ended {
    /// How it ended for the initiator; `None` if it was cut or failed.
    pub outcome: Option<Outcome>,
    /// The same for the responder.
    pub responder_outcome: Option<Outcome>,
    /// The initiator's count.
    pub tally: Tally,
    /// The responder's count.
    pub responder_tally: Tally,
    /// Frames of both sides.
    pub frames: usize,
    /// What the initiator had told when they still differed.
    pub told: Option<Digest>,
    /// What went wrong on either side.
    pub error: Option<SessionError>,
    /// Facts that came before what they stand on: unjustified at first, merged in the end. Facts of one batch
    /// count too, as they are judged together.
    pub early: u64,
}

impl Ended {
    /// Bytes both ways beyond the bodies, signatures and values of the facts moved.
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

    /// Judges everything received so far, then makes the next frame.
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

/// A frame's bytes and those of the varint in front of it.
pub(crate) fn framed_len(len: usize) -> usize {
    len + (usize::BITS - (len | 1).leading_zeros()).div_ceil(7) as usize
}

/// Runs one session from `a` to `b`.
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
