//! The course of a session: whose turn it is, which phase, which round.

use super::facts::count_frame;
use super::forest::Phase;
use super::frame::{Final, Hello, kind};
use super::intake::{Intake, Ticket};
use super::rounds::phase_for;
use super::salt::Salt;
use super::tally::Tally;
use super::walk::{MAX_FLIGHT_BYTES, Walk};
use super::wire::Input;
use super::{
    Config, MAX_CODE_BYTES, MAX_FLIGHTS, MAX_FRAME_BYTES, Obstacles, Outcome, PROTOCOL_VERSION, Role,
    Session, SessionError, Step, Turn,
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

    /// A session that has not begun.
    pub(super) fn idle(config: Config) -> Self {
        Self {
            config,
            turn: Turn::Receive,
            our_hello: None,
            their_hello: None,
            round: 0,
            walk: None,
            closed: false,
            their_open: true,
            flight_begun: false,
            flights_in_round: 0,
            received: Vec::new(),
            received_bytes: 0,
            our_final: None,
            their_final: None,
            held: Vec::new(),
            intake: Intake::default(),
            steps: VecDeque::new(),
            after_flight: Turn::Receive,
            obstacles: Obstacles::default(),
            tally: Tally::default(),
            outcome: None,
            differences: None,
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
        self.outcome
    }

    /// The root over everything that both sides hold, once they have found themselves equal. A session confined
    /// to a prefix finds out nothing of the kind.
    pub fn agreed_root(&self) -> Option<Digest> {
        if self.outcome != Some(Outcome::Equal) || !self.config.scope.is_root() {
            return None;
        }
        let hello = self.our_hello.as_ref().map(|hello| (hello.authority_root, hello.entries_root));
        let last = self.our_final.map(|ours| (ours.authority_root, ours.entries_root));
        last.or(hello).map(|(authority, entries)| root_digest(&authority, &entries))
    }

    /// Whether nothing is left to send, and nothing more will come.
    pub fn is_finished(&self) -> bool {
        self.turn == Turn::Done
    }

    /// Whether the session waits for the peer alone: neither for a verdict nor for its own frames to be sent.
    pub fn is_waiting_for_peer(&self) -> bool {
        self.turn == Turn::Receive
    }

    /// How many received facts have no verdict yet; a driver stops reading when that is too many.
    pub fn outstanding(&self) -> usize {
        self.intake.outstanding()
    }

    /// What the session cost so far.
    pub fn tally(&self) -> Tally {
        let intake = &self.intake;
        Tally {
            waste: intake.waste,
            rounds: u32::from(self.round),
            merged: intake.merged,
            moot: intake.moot,
            not_yet: intake.not_yet,
            unjustified: intake.unjustified_total,
            refused: intake.refused,
            ..self.tally
        }
    }

    /// The next received fact to be judged.
    pub fn poll_offer(&mut self) -> Option<(Ticket, Fact)> {
        self.intake.poll()
    }

    /// What came of an offered fact.
    ///
    /// # Errors
    /// When this was one too many that can never be accepted; tell the peer with [`Session::bye`].
    pub fn handle_verdict(&mut self, ticket: Ticket, verdict: Verdict) -> Result<(), SessionError> {
        self.intake.handle_verdict(ticket, verdict)
    }

    /// The frame that tells the peer why the session ends early.
    pub fn bye(&mut self, error: &SessionError) -> Bytes {
        let code = error.code().as_bytes();
        let frame = [&[kind::BYE], &code[..code.len().min(MAX_CODE_BYTES)]].concat();
        self.turn = Turn::Done;
        self.steps.clear();
        count_frame(&mut self.tally.sent, frame.len());
        frame.into()
    }

    /// Takes a received frame.
    ///
    /// # Errors
    /// When the session cannot go on; tell the peer with [`Session::bye`] unless it said so itself.
    pub fn handle_frame(&mut self, frame: Bytes, view: &View) -> Result<(), SessionError> {
        if self.turn != Turn::Receive {
            return Err(SessionError::Protocol("a frame came out of turn"));
        }
        if !std::mem::replace(&mut self.flight_begun, true) {
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
            kind::FINAL => self.handle_final(content, view),
            kind::END => self.handle_end(content),
            _ => Err(SessionError::Protocol("a frame of unknown kind")),
        }
    }

    fn handle_hello(&mut self, content: &[u8], view: &View) -> Result<(), SessionError> {
        let mut input = Input::new(content);
        let version = input.byte()?;
        if version != PROTOCOL_VERSION {
            return Err(SessionError::Version(version));
        }
        let hello = Hello::decode(input)?;
        if hello.cluster != view.authority().cluster() {
            return Err(SessionError::ForeignCluster(hello.cluster));
        }
        self.obstacles.read_only |= !hello.takes_facts;
        self.agree_to_compare(&hello)?;
        match self.config.role {
            Role::Responder => {
                self.config.scope = hello.scope.clone();
                self.their_hello = Some(hello);
                self.begin_flight();
                self.send_hello(view);
                if self.hellos_agree() {
                    self.finish(Outcome::Equal);
                } else {
                    self.open_round(view);
                    self.end_flight(true);
                }
            }
            Role::Initiator => {
                if hello.scope != self.config.scope {
                    return Err(SessionError::Protocol("the hello answers for another prefix"));
                }
                self.their_hello = Some(hello);
                if self.hellos_agree() {
                    self.finish(Outcome::Equal);
                } else {
                    self.round = 1;
                    self.walk = Some(self.new_walk(self.first_phase(), view));
                }
            }
        }
        Ok(())
    }

    fn keep_for_answer(&mut self, frame: Bytes) -> Result<(), SessionError> {
        if frame.len() < 2 {
            return Err(SessionError::Protocol("a frame is empty"));
        }
        // A frame costs memory beside its bytes. A frame past the sender's own limit may be underway when the limit is
        // reached; twice is no accident.
        self.received_bytes += frame.len() + FRAME_COST_BYTES;
        if self.received_bytes > 2 * MAX_FLIGHT_BYTES {
            return Err(SessionError::Protocol("a flight is too large"));
        }
        self.received.push(frame);
        Ok(())
    }

    fn handle_end(&mut self, content: &[u8]) -> Result<(), SessionError> {
        let mut input = Input::new(content);
        self.their_open = input.byte()? & 1 == 1;
        input.finish()?;
        self.turn = Turn::Settle;
        Ok(())
    }

    fn handle_final(&mut self, content: &[u8], view: &View) -> Result<(), SessionError> {
        if self.their_final.is_some() {
            return Err(SessionError::Protocol("a second final in one round"));
        }
        let theirs = Final::decode(Input::new(content))?;
        self.their_final = Some(theirs);
        let Some(ours) = self.our_final else { return Ok(()) };
        match self.compare(&ours, &theirs) {
            Some(outcome) => self.finish(outcome),
            None => {
                self.next_round();
                self.walk = Some(self.new_walk(phase_for(&ours, &theirs), view));
            }
        }
        Ok(())
    }

    /// The next frame to send; `None` while it is not this side's turn or a verdict is missing.
    ///
    /// # Errors
    /// When the peer's flight makes no sense, or the store fails.
    pub fn poll_frame(&mut self, view: &View, reader: &dyn Reader) -> Result<Option<Bytes>, SessionError> {
        if self.turn == Turn::Settle && self.intake.settle() {
            self.make_flight(view)?;
        }
        if self.turn != Turn::Send {
            return Ok(None);
        }
        if let Some(frame) = self.facts_frame(view, reader)? {
            return Ok(Some(frame));
        }
        let frame = match self.steps.pop_front() {
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
        self.turn = self.after_flight;
        Ok(None)
    }

    /// Answers the other side's flight, which is settled.
    fn make_flight(&mut self, view: &View) -> Result<(), SessionError> {
        self.begin_flight();
        self.flights_in_round += 1;
        if self.flights_in_round > MAX_FLIGHTS {
            return Err(SessionError::Protocol("the walk does not come to an end"));
        }
        let must_be_final = self.phase() == Some(Phase::Entries) && (self.closed || !self.their_open);
        if must_be_final && self.their_final.is_none() {
            return Err(SessionError::Protocol("a final is missing"));
        }
        if std::mem::take(&mut self.closed) && self.phase() == Some(Phase::Authority) {
            // They opened the entries in the flight that ended the authority.
            self.walk = Some(self.new_walk(Phase::Entries, view));
        }
        let received = std::mem::take(&mut self.received);
        self.received_bytes = 0;
        let walk = self.walk.as_mut().ok_or(SessionError::Protocol("the flight belongs to no round"))?;
        walk.answer(&received)?;
        let open = walk.is_open();
        if !self.their_open && open {
            return Err(SessionError::Protocol("a flight asks although it says that it does not"));
        }
        self.write_walk(open, view);
        match self.phase() {
            Some(Phase::Authority) if !self.their_open => {
                self.walk = Some(self.new_walk(Phase::Entries, view));
                self.open_walk(view);
                self.end_flight(true);
            }
            Some(Phase::Entries) if !open => self.write_final(view),
            _ => self.end_flight(open),
        }
        Ok(())
    }

    fn phase(&self) -> Option<Phase> {
        self.walk.as_ref().map(|walk| walk.phase)
    }

    /// Puts the walk's frames and facts into the flight. Authority facts wait until their walk is over, and then
    /// go in the order in which they can be taken in.
    fn write_walk(&mut self, open: bool, view: &View) {
        let Some(walk) = &mut self.walk else { return };
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
    }

    pub(super) fn open_walk(&mut self, view: &View) {
        if let Some(walk) = &mut self.walk {
            walk.open();
        }
        self.write_walk(true, view);
    }

    /// Begins round 1 as the side that asks first.
    fn open_round(&mut self, view: &View) {
        self.round = 1;
        self.walk = Some(self.new_walk(self.first_phase(), view));
        self.open_walk(view);
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.after_flight = Turn::Done;
        if self.steps.is_empty() {
            self.turn = Turn::Done;
        }
    }

    fn begin_flight(&mut self) {
        self.tally.flights += 1;
        self.turn = Turn::Send;
        self.after_flight = Turn::Receive;
        self.flight_begun = false;
    }

    pub(super) fn end_flight(&mut self, open: bool) {
        self.closed = !open;
        self.steps.push_back(Step::Frame(vec![kind::END, u8::from(open)]));
    }

    fn send_hello(&mut self, view: &View) {
        let hello = Hello {
            cluster: view.authority().cluster(),
            authority_root: view.authority_root(),
            entries_root: view.digest(&self.config.scope),
            counts: (view.authority().len() as u64, view.count(&self.config.scope) as u64),
            nonce: self.config.nonce,
            takes_facts: self.config.takes_facts,
            scope: self.config.scope.clone(),
            extensions: self.extensions(),
        };
        self.steps.push_back(Step::Frame(hello.encode()));
        self.our_hello = Some(hello);
    }

    fn hellos_agree(&self) -> bool {
        let roots = |hello: &Hello| (hello.authority_root, hello.entries_root);
        self.our_hello.as_ref().map(roots) == self.their_hello.as_ref().map(roots)
    }

    fn first_phase(&self) -> Phase {
        let root = |hello: &Option<Hello>| hello.as_ref().map(|hello| hello.authority_root);
        if root(&self.our_hello) == root(&self.their_hello) { Phase::Entries } else { Phase::Authority }
    }

    pub(super) fn new_walk(&self, phase: Phase, view: &View) -> Walk {
        let nonce = |hello: &Option<Hello>| hello.as_ref().map_or([0; 8], |hello| hello.nonce);
        let (ours, theirs) = (nonce(&self.our_hello), nonce(&self.their_hello));
        let salt = match self.config.role {
            Role::Initiator => Salt::new(ours, theirs, self.round),
            Role::Responder => Salt::new(theirs, ours, self.round),
        };
        Walk::new(phase, view, &self.config.scope, salt)
    }
}
