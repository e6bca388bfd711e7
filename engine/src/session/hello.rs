//! The beginning of a session: both sides say who they are, and what their rounds are salted with.

use super::forest::Phase;
use super::frame::Hello;
use super::rounds::Walked;
use super::salt::Salt;
use super::walk::Walk;
use super::wire::Input;
use super::{Outcome, PROTOCOL_VERSION, Role, Session, SessionError, Step};
use crate::view::View;
use kvgossip_grants::Timestamp;

impl Session {
    pub(super) fn handle_hello(&mut self, content: &[u8], view: &View) -> Result<(), SessionError> {
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
        self.their_roots = Some((hello.authority_root, hello.entries_root));
        match self.config.role {
            Role::Responder => {
                self.config.scope = hello.scope.clone();
                self.their_hello = Some(hello);
                self.begin_flight();
                self.send_hello(view);
                if self.hellos_agree() {
                    self.finish(Outcome::Equal);
                } else {
                    self.begin_round(1, self.first_phase(), view);
                    self.open_walk(view)?;
                    self.end_flight(true)?;
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
                    self.begin_round(1, self.first_phase(), view);
                }
            }
        }
        Ok(())
    }

    pub(super) fn send_hello(&mut self, view: &View) {
        let hello = Hello {
            cluster: view.authority().cluster(),
            authority_root: view.authority_root(),
            entries_root: view.digest(&self.config.scope),
            counts: (view.authority().len() as u64, view.count(&self.config.scope) as u64),
            nonce: self.config.nonce,
            takes_facts: self.config.takes_facts,
            is_full: self.is_full,
            is_newcomer: self.config.newcomer.is_some(),
            scope: self.config.scope.clone(),
            extensions: self.extensions(),
        };
        self.steps.push_back(Step::Hello(Box::new(hello.clone())));
        self.our_hello = Some(hello);
    }

    /// Tells the session what this side's clock says now. Call it before the frame with the hello is polled: the peer is
    /// told the time then, and else nothing of it.
    pub fn tell_time(&mut self, now: Timestamp) {
        self.time = Some(now);
    }

    /// What the peer's clock said as it sent its hello; `None` until that came, and from a peer that does not tell.
    pub fn their_time(&self) -> Option<Timestamp> {
        self.their_hello.as_ref().and_then(Hello::time)
    }

    pub(super) fn timed(&self, mut hello: Hello) -> Hello {
        hello.extensions.extend(self.time.map(Hello::time_extension));
        hello
    }

    fn hellos_agree(&self) -> bool {
        let roots = |hello: &Hello| (hello.authority_root, hello.entries_root);
        self.our_hello.as_ref().map(roots) == self.their_hello.as_ref().map(roots)
    }

    fn first_phase(&self) -> Phase {
        let root = |hello: &Option<Hello>| hello.as_ref().map(|hello| hello.authority_root);
        if root(&self.our_hello) == root(&self.their_hello) { Phase::Entries } else { Phase::Authority }
    }

    /// The salt of a round.
    pub(super) fn salt(&self, round: u8) -> Salt {
        let nonce = |hello: &Option<Hello>| hello.as_ref().map_or([0; 8], |hello| hello.nonce);
        let (ours, theirs) = (nonce(&self.our_hello), nonce(&self.their_hello));
        match self.config.role {
            Role::Initiator => Salt::new(ours, theirs, round),
            Role::Responder => Salt::new(theirs, ours, round),
        }
    }

    pub(super) fn new_walk(&mut self, round: u8, phase: Phase, view: &View) -> Walk {
        self.walked = Some(Walked::after(self.walked, phase, view));
        Walk::new(phase, view, &self.config.scope, self.salt(round))
    }
}
