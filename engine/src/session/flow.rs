//! The course of a session: whose turn it is, which phase, which round.

use super::course::{Course, Flight, Round, Then, Turn, internal};
use super::declines::Declines;
use super::facts::count_frame;
use super::forest::Phase;
use super::frame::{Final, Hello, kind};
use super::intake::{Intake, Ticket};
use super::newcomer::Newcomer;
use super::tally::Tally;
use super::walk::MAX_FLIGHT_BYTES;
use super::wire::Input;
use super::{
    Config, MAX_CODE_BYTES, MAX_FLIGHTS, MAX_FRAME_BYTES, MAX_ROUNDS, Obstacles, Outcome, Role, Session,
    SessionError, Step,
};
use crate::storage::Reader;
use crate::tree::root_digest;
use crate::view::View;
use bytes::Bytes;
use kvgossip_grants::{Digest, Fact, Verdict};
use std::collections::VecDeque;

/// What keeping a received frame costs beside its bytes, about.
const FRAME_COST_BYTES: usize = 64;

impl Session {
    /// A new session. A responder waits for the initiator's hello.
    pub fn new(config: Config, view: &View) -> Self {
        let mut session = Self::idle(config);
        session.start(view);
        session
    }

    /// The same for a replica whose store has reached its limit: the other side is asked for grants, revocations, floors
    /// and deletes alone.
    pub fn when_full(config: Config, view: &View) -> Self {
        let mut session = Self::idle(config);
        session.is_full = true;
        session.start(view);
        session
    }

    /// A session that has not begun.
    pub(super) fn idle(config: Config) -> Self {
        Self {
            config,
            is_full: false,
            turn: Turn::Receive(Flight::default()),
            our_hello: None,
            their_hello: None,
            their_roots: None,
            course: Course::Greeting,
            held: Vec::new(),
            intake: Intake::default(),
            steps: VecDeque::new(),
            obstacles: Obstacles::default(),
            tally: Tally::default(),
            differences: None,
            declines: Declines::default(),
            walked: None,
            time: None,
        }
    }

    /// Begins, if it is this side's to begin.
    pub(super) fn start(&mut self, view: &View) {
        self.obstacles.read_only = !self.config.takes_facts;
        if self.config.role == Role::Initiator {
            self.begin_flight();
            self.send_hello(view);
        }
    }

    /// How the session ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.course {
            Course::Over { outcome, .. } => Some(outcome),
            Course::Greeting | Course::Round(_) => None,
        }
    }

    /// The root over everything that the peer held when it last said so. A session confined to a prefix hears nothing of
    /// the kind.
    pub fn peer_root(&self) -> Option<Digest> {
        let roots = self.their_roots.filter(|_| self.config.scope.is_root());
        roots.map(|(authority, entries)| root_digest(&authority, &entries))
    }

    /// What the peer tells if it has yet to end its first comparison with anybody; `None` before its hello, too.
    pub fn peer_newcomer(&self) -> Option<Newcomer> {
        self.their_hello.as_ref().and_then(Hello::newcomer)
    }

    /// The root over everything that both sides hold, once they have found themselves equal. A session confined
    /// to a prefix finds out nothing of the kind.
    pub fn agreed_root(&self) -> Option<Digest> {
        if self.outcome() != Some(Outcome::Equal) || !self.config.scope.is_root() {
            return None;
        }
        let hello = self.our_hello.as_ref().map(|hello| (hello.authority_root, hello.entries_root));
        let last = self.course.last_round().and_then(|round| round.ours);
        let last = last.map(|ours| (ours.authority_root, ours.entries_root));
        last.or(hello).map(|(authority, entries)| root_digest(&authority, &entries))
    }

    /// Whether nothing is left to send, and nothing more will come.
    pub fn is_finished(&self) -> bool {
        matches!(self.turn, Turn::Done)
    }

    /// Whether the session waits for the peer alone: neither for a verdict nor for its own frames to be sent.
    pub fn is_waiting_for_peer(&self) -> bool {
        matches!(self.turn, Turn::Receive(_))
    }

    /// Whether this side has its flight, or the rest of it, to send. Polling for frames may then also bring facts up
    /// for another verdict instead.
    pub fn has_to_send(&self) -> bool {
        match self.turn {
            Turn::Send { .. } => true,
            Turn::Settle { .. } => self.outstanding() == 0,
            Turn::Receive(_) | Turn::Done => false,
        }
    }

    /// How many received facts have no verdict yet; a driver stops reading when that is too many.
    pub fn outstanding(&self) -> usize {
        self.intake.outstanding()
    }

    /// How many bytes they have.
    pub fn outstanding_bytes(&self) -> u64 {
        self.intake.outstanding_bytes()
    }

    /// What the session cost so far.
    pub fn tally(&self) -> Tally {
        let intake = &self.intake;
        Tally {
            waste: intake.waste,
            rounds: self.course.last_round().map_or(0, |round| round.number.into()),
            merged: intake.merged,
            moot: intake.moot,
            not_yet: intake.not_yet,
            unjustified: intake.unjustified_total,
            refused: intake.refused,
            ..self.tally
        }
    }

    /// The fact that [`Session::poll_offer`] gives next.
    pub fn peek_offer(&self) -> Option<&Fact> {
        self.intake.peek()
    }

    /// The next received fact to be judged.
    pub fn poll_offer(&mut self) -> Option<(Ticket, Fact)> {
        self.intake.poll()
    }

    /// What came of an offered fact.
    ///
    /// # Errors
    /// When this was one too many that can never be accepted. The session ends: close the connection with the code.
    pub fn handle_verdict(&mut self, ticket: Ticket, verdict: Verdict) -> Result<(), SessionError> {
        self.intake.handle_verdict(ticket, verdict)
    }

    /// Takes a received frame.
    ///
    /// # Errors
    /// When the session cannot go on: close the connection with the code.
    pub fn handle_frame(&mut self, frame: Bytes, view: &View) -> Result<(), SessionError> {
        let Turn::Receive(flight) = &mut self.turn else {
            return Err(SessionError::Protocol("a frame came out of turn"));
        };
        if !std::mem::replace(&mut flight.begun, true) {
            self.tally.flights += 1;
        }
        let (&kind, content) = frame.split_first().ok_or(SessionError::Protocol("a frame is empty"))?;
        if frame.len() > MAX_FRAME_BYTES {
            return Err(SessionError::Protocol("a frame is too large"));
        }
        if kind == kind::BYE {
            self.turn = Turn::Done;
            let code = String::from_utf8_lossy(&content[..content.len().min(MAX_CODE_BYTES)]);
            // The text goes into logs: only what codes are made of.
            let is_code = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
            return Err(SessionError::Bye(code.chars().filter(|c| is_code(*c)).collect()));
        }
        if kind != kind::FACTS {
            count_frame(&mut self.tally.received, frame.len());
        }
        if (kind == kind::HELLO) != self.their_hello.is_none() {
            return Err(SessionError::Protocol("the first frame, and no other, is a hello"));
        }
        match kind {
            kind::HELLO => self.handle_hello(content, view),
            kind::PARTS..=kind::CLAIMS => self.keep_for_answer(frame),
            kind::FACTS => self.handle_facts(frame.slice(1..)),
            kind::NAMES => self.handle_names(content),
            kind::DECLINES => self.handle_declines(content),
            kind::FINAL => self.handle_final(content, view),
            kind::END => self.handle_end(content),
            _ => Err(SessionError::Protocol("a frame of unknown kind")),
        }
    }

    fn keep_for_answer(&mut self, frame: Bytes) -> Result<(), SessionError> {
        if frame.len() < 2 {
            return Err(SessionError::Protocol("a frame is empty"));
        }
        // A frame costs memory beside its bytes. A frame past the sender's own limit may be underway when the limit is
        // reached; twice is no accident.
        let Turn::Receive(flight) = &mut self.turn else {
            return Err(internal("a frame is kept out of turn"));
        };
        flight.bytes += frame.len() + FRAME_COST_BYTES;
        if flight.bytes > 2 * MAX_FLIGHT_BYTES {
            return Err(SessionError::Protocol("a flight is too large"));
        }
        flight.frames.push(frame);
        Ok(())
    }

    fn handle_end(&mut self, content: &[u8]) -> Result<(), SessionError> {
        let mut input = Input::new(content);
        let open = input.byte()? & 1 == 1;
        input.finish()?;
        let Turn::Receive(flight) = &mut self.turn else { return Err(internal("a flight ends out of turn")) };
        self.turn = Turn::Settle { flight: std::mem::take(flight), open };
        Ok(())
    }

    fn handle_final(&mut self, content: &[u8], view: &View) -> Result<(), SessionError> {
        let round = self.course.round()?;
        if round.theirs.is_some() {
            return Err(SessionError::Protocol("a second final in one round"));
        }
        let theirs = Final::decode(Input::new(content))?;
        round.theirs = Some(theirs);
        self.their_roots = Some((theirs.authority_root, theirs.entries_root));
        if let Some(ours) = round.ours {
            self.conclude(&ours, &theirs, view)?;
        }
        Ok(())
    }

    /// The next frame to send; `None` while it is not this side's turn or a verdict is missing.
    ///
    /// # Errors
    /// When the peer's flight makes no sense, or the store fails.
    pub fn poll_frame(&mut self, view: &View, reader: &dyn Reader) -> Result<Option<Bytes>, SessionError> {
        if matches!(self.turn, Turn::Settle { .. }) && self.intake.settle() {
            self.make_flight(view)?;
        }
        let Turn::Send { then } = self.turn else { return Ok(None) };
        if let Some(frame) = self.facts_frame(view, reader)? {
            return Ok(Some(frame));
        }
        let frame = match self.steps.pop_front() {
            Some(Step::Hello(hello)) => Some(self.timed(*hello).encode()),
            Some(Step::Frame(frame)) => Some(frame),
            Some(Step::Final(ours)) => {
                Some(Final { obstacles: self.current_obstacles().bits(), ..ours }.encode())
            }
            _ => None,
        };
        if let Some(frame) = frame {
            count_frame(&mut self.tally.sent, frame.len());
            return Ok(Some(frame.into()));
        }
        self.turn = match then {
            Then::Receive => Turn::Receive(Flight::default()),
            Then::Done => Turn::Done,
        };
        Ok(None)
    }

    /// Answers the other side's flight, which is settled.
    fn make_flight(&mut self, view: &View) -> Result<(), SessionError> {
        let Turn::Settle { flight, open: their_open } = self.begin_flight() else {
            return Err(internal("a flight is answered before it is read"));
        };
        let round = self.course.round()?;
        round.flights += 1;
        if round.flights > MAX_FLIGHTS {
            return Err(SessionError::Protocol("the walk does not come to an end"));
        }
        let must_be_final = round.phase() == Phase::Entries && (round.closed || !their_open);
        if must_be_final && round.theirs.is_none() {
            return Err(SessionError::Protocol("a final is missing"));
        }
        if std::mem::take(&mut round.closed) && round.phase() == Phase::Authority {
            // They opened the entries in the flight that ended the authority.
            self.begin_entries(view)?;
        }
        let walk = &mut self.course.round()?.walk;
        walk.answer(&flight.frames)?;
        let (phase, open) = (walk.phase, walk.is_open());
        if !their_open && open {
            return Err(SessionError::Protocol("a flight asks although it says that it does not"));
        }
        self.write_walk(open, view)?;
        match phase {
            Phase::Authority if !their_open => {
                self.begin_entries(view)?;
                self.open_walk(view)?;
                self.end_flight(true)
            }
            Phase::Entries if !open => self.write_final(view),
            _ => self.end_flight(open),
        }
    }

    /// The phase of the authority is over.
    fn begin_entries(&mut self, view: &View) -> Result<(), SessionError> {
        let number = self.course.round()?.number;
        let walk = self.new_walk(number, Phase::Entries, view);
        self.course.round()?.walk = walk;
        Ok(())
    }

    /// Puts the walk's frames and facts into the flight. Authority facts wait until their walk is over, and then
    /// go in the order in which they can be taken in.
    fn write_walk(&mut self, open: bool, view: &View) -> Result<(), SessionError> {
        let declines = self.declines_frame();
        self.steps.extend(declines.map(Step::Frame));
        let walk = &mut self.course.round()?.walk;
        while let Some(frame) = walk.next_frame() {
            self.steps.push_back(Step::Frame(frame));
        }
        walk.end_flight();
        self.obstacles.truncated |= walk.truncated;
        match walk.phase {
            Phase::Entries => self.steps.push_back(Step::Sends),
            Phase::Authority => {
                while let Some(leaf) = walk.next_send() {
                    self.held.push(leaf);
                }
                if !open {
                    let mut held = std::mem::take(&mut self.held);
                    held.sort_by_cached_key(|leaf| (view.authority().depth(&leaf.id()), leaf.id()));
                    held.dedup_by_key(|leaf| leaf.id());
                    self.steps.extend(held.into_iter().map(Step::Held));
                }
            }
        }
        Ok(())
    }

    /// Asks the first questions of a walk.
    pub(super) fn open_walk(&mut self, view: &View) -> Result<(), SessionError> {
        self.course.round()?.walk.open();
        self.write_walk(true, view)
    }

    /// Begins a round. Only the side whose turn it is opens its walk.
    pub(super) fn begin_round(&mut self, number: u8, phase: Phase, view: &View) {
        debug_assert!((1..=MAX_ROUNDS).contains(&number), "round {number}");
        let walk = self.new_walk(number, phase, view);
        self.course = Course::Round(Box::new(Round::new(number, walk)));
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.course.finish(outcome);
        match &mut self.turn {
            Turn::Send { then } => *then = Then::Done,
            turn => *turn = Turn::Done,
        }
    }

    /// Begins this side's flight; gives the turn before it.
    pub(super) fn begin_flight(&mut self) -> Turn {
        self.tally.flights += 1;
        std::mem::replace(&mut self.turn, Turn::Send { then: Then::Receive })
    }

    pub(super) fn end_flight(&mut self, open: bool) -> Result<(), SessionError> {
        self.course.round()?.closed = !open;
        self.steps.push_back(Step::Frame(vec![kind::END, u8::from(open)]));
        Ok(())
    }
}
